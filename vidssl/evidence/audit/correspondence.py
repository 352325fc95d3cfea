"""The contrastive random walk, DPC and rotation beside their authors' code."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...methods import DPC, ContrastiveRandomWalk, Rotation
from .comparing import (
    FrameNet,
    Row,
    ToUnit,
    difference,
    gradient_difference,
    gradients,
    imported,
    in_double_precision,
    largest,
    randomize,
    video_batch,
)


def videowalk(root: Path) -> list[Row]:
    """Walk over cells of whole frames (code/model.py), without cut edges, in double precision.

    Single precision, which our walk asks for, rounds the gradient by 1.4e-6 of itself.
    """
    with in_double_precision():
        return walk(root)


def walk(root: Path) -> list[Row]:
    """Compare in the precision that holds."""

    class Maps(nn.Module):
        def __init__(self, net: FrameNet) -> None:
            super().__init__()
            self.net = net

        def forward(self, clips: Tensor) -> Tensor:  # (B, 3, T, H, W) -> (B, D, T, h, w)
            return self.net.features(clips.transpose(1, 2)).transpose(1, 2)

    net = FrameNet(6, 4)
    stand_ins: dict[str, Any] = {"utils": {"make_encoder": lambda args: Maps(net)}}
    settings = SimpleNamespace(device="cpu", dropout=0.0, featdrop=0.0, temp=0.05, head_depth=0)
    batch = video_batch(2, 4, 12)
    assert batch.video is not None
    with imported(root / "code", "model", stand_ins=stand_ins) as (model,):
        theirs = model.CRW(settings)
        _, expected, _ = theirs(batch.video[:, 0].float() / 255)
        expected.backward()
    found = gradients(net)
    weights = {name: value.clone() for name, value in found.items()}
    net.zero_grad()
    head = nn.Linear(6, 128)
    head.load_state_dict(theirs.selfsim_fc[0].state_dict())
    method: Any = ContrastiveRandomWalk(net, view=ToUnit(), patches=None, head=head, edge_dropout=0.0)
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    gradient = largest(
        gradient_difference(net, weights), gradient_difference(head, gradients(theirs.selfsim_fc[0]))
    )
    return [
        Row("loss", difference(loss, expected[0]), gradient),
        Row("cut edges", declared="each way's on their own, theirs of the way there on the way back, too"),
    ]


def dpc(root: Path) -> list[Row]:
    """Recurrent network, predictor and scores (dpc/model_3d.py, backbone/convrnn.py), dropout included."""
    net = FrameNet(6, 32)
    method: Any = DPC(net, view=ToUnit(), num_blocks=4, num_predicted=2, dim=6)
    nn.init.eye_(method.project.weight.data[:, :, 0, 0])
    nn.init.zeros_(method.project.bias)

    class Backbone(nn.Module):
        def forward(self, clips: Tensor) -> Tensor:  # (B, 3, T, H, W) -> (B, D, 1, h, w)
            return net.features(clips.transpose(1, 2)).mean(1)[:, :, None]

    def select(name: str, track_running_stats: bool) -> tuple[nn.Module, dict[str, int]]:
        return Backbone(), {"feature_size": 6}

    stand_ins: dict[str, Any] = {"select_backbone": {"select_resnet": select}}
    batch = video_batch(3, 16, 64)
    assert batch.video is not None
    with imported(root / "backbone", "convrnn") as (convrnn,):
        stand_ins["convrnn"] = vars(convrnn)
        with imported(root / "dpc", "model_3d", stand_ins=stand_ins) as (model,):
            theirs = model.DPC_RNN(64, num_seq=4, seq_len=4, pred_step=2)
            randomize(theirs.agg)
            cell = theirs.agg.cell_list[0]
            gates = [cell.update_gate, cell.reset_gate]

            def recurrent(value: Callable[[nn.Parameter], Any]) -> dict[str, Tensor]:
                parts = {name: [value(getattr(gate, name)) for gate in gates] for name in ("weight", "bias")}
                found = {f"gates.{name}": torch.cat(part) for name, part in parts.items()}
                return {
                    **found,
                    **{f"candidate.{n}": value(getattr(cell.out_gate, n)) for n in ("weight", "bias")},
                }

            method.aggregate.load_state_dict(recurrent(lambda parameter: parameter.data))
            method.predictor.load_state_dict(theirs.network_pred.state_dict())
            clips = rearrange(batch.video[:, 0].float() / 255, "b (n t) c h w -> b n c t h w", n=4)
            torch.manual_seed(3)
            score, mask = theirs(clips)
    size = score.shape[0] * score.shape[1] * score.shape[2]
    expected = F.cross_entropy(score.reshape(size, size), (mask.reshape(size, size) == 1).long().argmax(1))
    expected.backward()
    weights = {name: value.clone() for name, value in gradients(net).items()}
    net.zero_grad()
    torch.manual_seed(3)
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    gradient = largest(
        gradient_difference(net, weights),
        gradient_difference(method.aggregate, recurrent(lambda parameter: parameter.grad)),
        gradient_difference(method.predictor, gradients(theirs.network_pred)),
    )
    return [
        Row("loss, with dropout", difference(loss, expected), gradient),
        Row("network", declared="blocks are means of single frames, batch norm keeps running statistics"),
    ]


class Seen(FrameNet):
    """Keeps what it was shown."""

    seen: Tensor

    def forward(self, clip: Tensor) -> Tensor:
        """Pool over frames and cells."""
        self.seen = clip
        return super().forward(clip)


def rotnet(root: Path) -> list[Row]:
    """Turned pictures (dataloader.py) and their names, whose order is that of its loader."""
    net = Seen(6, 4)
    method = Rotation(net, view=ToUnit())
    batch = video_batch(3, 1, 8)
    assert batch.video is not None
    pictures = batch.video[:, 0, 0].float() / 255
    stand_ins: dict[str, Any] = {"torchnet": {}}
    with imported(root, "dataloader", stand_ins=stand_ins) as (loader,):
        turned = [
            torch.from_numpy(loader.rotate_img(picture.movedim(0, 2).numpy(), angle).copy()).movedim(2, 0)
            for angle in (0, 90, 180, 270)
            for picture in pictures
        ]
    expected = F.cross_entropy(method.classifier(net(torch.stack(turned)[:, None])), torch.arange(12) // 3)
    loss = method(batch, 0.0)["loss"]
    return [
        Row("turned pictures", difference(net.seen[:, 0], torch.stack(turned))),
        Row("loss", difference(loss, expected)),
        Row("network", declared="pooled features and one linear layer, theirs AlexNet"),
    ]

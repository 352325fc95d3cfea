"""Compare methods with their authors' code: python tools/audit.py --peer moco=CLONE --peer dpc=CLONE ...

A peer is a clone of the official repository, of which only the files of losses and networks are imported. Both get the
same weights and inputs; differences of losses and gradients are relative to the largest number where that is above 1.
Exit code 1 if a difference is above 1e-6 where equality is claimed; what is declared stands in the docstring of the
method or recipe. Peers that are not given are skipped and named. vidssl itself imports none of this.
"""

import argparse
import contextlib
import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidssl import Batch
from vidssl.methods import DINO, DPC, MAE, VJEPA, ContrastiveRandomWalk, MoCo, SimCLR, VideoMAE
from vidssl.methods.image.dino import DINOHead
from vidssl.models import VideoViT
from vidssl.models.video_vit import EMBEDDINGS, TokenPredictor
from vidssl.ops.draws import mix
from vidssl.ops.masks import tubes

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Row:
    """One comparison: largest differences, of the loss (or of another result) and of gradients; why, if declared."""

    quantity: str
    result: float
    gradient: float | None = None
    declared: str = ""

    @property
    def is_equal(self) -> bool:
        """Within the tolerance."""
        return max(self.result, self.gradient or 0.0) <= TOLERANCE


@contextlib.contextmanager
def imported(root: Path, *names: str, stand_ins: Mapping[str, Any] | None = None) -> Iterator[list[ModuleType]]:
    """Import modules of a clone; when the `with` block ends they are forgotten, so that the next clone has its own.

    Args:
        root: Folder that the modules are found in.
        names: Of modules.
        stand_ins: Name -> attributes of what the clone imports and these comparisons need no more of.
    """
    before = dict(sys.modules)
    for name, attributes in (stand_ins or {}).items():
        module = ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    sys.path.insert(0, str(root))
    here = lambda value, *args, **options: value  # noqa: E731  # everything stays on the CPU
    try:
        with (
            patch.object(torch.Tensor, "cuda", here),
            patch.object(nn.Module, "cuda", here),
            patch.object(torch.cuda, "synchronize", lambda: None),
            patch.object(torch.backends.cuda, "sdp_kernel", contextlib.nullcontext, create=True),
            patch.object(np, "float", float, create=True),
            contextlib.redirect_stdout(None),
        ):
            yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - set(before):
            if name in (stand_ins or {}) or str(root) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in stand_ins or {} if name in before})


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number where that is above 1."""
    scale = max(1.0, float(expected.detach().abs().max()))
    return float((found.detach() - expected.detach()).abs().max()) / scale


def gradient_difference(network: nn.Module, expected: Mapping[str, Tensor]) -> float:
    """Largest difference of the gradients of the parameters named."""
    parameters = dict(network.named_parameters())
    return max(difference(parameters[name].grad, value) for name, value in expected.items())


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Gradients by name of parameter."""
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def randomize(network: nn.Module) -> None:
    """Draw every trainable parameter anew: zeros and ones would hide what they multiply."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)


def video_batch(num_clips: int, num_frames: int, size_px: int) -> Batch:
    """Noise."""
    video = torch.randint(256, (num_clips, 1, num_frames, 3, size_px, size_px), dtype=torch.uint8)
    number = torch.arange(num_clips)
    return Batch(index=number, video=video, seed=number, source_id=number)


class ToUnit(nn.Module):
    """A view that changes nothing: uint8 clips to [0, 1]."""

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Scale."""
        return video.float() / 255


class FrameNet(nn.Module):
    """A convolution on every frame: (B, T, 3, H, W) -> features (B, T, D, h, w), or pooled (B, D)."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.dim = dim
        self.stride = stride
        self.conv = nn.Conv2d(3, dim, stride, stride)

    def features(self, clip: Tensor) -> Tensor:
        """Map frame by frame."""
        return self.conv(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])

    def forward(self, clip: Tensor) -> Tensor:
        """Pool over frames and cells."""
        return self.features(clip).mean(dim=(1, 3, 4))


def moco(root: Path) -> list[Row]:
    """Loss, gradient of the query, queue, teacher (moco/builder.py)."""

    class Net(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.fc = nn.Linear(12, num_classes)

        def forward(self, rows: Tensor) -> Tensor:
            return self.fc(rows)

    with imported(root, "moco.builder") as (builder,):
        theirs = builder.MoCo(Net, dim=8, K=20, m=0.9, T=0.2)
        options: Any = {"projector": nn.Linear(12, 8), "out_dim": 8, "num_keys": 20, "momentum": 0.9}
        ours: Any = MoCo(FrameNet(12, 4), view=ToUnit(), **options)
        ours.queue.copy_(theirs.queue.T)
        first, second = torch.randn(2, 5, 12)
        nn.init.normal_(theirs.encoder_q.fc.weight)
        ours.projector.load_state_dict(theirs.encoder_q.fc.state_dict())
        ours.teacher[1].load_state_dict(theirs.encoder_k.fc.state_dict())
        ours.after_step(0.0)  # theirs moves the teacher before it is asked, ours after the optimizer's step
        logits, labels = theirs(first, second)
        expected = F.cross_entropy(logits, labels)
        expected.backward()
        key = F.normalize(ours.teacher[1](second), dim=1).detach()
        loss, _ = ours.contrast(ours.projector(first), key, None)
        loss.backward()
        ours.push(key, None)
    return [
        Row(
            "loss", difference(loss, expected), gradient_difference(ours.projector, gradients(theirs.encoder_q.fc))
        ),
        Row("queue", difference(ours.queue, theirs.queue.T)),
        Row("teacher", difference(ours.teacher[1].weight, theirs.encoder_k.fc.weight)),
        Row("order of keys", 0.0, declared="drawn within each process, not over all"),
    ]


def simclr(root: Path) -> list[Row]:
    """NT-Xent (objective.py), its functions of tensorflow stood in for by torch's."""

    def cross_entropy(labels: Tensor, logits: Tensor, weights: float) -> Tensor:
        return -(labels * logits.log_softmax(1)).sum(1).mean() * weights

    tf = {
        "math": SimpleNamespace(l2_normalize=lambda rows, axis: F.normalize(rows, dim=axis)),
        "split": lambda rows, number, axis: rows.chunk(number, dim=axis),
        "shape": lambda rows: rows.shape,
        "range": torch.arange,
        "one_hot": lambda index, size: F.one_hot(index, size).float(),
        "matmul": lambda a, b, transpose_b: a @ b.T,
        "concat": torch.cat,
        "losses": SimpleNamespace(softmax_cross_entropy=cross_entropy),
    }
    names = "absl tensorflow tensorflow.compat tensorflow.compiler tensorflow.compiler.tf2xla".split()
    stand_ins: dict[str, Any] = {name: {"__path__": []} for name in names}
    stand_ins["absl"] |= {"flags": SimpleNamespace(FLAGS=None)}
    stand_ins["tensorflow.compat.v1"] = tf
    stand_ins["tensorflow.compiler.tf2xla.python"] = {"xla": None}
    hidden = torch.randn(12, 7, requires_grad=True)
    mine = hidden.detach().clone().requires_grad_()
    with imported(root, "objective", stand_ins=stand_ins) as (objective,):
        expected, _, _ = objective.add_contrastive_loss(hidden, temperature=0.1)
    expected.backward()
    method = SimCLR(FrameNet(4, 4), view=ToUnit())
    loss, _ = method.nt_xent(*mine.chunk(2), None)
    loss.backward()
    assert mine.grad is not None and hidden.grad is not None
    return [
        Row("loss, half of theirs", difference(loss, expected / 2), difference(mine.grad, hidden.grad / 2)),
        Row("loss", difference(loss, expected), declared="theirs is the sum of both directions, Eq. 1 their mean"),
    ]


class Fixed(nn.Module):
    """A view that gives the same clips always."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__()
        self.clips = clips

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Return them."""
        return self.clips


def dino(root: Path) -> list[Row]:
    """Head (vision_transformer.py), loss and centre (main_dino.py), without prototypes of learned length."""
    crops = torch.rand(4, 3, 1, 3, 4, 4)  # two large ones and two small ones of three pictures
    net = FrameNet(6, 4)
    head = DINOHead(6, num_prototypes=10, hidden_dim=8, bottleneck_dim=5)
    views = Fixed(crops[0]), Fixed(crops[1])
    method: Any = DINO(net, global_views=views, local_view=Fixed(crops[2]), num_local_views=1, head=head)
    with imported(root, "vision_transformer", "main_dino") as (networks, main_dino):
        theirs, teacher = (networks.DINOHead(6, 10, hidden_dim=8, bottleneck_dim=5) for _ in range(2))
        for network, own in ((theirs, method.student[1]), (teacher, method.teacher[1])):
            randomize(network)
            own.mlp.load_state_dict(network.mlp.state_dict())
            own.prototypes.data.copy_(network.last_layer.weight_v)
        criterion = main_dino.DINOLoss(10, 3, 0.04, 0.04, 0, 1)
        rows = []
        for step in range(2):  # the second one with a centre
            for network in (theirs, method):
                network.zero_grad()
            with torch.no_grad():
                targets = teacher(method.teacher[0](crops[:2].flatten(0, 1)))
            expected = criterion(theirs(net(crops[:3].flatten(0, 1))), targets, 0)
            expected.backward()
            net.zero_grad()
            loss = method(video_batch(3, 1, 4), 0.5)["loss"]
            loss.backward()
            gradient = gradient_difference(method.student[1].mlp, gradients(theirs.mlp))
            prototypes = method.student[1].prototypes.grad
            gradient = max(gradient, difference(prototypes, theirs.last_layer.weight_v.grad))
            rows.append(Row(f"loss of step {step}", difference(loss, expected), gradient))
    return [
        *rows,
        Row("centre", difference(method.center, criterion.center[0])),
        Row("features", 0.0, declared="mean over cells, not the class token"),
    ]


def blocks_of(state: Mapping[str, Tensor], *, theirs: str, ours: str = "blocks.") -> dict[str, Tensor]:
    """Blocks of a transformer by the names of timm; queries and values have a bias of their own in VideoMAE's."""
    found = {}
    for name, value in state.items():
        if name.startswith(theirs) and not name.endswith(("q_bias", "v_bias")):
            found[ours + name.removeprefix(theirs)] = value
        if name.startswith(theirs) and name.endswith("q_bias"):
            bias = torch.cat([value, torch.zeros_like(value), state[name.replace("q_bias", "v_bias")]])
            found[ours + name.removeprefix(theirs).replace("q_bias", "qkv.bias")] = bias
    return found


def embedding_of(weight: Tensor) -> Tensor:
    """Convolution on patches (D, 3, [f,] y, x) as a matrix."""
    volume = weight if weight.ndim == 5 else weight[:, :, None]
    return rearrange(volume, "d c f y x -> d (f y x c)")


def named(state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> dict[str, Tensor]:
    """Their tensors by our names, "theirs" -> "ours" of layers with weight and bias."""
    return {
        name.replace(theirs, ours, 1): value
        for theirs, ours in pairs.items()
        for name, value in state.items()
        if name.rpartition(".")[0] == theirs
    }


def load(network: nn.Module, state: Mapping[str, Tensor], *, absent: tuple[str, ...] = ()) -> None:
    """Load weights; those that the other network lacks are zero."""
    missing, unexpected = network.load_state_dict(dict(state), strict=False)
    own = {name for name, _ in network.named_parameters()}
    assert set(missing) & own == set(absent) and not unexpected, (missing, unexpected)
    for name in absent:
        nn.init.zeros_(network.get_parameter(name))


def normalized(video: Tensor, encoder: VideoViT) -> Tensor:
    """Frames as the networks see them: (B, T, 3, H, W) in [0, 1]."""
    return (video - encoder.mean) / encoder.std


def mae(root: Path) -> list[Row]:
    """Networks and loss (models_mae.py) without the class token."""
    from timm.models import vision_transformer

    def block(*args: Any, qk_scale: None = None, **options: Any) -> nn.Module:
        return vision_transformer.Block(*args, **options)

    timm = {"PatchEmbed": vision_transformer.PatchEmbed, "Block": block}
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 2, "decoder_embed_dim": 16, "decoder_depth": 1}
    with imported(root, "models_mae", stand_ins={"timm.models.vision_transformer": timm}) as (models,):
        theirs = models.MaskedAutoencoderViT(
            16, 4, **sizes, decoder_num_heads=2, norm_pix_loss=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)
        )
    randomize(theirs)
    encoder = VideoViT(dim=24, depth=2, num_heads=2, patch_px=4, tubelet_frames=1, positions="space")
    decoder = TokenPredictor(24, 48, width=16, depth=1, num_heads=2, positions="space")
    method = MAE(encoder, decoder=decoder, view=ToUnit())

    def weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        first = {**named(state, {"norm": "norm"}), **blocks_of(state, theirs="blocks.")}
        first |= {"embed.weight": embedding_of(state["patch_embed.proj.weight"])}
        first |= {"embed.bias": state["patch_embed.proj.bias"]}
        pairs = {"decoder_embed": "embed", "decoder_norm": "norm", "decoder_pred": "out"}
        second = {**named(state, pairs), **blocks_of(state, theirs="decoder_blocks.")}
        return first, {**second, "mask_token": state["mask_token"]}

    for network, state in zip((encoder, decoder), weights(theirs.state_dict()), strict=True):
        load(network, state)
    batch = video_batch(3, 1, 16)
    assert batch.video is not None and batch.seed is not None
    video = batch.video[:, 0].float() / 255
    visible, hidden = method.split(batch.seed, (1, 4, 4))
    pictures, row = normalized(video, encoder)[:, 0], torch.arange(3)[:, None]
    tokens = (theirs.patch_embed(pictures) + theirs.pos_embed[:, 1:])[row, visible]
    for layer in (*theirs.blocks, theirs.norm, theirs.decoder_embed):
        tokens = layer(tokens)
    place = theirs.decoder_pos_embed[0, 1:]
    tokens = torch.cat([tokens + place[visible], theirs.mask_token + place[hidden]], dim=1)
    for layer in (*theirs.decoder_blocks, theirs.decoder_norm, theirs.decoder_pred):
        tokens = layer(tokens)
    order = torch.cat([visible, hidden], dim=1).argsort(1)
    mask = torch.ones(3, 16).scatter(1, visible, 0.0)
    expected = theirs.forward_loss(pictures, tokens[row, order], mask)
    expected.backward()
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    grads = weights(gradients(theirs))
    gradient = max(gradient_difference(net, part) for net, part in zip((encoder, decoder), grads, strict=True))
    place = EMBEDDINGS["space"]((1, 4, 4), 24)
    return [
        Row("positions", difference(place, theirs.pos_embed[0, 1:])),
        Row("loss", difference(loss, expected), gradient),
        Row("class token", 0.0, declared="there is none"),
    ]


def videomae(root: Path) -> list[Row]:
    """Networks (modeling_pretrain.py) and loss (engine_for_pretraining.py)."""
    from timm import layers

    class Meters:
        def log_every(self, loader: Any, frequency: int, header: str) -> Any:
            return loader

        def __getattr__(self, name: str) -> Any:
            return MagicMock()

    utils = {"MetricLogger": lambda delimiter: Meters(), "SmoothedValue": MagicMock()}
    stand_ins = {
        "timm.models.layers": {
            name: getattr(layers, name) for name in ("drop_path", "to_2tuple", "trunc_normal_")
        },
        "timm.models.registry": {"register_model": lambda function: function},
        "utils": utils,
    }
    names = "modeling_pretrain", "engine_for_pretraining"
    encoder = VideoViT(dim=24, depth=2, num_heads=2, patch_px=8, positions="order")
    decoder = TokenPredictor(24, encoder.patch_values, width=16, depth=1, num_heads=2, positions="order")
    method = VideoMAE(encoder, decoder=decoder, view=ToUnit(), mask_ratio=0.75)

    def weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        first = {**named(state, {"encoder.norm": "norm"}), **blocks_of(state, theirs="encoder.blocks.")}
        first |= {"embed.weight": embedding_of(state["encoder.patch_embed.proj.weight"])}
        first |= {"embed.bias": state["encoder.patch_embed.proj.bias"]}
        pairs = {"encoder_to_decoder": "embed", "decoder.norm": "norm", "decoder.head": "out"}
        second = {**named(state, pairs), **blocks_of(state, theirs="decoder.blocks.")}
        return first, {**second, "mask_token": state["mask_token"]}

    batch = video_batch(2, 16, 32)
    assert batch.video is not None and batch.seed is not None
    losses: list[Tensor] = []

    class Backward:
        def __call__(self, loss: Tensor, *args: Any, **options: Any) -> None:
            losses.append(loss)
            loss.backward()

        def state_dict(self) -> dict[str, float]:
            return {"scale": 1.0}

    optimizer: Any = SimpleNamespace(zero_grad=lambda: None, param_groups=[{"lr": 0.0, "weight_decay": 0.0}])
    with imported(root, *names, stand_ins=stand_ins) as (models, engine):
        theirs = models.PretrainVisionTransformer(
            img_size=32,
            patch_size=8,
            encoder_embed_dim=24,
            encoder_depth=2,
            encoder_num_heads=2,
            decoder_num_classes=encoder.patch_values,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        randomize(theirs)
        for network, state, absent in zip(
            (encoder, decoder), weights(theirs.state_dict()), ((), ("embed.bias",)), strict=True
        ):
            load(network, state, absent=absent)
        _, hidden = method.split(batch.seed, (8, 4, 4))
        mask = torch.zeros(2, 128).scatter(1, hidden, 1.0)
        video = rearrange(normalized(batch.video[:, 0].float() / 255, encoder), "b t c h w -> b c t h w")
        engine.train_one_epoch(
            theirs, [(video, mask)], optimizer, torch.device("cpu"), 0, Backward(), patch_size=8, start_steps=0
        )
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    grads = weights(gradients(theirs))
    gradient = max(gradient_difference(net, part) for net, part in zip((encoder, decoder), grads, strict=True))
    place = EMBEDDINGS["order"]((8, 4, 4), 24)
    return [
        Row("positions", difference(place, theirs.encoder.pos_embed[0])),
        Row("loss", difference(loss, losses[0]), gradient),
        Row("decoder's embedding", 0.0, declared="has a bias, as MAE's"),
        Row("first weights", 0.0, declared="patches' by Glorot's rule, mask token not cut off, as MAE's"),
    ]


def jepa(root: Path) -> list[Row]:
    """Networks (src/models) and the loss of app/vjepa/train.py, whose lines stand in its loop and are restated."""
    names = "src.models.vision_transformer", "src.models.predictor", "src.masks.utils"
    encoder = VideoViT(dim=26, depth=2, num_heads=2, patch_px=8, positions="space_time_full")
    width = {"width": 20, "depth": 1, "num_heads": 2}
    predictor = TokenPredictor(26, 26, **width, positions="space_time_full", num_mask_tokens=2)
    method = VJEPA(encoder, predictor=predictor, view=ToUnit())
    batch = video_batch(2, 4, 64)
    assert batch.video is not None and batch.seed is not None
    video = batch.video[:, 0].float() / 255
    norm = partial(nn.LayerNorm, eps=1e-6)
    shape = {
        "img_size": 64,
        "patch_size": 8,
        "num_frames": 4,
        "uniform_power": True,
        "num_heads": 2,
        "norm_layer": norm,
    }

    def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {**named(state, {"norm": "norm"}), **blocks_of(state, theirs="blocks.")}
        found |= {"embed.weight": embedding_of(state["patch_embed.proj.weight"])}
        return {**found, "embed.bias": state["patch_embed.proj.bias"]}

    def predictor_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pairs = {"predictor_embed": "embed", "predictor_norm": "norm", "predictor_proj": "out"}
        found = {**named(state, pairs), **blocks_of(state, theirs="predictor_blocks.")}
        return {**found, "mask_token": torch.cat([state[f"mask_tokens.{n}"] for n in range(2)])}

    with imported(root, *names) as (models, predictors, masks):
        student, teacher = (models.VisionTransformer(embed_dim=26, depth=2, **shape) for _ in range(2))
        theirs = predictors.VisionTransformerPredictor(
            embed_dim=26, predictor_embed_dim=20, depth=1, use_mask_tokens=True, **shape
        )
        for network in (student, teacher, theirs):
            randomize(network)
        load(method.student, encoder_weights(student.state_dict()))
        load(method.encoder, encoder_weights(teacher.state_dict()))
        load(predictor, predictor_weights(theirs.state_dict()))
        clips = rearrange(normalized(video, encoder), "b t c h w -> b c t h w")
        with torch.no_grad():
            targets = F.layer_norm(teacher(clips), (26,))
        errors = []
        for number, mask in enumerate(method.masks):
            cells = mask(mix(batch.seed, number), rows=8, columns=8)
            visible, hidden = (tubes(kind, num_steps=2, num_cells=64) for kind in cells)
            predicted = theirs(student(clips, [visible]), None, [visible], [hidden], mask_index=number)
            errors.append((predicted - masks.apply_masks(targets, [hidden])).abs().mean())
        expected = sum(errors) / len(errors)
        expected.backward()
    loss = method(batch, 0.0)["loss"]
    loss.backward()
    gradient = max(
        gradient_difference(method.student, encoder_weights(gradients(student))),
        gradient_difference(predictor, predictor_weights(gradients(theirs))),
    )
    place = EMBEDDINGS["space_time_full"]((2, 8, 8), 26)
    return [
        Row("positions", difference(place, student.pos_embed[0])),
        Row("loss", difference(loss, expected), gradient),
        Row("masks", 0.0, declared="every sample hides and shows as many tokens as any other"),
        Row("first weights", 0.0, declared="drawn as MAE's"),
    ]


def videowalk(root: Path) -> list[Row]:
    """Walk over cells of whole frames (code/model.py), without cut edges."""

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
    gradient = max(gradient_difference(net, weights), gradient_difference(head, gradients(theirs.selfsim_fc[0])))
    return [
        Row("loss", difference(loss, expected[0]), gradient),
        Row(
            "cut edges",
            0.0,
            declared="each way's on their own, theirs of the way there on the way back, too",
        ),
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
    gradient = max(
        gradient_difference(net, weights),
        gradient_difference(method.aggregate, recurrent(lambda parameter: parameter.grad)),
        gradient_difference(method.predictor, gradients(theirs.network_pred)),
    )
    return [
        Row("loss, with dropout", difference(loss, expected), gradient),
        Row("network", 0.0, declared="blocks are means of single frames, batch norm keeps running statistics"),
    ]


PEERS: dict[str, Callable[[Path], list[Row]]] = {
    "moco": moco,
    "simclr": simclr,
    "dino": dino,
    "mae": mae,
    "videomae": videomae,
    "jepa": jepa,
    "videowalk": videowalk,
    "dpc": dpc,
}


def main(arguments: list[str] | None = None) -> int:
    """Print the table of the peers given; 1 if an equality that is claimed does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PATH", help=f"one of {', '.join(PEERS)}"
    )
    given = [peer.partition("=") for peer in parser.parse_args(arguments).peer]
    for name, _, path in given:
        if name not in PEERS or not Path(path).is_dir() or not path:
            parser.error(f"--peer {name}={path}: expected NAME=FOLDER, NAME one of {', '.join(PEERS)}")
    warnings.simplefilter("ignore")  # of old code under new libraries
    is_right = True
    print(f"{'peer':10} {'quantity':24} {'result':>9} {'gradient':>9}  verdict")
    for name, _, path in given:
        torch.manual_seed(0)
        for row in PEERS[name](Path(path).resolve()):
            is_right &= row.is_equal or bool(row.declared)
            verdict = f"declared: {row.declared}" if row.declared else "equal" if row.is_equal else "DIFFERS"
            gradient = "" if row.gradient is None else f"{row.gradient:.1e}"
            print(f"{name:10} {row.quantity:24} {row.result:9.1e} {gradient:>9}  {verdict}")
    skipped = sorted(set(PEERS) - {name for name, _, _ in given})
    if skipped:
        print(f"not compared, for no clone was given: {', '.join(skipped)}")
    return 0 if is_right else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        code = main()
        dist.destroy_process_group()
    sys.exit(code)

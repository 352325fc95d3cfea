"""What video/vjepa_vit_large learns.

Smooth gradients that drift: error on hidden features, spread over clips and the probe of the direction, with and
without stop-gradient; the recipe as shipped but smaller.
"""

import copy
import dataclasses
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.hidden import hidden_errors
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import VJEPA
from vidssl.models import VideoViT
from vidssl.ops.masks import tubes
from vidssl.ops.monitors import collapse_monitors

SIZE_PX = 64  # 4 x 4 cells of the recipe's 16 px, 2 steps
drifting = partial(worlds.waves, num_frames=4, size_px=SIZE_PX, num_waves=2, cycles=(0.2, 0.5), speed_px=20.0)


class WithoutStopGradient(VJEPA):
    """The control: targets are the student's own features, and the gradient flows into them."""

    def targets(self, video: Tensor) -> Tensor:
        """Features of the student, each token normalised."""
        return F.layer_norm(self.student.tokens(video).float(), (self.student.dim,))


def direction_probe(encoder: VideoViT) -> float:
    """Linear probe of the direction of the drift, per cent of the test clips that are right."""
    (train, train_label), (test, test_label) = drifting(2000, seed=1_000_001), drifting(1000, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


def clip_std(encoder: VideoViT) -> float:
    """Spread of the pooled features over held-out clips (collapse_monitors)."""
    clips, _ = drifting(500, seed=1_000_003)
    return collapse_monitors(pooled_features(encoder, clips))["embedding_std"].item()


@torch.no_grad()
def feature_errors(method: VJEPA, train: Tensor) -> dict[str, float]:
    """Errors on the hidden features of unseen clips, mean over the masks."""
    method.eval()
    test = drifting(500, seed=1_000_003)[0].float() / 255
    grid = steps, rows, columns = method.encoder.grid(test)

    def predict(video: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        return method.predictor(method.student.tokens(video, visible), visible=visible, hidden=hidden, grid=grid)

    found = []
    for mask in method.masks:
        cells = mask(torch.arange(len(test)), rows=rows, columns=columns)
        visible, hidden = (tubes(kind, num_steps=steps, num_cells=rows * columns) for kind in cells)
        found.append(
            hidden_errors(
                predict=predict,
                targets=method.targets,
                split=(visible, hidden),
                grid=grid,
                train=train,
                test=test,
                loss="absolute",
            )
        )
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def measure(seed: int, out: Path) -> dict[str, float]:
    """Drifting gradients: hidden features, spread and direction of motion, with and without stop-gradient."""
    video, _ = drifting(4000, seed=seed)
    run = shipped(
        "video/vjepa_vit_large",
        video,
        folder=out,
        highest_lr=1e-3,
        steps=300,
        batch_size=32,
        crop_px=SIZE_PX,
        num_frames=4,
        stride_frames=1,
        dim=96,
        depth=3,
        num_heads=4,
        predictor_dim=48,
        predictor_depth=2,
        momentum=0.98,
    )
    assert isinstance(run.method, VJEPA)
    control = copy.deepcopy(run.method)
    control.__class__ = WithoutStopGradient
    train = video[:500].float() / 255
    figures = {
        "random": feature_errors(run.method, train)["error"],
        "probe_random": direction_probe(run.method.encoder),
        "clip_std_random": clip_std(run.method.encoder),
    }
    method = pretrain(run, out=out / "pretrained", seed=seed)
    # Half as long: it collapses the more the longer it is trained.
    pretrain(
        dataclasses.replace(run, method=control, steps=run.steps // 2),
        out=out / "without_stop_gradient",
        seed=seed,
    )
    for name, one in (("pretrained", method), ("without_stop_gradient", control)):
        assert isinstance(one, VJEPA)
        figures[f"probe_{name}"] = direction_probe(one.encoder)
        figures[f"clip_std_{name}"] = clip_std(one.encoder)
    assert isinstance(method, VJEPA)
    found = feature_errors(method, train)
    return {
        **figures,
        "pretrained": found.pop("error"),
        **found,
        "probe_chance": 100 / worlds.NUM_DIRECTIONS,
    }


PROOF = Proof(
    metric="absolute error on hidden features of drifting gradients, each token of variance 1",
    claims=(
        Claim("pretrained", "below", "random", 0.1),
        Claim("pretrained", "below", "error_with_another", 0.1),
        Claim("pretrained", "below", "error_of_place", 0.05),
        Claim("clip_std_pretrained", "above", "clip_std_without_stop_gradient", 0.1),
    ),
    measure=measure,
)

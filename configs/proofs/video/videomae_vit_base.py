"""What video/videomae_vit_base learns.

Smooth gradients that drift: error on hidden tubes, the recipe as shipped but smaller. The probe of the direction is
reported, not required: nothing in the task asks for it.
"""

from functools import partial
from pathlib import Path

import torch

from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.hidden import hidden_errors
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import VideoMAE
from vidssl.models import VideoViT

SIZE_PX = 64  # 4 x 4 cells of the recipe's 16 px, four of which are visible, in 2 steps
drifting = partial(
    worlds.waves, num_frames=4, size_px=SIZE_PX, num_waves=1, cycles=(0.4, 0.9), speed_px=8.0, color=False
)


def direction_probe(encoder: VideoViT) -> float:
    """Linear probe of the direction of the drift, per cent of the test clips that are right."""
    (train, train_label), (test, test_label) = drifting(2000, seed=1_000_001), drifting(1000, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


def measure(seed: int, out: Path) -> dict[str, float]:
    """Drifting gradients: error on hidden tubes and the probe of the direction before and after."""
    video, _ = drifting(4000, seed=seed)
    run = shipped(
        "video/videomae_vit_base",
        video,
        folder=out,
        highest_lr=2e-3,
        steps=300,
        batch_size=64,
        crop_px=SIZE_PX,
        num_frames=4,
        stride_frames=1,
        mask_ratio=0.75,
        dim=96,
        depth=3,
        num_heads=4,
        decoder_dim=96,
        decoder_depth=2,
    )
    method = run.method
    assert isinstance(method, VideoMAE)
    train, test = video[:500].float() / 255, drifting(500, seed=1_000_003)[0].float() / 255
    grid = method.encoder.grid(test)
    errors = partial(
        hidden_errors,
        predict=method.predict,
        targets=method.targets,
        split=method.split(torch.arange(len(test)), grid),
        grid=grid,
        train=train,
        test=test,
    )
    figures = {"random": errors()["error"], "probe_random": direction_probe(method.encoder)}
    pretrain(run, out=out / "run", seed=seed)
    method.eval()
    found = errors()
    return {
        **figures,
        "pretrained": found.pop("error"),
        **found,
        "probe": direction_probe(method.encoder),
        "probe_chance": 100 / worlds.NUM_DIRECTIONS,
    }


PROOF = Proof(
    metric="squared error on hidden tubes of drifting gradients, each patch of variance 1",
    claims=(
        Claim("pretrained", "below", "random", 0.2),
        Claim("pretrained", "below", "error_with_another", 0.3),
        Claim("pretrained", "below", "error_of_place", 0.2),
        Claim("pretrained", "below", "error_of_kernel", 0.1),
    ),
    measure=measure,
)

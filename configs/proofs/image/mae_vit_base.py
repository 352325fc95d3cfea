"""What image/mae_vit_base learns.

Smooth random gradients: error on hidden patches, the recipe as shipped but smaller.
"""

from functools import partial
from pathlib import Path

import torch

from vidssl.evidence import worlds
from vidssl.evidence.hidden import hidden_errors
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import MAE

SIZE_PX = 64  # 4 x 4 patches of the recipe's 16 px, four of which are visible
gradients = partial(worlds.waves, size_px=SIZE_PX, num_waves=1, cycles=(0.4, 0.9), color=False)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Smooth random gradients: error on hidden patches, the recipe as shipped but smaller."""
    video, _ = gradients(4000, seed=seed)
    run = shipped(
        "image/mae_vit_base",
        video,
        folder=out,
        highest_lr=2e-3,
        steps=400,
        batch_size=64,
        crop_px=SIZE_PX,
        dim=96,
        depth=3,
        num_heads=4,
        decoder_dim=64,
        decoder_depth=2,
    )
    method = run.method
    assert isinstance(method, MAE)
    train, test = video[:1000].float() / 255, gradients(1000, seed=1_000_003)[0].float() / 255
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
    random = errors()["error"]
    pretrain(run, out=out / "run", seed=seed)
    method.eval()
    figures = errors()
    return {"random": random, "pretrained": figures.pop("error"), **figures}


PROOF = Proof(
    metric="squared error on hidden patches of smooth gradients, each patch of variance 1",
    claims=(
        Claim("pretrained", "below", "random", 0.2),
        Claim("pretrained", "below", "error_with_another", 0.3),
        Claim("pretrained", "below", "error_of_place", 0.2),
        Claim("pretrained", "below", "error_of_kernel", 0.1),
    ),
    measure=measure,
)

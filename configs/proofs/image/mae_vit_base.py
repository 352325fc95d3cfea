"""What image/mae_vit_base learns.

Smooth random gradients: error on hidden patches, the recipe as shipped but smaller.
"""

from functools import partial
from pathlib import Path

from vidssl.evidence import worlds
from vidssl.evidence.hidden import before_and_after
from vidssl.evidence.proof import Proof, shipped
from vidssl.evidence.refutation import Claim

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
    test, _ = gradients(1000, seed=1_000_003)
    return before_and_after(run, train=video[:1000], test=test, out=out / "run", seed=seed)


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

"""What video/opn_resnet18 learns.

Sprites that fall, and sprites that stand still: order on videos not seen, and where the sprite is; the recipe as
shipped but smaller.
"""

import copy
import dataclasses
from pathlib import Path

import torch

from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.loader import Loader
from vidssl.evidence import worlds
from vidssl.evidence.probes import HEIGHT_BANDS, height_probe
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import OPN
from vidssl.methods.video.opn import split_channels
from vidssl.models import Encoder


def measure(seed: int, out: Path) -> dict[str, float]:
    """Sprites that fall, and sprites that stand still: order on videos not seen, and where the sprite is.

    Views are whole frames, upright and not mirrored: what counts is where the sprite is.
    """
    run = shipped(
        "video/opn_resnet18",
        _sprites(2000, "fall", seed=seed).video,
        folder=out,
        highest_lr=0.05,
        steps=300,
        batch_size=32,
        patch_px=28,
        jitter_px=2,
        stride_frames=3,
        num_windows=1,
        width=16,
    )
    assert isinstance(run.method, OPN)
    run.method.view = RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    run.method.num_patches = 1

    def train(world: worlds.World) -> tuple[Encoder, float]:
        """Give the encoder, and its accuracy in per cent on other videos of that world."""
        method = copy.deepcopy(run.method)
        dataset = ArrayDataset(_sprites(2000, world, seed=seed).video, clips=method.clips)
        pretrain(dataclasses.replace(run, method=method, dataset=dataset), out=out / world, seed=seed)
        held_out = ArrayDataset(_sprites(1000, world, seed=1_000_003).video, clips=method.clips)
        batch = next(Loader(held_out, batch_size=1000, seed=seed).batches(0, 1))
        with torch.no_grad():
            return method.encoder, 100 * float(method.eval()(batch, 1.0)["accuracy"])

    falling, fall_order = train("fall")
    still, still_order = train("static")
    return {
        "random": _height_probe(run.method.encoder),
        "pretrained": _height_probe(falling),
        "pretrained_on_still_videos": _height_probe(still),
        "chance": 100 / HEIGHT_BANDS,
        "order": fall_order,
        "order_of_still_videos": still_order,
        "order_chance": 100 / 12,
    }


def _sprites(num_videos: int, world: worlds.World, *, seed: int, num_frames: int = 10) -> worlds.Sprites:
    return worlds.sprites(
        num_videos,
        seed=seed,
        num_frames=num_frames,
        size_px=32,
        sprite_px=(9, 11),
        speed_px=(1.6, 2.1),
        world=world,
    )


def _height_probe(encoder: Encoder) -> float:
    """Linear probe of frames that show one colour channel three times, as in training."""

    def frames(seed: int) -> worlds.Sprites:
        drawn = _sprites(1500, "moving", seed=seed, num_frames=1)
        return dataclasses.replace(drawn, video=split_channels(drawn.video, torch.arange(len(drawn.video))))

    return height_probe(encoder, frames(1_000_001), frames(1_000_002))


PROOF = Proof(
    metric="linear probe of a frame on the height of the sprite, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "pretrained_on_still_videos", 20),
        Claim("order", "above", "order_chance", 50),
        Claim("order_of_still_videos", "within", "order_chance", 5),
    ),
    measure=measure,
)

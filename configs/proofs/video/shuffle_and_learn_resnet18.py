"""What video/shuffle_and_learn_resnet18 learns.

Sprites that fall, and sprites that stand still: order on videos not seen, and where the sprite is.
"""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.loader import Loader
from vidssl.evidence import worlds
from vidssl.evidence.probes import HEIGHT_BANDS, height_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import ShuffleAndLearn
from vidssl.methods.video.shuffle_and_learn import candidate_windows
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Sprites that fall, and sprites that stand still: order on videos not seen, and where the sprite is."""
    random = ConvNet(widths=(20, 40, 80, 80), strides=(2, 2, 2, 1), standardize=True)
    falling, fall_order = _order(copy.deepcopy(random), "fall", seed=seed, out=out / "fall")
    still, still_order = _order(copy.deepcopy(random), "static", seed=seed, out=out / "static")
    return {
        "random": _height_probe(random),
        "pretrained": _height_probe(falling),
        "pretrained_on_still_videos": _height_probe(still),
        "chance": 100 / HEIGHT_BANDS,
        "order": fall_order,
        "order_of_still_videos": still_order,
        "order_chance": 50.0,
    }


def _sprites(num_videos: int, world: worlds.World, *, seed: int, num_frames: int = 11) -> worlds.Sprites:
    return worlds.sprites(
        num_videos,
        seed=seed,
        num_frames=num_frames,
        size_px=24,
        sprite_px=(7, 9),
        speed_px=(0.7, 1.5),
        world=world,
    )


def _order(encoder: ConvNet, world: worlds.World, *, seed: int, out: Path) -> tuple[ConvNet, float]:
    """Train in a world; the encoder, and its balanced accuracy in per cent on other videos of that world."""
    clips = partial(candidate_windows, offsets_frames=(0, 2, 4, 6, 8), num_windows=2)
    view = RandomResizedCrop(24, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    method = ShuffleAndLearn(encoder, view=view, clips=clips)
    recipe = Run(
        method=method,
        dataset=ArrayDataset(_sprites(2000, world, seed=seed).video, clips=clips),
        optimizer=partial(torch.optim.AdamW, lr=4e-3, weight_decay=0.01),
        learning_rate=optim.warmup(optim.cosine(4e-3), share=0.1),
        steps=400,
        batch_size=32,
    )
    pretrain(recipe, out=out, seed=seed)
    held_out = ArrayDataset(_sprites(2000, world, seed=1_000_003).video, clips=clips)
    batch = next(Loader(held_out, batch_size=2000, seed=seed).batches(0, 1))
    with torch.no_grad():
        return encoder, 100 * float(method.eval()(batch, 1.0)["balanced_accuracy"])


def _height_probe(encoder: ConvNet) -> float:
    train, test = (_sprites(1500, "moving", seed=number, num_frames=1) for number in (1_000_001, 1_000_002))
    return height_probe(encoder, train, test)


PROOF = Proof(
    metric="linear probe of a frame on the height of the sprite, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "pretrained_on_still_videos", 20),
        Claim("order", "above", "order_chance", 15),
        Claim("order_of_still_videos", "within", "order_chance", 5),
    ),
    measure=measure,
)

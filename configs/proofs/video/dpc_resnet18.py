"""What video/dpc_resnet18 learns.

Sprites that fall: the future on videos not seen, and where the sprite is, with and without hard negatives.
"""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.clips import random_clips
from vidssl.data.loader import Loader
from vidssl.evidence import worlds
from vidssl.evidence.probes import HEIGHT_BANDS, height_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import DPC
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Sprites that fall: the future on videos not seen, and where the sprite is, with and without hard negatives."""
    random = _encoder()
    pretrained, future = _predict(copy.deepcopy(random), within_video_negatives=True, seed=seed, out=out / "all")
    easy, easy_future = _predict(
        copy.deepcopy(random), within_video_negatives=False, seed=seed, out=out / "other_videos"
    )
    return {
        "random": _height_probe(random),
        "pretrained": _height_probe(pretrained),
        "pretrained_on_easy_negatives": _height_probe(easy),
        "chance": 100 / HEIGHT_BANDS,
        "within_video": future["accuracy_within_video"],
        "within_video_on_easy_negatives": easy_future["accuracy_within_video"],
        "within_video_chance": future["chance_within_video"],
        "other_steps": future["accuracy_other_steps"],
        "other_steps_on_easy_negatives": easy_future["accuracy_other_steps"],
        "other_steps_chance": future["chance_other_steps"],
        "other_videos": future["accuracy_other_videos"],
        "other_videos_on_easy_negatives": easy_future["accuracy_other_videos"],
        "other_videos_chance": future["chance_other_videos"],
    }


def _encoder() -> ConvNet:
    return ConvNet(widths=(20, 40, 80, 80), strides=(2, 2, 2, 2))


def _sprites(num_videos: int, world: worlds.World, *, seed: int, num_frames: int = 10) -> worlds.Sprites:
    return worlds.sprites(
        num_videos,
        seed=seed,
        num_frames=num_frames,
        size_px=32,
        sprite_px=(10, 12),
        speed_px=(1.5, 2.2),
        world=world,
    )


def _predict(
    encoder: ConvNet, *, within_video_negatives: bool, seed: int, out: Path
) -> tuple[ConvNet, dict[str, float]]:
    """Train on sprites that fall; the encoder, and the accuracies and chance levels, per cent, on other videos."""
    clips = partial(random_clips, num_frames=5, stride_frames=2)
    method = DPC(
        encoder,
        view=RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
        num_blocks=5,
        num_predicted=3,
        dim=64,
        within_video_negatives=within_video_negatives,
        clips=clips,
    )
    recipe = Run(
        method=method,
        dataset=ArrayDataset(_sprites(2000, "fall", seed=seed).video, clips=clips),
        optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
        learning_rate=optim.warmup(optim.cosine(3e-3), share=0.1),
        steps=500,
        batch_size=16,
    )
    pretrain(recipe, out=out, seed=seed)
    held_out = ArrayDataset(_sprites(480, "fall", seed=1_000_003).video, clips=clips)
    method.eval()
    with torch.no_grad():
        figures = [method(batch, 1.0) for batch in Loader(held_out, batch_size=16, seed=seed).batches(0, 30)]
    return encoder, {
        name: 100 * sum(float(one[name]) for one in figures) / len(figures)
        for name in figures[0]
        if name.startswith(("accuracy_", "chance_"))
    }


def _height_probe(encoder: ConvNet) -> float:
    train, test = (_sprites(1500, "moving", seed=number, num_frames=1) for number in (1_000_001, 1_000_002))
    return height_probe(encoder, train, test)


PROOF = Proof(
    metric="linear probe of a frame on the height of the sprite, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("pretrained", "above", "pretrained_on_easy_negatives", 10),
        Claim("other_steps", "above", "other_steps_chance", 10),
        Claim("other_steps_on_easy_negatives", "within", "other_steps_chance", 5),
    ),
    measure=measure,
)

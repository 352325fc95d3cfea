"""Shuffle and Learn, ResNet-18 (Misra et al. 2016, arXiv:1603.08561).

The paper's recipe: SGD with momentum 0.9, weight decay 5e-4, 128 tuples a step, 100 k steps, learning rate 1e-3 and a
tenth of it after 80 k; frames of 256 px, crops of 224 (the paper: 227 out of frames of 340 px on the long side).
"""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.loader import Loader
from vidssl.methods import ShuffleAndLearn
from vidssl.methods.video.shuffle_and_learn import candidate_windows
from vidssl.models import ConvNet, ResNet
from vidssl.proof import HEIGHT_BANDS, Proof, height_probe, pretrain

METHOD = "ShuffleAndLearn"
PAPER = "Misra et al. 2016, arXiv:1603.08561"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 100_000,
    batch_size: int = 128,
    lr: float = 1e-3,
    size_px: int = 256,
    crop_px: int = 224,
    offsets_frames: tuple[int, ...] = (0, 15, 45, 75, 90),
    num_windows: int = 4,
    width: int = 64,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Tuples per step and process.
        lr: First learning rate.
        size_px: Short side to which videos are scaled when they are decoded.
        crop_px: Height and width of the training views.
        offsets_frames: The five frames of a window, counted from its first.
        num_windows: Windows of a video, of which one is chosen by its motion.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    clips = partial(candidate_windows, offsets_frames=offsets_frames, num_windows=num_windows)
    method = ShuffleAndLearn(encoder, view=RandomResizedCrop(crop_px, scale=(0.5, 1.0)), clips=clips)
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(lr, factor=0.1, at=(0.8,)),
        steps=steps,
        batch_size=batch_size,
    )


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


def _holds(figures: Mapping[str, float]) -> bool:
    return (
        figures["pretrained"] >= max(figures["random"], figures["pretrained_on_still_videos"]) + 20
        and figures["order"] >= 65
        and abs(figures["order_of_still_videos"] - 50) <= 5
    )


PROOF = Proof(
    metric="linear probe of a frame on the height of the sprite, per cent",
    line=(
        "at least 20 points above random initialisation and above pretraining on still videos; order on other videos "
        "at least 15 points above chance, of still videos within 5 points of it"
    ),
    holds=_holds,
    measure=measure,
)

"""Order Prediction Network, ResNet-18 (Lee et al. 2017, arXiv:1708.01246).

The paper's recipe: SGD with momentum 0.9, weight decay 5e-4, 64 tuples a step, learning rate 0.01, a tenth of it after
130 k and 170 k steps, the end; patches of 80 px, shifted by up to 5 px a frame.

Differences from the paper: patches are crops of a tenth to a half of the frame, scaled.
"""

import copy
import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.clips import random_clips
from vidssl.data.loader import Loader
from vidssl.methods import OPN
from vidssl.methods.video.opn import split_channels
from vidssl.models import ConvNet, ResNet
from vidssl.proof import HEIGHT_BANDS, Proof, height_probe, pretrain

METHOD = "OPN"
PAPER = "Lee et al. 2017, arXiv:1708.01246"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 170_000,
    batch_size: int = 64,
    lr: float = 0.01,
    size_px: int = 256,
    patch_px: int = 80,
    jitter_px: int = 5,
    stride_frames: int = 15,
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
        patch_px: Height and width of what the network sees.
        jitter_px: Largest shift of a frame.
        stride_frames: Frames from one of the four to the next.
        num_windows: Windows of a video, of which one is chosen by its motion.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=16, layer="layer4", width=width)
    view = RandomResizedCrop(patch_px + 2 * jitter_px, scale=(0.1, 0.5))
    clips = partial(random_clips, num_frames=4, stride_frames=stride_frames, num_clips=num_windows)
    method = OPN(encoder, view=view, jitter_px=jitter_px, clips=clips)
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(lr, factor=0.1, at=(130 / 170,)),
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


def _order(encoder: ConvNet, world: worlds.World, *, seed: int, out: Path) -> tuple[ConvNet, float]:
    """Train in a world; the encoder, and its accuracy in per cent on other videos of that world."""
    clips = partial(random_clips, num_frames=4, stride_frames=3)
    view = RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    method = OPN(
        encoder, view=view, jitter_px=2, num_patches=1, frame_dim=64, pair_dim=64, dropout=0.0, clips=clips
    )
    recipe = Run(
        method=method,
        dataset=ArrayDataset(_sprites(2000, world, seed=seed).video, clips=clips),
        optimizer=partial(torch.optim.AdamW, lr=4e-3, weight_decay=0.01),
        learning_rate=optim.warmup(optim.cosine(4e-3), share=0.1),
        steps=250,
        batch_size=32,
    )
    pretrain(recipe, out=out, seed=seed)
    held_out = ArrayDataset(_sprites(1000, world, seed=1_000_003).video, clips=clips)
    batch = next(Loader(held_out, batch_size=1000, seed=seed).batches(0, 1))
    with torch.no_grad():
        return encoder, 100 * float(method.eval()(batch, 1.0)["accuracy"])


def _height_probe(encoder: ConvNet) -> float:
    """Linear probe of frames that show one colour channel three times, as in training."""

    def frames(seed: int) -> worlds.Sprites:
        drawn = _sprites(1500, "moving", seed=seed, num_frames=1)
        return dataclasses.replace(drawn, video=split_channels(drawn.video, torch.arange(len(drawn.video))))

    return height_probe(encoder, frames(1_000_001), frames(1_000_002))


def _holds(figures: Mapping[str, float]) -> bool:
    return (
        figures["pretrained"] >= max(figures["random"], figures["pretrained_on_still_videos"]) + 20
        and figures["order"] >= 60
        and abs(figures["order_of_still_videos"] - 100 / 12) <= 5
    )


PROOF = Proof(
    metric="linear probe of a frame on the height of the sprite, per cent",
    line=(
        "at least 20 points above random initialisation and above pretraining on still videos; order of four frames "
        "on other videos at least 60 per cent (chance 8.3), of still videos within 5 points of chance"
    ),
    holds=_holds,
    measure=measure,
)

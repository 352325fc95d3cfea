"""Relative patch, ResNet-18 (Doersch et al. 2015, arXiv:1505.05192), on images or on frames of videos.

As in the authors' code: patches of 96 px, 48 px apart, off their place by up to 7 px, pictures of 150 to 450 thousand
pixels, 512 patches a step, all but one colour dropped; plain SGD without decay at 1e-5 for a loss that is a sum over
pairs, which is 0.02 for the mean over the 2240 pairs of 56 grids.
"""

from functools import partial
from typing import Literal

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import RelativePatch
from vidssl.models import ResNet

METHOD = "RelativePatch"
PAPER = "Doersch et al. 2015, arXiv:1505.05192"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_700_000,
    batch_size: int = 56,
    lr: float = 0.02,
    size_px: int = 512,
    crop_px: int = 416,
    patch_px: int = 96,
    gap_px: int = 48,
    jitter_px: int = 7,
    fringes: Literal["drop", "project", "keep"] = "drop",
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process, nine patches each.
        lr: Learning rate.
            For 56 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the picture that the grid lies in.
        patch_px: Height and width of a patch.
        gap_px: Between patches.
        jitter_px: How far a patch may lie from its place.
        fringes: What becomes of colours, which tell the place in a lens's picture.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    # A square of this size is 38 % of a picture of 450 thousand pixels.
    view = RandomResizedCrop(crop_px, scale=(0.38, 1.0), ratio=(1.0, 1.0), flip=0.0)
    sizes = {"patch_px": patch_px, "gap_px": gap_px, "jitter_px": jitter_px}
    method = RelativePatch(encoder, view=view, fringes=fringes, **sizes)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=56)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.SGD, lr=rate),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

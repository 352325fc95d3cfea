"""Exemplar, ResNet-18 (Dosovitskiy et al. 2014, arXiv:1406.6909), on images or on frames of videos.

Patches of 32 pixels, each a class (8000 in the paper: take about as many files), its transformations, SGD with
momentum 0.9 and learning rate 0.01, a tenth of it after two thirds of the training and again after five sixths.

Differences from the paper: ResNet-18 with cells of 8 pixels instead of a network of three convolutions and two layers
with dropout; weight decay and the places of the schedule are ours.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import Exemplar
from vidssl.models import ResNet

METHOD = "Exemplar"
PAPER = "Dosovitskiy et al. 2014, arXiv:1406.6909"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 128,
    lr: float = 0.01,
    size_px: int = 96,
    patch_px: int = 32,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos; each file is a class.
        steps: Number of optimizer steps.
        batch_size: Patches per step and process.
        lr: First learning rate for 128 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width of the squares that are cut out of pictures when they are decoded.
        patch_px: Height and width of a patch before it is scaled.
        width: Channels of the first layer of the ResNet.
    """
    corpus = scan(root, media="any")
    method = Exemplar(
        ResNet(18, stride=8, layer="layer4", width=width),
        view=recipes.exemplar(),
        num_samples=len(corpus),
        patch_px=patch_px,
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(corpus, clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=4e-5),
        learning_rate=optim.steps(start, factor=0.1, at=(2 / 3, 5 / 6)),
        steps=steps,
        batch_size=batch_size,
    )

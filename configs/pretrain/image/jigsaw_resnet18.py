"""Jigsaw, ResNet-18 (Noroozi and Favaro 2016, arXiv:1603.09246), on images or on frames of videos.

The paper's recipe: SGD with momentum 0.9, weight decay 5e-4, 256 pictures a step, learning rate 0.01, a tenth of it
after every 100 k of 350 k steps; 1000 permutations, tiles of 64 px at random places of cells of 85 px, 30 % of the
pictures grey (Sec. 4.1 and 4.2).

Differences from the paper: ResNet-18 instead of AlexNet towers; squares are 70 to 100 % of the picture, scaled.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import Pipeline, RandomGray, RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import Jigsaw
from vidssl.methods.image.jigsaw import permutations
from vidssl.models import ResNet

METHOD = "Jigsaw"
PAPER = "Noroozi and Favaro 2016, arXiv:1603.09246"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 350_000,
    batch_size: int = 256,
    lr: float = 0.01,
    size_px: int = 256,
    crop_px: int = 255,
    tile_px: int = 64,
    num_permutations: int = 1000,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the picture that is cut into tiles, a multiple of 3.
        tile_px: Height and width of a tile, at most a third of crop_px.
        num_permutations: To be told apart.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    # The paper takes a random square of the scaled picture.
    square = RandomResizedCrop(crop_px, scale=(0.7, 1.0), ratio=(1.0, 1.0), flip=0.0)
    method = Jigsaw(
        encoder,
        view=Pipeline(square, RandomGray(probability=0.3)),
        permutations=permutations(num_permutations),
        tile_px=tile_px,
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(rate, factor=0.1, at=(100 / 350, 200 / 350, 300 / 350)),
        steps=steps,
        batch_size=batch_size,
    )

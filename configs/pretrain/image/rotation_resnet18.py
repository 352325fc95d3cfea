"""Rotation prediction, ResNet-18 (Gidaris et al. 2018, arXiv:1803.07728), on images or on frames of videos.

The paper's schedule on ImageNet: SGD with Nesterov momentum 0.9, weight decay 5e-4, 192 pictures (768 with their
turns) a step, learning rate 0.01, a tenth of it after 15, 30 and 45 of 50 epochs.

Differences from the paper: ResNet-18 instead of AlexNet; no weight decay on biases and norms.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import Rotation
from vidssl.models import ResNet

METHOD = "Rotation"
PAPER = "Gidaris et al. 2018, arXiv:1803.07728"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 300_000,
    batch_size: int = 192,
    lr: float = 0.01,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; the network sees four times as many.
        lr: First learning rate for 192 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    method = Rotation(encoder, view=RandomResizedCrop(crop_px))
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=192)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4),
        learning_rate=optim.steps(rate, factor=0.1, at=(0.3, 0.6, 0.9)),
        steps=steps,
        batch_size=batch_size,
    )

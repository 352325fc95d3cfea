"""MoCo, ResNet-18 (He et al. 2020, arXiv:1911.05722; v2: Chen et al. 2020, arXiv:2003.04297), on images or videos.

Both papers' schedule on ImageNet: SGD with momentum 0.9, weight decay 1e-4, 256 pictures a step, learning rate 0.03,
200 epochs, a queue of 65536 keys, momentum 0.999. Version 1: a linear projection, temperature 0.07, a tenth of the
learning rate after 120 and 160 epochs. Version 2: a hidden layer, temperature 0.2, blur, a cosine.

Differences from the paper: ResNet-18 instead of ResNet-50; no weight decay on biases and norms.
"""

from functools import partial
from typing import Literal

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import MoCo
from vidssl.models import ResNet

METHOD = "MoCo"
PAPER = "He et al. 2020, arXiv:1911.05722"
NEEDS = "images or video"


def run(
    root: str,
    *,
    version: Literal["v1", "v2"] = "v2",
    steps: int = 1_000_000,
    batch_size: int = 256,
    lr: float = 0.03,
    num_keys: int = 65_536,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        version: Of the paper.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        num_keys: Length of the queue.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    start = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    if version == "v1":
        projector = nn.Linear(encoder.dim, 128)
        method = MoCo(
            encoder, view=recipes.moco_v1(crop_px), projector=projector, temperature=0.07, num_keys=num_keys
        )
        schedule = optim.steps(start, factor=0.1, at=(0.6, 0.8))
    else:
        method = MoCo(encoder, view=recipes.moco_v2(crop_px), num_keys=num_keys)
        schedule = optim.cosine(start)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=1e-4),
        learning_rate=schedule,
        steps=steps,
        batch_size=batch_size,
    )

"""Dense Predictive Coding, ResNet-18 (Han et al. 2019, arXiv:1909.04656).

The paper's recipe on Kinetics-400 at 128 px: Adam, learning rate 1e-3, weight decay 1e-5, 128 clips a step, 300 epochs
(560 k steps); every frame is grey with probability 0.5 and changes its colours by itself.

Differences from the paper: the rate stays, where the paper takes a tenth of it once the loss of held-out videos no
longer falls; biases and norms have no weight decay; a grey frame is its luminance, in the authors' code one of its
channels.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import ColorJitter, Pipeline, RandomGray, RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import DPC
from vidssl.models import ResNet

METHOD = "DPC"
PAPER = "Han et al. 2019, arXiv:1909.04656"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 560_000,
    batch_size: int = 128,
    lr: float = 1e-3,
    size_px: int = 150,
    crop_px: int = 128,
    stride_frames: int = 5,
    width: int = 64,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Learning rate for 128 clips per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        stride_frames: Every how many frames of the video one is taken, 40 in all: 5 on Kinetics, 3 on UCF101.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    jitter = ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25)
    method = DPC(
        encoder,
        view=RandomResizedCrop(crop_px, scale=(0.5, 1.0)),
        frame_view=Pipeline(RandomGray(probability=0.5), jitter),
        clips=partial(random_clips, num_frames=40, stride_frames=stride_frames),
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=rate, weight_decay=1e-5),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

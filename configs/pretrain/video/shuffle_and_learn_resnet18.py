"""Shuffle and Learn, ResNet-18 (Misra et al. 2016, arXiv:1603.08561).

The paper's recipe: SGD with momentum 0.9, weight decay 5e-4, 128 tuples a step, 100 k steps, learning rate 1e-3 and a
tenth of it after 80 k.

Differences from the paper: ResNet-18 instead of CaffeNet; crops of 224 px are half to all of a frame (there 227 px out
of frames of 340 px on the long side).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import ShuffleAndLearn
from vidssl.methods.video.shuffle_and_learn import candidate_windows
from vidssl.models import ResNet

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
        lr: First learning rate for 128 tuples per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        offsets_frames: The five frames of a window, counted from its first.
        num_windows: Windows of a video, of which one is chosen by its motion.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    clips = partial(candidate_windows, offsets_frames=offsets_frames, num_windows=num_windows)
    method = ShuffleAndLearn(encoder, view=RandomResizedCrop(crop_px, scale=(0.5, 1.0)), clips=clips)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(rate, factor=0.1, at=(0.8,)),
        steps=steps,
        batch_size=batch_size,
    )

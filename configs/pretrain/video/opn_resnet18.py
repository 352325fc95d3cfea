"""Order Prediction Network, ResNet-18 (Lee et al. 2017, arXiv:1708.01246).

The paper's recipe: SGD with momentum 0.9, weight decay 5e-4, 64 tuples a step, learning rate 0.01, a tenth of it after
130 k and 170 k steps, the end; patches of 80 px, shifted by up to 5 px a frame.

Differences from the paper: ResNet-18 instead of CaffeNet; patches are crops of a tenth to a half of the frame, scaled.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import OPN
from vidssl.models import ResNet

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
        lr: First learning rate for 64 tuples per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
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
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=64)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(rate, factor=0.1, at=(130 / 170,)),
        steps=steps,
        batch_size=batch_size,
    )

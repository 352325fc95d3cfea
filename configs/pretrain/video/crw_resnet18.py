"""Contrastive random walk, ResNet-18 at stride 8 (Jabri et al. 2020, arXiv:2006.14613).

The authors' recipe on Kinetics: Adam, 20 clips of 4 frames at about 8 frames per second, 256 px, 49 patches of 64 px
at a stride of 32, temperature 0.05, edge dropout 0.1, learning rate 1e-4 and 0.3 of it after 20 of 25 epochs. They
train up to layer 4 and propagate labels with layer 3: `--encoder-options layer=layer3` of `vidssl evaluate davis`.

Differences from the authors' code: pixels are normalised by ImageNet's statistics in training too (theirs by
CIFAR's, and by ImageNet's in evaluation).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import ContrastiveRandomWalk
from vidssl.methods.video.contrastive_random_walk import cut_patches
from vidssl.models import ResNet

METHOD = "ContrastiveRandomWalk"
PAPER = "Jabri et al. 2020, arXiv:2006.14613"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 300_000,
    batch_size: int = 20,
    lr: float = 1e-4,
    size_px: int = 256,
    crop_px: int = 256,
    patch_px: int = 64,
    patch_stride_px: int = 32,
    num_frames: int = 4,
    stride_frames: int = 4,
    width: int = 64,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Learning rate of the first 80 % of the training; 0.3 of it after.
            For 20 clips per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training frames.
        patch_px: Side of a patch, a node of the walk.
        patch_stride_px: From one patch to the next.
        num_frames: Frames of a clip, at least 3; the longest walk goes there and back.
        stride_frames: Frames of the video from one frame of a clip to the next.
        width: Channels of the first layer of the ResNet.
    """
    method = ContrastiveRandomWalk(
        ResNet(18, stride=8, layer="layer4", width=width, padding_mode="reflect"),
        view=RandomResizedCrop(crop_px, scale=(0.8, 0.95), ratio=(0.7, 1.3), flip=0.0),
        patches=partial(cut_patches, size_px=patch_px, stride_px=patch_stride_px),
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=20)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=rate),
        learning_rate=optim.steps(rate, factor=0.3, at=(0.8,)),
        steps=steps,
        batch_size=batch_size,
    )

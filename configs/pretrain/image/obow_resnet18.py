"""OBoW, ResNet-18 (Gidaris et al. 2021, arXiv:2012.11552), on images or on frames of videos.

The recipe of the authors' code on ImageNet: SGD with momentum 0.9, weight decay 1e-4, 256 pictures a step, learning
rate 0.03 by a cosine to 3e-5; two crops of 160 pixels (0.08 to 0.6 of the area), five patches of 96, whole pictures of
224 for the teacher; 8192 words of each of two layers; for ResNet-18 1 / delta 10 and kappa 5.

Differences from the paper: no warm-up of ten epochs; no weight decay on biases and norms.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import ColorJitter, GaussianBlur, MultiScaleCrop, Pipeline, RandomGray, RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import OBoW
from vidssl.models import ResNet

METHOD = "OBoW"
PAPER = "Gidaris et al. 2021, arXiv:2012.11552"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 256,
    lr: float = 0.03,
    num_words: int = 8192,
    size_px: int = 256,
    whole_px: int = 224,
    crop_px: int = 160,
    local_crop_px: int = 96,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        num_words: Of each layer.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        whole_px: Height and width of what the teacher sees.
        crop_px: Height and width of the student's crops.
        local_crop_px: Height and width of its patches.
        width: Channels of the first layer of the ResNet.
    """
    distortion = [
        ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8),
        RandomGray(probability=0.2),
    ]
    crop = RandomResizedCrop(crop_px, scale=(0.08, 0.6))
    method = OBoW(
        ResNet(18, stride=32, layer="layer4", width=width),
        teacher_view=MultiScaleCrop(whole_px, scales=(1.0, 0.875), flip=0.5),
        large_view=Pipeline(crop, *distortion, GaussianBlur(kernel_px=crop_px // 20 * 2 + 1, probability=0.5)),
        small_view=Pipeline(RandomResizedCrop(local_crop_px, scale=(0.05, 0.2)), *distortion),
        num_words=num_words,
        inverse_delta=10.0,
        kappa=5.0,
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=1e-4),
        learning_rate=optim.cosine(start, start / 1000),
        steps=steps,
        batch_size=batch_size,
    )

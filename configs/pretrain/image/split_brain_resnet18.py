"""Split-brain autoencoder, two halves of a ResNet-18 (Zhang et al. 2017, arXiv:1611.09842), on images or on frames.

The first half tells the colour among 313 classes from the lightness, the second the lightness among 100 from the
colour. Pictures of 180 px, mirrored or not; optimizer and rate are those of the authors' colorization code: Adam with
betas 0.9 and 0.99, learning rate 3e-5, weight decay 1e-3, 40 pictures a step. Each half has half of the width.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import SplitBrain
from vidssl.models.pictures.split import SplitResNet
from vidssl.ops.pixels.bins import color_bins, lightness_bins

METHOD = "SplitBrain"
PAPER = "Zhang et al. 2017, arXiv:1611.09842"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 450_000,
    batch_size: int = 40,
    lr: float = 3e-5,
    size_px: int = 256,
    crop_px: int = 180,
    classify: bool = True,
    width: int = 32,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate.
            For 40 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the views.
        classify: Whether lightness and colour are classes; else they are regressed.
        width: Channels of the first layer of each half.
    """
    encoder = SplitResNet(18, stride=8, layer="layer4", width=width)
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    method = SplitBrain(
        encoder,
        view=RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
        bins=(lightness_bins(), color_bins()) if classify else (None, None),
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=40)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3),
        learning_rate=optim.steps(rate, factor=0.1, at=(0.5,)),
        steps=steps,
        batch_size=batch_size,
    )

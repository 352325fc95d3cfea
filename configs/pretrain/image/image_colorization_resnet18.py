"""Image colorization, ResNet-18 (Zhang et al. 2016, arXiv:1603.08511), on images or on frames of videos.

As in the authors' code: Adam with betas 0.9 and 0.99, learning rate 3e-5, a tenth of it after half of 450 thousand
steps, weight decay 1e-3, 40 pictures of 176 px a step; colours of every fourth pixel among 313 classes. The encoder
has stride 8, as their last layers.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import ImageColorization
from vidssl.models import ResNet
from vidssl.models.pictures.decoder import Upsampler

METHOD = "ImageColorization"
PAPER = "Zhang et al. 2016, arXiv:1603.08511"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 450_000,
    batch_size: int = 40,
    lr: float = 3e-5,
    size_px: int = 256,
    crop_px: int = 176,
    classify: bool = True,
    num_neighbors: int = 5,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate.
            For 40 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the views, a multiple of 8.
        classify: Whether colours are classes; else they are regressed.
        num_neighbors: Classes that a colour is spread over: 5 in the paper, 10 in its code.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=8, layer="layer4", color="gray", width=width)
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    method = ImageColorization(
        encoder,
        enlarge=Upsampler(encoder.dim, widths=(4 * width,)),
        view=RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
        classify=classify,
        num_neighbors=num_neighbors,
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

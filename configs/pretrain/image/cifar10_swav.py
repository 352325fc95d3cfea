"""SwAV on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 81.2 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: Adam, 0.001 by a cosine, weight decay 1e-6, 128 pictures a step,
200 epochs; two crops of at least 0.14 of the picture, colours of strength 0.5, no blur, no small crops, no queue, 512
prototypes, a hidden layer of 512; batch norm sees each crop by itself.

docs/cifar10.md has the table, the commands, and what all seven recipes do otherwise.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import SwAV
from vidssl.methods.image.moco import normalize_in_groups
from vidssl.models import ResNet

METHOD = "SwAV"
PAPER = "Caron et al. 2020, arXiv:2006.09882; lightly's benchmark"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 1e-3,
    num_prototypes: int = 512,
    hidden_dim: int = 512,
    size_px: int = 32,
    crop_px: int = 32,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos: the training pictures of CIFAR-10.
        steps: Number of optimizer steps; 200 epochs of 390 at 128.
        batch_size: Pictures per step and process.
        lr: First learning rate for 128 pictures per step, all processes together (optim.scaled_rate).
        num_prototypes: Of the codes.
        hidden_dim: Of the projector.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    view = recipes.without_blur(recipes.swav_global(crop_px, strength=0.5))
    method = SwAV(
        encoder,
        view=view,
        local_view=view,
        num_local_views=0,
        num_prototypes=num_prototypes,
        hidden_dim=hidden_dim,
    )
    normalize_in_groups(method, 2)  # each view by itself
    start = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=start, weight_decay=1e-6),
        learning_rate=optim.cosine(start),
        steps=steps,
        batch_size=batch_size,
    )

"""MoCo on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 83.8 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: SGD of 0.06 by a cosine, momentum 0.9, weight decay 5e-4 on all
parameters, 128 pictures a step, 200 epochs; views of its SimCLR, temperature 0.1, a queue of 4096 keys, momentum 0.99,
the loss of both ways, batch norm in eight groups.

Differences from the benchmark: the queue takes the keys of both ways after both losses; there those of the first are
negatives of the second. docs/cifar10.md has the table, the commands, and what all seven recipes do otherwise.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import MoCo
from vidssl.models import ResNet

METHOD = "MoCo"
PAPER = "He et al. 2020, arXiv:1911.05722; lightly's benchmark"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 0.06,
    num_keys: int = 4096,
    momentum: float = 0.99,
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
        num_keys: Length of the queue; a step makes two keys of each picture.
        momentum: Of the key encoder.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    view = recipes.without_blur(recipes.simclr(crop_px, strength=0.5))
    method = MoCo(
        encoder, view=view, num_keys=num_keys, temperature=0.1, momentum=momentum, num_groups=8, symmetric=True
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.plain_sgd, lr=start, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.cosine(start),
        steps=steps,
        batch_size=batch_size,
    )

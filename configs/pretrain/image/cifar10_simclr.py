"""SimCLR on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 84.7 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: SGD of 0.06 by a cosine, momentum 0.9, weight decay 5e-4 on all
parameters, 128 pictures a step, 200 epochs; colours of strength 0.5, no blur, temperature 0.5, a projector of 512 and
128 with batch norm, which sees each view by itself.

docs/cifar10.md has the table, the commands, and what all seven recipes do otherwise.
"""

from functools import partial

from torch import nn

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import SimCLR
from vidssl.methods.image.moco import normalize_in_groups
from vidssl.models import ResNet
from vidssl.models.heads import mlp

METHOD = "SimCLR"
PAPER = "Chen et al. 2020, arXiv:2002.05709; lightly's benchmark"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 0.06,
    temperature: float = 0.5,
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
        temperature: Of the similarities.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    projector = nn.Sequential(*mlp(encoder.dim, encoder.dim, 128), nn.BatchNorm1d(128))
    view = recipes.without_blur(recipes.simclr(crop_px, strength=0.5))
    method = SimCLR(encoder, view=view, projector=projector, temperature=temperature)
    normalize_in_groups(method, 2)  # each view by itself
    start = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.plain_sgd, lr=start, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.cosine(start),
        steps=steps,
        batch_size=batch_size,
    )

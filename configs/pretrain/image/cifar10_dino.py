"""DINO on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 84.0 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: SGD of 0.06 by a cosine, momentum 0.9, weight decay 5e-4 on all
parameters, 128 pictures a step, 200 epochs; two crops without blur, no small ones, a head of one hidden layer of 2048
with batch norm, which sees each crop by itself, 2048 prototypes, temperatures 0.04 and 0.1, momentum 0.99 throughout.

Differences from the benchmark: the head of the teacher begins as a copy of the student's, and pictures are scaled
bilinearly (there bicubically). The figure is that of the student: --export student. docs/cifar10.md has the table, the
commands, and what all seven recipes do otherwise.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import DINO
from vidssl.methods.image.dino import DINOHead
from vidssl.methods.image.moco import normalize_in_groups
from vidssl.models import ResNet

METHOD = "DINO"
PAPER = "Caron et al. 2021, arXiv:2104.14294; lightly's benchmark"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 0.06,
    momentum: float = 0.99,
    num_prototypes: int = 2048,
    hidden_dim: int = 2048,
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
        momentum: Of the teacher, throughout.
        num_prototypes: Of the head.
        hidden_dim: Of the head.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    head = DINOHead(
        encoder.dim, num_prototypes=num_prototypes, hidden_dim=hidden_dim, num_hidden_layers=1, batch_norm=True
    )
    views = [recipes.without_blur(recipes.dino_global(crop_px, view=number)) for number in range(2)]
    method = DINO(
        encoder,
        global_views=(views[0], views[1]),
        local_view=views[0],
        num_local_views=0,
        head=head,
        momentum=optim.constant(momentum),
    )
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

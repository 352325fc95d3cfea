"""Barlow Twins on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 84.2 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: SGD of 0.06 by a cosine, momentum 0.9, weight decay 5e-4 on all
parameters, 128 pictures a step, 200 epochs; views of BYOL without blur, a projector of two layers of 2048, correlations
of different dimensions weighted by 0.005.

docs/cifar10.md has the table, the commands, and what all seven recipes do otherwise.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import BarlowTwins
from vidssl.models import ResNet
from vidssl.models.heads import mlp

METHOD = "BarlowTwins"
PAPER = "Zbontar et al. 2021, arXiv:2103.03230; lightly's benchmark"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 0.06,
    projector_dim: int = 2048,
    redundancy_weight: float = 0.005,
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
        projector_dim: Width of the embeddings whose dimensions are compared, and of the layer before.
        redundancy_weight: Of the correlations of different dimensions; lambda.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    views = [recipes.without_blur(recipes.byol(crop_px, view=number)) for number in range(2)]
    method = BarlowTwins(
        encoder,
        views=(views[0], views[1]),
        projector=mlp(encoder.dim, projector_dim, projector_dim),
        redundancy_weight=redundancy_weight,
        bias_lr_scale=1.0,
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

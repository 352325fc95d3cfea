"""BYOL on CIFAR-10, ResNet-18, as lightly's benchmark trains it (published: 86.9 % by nearest neighbours).

cifar10_benchmark.py of lightly-ai/lightly@e8d317fc: SGD of 0.06 by a cosine, momentum 0.9, weight decay 5e-4 on all
parameters, 128 pictures a step, 200 epochs; views of BYOL without blur, heads of 1024 and 256, momentum 0.99
throughout. Its loss is half of a negative cosine for each way, a quarter of BYOL's slope: a quarter of the rate and
four times the decay take the same steps here, and the log tells a rate of 0.015.

Differences from the benchmark: last layers of the heads have no bias. docs/cifar10.md has the table, the commands, and
what all seven recipes do otherwise.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import BYOL
from vidssl.models import ResNet

METHOD = "BYOL"
PAPER = "Grill et al. 2020, arXiv:2006.07733; lightly's benchmark"
NEEDS = "images or video"
SLOPE = 1 / 4  # of lightly's loss, over ours


def run(
    root: str,
    *,
    steps: int = 78_000,
    batch_size: int = 128,
    lr: float = 0.06,
    momentum: float = 0.99,
    hidden_dim: int = 1024,
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
        hidden_dim: Width of projector and predictor.
        size_px: Height and width to which whole pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=width)
    views = [recipes.without_blur(recipes.byol(crop_px, view=number)) for number in range(2)]
    method = BYOL(encoder, views=(views[0], views[1]), hidden_dim=hidden_dim, momentum=optim.constant(momentum))
    start = SLOPE * optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.plain_sgd, lr=start, momentum=0.9, weight_decay=5e-4 / SLOPE),
        learning_rate=optim.cosine(start),
        steps=steps,
        batch_size=batch_size,
    )

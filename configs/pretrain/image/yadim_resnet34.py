"""YADIM, wide ResNet-34 (Falcon and Cho 2020, arXiv:2009.00104), on images or on frames of videos.

Views of AMDIM and colours of CPC v2, cells of the last map alone; Adam as AMDIM's: learning rate 2e-4, betas 0.8 and
0.999, weight decay 1e-5.

Differences from the paper: a constant learning rate; cells of 16 pixels.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import YADIM
from vidssl.models import ResNet

METHOD = "YADIM"
PAPER = "Falcon and Cho 2020, arXiv:2009.00104"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 500_000,
    batch_size: int = 128,
    lr: float = 2e-4,
    size_px: int = 160,
    crop_px: int = 128,
    width: int = 128,
    dim: int = 1536,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; cells of all other pictures of all processes are negatives.
        lr: Learning rate for 128 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
        dim: Width of the embeddings.
    """
    encoder = ResNet(34, stride=16, layer="layer4", width=width)
    method = YADIM(encoder, view=recipes.yadim(crop_px), dim=dim)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=rate, betas=(0.8, 0.999), weight_decay=1e-5),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

"""AMDIM, ten convolutions without padding (Bachman et al. 2019, arXiv:1906.00910), on images or frames of videos.

Views of 128 pixels give maps of 7 x 7, 5 x 5 and 1 x 1 cells, as in the paper. The schedule of the authors' code on
ImageNet: Adam with learning rate 2e-4, betas 0.8 and 0.999, weight decay 1e-5, 500 steps of warm-up, a fifth of the
rate after 30 and 45 of 50 epochs.

Differences from the paper: convolutions with batch norm one after the other instead of a residual network without.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import AMDIM
from vidssl.models import ConvNet

METHOD = "AMDIM"
PAPER = "Bachman et al. 2019, arXiv:1906.00910"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 250_000,
    batch_size: int = 256,
    lr: float = 2e-4,
    size_px: int = 160,
    crop_px: int = 128,
    width: int = 64,
    dim: int = 1536,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; cells of all other pictures of all processes are negatives.
        lr: Learning rate after the warm-up for 256 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer; the last has 8 times as many.
        dim: Width of the embeddings.
    """
    widths = (width, 2 * width, 4 * width, 4 * width, 4 * width, *[8 * width] * 5)
    encoder = ConvNet(widths=widths, strides=(2, 2, 2, *[1] * 7), padding_mode="none")
    method = AMDIM(encoder, view=recipes.amdim(crop_px), local_layers=("6", "7"), dim=dim)
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    schedule = optim.steps(peak, factor=0.2, at=(0.6, 0.9))
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=peak, betas=(0.8, 0.999), weight_decay=1e-5),
        learning_rate=optim.warmup(schedule, share=min(0.5, 500 / steps)),
        steps=steps,
        batch_size=batch_size,
    )

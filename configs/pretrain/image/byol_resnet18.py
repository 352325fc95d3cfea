"""BYOL, ResNet-18 (Grill et al. 2020, arXiv:2006.07733), on images or on frames of videos.

The authors' preset for 100 epochs of ImageNet: LARS, learning rate 0.45 for every 256 pictures of a step, 10 epochs
of linear warm-up, then a cosine, weight decay 1e-6, momentum of the teacher from 0.99 to 1 along a cosine. The
paper's steps hold 4096 pictures: the default of 256 per process on 16 processes, with `--sync-batch-norm`, for the
paper's batch norm sees all of them.

Differences from the paper: ResNet-18 instead of ResNet-50 (whose blocks start as identities in the authors' code; those
of its ResNet-18 do not, nor do these); pictures are scaled bilinearly (there bicubically).
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import BYOL
from vidssl.models import ResNet

METHOD = "BYOL"
PAPER = "Grill et al. 2020, arXiv:2006.07733"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 500_000,
    batch_size: int = 256,
    lr: float = 0.45,
    momentum: float = 0.99,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        momentum: Of the teacher, at the start.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    views = recipes.byol(crop_px, view=0), recipes.byol(crop_px, view=1)
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    method = BYOL(encoder, views=views, momentum=optim.cosine(momentum, 1.0))
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.LARS, lr=peak, weight_decay=1e-6, classic_momentum=False),
        learning_rate=optim.warmup(optim.cosine(peak), share=0.1),
        steps=steps,
        batch_size=batch_size,
    )

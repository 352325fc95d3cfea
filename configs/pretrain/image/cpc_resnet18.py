"""CPC, ResNet-18 up to its third layer (van den Oord et al. 2018, arXiv:1807.03748; v2: Henaff et al. 2019,
arXiv:1905.09272), on images or on frames of videos.

Both versions: 7 x 7 patches of 64 pixels, half overlapping, of a picture of 256; Adam with learning rate 2e-4 for 512
pictures (v1). Version 1: rows 2 to 5 below, features themselves. Version 2: rows 3 to 5 in four directions, a linear
map to 64 numbers scaled by 0.1, and colours changed patch by patch.

Differences from the paper: ResNet-18 with layer norm instead of a ResNet-101 without norm (v1) or a ResNet-161 (v2,
with patches of 80 pixels); of v2's augmentations of patches those of colour alone; v2 has v1's optimizer and steps.
"""

from functools import partial
from typing import Literal

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop, recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import CPC
from vidssl.models import ResNet

METHOD = "CPC"
PAPER = "van den Oord et al. 2018, arXiv:1807.03748"
NEEDS = "images or video"


def run(
    root: str,
    *,
    version: Literal["v1", "v2"] = "v2",
    steps: int = 1_000_000,
    batch_size: int = 32,
    lr: float = 2e-4,
    size_px: int = 300,
    crop_px: int = 256,
    patch_px: int = 64,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        version: Of the paper.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; patches of all processes are candidates.
        lr: Learning rate for 512 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        patch_px: Height and width of a patch; half of it is the step to the next.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=16, layer="layer3", width=width, norm="group")
    if version == "v1":
        options = {"rows_ahead": (2, 3, 4, 5)}
    else:
        options = {"rows_ahead": (3, 4, 5), "num_directions": 4, "target_dim": 64, "scale": 0.1}
    method = CPC(
        encoder,
        view=RandomResizedCrop(crop_px, scale=(0.3, 1.0)),
        patch_view=recipes.cpc_patch() if version == "v2" else None,
        patch_px=patch_px,
        stride_px=patch_px // 2,
        **options,
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=512)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.Adam, lr=rate),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

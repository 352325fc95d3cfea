"""Context encoder, ResNet-18 (Pathak et al. 2016, arXiv:1604.07379), on images or on frames of videos.

The recipe of the authors' code: Adam with beta1 0.5, learning rate 2e-3 and a tenth of it for the critic, 64 pictures
of 128 px a step, cut out of pictures of 350 px; holes are random regions of a quarter of the picture; the critic's
opinion is 0.001 of the loss.

Differences from the paper: ResNet-18 instead of their convolutions or AlexNet; a picture is cut out of a square at a
random place of it, so that the ends of its long side are seen less often than its middle.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import ContextEncoder
from vidssl.models import ResNet
from vidssl.models.inpainting import InpaintingDecoder, PictureCritic

METHOD = "ContextEncoder"
PAPER = "Pathak et al. 2016, arXiv:1604.07379"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 100_000,
    batch_size: int = 64,
    lr: float = 2e-3,
    size_px: int = 350,
    crop_px: int = 128,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Learning rate of encoder and decoder; the critic has a tenth.
            For 64 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the pictures with holes, a multiple of 32.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    num_cells = (crop_px // encoder.stride) ** 2
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    method = ContextEncoder(
        encoder,
        decoder=InpaintingDecoder(encoder.dim, num_cells=num_cells, widths=(512, 256, 128, 64)),
        critic=PictureCritic(),
        view=RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=64)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate, betas=(0.5, 0.999)),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

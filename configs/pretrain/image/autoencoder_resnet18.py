"""Autoencoder, ResNet-18 (Hinton and Salakhutdinov 2006, Science 313), on images or on frames of videos.

Trained as the baseline of Pathak et al. 2016 (arXiv:1604.07379): their recipe for context encoders without a hole and
without a critic, Adam with beta1 0.5, learning rate 2e-3, 64 pictures of 128 px a step, cut out of pictures of 350 px.
The code has as many numbers as the encoder has features: 512 for the 49152 of a picture.
"""

from functools import partial

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import Autoencoder
from vidssl.models import ResNet
from vidssl.models.pictures.decoder import Bottleneck, PictureDecoder

METHOD = "Autoencoder"
PAPER = "Hinton and Salakhutdinov 2006, Science 313"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 100_000,
    batch_size: int = 64,
    lr: float = 2e-3,
    size_px: int = 350,
    crop_px: int = 128,
    code_dim: int = 512,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Learning rate.
            For 64 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the views, a multiple of 32.
        code_dim: Numbers of the code.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    cells = (crop_px // encoder.stride,) * 2
    decoder = nn.Sequential(
        Bottleneck(encoder.dim, cells=cells, code_dim=code_dim),
        PictureDecoder(encoder.dim, widths=(8 * width, 4 * width, 2 * width, width)),
    )
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    view = RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0))
    method = Autoencoder(encoder, decoder=decoder, view=view)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=64)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate, betas=(0.5, 0.999)),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

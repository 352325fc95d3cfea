"""BiGAN, ResNet-18 (Donahue et al. 2017, arXiv:1605.09782), on images or on frames of videos.

As in the authors' code for ImageNet: pictures of 64 px out of 72, codes of 200 numbers, Adam with beta1 0.5, 128
pictures a step, weight decay 2.5e-5, learning rate 2e-4 for 200 epochs, which falls to a hundredth in 200 more.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import BiGAN
from vidssl.models import ResNet
from vidssl.models.pictures.bigan import CodeGenerator, JointCritic

METHOD = "BiGAN"
PAPER = "Donahue et al. 2017, arXiv:1605.09782"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 4_000_000,
    batch_size: int = 128,
    lr: float = 2e-4,
    size_px: int = 72,
    crop_px: int = 64,
    code_dim: int = 200,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate, of all three networks.
            For 128 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the views, a multiple of 16.
        code_dim: Numbers of a code.
        width: Channels of the first layer of the ResNet and of the critic, and of the generator's last.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    cells = (crop_px // 16,) * 2
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    method = BiGAN(
        encoder,
        generator=CodeGenerator(code_dim, cells=cells, dim=8 * width, widths=(4 * width, 2 * width, width)),
        critic=JointCritic(code_dim, cells=cells, widths=(width, 2 * width, 4 * width, 8 * width)),
        view=RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
        code_dim=code_dim,
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate, betas=(0.5, 0.999), weight_decay=2.5e-5),
        learning_rate=lambda progress: rate * 0.01 ** max(0.0, 2 * progress - 1),
        steps=steps,
        batch_size=batch_size,
    )

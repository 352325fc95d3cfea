"""Super-resolution, SRResNet or SRGAN (Ledig et al. 2017, arXiv:1609.04802), on images or on frames of videos.

16 blocks of width 64, four times larger, 16 pictures of 96 px a step, Adam with learning rate 1e-4: a million steps on
pixels. With --adversarial a critic joins, and --content names the network whose features are compared; the paper's is
VGG-19, trained with labels, after the pixels' million steps, for 1e5 steps and 1e5 more with a tenth of the rate.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import SuperResolution
from vidssl.models import load_encoder
from vidssl.models.pictures.super_resolution import PixelShuffler, SRResNet, SuperResolutionCritic

METHOD = "SuperResolution"
PAPER = "Ledig et al. 2017, arXiv:1609.04802"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 16,
    lr: float = 1e-4,
    size_px: int = 256,
    crop_px: int = 96,
    scale: int = 4,
    adversarial: bool = False,
    content: str | None = None,
    content_scale: float = 1 / 12.75,
    width: int = 64,
    num_blocks: int = 16,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Learning rate; with a critic, a tenth of it in the second half.
            For 16 pictures per step, all processes together (optim.scaled_rate).
        size_px: Short side to which pictures are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the true pictures, a multiple of 16 and of the scale.
        scale: How much larger they are than what the network sees.
        adversarial: Whether a critic judges what is drawn.
        content: Encoder whose features are compared, as load_encoder takes it; else pixels are.
        content_scale: What its features are multiplied by.
        width: Channels of the trunk and of the critic's first layer.
        num_blocks: Of the trunk.
    """
    encoder = SRResNet(width=width, num_blocks=num_blocks)
    widths = (width, 2 * width, 4 * width, 8 * width)
    share = (crop_px / size_px) ** 2  # of the picture's area: nothing is scaled
    method = SuperResolution(
        encoder,
        enlarge=PixelShuffler(width, scale=scale),
        view=RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
        scale=scale,
        critic=SuperResolutionCritic(cells=(crop_px // 16,) * 2, widths=widths) if adversarial else None,
        content=load_encoder(content) if content else None,
        content_scale=content_scale,
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=16)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate),
        learning_rate=optim.steps(rate, factor=0.1, at=(0.5,)) if adversarial else optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

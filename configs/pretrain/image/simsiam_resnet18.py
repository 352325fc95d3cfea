"""SimSiam, ResNet-18 (Chen and He 2020, arXiv:2011.10566), on images or on frames of videos.

The paper's recipe on ImageNet (Sec. 3): SGD with momentum 0.9, learning rate 0.05 for every 256 pictures of a step by a
cosine without warm-up, the predictor's constant; weight decay 1e-4 on all parameters; 100 epochs, views of MoCo v2. The
paper's steps hold 512 pictures and batch norm sees them all: with n processes add --sync-batch-norm.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import SimSiam
from vidssl.models import ResNet

METHOD = "SimSiam"
PAPER = "Chen and He 2020, arXiv:2011.10566"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 500_000,
    batch_size: int = 256,
    lr: float = 0.05,
    projector_dim: int = 2048,
    predictor_dim: int = 512,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        projector_dim: Width of the projections.
        predictor_dim: Hidden width of the predictor.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width, zero_init_residual=True)
    method = SimSiam(encoder, view=recipes.moco_v2(crop_px), out_dim=projector_dim, hidden_dim=predictor_dim)
    start = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=1e-4),
        learning_rate=optim.cosine(start),
        steps=steps,
        batch_size=batch_size,
    )

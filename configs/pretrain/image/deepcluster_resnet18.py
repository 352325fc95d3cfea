"""DeepCluster, ResNet-18 (Caron et al. 2018, arXiv:1807.05520), on images or on frames of videos.

The recipe of the authors' code: 10 000 clusters of 256 whitened components, clustered before each of 200 passes over
ImageNet; SGD with momentum 0.9, weight decay 1e-5, constant learning rate 0.05, 256 pictures a step, crops of 224 px
and their mirror images.

Differences from the paper: ResNet-18 instead of AlexNet or VGG-16; what is clustered are whole pictures, scaled to
squares (there the middle of each, 224 px of 256).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import DeepCluster
from vidssl.models import ResNet

METHOD = "DeepCluster"
PAPER = "Caron et al. 2018, arXiv:1807.05520"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 256,
    lr: float = 0.05,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
    num_clusters: int = 10_000,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps; 200 times the number of files over batch_size is the paper's.
        batch_size: Pictures per step and process.
        lr: Learning rate, throughout, for 256 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
        num_clusters: At most the number of files; ten times the number of kinds one expects.
    """
    corpus = scan(root, media="any")
    encoder = ResNet(18, stride=32, layer="layer4", width=width, color="gray")
    method = DeepCluster(
        encoder, view=RandomResizedCrop(crop_px), num_samples=len(corpus), num_clusters=num_clusters
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(corpus, clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=1e-5),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

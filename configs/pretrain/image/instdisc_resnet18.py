"""Instance discrimination, ResNet-18 (Wu et al. 2018, arXiv:1805.01978), on images or on frames of videos.

The recipe of the authors' code on ImageNet: 4096 rows drawn as noise, temperature 0.07, SGD with momentum 0.9, weight
decay 1e-4, 256 pictures a step, learning rate 0.03, a tenth of it after 120 and 160 of 200 epochs. On CIFAR-10 all
rows, temperature 0.1: `--estimator softmax --num-negatives None --temperature 0.1`.

Differences from the paper: no weight decay on biases and norms.
"""

from functools import partial
from typing import Literal

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import InstDisc
from vidssl.models import ResNet

METHOD = "InstDisc"
PAPER = "Wu et al. 2018, arXiv:1805.01978"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 256,
    lr: float = 0.03,
    estimator: Literal["nce", "softmax"] = "nce",
    num_negatives: int | None = 4096,
    temperature: float = 0.07,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos; each file is an instance.
        steps: Number of optimizer steps; 200 times the number of files over batch_size is the paper's.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        estimator: Noise-contrastive estimation or softmax.
        num_negatives: Rows of the bank drawn for each picture; None takes all, with softmax.
        temperature: Of the similarities.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    corpus = scan(root, media="any")
    method = InstDisc(
        ResNet(18, stride=32, layer="layer4", width=width),
        view=recipes.moco_v1(crop_px),
        num_samples=len(corpus),
        num_negatives=num_negatives,
        estimator=estimator,
        temperature=temperature,
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(corpus, clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=1e-4),
        learning_rate=optim.steps(start, factor=0.1, at=(0.6, 0.8)),
        steps=steps,
        batch_size=batch_size,
    )

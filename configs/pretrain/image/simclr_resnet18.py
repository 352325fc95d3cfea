"""SimCLR, ResNet-18 (Chen et al. 2020, arXiv:2002.05709), on images or on frames of videos.

The paper's recipe on ImageNet (Sec. 2.3 and App. B): LARS, learning rate 0.3 for every 256 pictures of a step, 10 of
100 epochs of linear warm-up, then a cosine, weight decay 1e-6, temperature 0.1, no normalisation of the pixels. The
paper's steps hold 4096 pictures; the default here is 256 per process.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, optim, worlds
from vidssl.augment import (
    ColorJitter,
    GaussianNoise,
    Pipeline,
    RandomGray,
    RandomInvert,
    RandomResizedCrop,
    recipes,
)
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.methods import SimCLR
from vidssl.models import ConvNet, Encoder, ResNet
from vidssl.proof import Proof, letters_probe, pretrain

METHOD = "SimCLR"
PAPER = "Chen et al. 2020, arXiv:2002.05709"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 500_000,
    batch_size: int = 256,
    lr: float = 0.3,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
    temperature: float = 0.1,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; every other picture of a step, of all processes, is a negative.
        lr: Highest learning rate for 256 pictures; batch_size / 256 multiplies it. With n processes give n times
            as much.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
        temperature: Of the similarities.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    method = SimCLR(encoder, view=recipes.simclr(crop_px), temperature=temperature)
    peak = lr * batch_size / 256
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root, media="any"), clips=method.clips, size_px=size_px),
        optimizer=partial(optim.LARS, lr=peak, weight_decay=1e-6),
        learning_rate=optim.warmup(optim.cosine(peak), share=0.1),
        steps=steps,
        batch_size=batch_size,
    )


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and in colour, with and without colour distortion."""
    images, _ = worlds.letters(6000, seed=seed)

    def train(encoder: Encoder, view: nn.Module, *, steps: int, name: str) -> float:
        method = SimCLR(encoder, view=view, temperature=0.2)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=steps,
            batch_size=128,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(encoder)

    small = partial(
        ConvNet,
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        padding_mode="reflect",
        standardize=True,
    )
    crop = RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0)
    encoder = small(color="gray")
    # Every picture keeps its colours under crops alone, and colours say nothing of the letter.
    colored = small()
    distorted = ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    figures = {"random": letters_probe(encoder), "random_in_color": letters_probe(colored)}
    figures["in_color_crops_alone"] = train(copy.deepcopy(colored), crop, steps=100, name="crops")
    view = Pipeline(crop, distorted, RandomGray(probability=0.2), RandomInvert())
    figures["in_color_distorted"] = train(colored, view, steps=100, name="distorted")
    view = Pipeline(crop, RandomInvert(), GaussianNoise(std=0.05))
    figures["pretrained"] = train(encoder, view, steps=150, name="gray")
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    line="at least 20 points above random initialisation; in colour, distortion 5 points above crops alone",
    holds=lambda figures: (
        figures["pretrained"] >= figures["random"] + 20
        and figures["in_color_distorted"] >= figures["in_color_crops_alone"] + 5
    ),
    measure=measure,
)

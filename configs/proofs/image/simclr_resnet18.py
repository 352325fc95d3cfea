"""What image/simclr_resnet18 learns.

Letters: linear probe before and after; and in colour, with and without colour distortion.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import ColorJitter, GaussianNoise, Pipeline, RandomGray, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import SimCLR
from vidssl.models import ConvNet, Encoder


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
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("in_color_distorted", "above", "in_color_crops_alone", 5),
    ),
    measure=measure,
)

"""What image/vicreg_resnet18 learns. Letters: linear probe, and without the variance term."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import VICReg
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe, also without the variance term."""
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    initial = VICReg(encoder, views=(view, view), expander_dim=128)
    figures = {"random": letters_probe(encoder)}
    for name in ("pretrained", "without_variance"):
        method = copy.deepcopy(initial)
        if name == "without_variance":
            method.variance_weight = 0.0
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(3e-3), share=0.1),
            steps=200,
            batch_size=128,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "without_variance", 20),
    ),
    measure=measure,
)

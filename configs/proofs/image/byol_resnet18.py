"""What image/byol_resnet18 learns. Letters: linear probe before and after, and the collapse without the predictor."""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Batch, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import BYOL
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe; deviation of the projections of other letters; both without the predictor, too."""
    images, _ = worlds.letters(6000, seed=seed)
    others, _ = worlds.letters(512, seed=1_000_003)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.5, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    initial = BYOL(encoder, views=(view, view), hidden_dim=128, out_dim=64, momentum=0.95)
    figures = {"random": letters_probe(encoder)}
    for name in ("pretrained", "without_predictor"):
        method = copy.deepcopy(initial)
        if name == "without_predictor":
            method.predictor = nn.Identity()
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(3e-3), share=0.1),
            steps=400,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        with torch.no_grad():
            found = method.eval().monitors(Batch(index=torch.arange(512), video=others[:, None]))
        figures[f"std_{name}"] = float(found["embedding_std"])
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "without_predictor", 10),
        Claim("std_pretrained", "above", "std_without_predictor", 0.3),
    ),
    measure=measure,
)

"""What image/rotation_resnet18 learns. Letters: linear probe before and after."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, letters_probe, pretrain
from vidssl.methods import Rotation
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after."""
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    random = letters_probe(copy.deepcopy(encoder))
    method = Rotation(encoder, view=RandomResizedCrop(32, scale=(0.5, 1.0), flip=0.0))
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
        learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
        steps=300,
        batch_size=32,
    )
    pretrain(recipe, out=out, seed=seed)
    return {"random": random, "pretrained": letters_probe(encoder), "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    line="at least 20 points above random initialisation",
    holds=lambda figures: figures["pretrained"] >= figures["random"] + 20,
    measure=measure,
)

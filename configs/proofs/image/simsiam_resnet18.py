"""What image/simsiam_resnet18 learns. Letters: linear probe, and the collapse without stop-gradient."""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Batch, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import SimSiam
from vidssl.models import ConvNet


class WithoutStopGradient(SimSiam):
    """The control: both sides of the distance are pulled together."""

    def target(self, projection: Tensor) -> Tensor:
        """Let the gradient pass."""
        return projection


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe, deviation of the projections of other letters, with and without stop-gradient."""
    images, _ = worlds.letters(6000, seed=seed)
    others, _ = worlds.letters(512, seed=1_000_003)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    initial = SimSiam(encoder, view=view, out_dim=128, hidden_dim=32)
    figures = {"random": letters_probe(encoder)}
    for kind, name in ((SimSiam, "pretrained"), (WithoutStopGradient, "without_stop_gradient")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
            learning_rate=optim.cosine(3e-3),
            steps=400,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        with torch.no_grad():
            found = method.eval().monitors(Batch(index=torch.arange(512), video=others[:, None]))
        figures[f"std_{name}"] = float(found["embedding_std"])
        figures[f"rank_{name}"] = float(found["effective_rank"])
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 15),
        Claim("pretrained", "above", "without_stop_gradient", 8),
        Claim("std_pretrained", "above", "std_without_stop_gradient", 0.5),
    ),
    measure=measure,
)

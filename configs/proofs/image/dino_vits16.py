"""What image/dino_vits16 learns. Letters: linear probe before and after, two crops of each; and without centring."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, letters_probe, pretrain
from vidssl.methods import DINO
from vidssl.methods.image.dino import DINOHead
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after, two crops of each; and without centring."""
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    head = DINOHead(encoder.dim, num_prototypes=32, hidden_dim=128, bottleneck_dim=64, batch_norm=True)
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))

    def train(*, center_momentum: float, name: str) -> float:
        method = DINO(
            copy.deepcopy(encoder),
            global_views=(view, view),
            local_view=view,
            num_local_views=0,
            head=copy.deepcopy(head),
            teacher_temperature=optim.constant(0.02),
            center_momentum=center_momentum,
            momentum=0.97,
        )
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=700,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(method.encoder)

    return {
        "random": letters_probe(encoder),
        "pretrained": train(center_momentum=0.9, name="centered"),
        "without_centring": train(center_momentum=1.0, name="uncentered"),  # the centre stays at 0
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    line="at least 20 points above random initialisation, and above training without centring",
    holds=lambda figures: (
        figures["pretrained"] >= figures["random"] + 20 and figures["pretrained"] > figures["without_centring"]
    ),
    measure=measure,
)

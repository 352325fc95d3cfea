"""What image/exemplar_resnet18 learns. Letters: linear probe before and after; and with classes of wrong samples."""

import copy
import dataclasses
from functools import partial
from pathlib import Path

import torch

from vidssl import Batch, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import Exemplar
from vidssl.models import ConvNet

NUM_IMAGES = 1000


class WrongClasses(Exemplar):
    """Each patch has the number of some other picture, drawn anew in every step."""

    def forward(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        """Draw the numbers."""
        index = torch.randint(NUM_IMAGES, (len(batch),))
        return super().forward(dataclasses.replace(batch, index=index), progress)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with classes of wrong samples."""
    images, _ = worlds.letters(NUM_IMAGES, seed=seed, size_px=40)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )

    def train(kind: type[Exemplar], *, name: str) -> float:
        learner = copy.deepcopy(encoder)
        view = Pipeline(RandomInvert(), GaussianNoise(std=0.05))
        method = kind(learner, view=view, num_samples=NUM_IMAGES)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(3e-3), share=0.1),
            steps=350,
            batch_size=128,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(learner)

    return {
        "random": letters_probe(encoder),
        "pretrained": train(Exemplar, name="exemplar"),
        "wrong_classes": train(WrongClasses, name="wrong"),
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 15), Claim("pretrained", "above", "wrong_classes", 15)),
    measure=measure,
)

"""What image/bownet_resnet18 learns.

Letters: linear probe of a student of a teacher that predicted rotations; and of one that is told other pictures' bags.
"""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Method, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import BoWNet, Rotation
from vidssl.models import ConvNet


class WrongBags(BoWNet):
    """Each picture is to have the bag of the one beside it."""

    def bags(self, video: torch.Tensor) -> torch.Tensor:
        """Give the bags to the neighbours."""
        return super().bags(video).roll(1, dims=0)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe of student and teacher; and of a student that is told other pictures' bags."""
    images, _ = worlds.letters(4000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 1, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    figures = {"random": letters_probe(encoder)}
    noise = GaussianNoise(std=0.05)
    crop = partial(RandomResizedCrop, 32, flip=0.0)

    def train(method: Method, *, steps: int, batch_size: int, name: str) -> float:
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=steps,
            batch_size=batch_size,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(method.encoder)

    teacher = copy.deepcopy(encoder)
    view = Pipeline(crop(scale=(0.7, 1.0)), RandomInvert(), noise)
    figures["teacher"] = train(Rotation(teacher, view=view), steps=150, batch_size=32, name="teacher")
    for name, kind in (("pretrained", BoWNet), ("wrong_bags", WrongBags)):
        method = kind(
            copy.deepcopy(encoder),
            teacher=copy.deepcopy(teacher),
            view=Pipeline(crop(scale=(0.4, 1.0)), RandomInvert(), noise),
            teacher_view=crop(scale=(1.0, 1.0), ratio=(1.0, 1.0)),
            num_words=128,
            layer="4",
            cells_per_sample=2,
        )
        figures[name] = train(method, steps=150, batch_size=96, name=name)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 10), Claim("pretrained", "above", "wrong_bags", 10)),
    measure=measure,
)

"""What image/distillation_resnet18 learns. Letters: linear probe of a small student, and of one taught at random."""

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
from vidssl.method import Method
from vidssl.methods import Distillation, SimCLR
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: a SimCLR network teaches one of half its width and twice its stride; so does a network at random."""
    images, _ = worlds.letters(6000, seed=seed)
    small = partial(ConvNet, color="gray", standardize=True, padding_mode="reflect")
    teacher = small(widths=(16, 16, 32, 32, 64, 64), strides=(2, 1, 2, 1, 2, 1))
    student = small(widths=(8, 8, 16, 16, 32, 32), strides=(2, 1, 2, 2, 2, 1))
    crop = RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0)
    view = Pipeline(crop, RandomInvert(), GaussianNoise(std=0.05))

    def train(method: Method, *, steps: int, name: str) -> None:
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=steps,
            batch_size=96,
        )
        pretrain(recipe, out=out / name, seed=seed)

    untaught = copy.deepcopy(teacher)
    train(SimCLR(teacher, view=view, temperature=0.2), steps=180, name="teacher")
    figures = {"random": letters_probe(student), "teacher": letters_probe(teacher)}
    for source, name in ((teacher, "pretrained"), (untaught, "random_teacher")):
        method = Distillation(copy.deepcopy(student), teacher=source, view=view, relation_weight=5.0)
        train(method, steps=200, name=name)
        figures[name] = letters_probe(method.encoder)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "random_teacher", 15)),
    measure=measure,
)

"""What image/obow_resnet18 learns. Letters: linear probe before and after; and with bags of other pictures."""

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
from vidssl.methods import OBoW
from vidssl.models import ConvNet


class WrongBags(OBoW):
    """Each picture is to have the bag of the one beside it."""

    def bags(self, video: torch.Tensor, seed: torch.Tensor) -> list[torch.Tensor]:
        """Give the bags to the neighbours."""
        return [bag.roll(1, dims=0) for bag in super().bags(video, seed)]


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with bags of other pictures."""
    images, _ = worlds.letters(4000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 1, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    noise = GaussianNoise(std=0.05)
    crop = partial(RandomResizedCrop, flip=0.0)

    def train(kind: type[OBoW], *, name: str) -> float:
        method = kind(
            copy.deepcopy(encoder),
            teacher_view=crop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
            large_view=Pipeline(crop(28, scale=(0.3, 1.0)), RandomInvert(), noise),
            small_view=crop(16, scale=(0.1, 0.3)),
            num_large=1,
            num_small=0,
            layers=("3", "5"),
            num_words=512,
            inverse_delta=10.0,
            kappa=5.0,
            momentum=0.98,
        )
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=200,
            batch_size=96,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(method.encoder)

    return {
        "random": letters_probe(encoder),
        "pretrained": train(OBoW, name="obow"),
        "wrong_bags": train(WrongBags, name="wrong"),
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 10), Claim("pretrained", "above", "wrong_bags", 10)),
    measure=measure,
)

"""What image/moco_resnet18 learns.

Letters: linear probe before and after, version 2; and with another picture's view for the key.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import MoCo
from vidssl.models import ConvNet


class WrongKeys(MoCo):
    """The control: the key of a query is that of another picture."""

    def contrast(self, query: Tensor, key: Tensor, source_id: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of queries and the keys of their neighbours in the batch."""
        return super().contrast(query, key.roll(1, dims=0), source_id)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after, version 2; and with another picture's view for the key."""
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    # The queue holds the keys of 16 steps.
    initial = MoCo(encoder, view=view, out_dim=64, num_keys=2048, momentum=0.99, num_groups=4)
    figures = {"random": letters_probe(encoder)}
    for kind, name in ((MoCo, "pretrained"), (WrongKeys, "wrong_keys")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=180,
            batch_size=128,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "wrong_keys", 10)),
    measure=measure,
)

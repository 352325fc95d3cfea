"""What image/moco_v3_vits16 learns. Letters: linear probe, and with the keys of other letters."""

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
from vidssl.methods import MoCoV3
from vidssl.models import ConvNet


class KeysOfOthers(MoCoV3):
    """The control: the key to be found is that of another clip of the batch."""

    def contrast(self, query: Tensor, key: Tensor, source_id: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE with keys of the clip before each."""
        return super().contrast(query, key.roll(1, dims=0), source_id)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe of a convolutional network, and with the keys of other letters.

    A transformer of a size for minutes learns nothing of these letters; what is said of ViTs (frozen patches) is tested
    in tests/methods/test_moco_v3.py, not proven here.
    """
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 2, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    initial = MoCoV3(encoder, views=(view, view), hidden_dim=128, out_dim=64, momentum=0.95)
    figures = {"random": letters_probe(encoder)}
    for kind, name in ((MoCoV3, "pretrained"), (KeysOfOthers, "keys_of_others")):
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
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "keys_of_others", 20)),
    measure=measure,
)

"""What image/amdim_convnet learns. Letters: linear probe before and after; and with views of other pictures."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Batch, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import AMDIM
from vidssl.models import ConvNet


class WrongViews(AMDIM):
    """The second view is that of the picture beside."""

    def embed_views(self, batch: Batch) -> list[torch.Tensor]:
        """Move the second views."""
        parts = [part.chunk(2) for part in super().embed_views(batch)]
        return [torch.cat([first, second.roll(1, dims=0)]) for first, second in parts]


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with views of other pictures."""
    images, _ = worlds.letters(4000, seed=seed)
    # 32 pixels become 15, 13, 11, 5, 3 and 1 cells.
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64, 64),
        strides=(2, 1, 1, 2, 1, 1),
        color="gray",
        standardize=True,
        padding_mode="none",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))

    def train(kind: type[AMDIM], *, name: str) -> float:
        method = kind(copy.deepcopy(encoder), view=view, local_layers=("3", "4"), dim=64)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=150,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(method.encoder)

    return {
        "random": letters_probe(encoder),
        "pretrained": train(AMDIM, name="amdim"),
        "wrong_views": train(WrongViews, name="wrong"),
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "wrong_views", 20)),
    measure=measure,
)

"""What image/relative_patch_resnet18 learns.

Letters of 48 px, patches of 12 px, 4 px apart: linear probe before and after, and with names that say nothing.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Batch, Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import RelativePatch
from vidssl.models import ConvNet, Encoder

SIZE_PX = 48


class WrongNames(RelativePatch):
    """The control: the patches are shuffled, and their names tell of the places they had before."""

    def cut(self, video: Tensor, seed: Tensor) -> Tensor:
        """Cut the patches of a grid, in an order of which the names know nothing."""
        patches = super().cut(video, seed)
        order = torch.rand(patches.shape[:2]).argsort(1)
        return patches[torch.arange(len(patches))[:, None], order]


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with names that say nothing."""
    images, _ = worlds.letters(4000, seed=seed, size_px=SIZE_PX)
    initial = RelativePatch(
        ConvNet(color="gray", standardize=True),
        view=RandomResizedCrop(SIZE_PX, scale=(0.8, 1.0), ratio=(1.0, 1.0), flip=0.0),
        patch_px=12,
        gap_px=4,
        jitter_px=2,
        fringes="keep",
        smallest_px=6,
        patch_dim=64,
        hidden_dim=128,
    )
    figures = {"random": probe(initial.encoder)}
    for kind, name in ((RelativePatch, "pretrained"), (WrongNames, "wrong_names")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=200,
            batch_size=48,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = probe(method.encoder)
        figures[f"accuracy_of_{name}"] = 100 * accuracy(method)
    return {**figures, "chance": 10.0, "chance_of_accuracy": 100 / 8}


def probe(encoder: Encoder) -> float:
    """Linear probe of frozen features on letters of this size, per cent of the test images that are right."""
    train, train_label = worlds.letters(3000, seed=1_000_001, size_px=SIZE_PX)
    test, test_label = worlds.letters(1500, seed=1_000_002, size_px=SIZE_PX)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


@torch.no_grad()
def accuracy(method: RelativePatch) -> float:
    """Share of the pairs of unseen pictures that are named right."""
    images = worlds.letters(200, seed=1_000_003, size_px=SIZE_PX)[0]
    batch = Batch(index=torch.arange(200), video=images[:, None], seed=torch.arange(200))
    return float(method.eval()(batch, 1.0)["accuracy"])


PROOF = Proof(
    metric="linear probe on letters of 48 px, per cent",
    claims=(
        Claim("pretrained", "above", "random", 15),
        Claim("pretrained", "above", "wrong_names", 15),
        Claim("accuracy_of_pretrained", "above", "chance_of_accuracy", 8),
    ),
    measure=measure,
)

"""What image/jigsaw_resnet18 learns.

Letters: linear probe before and after; ten permutations, tiles of 12 px in cells of 16;
and with names that say nothing.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import Pipeline, RandomGray, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import Jigsaw
from vidssl.methods.image.jigsaw import permutations, shuffle
from vidssl.models import ConvNet, Encoder

SIZE_PX = 48  # tiles of 32 px pictures show too little of a letter


class WrongNames(Jigsaw):
    """The control: the tiles are shuffled once more, by an order of which the name knows nothing."""

    def encode(self, tiles: Tensor) -> Tensor:
        """Encode tiles (B, N, T, 3, h, w) in random order -> (B, N, D)."""
        return super().encode(shuffle(tiles, torch.rand(tiles.shape[:2]).argsort(1)))


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with names that say nothing."""
    images, _ = worlds.letters(4000, seed=seed, size_px=SIZE_PX)
    initial = Jigsaw(
        ConvNet(color="gray", standardize=True),
        view=Pipeline(RandomResizedCrop(SIZE_PX, scale=(0.7, 1.0), flip=0.0), RandomGray(probability=1.0)),
        permutations=permutations(10, seed=seed),
        tile_px=12,
        channel_shift_px=0,
        tile_dim=64,
        hidden_dim=256,
    )
    figures = {"random": probe(initial.encoder)}
    for kind, name in ((Jigsaw, "pretrained"), (WrongNames, "wrong_names")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=160,
            batch_size=48,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = probe(method.encoder)
    return {**figures, "chance": 10.0}


def probe(encoder: Encoder) -> float:
    """Linear probe of frozen features on letters of this size, per cent of the test images that are right."""
    train, train_label = worlds.letters(3000, seed=1_000_001, size_px=SIZE_PX)
    test, test_label = worlds.letters(1500, seed=1_000_002, size_px=SIZE_PX)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


PROOF = Proof(
    metric="linear probe on letters of 48 px, per cent",
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "wrong_names", 20)),
    measure=measure,
)

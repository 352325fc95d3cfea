"""What image/jigsaw_resnet18 learns.

Letters: linear probe before and after; ten permutations, tiles of 12 px in cells of 16.
"""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import Pipeline, RandomGray, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, pooled_features, pretrain
from vidssl.methods import Jigsaw
from vidssl.methods.image.jigsaw import permutations
from vidssl.models import ConvNet, Encoder

SIZE_PX = 48  # tiles of 32 px pictures show too little of a letter


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; ten permutations, tiles of 12 px in cells of 16."""
    images, _ = worlds.letters(4000, seed=seed, size_px=SIZE_PX)
    encoder = ConvNet(color="gray", standardize=True)
    random = probe(copy.deepcopy(encoder))
    method = Jigsaw(
        encoder,
        view=Pipeline(RandomResizedCrop(SIZE_PX, scale=(0.7, 1.0), flip=0.0), RandomGray(probability=1.0)),
        permutations=permutations(10, seed=seed),
        tile_px=12,
        channel_shift_px=0,
        tile_dim=64,
        hidden_dim=256,
    )
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
        learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
        steps=200,
        batch_size=64,
    )
    pretrain(recipe, out=out, seed=seed)
    return {"random": random, "pretrained": probe(encoder), "chance": 10.0}


def probe(encoder: Encoder) -> float:
    """Linear probe of frozen features on letters of this size, per cent of the test images that are right."""
    train, train_label = worlds.letters(3000, seed=1_000_001, size_px=SIZE_PX)
    test, test_label = worlds.letters(1500, seed=1_000_002, size_px=SIZE_PX)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


PROOF = Proof(
    metric="linear probe on letters of 48 px, per cent",
    line="at least 20 points above random initialisation",
    holds=lambda figures: figures["pretrained"] >= figures["random"] + 20,
    measure=measure,
)

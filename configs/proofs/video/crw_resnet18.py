"""What video/crw_resnet18 learns.

Grey sprites over a ground that never moves: propagated masks, with patches for nodes as the recipe has them, with and
without edge dropout, and with the cells of whole frames for nodes.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Batch, Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.clips import random_clips
from vidssl.evidence import worlds
from vidssl.evidence.probes import sprite_jaccard
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import ContrastiveRandomWalk
from vidssl.methods.video.contrastive_random_walk import cut_patches
from vidssl.models import ConvNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Grey sprites over a ground that never moves: propagated masks, with patches, without edge dropout, with cells.

    Cells are those of whole frames, but for those that see the padding. Without edge dropout almost every walk
    returns, and the features are worse.
    """
    world = partial(worlds.sprites, num_frames=4, num_sprites=3, speed_px=(1, 7))
    video, unseen = world(500, seed=seed).video, world(50, seed=1_000_004).video
    jaccard = partial(sprite_jaccard, num_sprites=3, speed_px=(1, 7))
    initial = ConvNet(widths=(24, 48, 64), strides=(2, 2, 1), color="gray", padding_mode="reflect")
    figures = {"random": jaccard(copy.deepcopy(initial)), "identity": jaccard(None)}
    patches = partial(cut_patches, size_px=16, stride_px=8)
    for name, nodes, edge_dropout in (
        ("pretrained", patches, 0.1),
        ("cells", None, 0.1),
        ("cells_without_edge_dropout", None, 0.0),
    ):
        encoder = copy.deepcopy(initial)
        method = ContrastiveRandomWalk(
            encoder,
            view=RandomResizedCrop(64, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
            patches=nodes,
            margin_cells=3,
            head=nn.Identity(),
            edge_dropout=edge_dropout,
            temperature=0.07,
            clips=partial(random_clips, num_frames=4),
        )
        recipe = Run(
            method=method,
            dataset=ArrayDataset(video, clips=method.clips),
            optimizer=partial(torch.optim.Adam, lr=1e-3),
            learning_rate=optim.cosine(1e-3),
            steps=150,
            batch_size=6,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = jaccard(encoder)
        figures[f"round_trips_{name}"] = _round_trips(method, unseen)
    return figures


def _round_trips(method: ContrastiveRandomWalk, video: torch.Tensor) -> float:
    """Share of nodes to which the longest walk returns, all edges kept, per cent."""
    method.eval()
    method.edge_dropout = 0.0
    count = torch.arange(len(video))
    with torch.no_grad():
        return 100 * float(method(Batch(index=count, video=video[:, None], seed=count), 1.0)["accuracy"])


PROOF = Proof(
    metric="J of sprites, frame 0 to 3, per cent",
    claims=(
        Claim("pretrained", "above", "random", 6),
        Claim("pretrained", "above", "identity", 3),
        Claim("cells", "above", "random", 6),
        Claim("cells", "above", "cells_without_edge_dropout", 2),
    ),
    measure=measure,
)

"""Contrastive random walk, ResNet-18 at stride 8 (Jabri et al. 2020, arXiv:2006.14613).

The authors' recipe on Kinetics: Adam, 20 clips of 4 frames at about 8 frames per second, 256 px, 49 patches of 64 px
at a stride of 32, temperature 0.05, edge dropout 0.1, learning rate 1e-4 and 0.3 of it after 20 of 25 epochs. They
train up to layer 4 and propagate labels with layer 3: `--encoder-options layer=layer3` of `vidssl evaluate davis`.

Differences from the authors' code: pixels are normalised by ImageNet's statistics in training too (theirs by
CIFAR's, and by ImageNet's in evaluation).
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Batch, Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.clips import random_clips
from vidssl.methods import ContrastiveRandomWalk
from vidssl.methods.video.contrastive_random_walk import cut_patches
from vidssl.models import ConvNet, ResNet
from vidssl.proof import Proof, pretrain, sprite_jaccard

METHOD = "ContrastiveRandomWalk"
PAPER = "Jabri et al. 2020, arXiv:2006.14613"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 300_000,
    batch_size: int = 20,
    lr: float = 1e-4,
    size_px: int = 256,
    crop_px: int = 256,
    patch_px: int = 64,
    patch_stride_px: int = 32,
    num_frames: int = 4,
    stride_frames: int = 4,
    width: int = 64,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Learning rate of the first 80 % of the training; 0.3 of it after.
        size_px: Short side to which videos are scaled when they are decoded.
        crop_px: Height and width of the training frames.
        patch_px: Side of a patch, a node of the walk.
        patch_stride_px: From one patch to the next.
        num_frames: Frames of a clip, at least 3; the longest walk goes there and back.
        stride_frames: Frames of the video from one frame of a clip to the next.
        width: Channels of the first layer of the ResNet.
    """
    method = ContrastiveRandomWalk(
        ResNet(18, stride=8, layer="layer4", width=width, padding_mode="reflect"),
        view=RandomResizedCrop(crop_px, scale=(0.8, 0.95), ratio=(0.7, 1.3), flip=0.0),
        patches=partial(cut_patches, size_px=patch_px, stride_px=patch_stride_px),
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=lr),
        learning_rate=optim.steps(lr, factor=0.3, at=(0.8,)),
        steps=steps,
        batch_size=batch_size,
    )


def measure(seed: int, out: Path) -> dict[str, float]:
    """Grey sprites over a ground that never moves: propagated masks, with and without edge dropout.

    Nodes are the cells of whole frames, but for those that see the padding. Without edge dropout almost every walk
    returns, and the features are worse.
    """
    world = partial(worlds.sprites, num_frames=4, num_sprites=3, speed_px=(1, 7))
    video, unseen = world(500, seed=seed).video, world(50, seed=1_000_004).video
    jaccard = partial(sprite_jaccard, num_sprites=3, speed_px=(1, 7))
    initial = ConvNet(widths=(24, 48, 64), strides=(2, 2, 1), color="gray", padding_mode="reflect")
    figures = {"random": jaccard(copy.deepcopy(initial)), "pretrained": 0.0, "identity": jaccard(None)}
    for edge_dropout, name in ((0.1, ""), (0.0, " without edge dropout")):
        encoder = copy.deepcopy(initial)
        method = ContrastiveRandomWalk(
            encoder,
            view=RandomResizedCrop(64, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
            patches=None,
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
            steps=300,
            batch_size=6,
        )
        pretrain(recipe, out=out / f"dropout_{edge_dropout}", seed=seed)
        figures[f"pretrained{name}"] = jaccard(encoder)
        figures[f"round trips{name}"] = _round_trips(method, unseen)
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
    line="propagated J at least 1.5 times the untrained one, and above identity and no edge dropout",
    holds=lambda figures: (
        figures["pretrained"] >= 1.5 * figures["random"]
        and figures["pretrained"] > max(figures["identity"], figures["pretrained without edge dropout"])
    ),
    measure=measure,
)

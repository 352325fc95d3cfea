"""Rows of lightly's CIFAR-10 benchmark, SimCLR: files to views, and views to a step, each beside lightly's own."""

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...augment import recipes
from ...batch import Batch
from ...data.corpus.scan import scan
from ...data.datasets import VideoDataset
from ...data.loader import Loader
from ...methods import SimCLR
from ...methods.image.moco import normalize_in_groups
from ...methods.image.simclr import CLIPS
from ...models import ResNet
from ...models.encoder import IMAGENET_MEAN, IMAGENET_STD
from ...models.heads import mlp
from ...ops import draws
from ...optim import plain_sgd
from .measuring import Case, Peers, Row, at_most

NUM_PICTURES, BATCH_SIZE, SIZE_PX = 512, 128, 32
STEPS, STEP_PICTURES, WIDTH = 5, 32, 16
LR, MOMENTUM, WEIGHT_DECAY, TEMPERATURE = 6e-2, 0.9, 5e-4, 0.5


def write_pictures(folder: Path) -> None:
    """Write PNG of smooth colours in two class folders, as large on disk as those of CIFAR-10 (2 kB)."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(NUM_PICTURES):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        place = folder / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        coarse.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC).save(place / f"{number}.png")


def _views(peers: Peers) -> Case:
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    folder = Path(tempfile.mkdtemp(), "pictures")
    write_pictures(folder)
    corpus = scan(folder, media="any", cache=folder.with_name("cache"), num_workers=1, progress=False)
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=SIZE_PX, whole_frames=True)
    loader = Loader(dataset, batch_size=BATCH_SIZE)
    view = recipes.without_blur(recipes.simclr(SIZE_PX, strength=0.5))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    transform = SimCLRTransform(input_size=SIZE_PX, cj_strength=0.5, gaussian_blur=0.0)
    theirs = LightlyDataset(str(folder), transform=transform)

    def ours() -> Tensor:
        views = []
        for batch in loader.batches(0, NUM_PICTURES // BATCH_SIZE):
            assert batch.video is not None
            seeds = [draws.mix(batch.host_seed, number) for number in range(2)]
            pair = [view(batch.video[:, 0], seed, *batch.stretch)[:, 0] for seed in seeds]
            views.append((torch.stack(pair) - mean) / std)
        return torch.cat(views, dim=1)

    def peer() -> Tensor:
        batches = torch.utils.data.DataLoader(theirs, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
        return torch.cat([torch.stack(pair) for pair, _, _ in batches], dim=1)

    def compare(mine: Tensor, other: Tensor) -> Mapping[str, float]:
        """Means over all pixels of a channel, and deviations."""
        apart = [
            (of(mine.transpose(0, 2).flatten(1)) - of(other.transpose(0, 2).flatten(1))).abs().max()
            for of in (lambda rows: rows.mean(1), lambda rows: rows.std(1))
        ]
        return {
            "largest_difference_of_means": float(apart[0]),
            "largest_difference_of_deviations": float(apart[1]),
        }

    return Case(ours, peer, compare)


class _Ready(nn.Module):
    """Views that are made already, given in turn."""

    def __init__(self, views: Tensor) -> None:
        super().__init__()
        self.views, self.num_given = views, 0

    def forward(self, video: Tensor, seed: Tensor, *stretch: Tensor) -> Tensor:
        """Give the next one."""
        self.num_given += 1
        return self.views[(self.num_given - 1) % len(self.views)]


def _step(peers: Peers) -> Case:
    from lightly.loss import NTXentLoss
    from lightly.models import ResNetGenerator
    from lightly.models.modules.heads import SimCLRProjectionHead

    torch.manual_seed(0)
    # Two views of each step, (V, B, T, C, H, W).
    ready = torch.rand(2 * STEPS, STEP_PICTURES, 1, 3, SIZE_PX, SIZE_PX)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalized = (ready[:, :, 0] - mean) / std
    batch = Batch(
        index=torch.arange(STEP_PICTURES),
        video=torch.zeros(STEP_PICTURES, 1, 1, 3, SIZE_PX, SIZE_PX, dtype=torch.uint8),
        seed=torch.arange(STEP_PICTURES),
    )
    children = list(ResNetGenerator("resnet-18", width=WIDTH / 64).children())[:-1]
    head = SimCLRProjectionHead(8 * WIDTH, 8 * WIDTH, 128)
    start = nn.Sequential(*children, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).state_dict()
    start = {name: value.clone() for name, value in start.items()}

    def ours() -> Iterator[float]:
        encoder = ResNet(18, stem="cifar", stride=8, layer="layer4", width=WIDTH)
        encoder.relu = nn.Identity()  # type: ignore[assignment]  # their backbone lacks the first
        projector = nn.Sequential(*mlp(encoder.dim, encoder.dim, 128), nn.BatchNorm1d(128))
        method = SimCLR(encoder, view=_Ready(ready), projector=projector, temperature=TEMPERATURE)
        normalize_in_groups(method, 2)
        both = nn.Sequential(encoder, projector)
        names = [name for name in both.state_dict() if name not in ("0.mean", "0.std")]
        both.load_state_dict(dict(zip(names, start.values(), strict=True)), strict=False)
        optimizer = plain_sgd(method.param_groups(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        yield math.nan  # ready
        for step in range(STEPS):
            yield _moved(optimizer, method(batch, step / STEPS)["loss"])

    def peer() -> Iterator[float]:
        children = list(ResNetGenerator("resnet-18", width=WIDTH / 64).children())[:-1]
        head = SimCLRProjectionHead(8 * WIDTH, 8 * WIDTH, 128)
        network = nn.Sequential(*children, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        network.load_state_dict(start)
        criterion = NTXentLoss(temperature=TEMPERATURE)
        optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        yield math.nan
        for step in range(STEPS):
            first, second = normalized[2 * step : 2 * step + 2]
            yield _moved(optimizer, criterion(network(first), network(second)))

    def in_turns() -> Mapping[str, float]:
        """A step of one after a step of the other; who begins alternates."""
        sides = {"ours": ours(), "peer": peer()}
        seconds = dict.fromkeys(sides, 0.0)
        for side in sides.values():
            next(side)
        for step in range(STEPS):
            for name in list(sides)[:: 1 if step % 2 else -1]:
                started = time.process_time()
                next(sides[name])
                seconds[name] += time.process_time() - started
        return seconds

    def compare(mine: list[float], theirs: list[float]) -> Mapping[str, float]:
        # In float32 later losses part, as those of lightly and of itself with other roundings do.
        return {"difference_of_first_losses": abs(mine[1] - theirs[1])}

    return Case(lambda: list(ours()), lambda: list(peer()), compare, in_turns=in_turns)


def _moved(optimizer: Any, loss: Tensor) -> float:
    """Take a step; return the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


ROWS = (
    Row(
        name="cifar10_views",
        what=f"{NUM_PICTURES} PNG of {SIZE_PX} x {SIZE_PX} pixels, decoded and made two normalised views each, in "
        f"batches of {BATCH_SIZE}: the views of lightly's CIFAR-10 benchmark for SimCLR.",
        ours="data.Loader, augment.Pipeline",
        peer="lightly, LightlyDataset, SimCLRTransform, DataLoader",
        needs=("lightly",),
        prepare=_views,
        goals=(at_most("largest_difference_of_means", 0.1), at_most("largest_difference_of_deviations", 0.1)),
        rounds=5,
    ),
    Row(
        name="cifar10_step",
        what=f"{STEPS} steps of SimCLR in lightly's CIFAR-10 benchmark, two ready views of {STEP_PICTURES} pictures of "
        f"{SIZE_PX} x {SIZE_PX} pixels, ResNet-18 of width {WIDTH} with the stem for small pictures, from the same "
        "weights: forward, backward and SGD, a step of one after a step of the other.",
        ours="methods.SimCLR",
        peer="lightly, ResNetGenerator, SimCLRProjectionHead, NTXentLoss",
        needs=("lightly",),
        prepare=_step,
        goals=(at_most("difference_of_first_losses", 1e-4),),
        rounds=5,
    ),
)

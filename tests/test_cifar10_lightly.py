"""The recipe image/cifar10_simclr through `fit` against lightly's own networks, loss and loop, step by step."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_oracles_lightly import lightly
from torch import nn

from vidssl import config
from vidssl.data.loader import Loader
from vidssl.ops import draws
from vidssl.train.loop import fit

STEPS, BATCH_SIZE, WIDTH = 20, 16, 4


@pytest.fixture
def pictures(tmp_path):
    """160 pictures of 32 x 32 pixels: 20 steps are two epochs."""
    generator = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(160):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


class Drawn(nn.Module):
    """Views that were made before, by their seeds, in float64."""

    def __init__(self, run) -> None:
        super().__init__()
        self.views: dict[tuple[int, ...], torch.Tensor] = {}
        self.pairs = []  # of every step
        for batch in Loader(run.dataset, batch_size=BATCH_SIZE, seed=0).batches(0, STEPS):
            seeds = [draws.mix(batch.host_seed, number) for number in range(2)]
            pair = [run.method.view(batch.video[:, 0], seed, *batch.stretch).double() for seed in seeds]
            self.views |= {tuple(seed.tolist()): view for seed, view in zip(seeds, pair, strict=True)}
            self.pairs.append(pair)

    def forward(self, video, seed, *stretch):
        return self.views[tuple(seed.tolist())]


def their_network() -> nn.Module:
    """Backbone and head as cifar10_benchmark.py of lightly (e8d317fc) puts them together, only narrower."""
    children = list(lightly("models").ResNetGenerator("resnet-18", width=WIDTH / 64).children())[:-1]
    head = lightly("models.modules.heads").SimCLRProjectionHead(8 * WIDTH, 8 * WIDTH, 128)
    return nn.Sequential(*children, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double()


def their_losses(network: nn.Module, pairs) -> list[float]:
    """Train as it does, each view forwarded by itself; (V, B, 1, 3, H, W), normalised."""
    criterion = lightly("loss").NTXentLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=6e-2, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for first, second in pairs:
        loss = criterion(network(first[:, 0]), network(second[:, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def test_losses_of_simclr_are_those_of_lightly(pictures, tmp_path, monkeypatch):
    """The first two epochs, in float64; the benchmark's rate for steps of 128 is taken for those of 16.

    In float32 rounding grows: lightly beside itself, weights apart by a 1e-7th, is 0.06 off in the third loss.
    """
    size = {"steps": STEPS, "batch_size": BATCH_SIZE, "lr": 0.06 * 128 / BATCH_SIZE, "width": WIDTH}
    run = config.load("image/cifar10_simclr").run(str(pictures), **size)
    method = run.method.double()
    method.view = drawn = Drawn(run)
    method.encoder.relu = nn.Identity()  # their backbone, made of the network's children, lacks the first ReLU
    theirs = their_network()
    ours = nn.Sequential(method.encoder, method.projector)
    names = [name for name in ours.state_dict() if name not in ("0.mean", "0.std")]
    values = [value.clone() for value in theirs.state_dict().values()]
    ours.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    mean, std = method.encoder.mean, method.encoder.std
    expected = their_losses(theirs, [[(view - mean) / std for view in pair] for pair in drawn.pairs])
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)  # losses are computed in float32 otherwise
        fit(run, out=tmp_path / "run", log_every=1)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["loss"] for line in lines]
    assert len(found) == STEPS and found == pytest.approx(expected, abs=1e-6)
    assert max(found) - min(found) > 0.1  # pictures and weights differ from step to step

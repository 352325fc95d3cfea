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
from vidssl.train.pace import Pace

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


def their_system(name: str) -> nn.Module:
    """Heads and loss of a system as cifar10_benchmark.py has them, on its narrow backbone."""
    heads, dim = lightly("models.modules.heads"), 8 * WIDTH
    layer = (dim, 2048, nn.BatchNorm1d(2048), nn.ReLU())
    system = nn.Module()
    system.backbone = nn.Sequential(*list(their_network().children())[:-1])
    if name == "byol":
        system.projector = heads.BYOLProjectionHead(dim, 1024, 256)
        system.predictor = heads.BYOLPredictionHead(256, 1024, 256)
    elif name == "simsiam":
        system.projector = heads.ProjectionHead([layer, (2048, 2048, nn.BatchNorm1d(2048), None)])
        system.predictor = heads.SimSiamPredictionHead(2048, 512, 2048)
    elif name == "barlow_twins":
        system.projector = heads.ProjectionHead([layer, (2048, 2048, None, None)])
    elif name == "swav":
        system.projector = heads.SwaVProjectionHead(dim, dim, 128)
        system.prototypes = heads.SwaVPrototypes(128, 512)
    else:
        head = heads.DINOProjectionHead(dim, 2048, 256, 2048, batch_norm=True)
        hidden = (dim, 2048, nn.BatchNorm1d(2048), nn.GELU())
        head.layers = heads.ProjectionHead([hidden, (2048, 256, None, None)]).layers
        system.projector = head
    return system.double()


def their_step(name: str, system: nn.Module, teacher: nn.Module, criterion, pair) -> torch.Tensor:
    embedded = [system.projector(system.backbone(view)) for view in pair]
    if name == "barlow_twins":
        return criterion(*embedded)
    if name == "swav":
        system.prototypes.normalize()
        return criterion([system.prototypes(nn.functional.normalize(each, dim=1)) for each in embedded], [])
    with torch.no_grad():
        targets = [teacher.projector(teacher.backbone(view)) for view in pair]
    if name == "dino":
        return criterion(targets, embedded)
    predicted = [system.predictor(each) for each in embedded]
    targets = [each.detach() for each in embedded] if name == "simsiam" else targets
    return (criterion(targets[0], predicted[1]) + criterion(targets[1], predicted[0])) / 2


def begin_alike(mine: list[nn.Module], theirs: list[nn.Module]) -> None:
    """Copy layer by layer; biases of linear layers, which only one may have before a norm, begin at zero."""
    kinds = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
    found = [
        [layer for part in parts for layer in part.modules() if isinstance(layer, kinds)]
        for parts in (mine, theirs)
    ]
    with torch.no_grad():
        for layer, other in zip(*found, strict=True):
            layer.weight.copy_(other.weight)
            for each in (layer, other):
                if each.bias is not None:
                    each.bias.zero_()
            if layer.bias is None and other.bias is not None:  # BYOL's recipe says so; Barlow Twins' has no effect
                other.bias.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", ["byol", "simsiam", "barlow_twins", "swav", "dino"])
def test_first_steps_of_the_others_are_those_of_lightly(name, pictures, monkeypatch):
    """Losses of three steps, so rate, decay, momentum and heads as well; BYOL's is four times theirs, and 4 more."""
    options = {
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "lr": (1e-3 if name == "swav" else 0.06) * 128 / BATCH_SIZE,
    }
    options |= {"hidden_dim": 8 * WIDTH} if name == "swav" else {}
    run = config.load(f"image/cifar10_{name}").run(str(pictures), width=WIDTH, **options)
    method, theirs = run.method.double().train(), their_system(name)
    encoder = method.student[0] if name == "dino" else method.encoder
    encoder.relu = nn.Identity()
    if name == "dino":
        mlp = theirs.projector.layers
        begin_alike([encoder, method.student[1].mlp], [theirs.backbone, mlp])
        with torch.no_grad():
            method.student[1].prototypes.copy_(theirs.projector.last_layer.weight_v)
    else:
        heads = [part for part in ("projector", "predictor", "prototypes") if hasattr(theirs, part)]
        begin_alike(
            [encoder, *(getattr(method, part) for part in heads)],
            [theirs.backbone, *(getattr(theirs, part) for part in heads)],
        )
    method.after_step(0.0)  # prototypes of SwAV
    if name in ("byol", "dino"):
        student = method.student if name == "dino" else nn.Sequential(method.encoder, method.projector)
        method.teacher.load_state_dict(student.state_dict())
        method.teacher[0].relu = nn.Identity()
    losses = lightly("loss")
    criterion = {
        "barlow_twins": losses.BarlowTwinsLoss,
        "swav": losses.SwaVLoss,
        "dino": lambda: losses.DINOLoss(output_dim=2048),
    }.get(name, losses.NegativeCosineSimilarity)()
    views = list(method.views if name in ("byol", "barlow_twins") else ())
    views = views or (list(method.global_views) if name == "dino" else [method.view] * 2)
    parameters = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    if name == "swav":
        optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-6)
    else:
        optimizer = torch.optim.SGD(parameters, lr=6e-2, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    groups = method.param_groups()
    pace = Pace(method, groups, learning_rate=run.learning_rate, weight_decay=run.weight_decay)
    mine = run.optimizer(groups)
    teacher = their_system(name)
    teacher.load_state_dict(theirs.state_dict())
    for step, batch in enumerate(Loader(run.dataset, batch_size=BATCH_SIZE, seed=0).batches(0, 3)):
        seeds = [draws.mix(batch.host_seed, number) for number in range(2)]
        pair = [
            view(batch.video[:, 0], seed, *batch.stretch).double() for view, seed in zip(views, seeds, strict=True)
        ]
        ready = {tuple(seed.tolist()): view for seed, view in zip(seeds, pair, strict=True)}
        pace.set(mine, step / STEPS)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            for view in set(views):
                patch.setattr(
                    view, "forward", lambda video, seed, *stretch, ready=ready: ready[tuple(seed.tolist())]
                )
            loss = method(batch, step / STEPS)["loss"]
            mine.zero_grad()
            loss.backward()
            mine.step()
            method.after_step(step / STEPS)
        expected = their_step(
            name, theirs, teacher, criterion, [((view - encoder.mean) / encoder.std)[:, 0] for view in pair]
        )
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        scheduler.step()
        lightly("models.utils").update_momentum(theirs, teacher, m=0.99)
        wanted = 4 + 4 * expected.item() if name == "byol" else expected.item()
        tolerance = 1e-6 if name == "dino" else 1e-9  # lightly's temperature is a float32
        assert loss.item() == pytest.approx(wanted, rel=tolerance, abs=tolerance), step

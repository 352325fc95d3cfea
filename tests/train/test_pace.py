"""What schedules say reaches the optimizer and the log, and a run that goes on has it bit for bit."""

import logging
import math
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_run import STEPS, VIDEOS
from tiny_training import assert_equal, log, logged_in_tensorboard, state
from torch import nn

from vidssl import Run, fit, optim
from vidssl.data import ArrayDataset
from vidssl.method import Method
from vidssl.models import VideoViT
from vidssl.models.layers import drop_paths
from vidssl.train.pace import Pace, told

STOPPED = 4


class Dropping(Method):
    """Predict the brightness of a frame by a transformer that leaves out branches."""

    def __init__(self, *, rate: float):
        super().__init__()
        self.encoder = VideoViT(dim=12, depth=3, num_heads=2, patch_px=2, tubelet_frames=1)
        self.head = nn.Linear(12, 1)
        self.clips = lambda duration_seconds, fps, generator: torch.zeros(1, 1, dtype=torch.float64)
        drop_paths(self.encoder, rate=rate)

    def forward(self, batch, progress):
        frames = batch.video[:, 0].float() / 255
        return {"loss": (self.head(self.encoder(frames))[:, 0] - frames.mean((1, 2, 3, 4))).square().mean()}

    def schedules(self):
        return {"momentum": optim.linear(0.9, 1.0)}


def train(out: Path, *, rate: float = 0.5, weight_decay=None, **options) -> Method:
    torch.manual_seed(4)
    method = Dropping(rate=rate)
    run = Run(
        method=method,
        dataset=ArrayDataset(VIDEOS, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1.0, weight_decay=0.04),
        learning_rate=optim.linear(0.05, 0.01),
        weight_decay=weight_decay,
        steps=STEPS,
        batch_size=2,
    )
    return fit(run, out=out, log_every=1, save_every=STOPPED, picture_every=100, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    train(out, weight_decay=optim.cosine(0.04, 4.0))
    return out


def test_a_stopped_run_equals_the_straight_one(straight, tmp_path):
    """With a schedule of weight decay, and drop path, whose draws go on where they stood."""
    name = f"checkpoints/step_{STOPPED:08d}"
    shutil.copytree(straight / name, tmp_path / name)
    train(tmp_path, weight_decay=optim.cosine(0.04, 4.0))
    assert_equal(state(straight, STEPS), state(tmp_path, STEPS))
    assert log(tmp_path) == [line for line in log(straight) if line["step"] > STOPPED]


@pytest.mark.parametrize("other", [{"weight_decay": None}, {"rate": 0.0}])
def test_decay_and_drop_path_change_what_is_learned(straight, tmp_path, other):
    train(tmp_path, **{"weight_decay": optim.cosine(0.04, 4.0), **other})
    first, second = (state(out, STEPS)["method"]["head.weight"] for out in (straight, tmp_path))
    assert (first - second).abs().max() > 1e-3


def test_what_held_at_every_step_is_logged(straight):
    lines = log(straight)
    expected = [4.0 + (0.04 - 4.0) * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)]
    assert [line["weight_decay"] for line in lines] == pytest.approx(expected)
    assert [line["momentum"] for line in lines] == pytest.approx(
        [0.9 + 0.1 * step / STEPS for step in range(STEPS)]
    )
    shown = logged_in_tensorboard(straight, "weight_decay")
    assert [value for _, value in shown] == pytest.approx(expected) and shown[0][0] == 1
    groups = state(straight, STEPS)["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [pytest.approx(expected[-1]), 0.0]


def test_the_first_step_of_a_process_tells_its_figures(straight, tmp_path, caplog):
    name = f"checkpoints/step_{STOPPED:08d}"
    shutil.copytree(straight / name, tmp_path / "on" / name)
    with caplog.at_level(logging.INFO, logger="vidssl"):
        train(tmp_path / "anew")
        train(tmp_path / "on", weight_decay=optim.cosine(0.04, 4.0))
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert lines == [
        "step 1: learning rate 0.05, weight decay 0.04, momentum 0.9",
        "step 5: learning rate 0.0233333, weight decay 3.01, momentum 0.966667",
    ]


def groups() -> list[dict]:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(4)]
    return [
        {"params": weights[:1]},
        {"params": weights[1:2], "weight_decay": 0.0},
        {"params": weights[2:3], "weight_decay": 0.5, "lr_scale": 0.1},
        {"params": weights[3:], "weight_decay": 0.0, "lr_scale": 2.0},
    ]


class Still(Method):
    pass


def test_groups_that_do_not_decay_keep_that():
    made = groups()
    pace = Pace(Still(), made, learning_rate=optim.constant(3.0), weight_decay=optim.linear(0.0, 0.2))
    optimizer = torch.optim.SGD(made, lr=1.0)
    for progress, decay in ((0.0, 0.0), (0.5, 0.1), (1.0, 0.2)):  # a schedule may begin at 0
        figures = pace.set(optimizer, progress)
        assert figures == {"learning_rate": 3.0, "weight_decay": pytest.approx(decay)}
        found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        assert found == [
            (3.0, pytest.approx(decay)),
            (3.0, 0.0),
            (pytest.approx(0.3), pytest.approx(decay)),
            (6.0, 0.0),
        ]


def test_a_group_of_constant_rate_keeps_the_first():
    made = [{"params": [weight], **options} for weight, options in zip(
        [nn.Parameter(torch.ones(1)) for _ in range(3)],
        [{}, {"constant_lr": True}, {"constant_lr": True, "lr_scale": 0.5}],
        strict=True,
    )]  # fmt: skip
    pace = Pace(Still(), made, learning_rate=optim.linear(4.0, 1.0), weight_decay=None)
    optimizer = torch.optim.SGD(made, lr=1.0)
    for progress, rate in ((0.0, 4.0), (0.5, 2.5), (1.0, 1.0)):
        assert pace.set(optimizer, progress)["learning_rate"] == rate
        assert [group["lr"] for group in optimizer.param_groups] == [rate, 4.0, 2.0]


def test_without_a_schedule_the_decay_stays_as_it_is():
    made = groups()
    pace = Pace(Still(), made, learning_rate=optim.constant(3.0), weight_decay=None)
    optimizer = torch.optim.SGD(made, lr=1.0, weight_decay=0.3)
    assert pace.set(optimizer, 0.5) == {"learning_rate": 3.0, "weight_decay": 0.5}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0, 0.5, 0.0]


def test_an_optimizer_without_weight_decay_is_refused():
    made = [{"params": [nn.Parameter(torch.ones(1))]}]
    pace = Pace(Still(), made, learning_rate=optim.constant(1.0), weight_decay=optim.constant(0.1))
    with pytest.raises(ValueError, match="its optimizer, Rprop, has no weight decay"):
        pace.set(torch.optim.Rprop(made), 0.0)


def test_the_line_for_people():
    assert told(7, {"learning_rate": 1.5e-4, "teacher_temperature": 0.04}) == (
        "step 7: learning rate 0.00015, teacher temperature 0.04"
    )

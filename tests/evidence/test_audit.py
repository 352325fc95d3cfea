"""The comparison with authors' code, on stand-ins for clones."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from vidssl.evidence import audit as room

AUTHORS = """
import tensorflow.compat.v1 as tf
import torch


def add_contrastive_loss(hidden, temperature):
    rows = tf.math.l2_normalize(hidden, -1)
    logits = rows @ rows.T / temperature - 1e9 * torch.eye(len(rows))
    positive = torch.arange(len(rows)).roll(len(rows) // 2)
    return 2 * torch.nn.functional.cross_entropy(logits, positive), None, None
"""


@pytest.fixture(scope="module")
def audit():
    path = Path(__file__).parents[2] / "tools" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit_tool", path)
    module = sys.modules["audit_tool"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(audit, capsys, *peers: str) -> tuple[int, list[list[str]], str]:
    """Exit code, words of each line of the table, and the last line."""
    code = audit.main(peer=peers)
    _, *table, skipped = capsys.readouterr().out.splitlines()
    return code, [line.split() for line in table], skipped


LARS = """
import tensorflow.compat.v1 as tf


class LARSOptimizer(tf.train.Optimizer):
    def __init__(self, learning_rate, momentum, weight_decay, eeta, exclude_from_weight_decay):
        self.learning_rate = learning_rate
        self.constants = momentum, weight_decay, eeta

    def apply_gradients(self, grads_and_vars):
        momentum, decay, trust = self.constants
        for grad, param in grads_and_vars:
            name = param.op.name
            moved = tf.get_variable(name=name, shape=param.shape.as_list())
            ratio = 1.0
            if name != "bias":
                grad = grad + decay * param
                ratio = trust * tf.norm(param, ord=2) / tf.norm(grad, ord=2)
            moved.assign(tf.multiply(momentum, moved) + self.learning_rate * ratio * grad)
            param.assign(param - 1.0 * moved.value)
"""


@pytest.mark.parametrize("wrong", ["", "loss", "optimizer"])
def test_an_equality_that_does_not_hold_is_the_exit_code(wrong, audit, tmp_path, capsys):
    loss = AUTHORS.replace("temperature -", "temperature / 1.001 -") if wrong == "loss" else AUTHORS
    lars = LARS.replace("trust *", "1.001 * trust *") if wrong == "optimizer" else LARS
    (tmp_path / "objective.py").write_text(loss)
    (tmp_path / "lars_optimizer.py").write_text(lars)
    code, (half, whole, weights), skipped = lines(audit, capsys, f"simclr={tmp_path}")
    assert code == (1 if wrong else 0)
    assert half[:4] == ["simclr", "loss,", "half", "of"] and weights[:4] == ["simclr", "weights", "after", "LARS"]
    assert half[-1] == ("DIFFERS" if wrong == "loss" else "equal")
    assert weights[-1] == ("DIFFERS" if wrong == "optimizer" else "equal")
    # What is declared is no fault: theirs is twice as large.
    assert float(whole[2]) == pytest.approx(0.5, abs=0.01) and whole[3:6] == ["declared:", "theirs", "is"]
    assert skipped.endswith("was given: " + ", ".join(name for name in room.PEERS if name != "simclr"))
    assert not {"objective", "lars_optimizer", "tensorflow"} & sys.modules.keys()


SCHEDULE = """
import math


def adjust_learning_rate(optimizer, epoch, args):
    if epoch < args.warmup_epochs:
        return args.lr * epoch / args.warmup_epochs
    share = (epoch - args.warmup_epochs) / (args.epochs - args.warmup_epochs)
    return args.min_lr + (args.lr - args.min_lr) * (1 + math.cos(math.pi * share)) / 2
"""


@pytest.mark.parametrize("is_right", [True, False])
def test_rates_of_recipes_are_compared(is_right, tmp_path):
    (tmp_path / "util").mkdir()
    code = SCHEDULE if is_right else SCHEDULE.replace("/ args.warmup_epochs", "/ (args.warmup_epochs + 1)")
    (tmp_path / "util" / "lr_sched.py").write_text(code)
    (row,) = room.recipes.mae(tmp_path)
    assert row.holds == is_right
    assert row.result < 1e-12 if is_right else row.result == pytest.approx(1 - 39.75 / 41 - 0.25 / 40, abs=0.02)


@pytest.mark.parametrize("numbers", [(math.nan, 0.0), (0.0, math.nan), (2e-6, 0.0), (0.0, 2e-6), (None, None)])
def test_what_is_no_number_or_too_large_does_not_hold(numbers):
    row = room.Row("loss", *numbers)
    assert not row.holds and row.line("peer").endswith("DIFFERS")
    assert room.Row("loss", *numbers, declared="why").holds


def test_no_number_is_larger_than_any():
    assert math.isnan(room.comparing.largest(0.1, math.nan))


@pytest.mark.parametrize("peer", ["simclr", "simclr=nowhere", "simpler=."])
def test_a_peer_that_cannot_be_is_named(peer, audit):
    with pytest.raises(
        SystemExit, match=f"--peer {peer}: expected NAME=FOLDER, NAME one of byol, deepcluster, dino"
    ):
        audit.main(peer=(peer,))

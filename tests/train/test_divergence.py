"""Runs whose weights grow beyond all bounds end by a verdict that says so, whatever is measured in between."""

from functools import partial
from pathlib import Path

import pytest
import torch
from test_contract import METHODS, SOUND

from vidssl import Run, fit, optim
from vidssl.data.arrays import ArrayDataset


def train(name: str, out: Path, *, lr: float, factor: float = 1.0) -> None:
    """Train a small method, the weights of its encoder multiplied by `factor`; clusterings come every other step."""
    torch.manual_seed(0)
    check = METHODS[name]
    method = check.args[0]()
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.mul_(factor)
    sound = {key: value for key, value in check.keywords.items() if key in SOUND}
    run = Run(
        method=method,
        dataset=ArrayDataset(check.keywords["clips"], clips=method.clips, **sound),
        optimizer=partial(torch.optim.SGD, lr=lr),
        learning_rate=optim.constant(lr),
        steps=24,
        batch_size=4,
    )
    fit(run, out=out, log_every=1, picture_every=1, save_every=100)


@pytest.mark.parametrize("name", ["ContrastiveRandomWalk"])
def test_a_learning_rate_beyond_all_bounds_is_told_by_the_guard(name, tmp_path):
    with pytest.raises(FloatingPointError, match="loss or gradient was not finite in 11 steps"):
        train(name, tmp_path, lr=1e20)


@pytest.mark.parametrize("name", ["DeepCluster", "XDC"])
def test_features_that_are_no_numbers_are_not_clustered(name, tmp_path):
    with pytest.raises(
        FloatingPointError, match=rf"what {name} extracts before pass \d+ over the data is .*diverged"
    ):
        train(name, tmp_path, lr=1e20)


@pytest.mark.parametrize(
    ("factor", "what"),
    [(1e6, r"too large to compute with \(linalg\.eigh"), (float("nan"), "not finite for 8 of 8 samples")],
)
def test_what_is_wrong_with_them_is_said(tmp_path, factor, what):
    with pytest.raises(
        FloatingPointError, match=f"what DeepCluster extracts before pass 0 over the data is {what}"
    ):
        train("DeepCluster", tmp_path, lr=1e-3, factor=factor)

"""The comparison with authors' code, on a stand-in for a clone."""

import importlib.util
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("is_right", [True, False])
def test_an_equality_that_does_not_hold_is_the_exit_code(is_right, audit, tmp_path, capsys):
    code = AUTHORS if is_right else AUTHORS.replace("temperature -", "temperature / 1.001 -")
    (tmp_path / "objective.py").write_text(code)
    assert audit.main(["--peer", f"simclr={tmp_path}"]) == (0 if is_right else 1)
    _, half, whole, skipped = capsys.readouterr().out.splitlines()
    assert half.split()[:4] == ["simclr", "loss,", "half", "of"]
    assert half.endswith("equal" if is_right else "DIFFERS")
    # What is declared is no fault: theirs is twice as large.
    assert float(whole.split()[2]) == pytest.approx(0.5, abs=0.01) and "declared: theirs is the sum" in whole
    assert skipped.endswith("no clone was given: dino, dpc, jepa, mae, moco, videomae, videowalk")
    assert "objective" not in sys.modules and "tensorflow" not in sys.modules


@pytest.mark.parametrize("peer", ["simclr", "simclr=nowhere", "simpler=."])
def test_a_peer_that_cannot_be_is_named(peer, audit, capsys):
    with pytest.raises(SystemExit):
        audit.main(["--peer", peer])
    assert "expected NAME=FOLDER, NAME one of moco, simclr, dino" in capsys.readouterr().err

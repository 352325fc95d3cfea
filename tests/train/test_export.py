"""Which of a method's networks a run exports."""

from pathlib import Path

import pytest
import test_contract
import torch
from test_contract import VIDEOS
from torch import nn

from vidssl import Run, fit, load_encoder, optim
from vidssl.data import ArrayDataset

FIRST = {"dino": "teacher", "vjepa": "teacher", "byol": "student", "moco": "student"}
CLIP = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(1, 2, 3, 16, 16)


def train(name: str, out: Path, **options):
    torch.manual_seed(0)
    method = getattr(test_contract, name)()
    run = Run(
        method=method,
        dataset=ArrayDataset(VIDEOS, clips=method.clips),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        learning_rate=optim.constant(0.1),
        steps=2,
        batch_size=2,
    )
    return fit(run, out=out, picture_every=100, **options)


@pytest.mark.parametrize("name", FIRST)
def test_student_or_teacher(name, tmp_path):
    method = train(name, tmp_path)
    networks = method.networks()
    assert list(networks) == [FIRST[name], {"teacher": "student", "student": "teacher"}[FIRST[name]]]
    assert next(iter(networks.values())) is method.encoder
    method.eval()
    features = {kind: network.features(CLIP).detach() for kind, network in networks.items()}
    assert not torch.equal(features["student"], features["teacher"])
    assert torch.equal(load_encoder(tmp_path).features(CLIP), features[FIRST[name]])
    for kind, expected in features.items():  # of a run that is complete
        train(name, tmp_path, export=kind)
        assert torch.equal(load_encoder(tmp_path).features(CLIP), expected)


def test_the_exported_network_is_the_one_that_is_measured(tmp_path):
    seen: list[nn.Module] = []

    def evaluate(encoder):
        seen.append(encoder)
        return {}, {}

    method = train("dino", tmp_path, export="student", evaluate=evaluate)
    assert seen == [method.networks()["student"]]


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--export is 'head', expected one .* DINO can export: teacher, student"):
        train("dino", tmp_path, export="head")
    assert not (tmp_path / "checkpoints").exists()

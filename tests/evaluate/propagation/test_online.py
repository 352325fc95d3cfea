"""Measuring an encoder while it learns."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_davis import write_davis
from torch import nn

from vidssl import Run, fit, load_encoder, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.propagation.online import online_davis
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.methods import VideoColorization
from vidssl.models import ResNet

pytestmark = pytest.mark.usefixtures("looked_at_here")


def run(corpus):
    torch.manual_seed(3)
    method = VideoColorization(
        ResNet(18, stride=8, layer="layer3", color="gray", width=4),
        head=nn.Dropout(0.1),
        view=RandomResizedCrop(32, scale=(0.3, 1)),
        clips=partial(frame_tuple, offsets_frames=(0, 2, 5)),
        num_colors=4,
    )
    return Run(
        method=method,
        dataset=VideoDataset(scan(corpus, progress=False), clips=method.clips, size_px=48),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=5,
        batch_size=4,
    )


def test_figures_are_those_of_the_evaluation_and_change_nothing(small_corpus, tmp_path):
    root = write_davis(tmp_path / "davis", {"slow": 2, "fast": 6})
    online = online_davis(root, protocol=CRW, sequences=["fast", "slow"])
    fit(run(small_corpus), out=tmp_path / "with", seed=1, log_every=1, evaluate=online, evaluate_every=2)
    fit(run(small_corpus), out=tmp_path / "without", seed=1, log_every=1)
    lines = [json.loads(line) for line in (tmp_path / "with/metrics.jsonl").read_text().splitlines()]
    plain = [json.loads(line) for line in (tmp_path / "without/metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == [line["loss"] for line in plain]
    measured = [line for line in lines if "loss" not in line]
    assert [line["step"] for line in measured] == [2, 4, 5]

    encoder = load_encoder(tmp_path / "with")
    expected = evaluate_davis(encoder, root=root, out=tmp_path / "out", model_name="x", protocol=CRW).figures
    for name in ("J&F-Mean", "J-Mean", "F-Mean"):
        assert measured[-1][f"online_davis/{name}"] == pytest.approx(expected[name], abs=1e-12)
    with Image.open(tmp_path / "with/pictures/online_davis_fast_00000005.png") as picture:
        with Image.open(tmp_path / "out/overlays/fast.png") as sheet:
            assert np.array_equal(np.array(picture), np.array(sheet))


def test_it_looks_at_the_first_frames_of_a_few_sequences(tmp_path):
    root = write_davis(tmp_path, {"a": 0, "b": 4, "c": 4, "d": 4}, num_frames=6)
    encoder = ResNet(18, width=4).eval()
    _, pictures = online_davis(root, protocol=CRW)(encoder)
    assert sorted(pictures) == [f"online_davis_{name}" for name in "abc"]
    short, _ = online_davis(root, protocol=CRW, sequences=["b"], max_frames=3)(encoder)
    record = evaluate_davis(encoder, root=root, out=tmp_path / "o", model_name="x", protocol=CRW, sequences=["b"])
    frames = json.loads((tmp_path / "o/sequences/b.json").read_text())["objects"]["1"]["J"]
    assert short["online_davis/J-Mean"] == pytest.approx(np.mean(frames[:2]), abs=1e-12)
    assert record.figures["J-Mean"] == pytest.approx(np.mean(frames), abs=1e-12)
    with pytest.raises(ValueError, match="b: none of its first 1 frames is scored; raise max_frames"):
        online_davis(root, protocol=CRW, sequences=["b"], max_frames=1)


def test_a_run_that_diverges_ends_by_the_verdict_of_the_guard(small_corpus, tmp_path, caplog):
    """Measured at every step, from the first whose features are no numbers: the evaluation has its say and no more."""
    root = write_davis(tmp_path / "davis", {"slow": 2})
    diverging = dataclasses.replace(run(small_corpus), learning_rate=optim.constant(1e20), steps=40)
    online = online_davis(root, protocol=CRW)
    with pytest.raises(FloatingPointError, match="loss or gradient was not finite in 11 steps"):
        fit(diverging, out=tmp_path / "run", log_every=1, evaluate=online, evaluate_every=1)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "loss" not in line]
    assert set(measured[-1]) == {"step", *(f"online_davis/{name}" for name in ("J&F-Mean", "J-Mean", "F-Mean"))}
    assert all(np.isnan(value) for name, value in measured[-1].items() if name != "step")
    assert "the evaluation in between has no figures: features of frame 0 are NaN or infinite" in caplog.text

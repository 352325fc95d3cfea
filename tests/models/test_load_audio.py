"""Encoders of sound: what a run exports, and how it is loaded again."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vidssl import Run, fit, optim
from vidssl.cli import main
from vidssl.data import VideoDataset, scan
from vidssl.methods import L3Net, Rotation, Sum
from vidssl.models import (
    AudioEncoder,
    ConvNet,
    LogMel,
    export_audio_encoder,
    export_encoder,
    export_encoders,
    load_audio_encoder,
    load_encoder,
)


class Whole(nn.Module):
    """A view of frames that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def tiny() -> AudioEncoder:
    log_mel = LogMel(sample_rate_hz=8000, n_fft=128, hop_samples=64, num_mels=12, floor=1e-4)
    return AudioEncoder(log_mel, widths=(4, 6), strides=(2, 1))


def same(one, other):
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_export_and_load_are_bit_equal(tmp_path):
    encoder = tiny()
    encoder.train()(torch.randn(4, 1600))  # batch-norm statistics of its own
    export_audio_encoder(encoder.eval(), tmp_path / "run" / "audio_encoder.safetensors")
    waveform = torch.randn(2, 1600) * 0.1
    for spec in (tmp_path / "run", tmp_path / "run" / "audio_encoder.safetensors"):
        loaded = load_audio_encoder(spec)
        assert torch.equal(loaded(waveform), encoder(waveform))
        assert loaded.architecture == encoder.architecture
        assert (loaded.dim, loaded.sample_rate_hz, loaded.training) == (6, 8000, False)
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
    architecture = json.loads((tmp_path / "run" / "audio_encoder.json").read_text())["architecture"]
    assert architecture == {
        "family": "audio",
        "sample_rate_hz": 8000,
        "n_fft": 128,
        "hop_samples": 64,
        "num_mels": 12,
        "floor": 1e-4,
        "widths": [4, 6],
        "strides": [2, 1],
    }


def test_random_weights_follow_the_seed(tmp_path):
    export_audio_encoder(tiny(), tmp_path / "audio_encoder.safetensors")
    state = torch.get_rng_state()
    first, again, other = (load_audio_encoder(f"random:{tmp_path}", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, again) and not same(first, other) and not same(first, load_audio_encoder(tmp_path))
    assert first.architecture == tiny().architecture


def test_mistakes_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"there is no .*audio_encoder.safetensors: expected a run of a method that"
    ):
        load_audio_encoder(tmp_path)
    path = tmp_path / "audio_encoder.safetensors"
    export_audio_encoder(tiny(), path)
    with pytest.raises(ValueError, match="describes the family 'audio'; expected one of resnet, convnet"):
        load_encoder(path)
    save_file({"net.0.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"does not fit .*'audio'.*missing.*net.1.weight"):
        load_audio_encoder(path)
    export_encoder(ConvNet(widths=(4,), strides=(2,)), tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"encoder.json describes the family 'convnet'; expected one of audio"):
        load_audio_encoder(tmp_path / "encoder.safetensors")


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    encoder = tiny()
    with torch.no_grad():
        next(encoder.parameters()).view(-1)[3] = value
    export_audio_encoder(encoder, tmp_path / "audio_encoder.safetensors")
    with pytest.raises(ValueError, match="has weights that are NaN or infinite, in 1 of"):
        load_audio_encoder(tmp_path)
    assert load_audio_encoder(f"random:{tmp_path}").dim == encoder.dim


def test_a_run_of_a_method_that_listens_exports_both(small_corpus, tmp_path, monkeypatch):
    method = L3Net(ConvNet(widths=(4,), strides=(4,)), audio_encoder=tiny(), view=Whole())
    corpus = scan(small_corpus, cache=None, progress=False)
    run = Run(
        method=method,
        dataset=VideoDataset(
            corpus,
            clips=partial(method.clips, audio_seconds=0.5),
            size_px=32,
            audio_seconds=0.5,
            sample_rate_hz=8000,
        ),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        learning_rate=optim.linear(0.1, 0.0),
        steps=2,
        batch_size=4,
    )
    fit(run, out=tmp_path / "run")
    assert same(load_audio_encoder(tmp_path / "run"), method.audio_encoder)
    assert same(load_encoder(tmp_path / "run"), method.encoder)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "run", "--out", "kept/net.safetensors"]) == 0
    assert same(load_audio_encoder("kept/audio_net.safetensors"), method.audio_encoder)
    assert same(load_encoder("kept/net.safetensors"), method.encoder)


def test_a_sum_exports_the_sound_of_its_task(tmp_path):
    encoder, audio_encoder = ConvNet(widths=(4,), strides=(4,)), tiny()
    listening = L3Net(encoder, audio_encoder=audio_encoder, view=Whole())
    both = Sum({"listen": (listening, 1.0), "turn": (Rotation(encoder, view=Whole()), 1.0)})
    export_encoders(both, tmp_path)
    assert same(load_audio_encoder(tmp_path), audio_encoder)
    assert torch.equal(load_file(tmp_path / "encoder.safetensors")["net.0.weight"], encoder.net[0].weight)
    export_encoders(Rotation(encoder, view=Whole()), tmp_path / "silent")
    assert [path.name for path in sorted(Path(tmp_path / "silent").iterdir())] == [
        "encoder.json",
        "encoder.safetensors",
    ]

"""Weights that are no numbers are refused by every command and every call that measures or uses an encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate.propagation.test_boxes import write_square
from evaluate.propagation.test_tapvid import write_sequence
from PIL import Image
from tiny_davis import write_davis
from tiny_jhmdb import moving_joints, moving_noise, write_jhmdb
from tiny_vip import moving_parts, write_vip

from vidssl import cli, evaluate
from vidssl.evaluate.recognition.features.extract import model_fingerprint
from vidssl.models import AudioEncoder, LogMel, ResNet, export_encoder

pytestmark = pytest.mark.usefixtures("looked_at_here")

COMMANDS = [name for name in cli.COMMANDS if name.startswith("evaluate ") or name in ("extract", "propagate")]
TASKS = [name.removeprefix("evaluate ") for name in COMMANDS if name.startswith("evaluate ")]


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """Data of every task, small."""
    folder = tmp_path_factory.mktemp("roots")
    write_davis(folder / "davis", {"still": 0}, num_frames=3)
    write_vip(folder / "vip", {"walk": moving_parts(2)})
    walk = (moving_noise(2), moving_joints(np.full((15, 2), 40.0), 2))
    write_jhmdb(folder / "jhmdb", {"walk/ann": walk})
    write_square(folder / "otb", num_frames=2)
    name = "GOT-10k_val_000001"
    write_square(folder / "got10k/val", name=name, num_frames=2)
    inside = folder / "got10k/val" / name
    for number in (1, 2):
        (inside / f"img/{number:04d}.jpg").rename(inside / f"{number:08d}.jpg")
    np.savetxt(inside / "groundtruth.txt", [[8, 24, 16, 16]] * 2, fmt="%.4f", delimiter=",")
    (inside / "cover.label").write_text("8\n8\n")
    (folder / "got10k/val/list.txt").write_text(f"{name}\n")
    write_sequence(folder / "tapvid", num_frames=2)
    for split in ("train", "val"):
        for kind in "ab":
            (folder / "pictures" / split / kind).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (32, 32), (40 * number,) * 3).save(
                    folder / "pictures" / split / kind / f"{number}.png"
                )
    return {path.name: path for path in folder.iterdir()}


def broken() -> ResNet:
    torch.manual_seed(0)
    encoder = ResNet(18, width=4).eval().requires_grad_(False)
    encoder.layer2[0].bn1.running_var[1] = torch.nan
    return encoder


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_them(command, roots, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    export_encoder(broken(), tmp_path / "run" / "encoder.safetensors")
    root = roots.get(command.split()[-1], roots["pictures"])
    rest = ["video.mp4", "--labels", "mask.png"] if command == "propagate" else ["--root", str(root)]
    words = [*command.split(), *rest, "--model", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "weights that are NaN or infinite, in 1 of " in said and "layer2.0.bn1.running_var" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", [task for task in TASKS if task != "finetune"])
def test_calls_refuse_them(task, roots, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = roots.get(task, roots["pictures"])
    with pytest.raises(ValueError, match=r"has weights that are NaN or infinite, in 1 of .*layer2\.0\.bn1"):
        call = getattr(evaluate, task)
        protocol = {"protocol": evaluate.CRW} if task in ("davis", "otb", "got10k", "tapvid") else {}
        call(broken(), root, **protocol)


def test_those_of_sound_are_refused_too():
    heard = AudioEncoder(LogMel(sample_rate_hz=8000, n_fft=200, num_mels=16), widths=(4,), strides=(2,)).eval()
    assert len(model_fingerprint(heard)) == 64
    with torch.no_grad():
        next(heard.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(ValueError, match=r"AudioEncoder\) has weights that are NaN or infinite"):
        model_fingerprint(heard)

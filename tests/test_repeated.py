"""What is written twice is equal byte by byte: at another time, in another process, whose texts have other hashes."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image
from processes import Process
from report.test_page import write_run
from tiny_run import train

from vidssl.cli import main
from vidssl.models import ResNet, export_encoder
from vidssl.report.comparison import write_comparison
from vidssl.report.page import write_report

CLASSES = ("cartwheel", "dive", "golf", "hug", "jump", "sit")
REPEATED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_repeated import write_everything
if __name__ == "__main__":
    Path("hash").write_text(str(hash("vidssl")))
    write_everything()
"""


def write_everything() -> None:
    """Write into the current folder what our commands write of the same input."""
    os.environ["XDG_CACHE_HOME"] = "cache"
    torch.manual_seed(3)
    export_encoder(ResNet(18, width=4), "encoder.safetensors")
    train(Path("trained"))
    write_run(Path("run"))
    write_report(Path("run"))
    model = {"name": "me", "sha256": "0", "architecture": None}
    good = {"task": "knn", "figures": {"top1": 0.5}, "parts": {}, "model": model}
    Path("e").mkdir()
    Path("e/result.json").write_text(json.dumps(good))
    write_comparison(["e"], "comparison.html")
    for number, name in enumerate(CLASSES):
        write_video(Path("videos", name, "a.mp4"), moving_square(3, seed=number))
        Path("videos", name, "b.mp4").write_bytes(b"nothing")
        for split in ("train", "val"):
            Path("pictures", split, name).mkdir(parents=True)
            for shade in (number, number + 1):
                Image.fromarray(np.full((16, 16, 3), 40 * shade, np.uint8)).save(
                    f"pictures/{split}/{name}/{shade}.png"
                )
    before, sys.stdout = sys.stdout, Path("check.txt").open("w")
    with sys.stdout:
        assert main(["data", "check", "videos"]) == 1
    sys.stdout = before
    data = ["--root", "pictures", "--size-px", "16", "--num-workers", "0"]
    model = ["--model", "encoder.safetensors", "--no-baselines", "--device", "cpu"]
    assert main(["evaluate", "knn", *data, *model, "--out", "knn"]) == 0
    assert main(["extract", *data, *model[:2], "--out", "features"]) == 0


def written(folder: Path) -> dict[str, bytes]:
    """Contents of the files below a folder that tell no time, without the name of the folder."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = ("encoder.", "trained/encoder.", "run/report", "comparison", "check", "knn/pred", "features/")
    contents = {
        name: path.read_bytes().replace(bytes(folder), b"")
        for name, path in found.items()
        if name.startswith(kept)
    }
    result = json.loads((folder / "knn/result.json").read_text())
    contents["knn"] = json.dumps([result["figures"], result["uncertainty"], result["classes"]]).encode()
    return contents


@pytest.mark.usefixtures("looked_at_here")
def test_what_is_written_twice_is_equal_byte_by_byte(tmp_path, monkeypatch):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    monkeypatch.chdir(tmp_path / "1")
    process = Process(REPEATED, Path(__file__).parent, said=tmp_path / "said")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.chdir(tmp_path / "2")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    write_everything()
    assert process.wait() == 0, process.said.read_text()
    if "PYTHONHASHSEED" not in os.environ:  # as tox sets it: all processes have one then
        assert (tmp_path / "1/hash").read_text() != str(hash("vidssl"))
    first, second = (written(tmp_path / name) for name in "12")
    differing = [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]
    assert not differing, differing
    assert len(first) > 10 and b"golf" in first["knn/predictions.csv"] and b"b.mp4" in first["check.txt"]

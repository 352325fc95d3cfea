"""The demo end to end, as small as it goes; what it is for (minutes of training) is measured by tools/prove.py."""

import dataclasses
import json
from pathlib import Path

import pytest

from vidssl.cli import main
from vidssl.evaluate.propagation.protocols import CRW

pytestmark = pytest.mark.usefixtures("looked_at_here")

SMALL = {
    "steps": 1,
    "num-train-videos": 2,
    "num-val-videos": 1,
    "num-train-frames": 20,
    "num-val-frames": 4,
    "width-px": 64,
    "height-px": 64,
}


def demo(**changes: int) -> int:
    options = {**SMALL, **changes}
    return main(["demo", "--device", "cpu", *(f"--{name}={value}" for name, value in options.items())])


def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Frames at their own size, not at 480 px.
    monkeypatch.setattr("vidssl.commands._model.PROTOCOLS", (dataclasses.replace(CRW, short_side=64),))
    unfinished = tmp_path / "demo" / ".corpus.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "half.mp4").write_bytes(b"")
    assert demo() == 0
    first = capsys.readouterr().out
    names = ("identity", "random", "pretrained")
    files = [Path("demo/run/evaluate") / name / "result.json" for name in names]
    results = {name: json.loads(file.read_text()) for name, file in zip(names, files, strict=True)}
    for name, result in results.items():
        assert f"{100 * result['figures']['J&F-Mean']:.1f}" in first and name in first
    assert len({result["model"]["sha256"] for result in results.values()}) == 3
    assert results["random"]["model"]["architecture"] == results["pretrained"]["model"]["architecture"]
    assert results["identity"]["command"] == (
        "vidssl evaluate davis --root demo/corpus/val --model identity --protocol crw --seed 0 "
        "--out demo/run/evaluate/identity"
    )
    assert not unfinished.exists() and "report: demo/run/report.html" in first

    # Again: nothing is done twice.
    kept = [Path("demo/corpus/corpus.json"), Path("demo/run/run.json"), *Path("demo/run").rglob("masks/*/*.png")]
    times = [path.stat().st_mtime_ns for path in kept]
    assert demo() == 0
    assert [path.stat().st_mtime_ns for path in kept] == times and len(kept) == 2 + 3 * 4

    # Another corpus or training does not go into the same folder.
    assert demo(**{"width-px": 80}) == 2
    assert "demo/corpus holds another corpus: width_px is 64 there, 80 now" in capsys.readouterr().err
    assert demo(steps=2) == 2
    assert "steps: 1 there, 2 now" in capsys.readouterr().err


def test_an_option_of_the_demo_is_checked(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--step", "3"])
    assert "--steps" in capsys.readouterr().err

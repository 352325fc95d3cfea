"""The README's commands and code do what it says."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_davis import write_davis

from vidssl.cli import main
from vidssl.models import ResNet, export_encoder

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (vidssl .+)$", README, flags=re.MULTILINE)


def help_of(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_exists(command, capsys):
    words = shlex.split(command)[1:]
    # The words that name the command: those before the first option that are no value of the user's.
    depth = {"evaluate": 2, "data": 2, "pretrain": 2}.get(words[0], 1)
    text = help_of(words[:depth], capsys)
    for option in (word for word in words if word.startswith("--")):
        assert option in text


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoder = ResNet(18, color="gray", width=4)
    export_encoder(encoder, tmp_path / "runs" / "color" / "encoder.safetensors")
    write_davis(tmp_path / "DAVIS", {"still": 0}, num_frames=3)
    (tmp_path / "DAVIS" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "DAVIS" / "ImageSets" / "2017" / "val.txt").write_text("still\n")
    for split, count in (("train", 3), ("val", 1)):
        for label, grey in (("dark", 20), ("light", 220)):
            (tmp_path / "UCF101" / split / label).mkdir(parents=True)
            for number in range(count):
                picture = np.full((32, 32, 3), grey, np.uint8)
                picture[:8] = 40 * number
                Image.fromarray(picture).save(tmp_path / "UCF101" / split / label / f"{number}.png")
    (code,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    names = {}
    exec(code, names)  # noqa: S102
    torch.testing.assert_close(names["features"], encoder.eval().features(names["clip"]))
    *carried, top1, found = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in carried] == ["ours", "random", "identity"]
    assert float(carried[-1].split()[-1]) == 1  # nothing moves
    assert 0 <= float(top1) <= 1 and 0 <= float(found) <= 1
    assert not list(tmp_path.glob("runs/color/evaluate"))


def test_ci_calls_the_test_command_of_the_readme():
    assert "    make test " in README
    assert "make test\n" in (ROOT / ".ci" / "run").read_text()

"""The README's commands and code do what it says."""

import re
import shlex
from pathlib import Path

import pytest
import torch

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


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = ResNet(18, color="gray", width=4)
    export_encoder(encoder, tmp_path / "runs" / "color" / "encoder.safetensors")
    (code,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    names = {"clip": torch.rand(1, 2, 3, 32, 40)}
    exec(code, names)  # noqa: S102
    torch.testing.assert_close(names["features"], encoder.eval().features(names["clip"]))


def test_ci_calls_the_test_command_of_the_readme():
    assert "    make test " in README
    assert "make test\n" in (ROOT / ".ci" / "run").read_text()

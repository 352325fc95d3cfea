"""Methods and datasets of users, on videos, text, points and few labels: they train by the command, and go on exactly.

Their files are tests/own_methods/: a method, and a config beside it; nothing of them is in the package.
"""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidssl import Method, cli, load_encoder

TESTS = Path(__file__).resolve().parent
OWN = {
    "next_sentence": ["next_sentence_words.py", "--root", "film.srt"],
    "same_part": ["same_part_boxes.py"],
    "pseudo_label": ["pseudo_label_convnet.py"],
}
VIDEO = [
    "which_first_resnet18.py",
    "--batch-size",
    "4",
    "--size-px",
    "32",
    "--width",
    "8",
    "--steps",
    "6",
    "--root",
]


def subtitles() -> str:
    words = "the sea is calm and a boat sails far away".split()
    lines = [" ".join(words[start : start + 3 + start % 3]) for start in range(7)] + ["far away"]
    times = [f"00:00:{2 * place:02},250 --> 00:00:{2 * place + 1:02},500" for place in range(len(lines))]
    return "\n\n".join(
        f"{place}\n{when}\n{line}" for place, (when, line) in enumerate(zip(times, lines, strict=True))
    )


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the users' files, in which commands run."""
    for path in (TESTS / "own_methods").glob("*.py"):
        shutil.copy(path, tmp_path)
    blocks = re.findall(
        r"```python\n# (\w+\.py)\n(.*?)```", (TESTS.parent / "CONTRIBUTING.md").read_text(), re.DOTALL
    )
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    (tmp_path / "film.srt").write_text(subtitles())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def pretrain(words: list[str], out: str, *more: str) -> None:
    options = ["--out", out, "--device", "cpu", "--num-workers", "0", "--log-every", "1", *more]
    assert cli.main(["pretrain", *words, *options]) == 0


def lines(out: str) -> list[dict[str, float]]:
    """What a run logged, without what the clock decides."""
    logged = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    clocks = ("samples_per_second", "data_wait")
    return [{name: value for name, value in line.items() if name not in clocks} for line in logged]


def weights(out: str) -> dict[str, torch.Tensor]:
    state = torch.load(Path(out, "checkpoints", "step_00000006", "state.pt"), weights_only=True)
    return {**state["method"], **load_file(Path(out, "encoder.safetensors"))}


@pytest.mark.parametrize("name", [*OWN, "which_first"])
def test_a_method_of_ones_own_trains_and_goes_on_bit_for_bit(name, folder, request, monkeypatch):
    words = OWN.get(name) or [*VIDEO, str(request.getfixturevalue("small_corpus"))]
    pretrain(words, "once")
    num_steps = 0

    def stop_at_three(self, progress):
        nonlocal num_steps
        num_steps += 1
        if num_steps == 3:
            signal.raise_signal(signal.SIGUSR1)

    with monkeypatch.context() as patched:
        patched.setattr(Method, "after_step", stop_at_three)
        with pytest.raises(SystemExit) as stopped:
            pretrain(words, "stopped")
    assert stopped.value.code == 128 + signal.SIGUSR1 and [line["step"] for line in lines("stopped")] == [1, 2, 3]
    pretrain(words, "stopped")
    assert [line["step"] for line in lines("once")] == [1, 2, 3, 4, 5, 6]
    assert lines("stopped") == lines("once")
    first, second = weights("once"), weights("stopped")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    # It learned from what it was given, not from one batch again and again.
    assert len({line["loss"] for line in lines("once")}) == 6


def test_each_step_of_few_labels_has_its_share_also_in_parts(folder):
    pretrain(OWN["pseudo_label"], "out")
    assert all((line["num_labelled"], line["num_unlabelled"]) == (2, 6) for line in lines("out"))
    # Of two parts each has one labelled sample: no part is without, where the loss would be no number.
    pretrain(OWN["pseudo_label"], "parts", "--accumulate", "2")
    assert all((line["num_labelled"], line["num_unlabelled"]) == (1, 3) for line in lines("parts"))


@pytest.mark.parametrize(("name", "steps"), [("next_sentence", 2), ("same_part", 2)])
def test_decoding_processes_give_the_same_run(name, steps, folder):
    pretrain(OWN[name], "here")
    options = ["--out", "there", "--device", "cpu", "--num-workers", "2", "--log-every", "1"]
    assert cli.main(["pretrain", *OWN[name], *options]) == 0
    assert lines("here") == lines("there")


def test_weights_of_an_encoder_of_words_are_exported_and_no_encoder_of_frames(folder, capsys):
    pretrain(OWN["next_sentence"], "out")
    described = json.loads(Path("out", "encoder.json").read_text())
    assert described["class"] == "next_sentence.Words"
    assert list(load_file(Path("out", "encoder.safetensors"))) == ["vectors.weight"]
    with pytest.raises(ValueError, match=r"describes a next_sentence\.Words, no encoder of frames or sound"):
        load_encoder("out")
    capsys.readouterr()
    assert cli.main(["export", "out"]) == 2
    assert "no encoder of frames or sound" in capsys.readouterr().err


def test_a_step_on_text_that_is_no_number_is_kept_and_computed_again(folder, monkeypatch, capsys):
    """Record and replay carry every field of a batch."""
    import next_sentence

    forward = next_sentence.NextSentence.forward

    def broken(self, batch, progress):
        losses = forward(self, batch, progress)
        return {**losses, "loss": losses["loss"] * (float("nan") if round(progress * 6) == 2 else 1)}

    monkeypatch.setattr(next_sentence.NextSentence, "forward", broken)
    pretrain(OWN["next_sentence"], "out")
    record = torch.load(Path("out", "nonfinite", "step_00000002", "rank0.pt"), weights_only=True)
    assert record["batch"]["text"].shape == (4, 2, 8) and record["batch"]["text_time"].shape == (4, 2, 2)
    capsys.readouterr()
    assert cli.main(["replay", "out", "--step", "2", "--device", "cpu"]) == 0
    assert "loss: nan (was nan)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "sizes"), [("next_sentence", "2 sentences of 8 tokens"), ("same_part", "24 points")]
)
def test_too_little_memory_is_said_with_the_sizes_of(name, sizes, folder, monkeypatch, capsys):
    module = __import__(name)

    def too_much(self, batch, progress):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    (method,) = (kind for kind in vars(module).values() if isinstance(kind, type) and kind.__base__ is Method)
    monkeypatch.setattr(method, "forward", too_much)
    assert cli.main(["pretrain", *OWN[name], "--out", "out", "--device", "cpu", "--num-workers", "0"]) == 2
    assert f"out of memory with 4 samples, {sizes} at once" in " ".join(capsys.readouterr().err.split())


def test_a_method_that_looks_at_no_video_says_what_its_monitors_look_at(folder, monkeypatch, capsys):
    import same_part

    monkeypatch.delattr(same_part.SamePart, "embed")
    assert cli.main(["pretrain", *OWN["same_part"], "--out", "out", "--device", "cpu", "--num-workers", "0"]) == 2
    assert "write SamePart.embed(batch) -> (B, D)" in " ".join(capsys.readouterr().err.split())

"""The log of a run: every step once, whatever fails, and nothing that fails here ends the training."""

import json
import logging
import threading
import time
from pathlib import Path

import pytest
import torch
from tiny_run import STEPS, train
from tiny_training import file_size_limit, logged_in_tensorboard

from vidssl.train.logbook import Logbook


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("last", ['{"step": 5, "lo', '{"step": 5, "loss": 1.0}', "", "null", '{"loss": 1}'])
def test_what_came_after_the_checkpoint_is_dropped(tmp_path, caplog, last):
    text = "".join(f'{{"step": {step}, "loss": {step}.5}}\n' for step in range(1, 5))
    (tmp_path / "metrics.jsonl").write_text(text + last)
    with Logbook(tmp_path, first_step=3, num_steps=6) as log:
        log.scalars(4, {"loss": 9.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1.5), (2, 2.5), (3, 3.5), (4, 9.0)]
    assert "damaged" not in caplog.text


def test_a_damaged_line_in_the_middle_is_named(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "loss": 1}\n{"st\xff\x00p": 2}\n{"step": 3, "loss": 3}\n'
    )
    with Logbook(tmp_path, first_step=3, num_steps=6):
        pass
    assert [line["step"] for line in lines(tmp_path)] == [1, 3]
    assert "metrics.jsonl:2 is damaged and left out" in caplog.text


def test_pictures_of_later_steps_go(tmp_path):
    with Logbook(tmp_path, first_step=0, num_steps=9) as log:
        for step in (3, 6, 9):
            log.pictures(step, {"a_b": torch.rand(3, 4, 4)})
    with Logbook(tmp_path, first_step=6, num_steps=9):
        assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
            "a_b_00000003.png",
            "a_b_00000006.png",
        ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
def test_lines_wait_for_a_disk_that_is_full(tmp_path, caplog):
    others = set(threading.enumerate())
    with Logbook(tmp_path, first_step=0, num_steps=9) as log:
        log.scalars(1, {"loss": 1.0})
        size = (tmp_path / "metrics.jsonl").stat().st_size
        with file_size_limit(size + 20):  # the first half of the next line still fits
            for step in (2, 3):
                log.scalars(step, {"loss": float(step)})
        log.scalars(4, {"loss": 4.0})
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    for thread in set(threading.enumerate()) - others:
        thread.join(60)  # TensorBoard's dies of the same disk, and is not to do so in the next test
    told = [record for record in caplog.records if record.msg.startswith("%s cannot be written")]
    assert [record.args[0] for record in told if record.args[0] == "metrics.jsonl"] == ["metrics.jsonl"]
    assert "metrics.jsonl could not be written 2 times" in caplog.text


def test_no_logger_ends_the_training(tmp_path, monkeypatch, caplog):
    def broken(*arguments, **options):
        raise ConnectionResetError("the logger is gone")

    from rich.progress import Progress
    from torch.utils.tensorboard import SummaryWriter

    for name in ("add_scalar", "add_image", "flush", "close"):
        monkeypatch.setattr(SummaryWriter, name, broken)
    for name in ("start", "stop", "advance", "update"):
        monkeypatch.setattr(Progress, name, broken)
    monkeypatch.setattr("vidssl.train.logbook._write_picture", broken)
    monkeypatch.setattr(
        "tiny_run.Tiny.pictures", lambda self, batch: {"noise": torch.rand(3, 4, 4)}, raising=False
    )
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "broken", picture_every=2)
    monkeypatch.undo()
    train(tmp_path / "well")
    losses = [[line["loss"] for line in lines(tmp_path / name)] for name in ("broken", "well")]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    for what in ("TensorBoard", "the progress bar", "a picture"):
        assert caplog.text.count(f"{what} cannot be written") == 1
    assert "a picture could not be written 3 times" in caplog.text


def test_tensorboard_shows_every_step_once(tmp_path, monkeypatch):
    """Processes that end without leaving, after steps that the checkpoint does not hold."""
    now, logs = 1e9, []
    monkeypatch.setattr(time, "time", lambda: now)  # files of one second have an order of their own
    for first_step, last_step in ((0, 1), (1, 3), (3, 5), (1, 3), (3, 5), (4, 6)):
        now += 10
        log = Logbook(tmp_path, first_step=first_step, num_steps=STEPS)
        log.progress.stop()
        for step in range(first_step + 1, last_step + 1):
            log.scalars(step, {"loss": step + 0.25})
        log.flush()
        logs.append(log)
    assert logged_in_tensorboard(tmp_path, "loss") == [(step, step + 0.25) for step in range(1, 7)]
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 7))
    for log in logs:
        log.events.close()

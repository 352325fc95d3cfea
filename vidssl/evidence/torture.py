"""What kills, signals and rot do to a run: it is hit at random moments, and what is left is compared, bit for bit.

A process that has imported everything forks the trainers, so that one kill costs a second; it never computes itself,
because a process with threads cannot be forked safely. tools/torture.py runs this for long, `make test` for a minute.
"""

import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import optim
from ..augment import RandomResizedCrop
from ..data.arrays import ArrayDataset
from ..methods import MoCo
from ..models import ConvNet
from ..train import checkpoint
from ..train.loop import fit
from ..train.run import Run

STEPS, SAVE_EVERY = 60, 3
CLOCK = ("samples_per_second", "data_wait")  # what a log line says of the clock, which no two runs share
MAX_SECONDS = 120.0  # for one run that is left in peace
TYPICAL_LIFE_SECONDS = 0.7  # of a trainer that is hit
SAVED_FLOATS = 1 << 20


def tiny_run() -> Run:
    """Batch norm, dropout, a teacher and a queue, on videos in memory: all kinds of state there are."""
    torch.manual_seed(0)
    video = torch.randint(0, 256, (24, 2, 3, 24, 24), dtype=torch.uint8)
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    projector = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 8))
    method = MoCo(
        encoder,
        view=RandomResizedCrop(16),
        projector=projector,
        out_dim=8,
        num_keys=64,
        momentum=0.9,
        num_groups=2,
    )
    return Run(
        method=method,
        dataset=ArrayDataset(video, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=STEPS,
        batch_size=4,
    )


def train(out: Path, *, num_workers: int) -> None:
    """Train the tiny run in `out`, or go on with it."""
    fit(
        tiny_run(),
        out=out,
        num_workers=num_workers,
        log_every=1,
        save_every=SAVE_EVERY,
        picture_every=STEPS,
    )


def hit_training(
    folder: Path, *, num_hits: int, num_workers: int, seed: int, number: signal.Signals = signal.SIGKILL
) -> dict[str, Any]:
    """Hit trainers at random moments until enough were hit; each goes on where the one before it was.

    Args:
        folder: For the runs.
        num_hits: Signals to send.
        num_workers: Decoding processes of the trainers.
        seed: Of the moments.
        number: SIGKILL, which nothing can answer; or a stop signal, after which everything must be saved.

    Returns:
        What was done and what went wrong; every count under "wrong" is 0 if all is well.
    """
    draws = random.Random(seed)
    whole = folder / "whole"
    started = time.monotonic()
    code = _wait(_fork(partial(train, whole, num_workers=num_workers), whole), MAX_SECONDS)
    if code != 0:
        raise RuntimeError(f"the run without hits ends with {code}: {_said(whole)}")
    expected = _outcome(whole)
    wrong = {
        "lost": 0,
        "unreadable": 0,
        "other_exit_codes": 0,
        "unequal_logs": 0,
        "unequal_states": 0,
        "not_saved": 0,
    }
    done = {"hits": 0, "hits_in_the_loop": 0, "runs": 0}
    while done["hits"] < num_hits:
        out, newest = folder / f"run-{done['runs']}", -1
        while True:
            pid = _fork(partial(train, out, num_workers=num_workers), out)
            is_last = done["hits"] == num_hits
            code = _wait(pid, MAX_SECONDS if is_last else draws.expovariate(1 / TYPICAL_LIFE_SECONDS))
            if code is None:
                done["hits"] += 1
                # A kill hits the trainer alone or its workers too; a scheduler signals all of them.
                (os.kill if draws.random() < 0.5 else os.killpg)(pid, number)
                code = _wait(pid, MAX_SECONDS)
                steps = _whole_steps(out, wrong)
                wrong["lost"] += max(steps, default=-1) < newest
                newest = max(steps, default=newest)
                done["hits_in_the_loop"] += newest >= 0 and code != -number
                if number != signal.SIGKILL and code == 128 + number:
                    wrong["not_saved"] += _last_logged(out) > newest
                wrong["other_exit_codes"] += code not in (-number, 128 + number, 0)
            if code == 0:
                break
            if code not in (-number, 128 + number):
                raise RuntimeError(f"a trainer that was not hit ends with {code}: {_said(out)}")
        done["runs"] += 1
        log, state, encoder = _outcome(out)
        wrong["unequal_logs"] += log != expected[0]
        wrong["unequal_states"] += not _is_equal(state, expected[1]) or encoder != expected[2]
        shutil.rmtree(out)
    if number == signal.SIGKILL:
        del done["hits_in_the_loop"], wrong["not_saved"]
    return {
        "signal": number.name,
        "num_workers": num_workers,
        **done,
        "steps_compared": done["runs"] * STEPS,
        "seconds": round(time.monotonic() - started, 1),
        "wrong": wrong,
    }


def kill_saves(folder: Path, *, num_kills: int, seed: int, tmpdir: Path | None = None) -> dict[str, Any]:
    """Kill processes inside of `checkpoint.save`, which keeps one checkpoint, until enough were killed there.

    Args:
        folder: For the checkpoints.
        num_kills: Kills that fall between the beginning and the end of a save.
        seed: Of the moments.
        tmpdir: TMPDIR of the processes, for example on another file system.
    """
    draws, started = random.Random(seed), time.monotonic()
    wrong = {"missing": 0, "unreadable": 0, "older_than_the_last_save": 0, "other_bytes": 0, "leftovers": 0}
    done = {"kills_inside": 0, "kills_between": 0, "leftovers_removed": 0}
    typical_seconds = 0.0
    while done["kills_inside"] < num_kills:
        read, write = os.pipe()
        pid = _fork(partial(_save_for_ever, folder, write, tmpdir), folder)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            first = _message(pipe)
            while first is None or first[0] != "begin":
                first = _message(pipe)
            if typical_seconds == 0.0:
                begun = time.monotonic()
                while _message(pipe)[0] != "end":  # type: ignore[index]
                    pass
                typical_seconds = time.monotonic() - begun
            time.sleep(draws.uniform(0, 2.2 * typical_seconds))
            os.kill(pid, signal.SIGKILL)
            _wait(pid, MAX_SECONDS)
            told = [first, *iter(partial(_message, pipe), None)]
        last = told[-1]
        assert last is not None
        done["kills_inside" if last[0] == "begin" else "kills_between"] += 1
        must_be_there = max((step for what, step in told if what == "end"), default=first[1] - 1)
        done["leftovers_removed"] += len(list(folder.glob(".*.tmp")))
        steps = _whole_steps(folder.parent, wrong, name=folder.name)
        wrong["missing"] += must_be_there > 0 and not steps
        wrong["older_than_the_last_save"] += max(steps, default=0) < must_be_there
        newest = checkpoint.recover(folder)
        wrong["leftovers"] += len(list(folder.glob(".*.tmp")))
        if newest is not None:
            state = checkpoint.load(newest)
            wrong["other_bytes"] += not bool((state["values"] == state["step"]).all())
    return {**done, "seconds": round(time.monotonic() - started, 1), "wrong": wrong}


def _save_for_ever(folder: Path, pipe: int, tmpdir: Path | None) -> None:
    if tmpdir is not None:
        os.environ["TMPDIR"] = str(tmpdir)
    newest = checkpoint.recover(folder)
    step = 0 if newest is None else checkpoint.load(newest)["step"]
    values = torch.empty(SAVED_FLOATS)
    while True:
        step += 1
        values.fill_(step)
        os.write(pipe, f"begin {step}\n".encode())
        checkpoint.save(folder, {"values": values}, step=step, num_kept=1)
        os.write(pipe, f"end {step}\n".encode())


def corrupt(folder: Path, *, num_bytes: int, num_cuts: int, seed: int) -> dict[str, Any]:
    """Change single bytes of a checkpoint, and cut its files short; count what is not noticed."""
    draws, started = random.Random(seed), time.monotonic()
    torch.manual_seed(seed)
    state = {"values": torch.randn(1000), "names": {"a": [1, 2.5, "three", None, True]}}
    path = checkpoint.save(folder, state, step=2)
    wrong = {"bytes_not_noticed": 0, "cuts_not_noticed": 0}
    files = sorted(path.iterdir())
    for number in range(num_bytes + num_cuts):
        file = draws.choice(files)
        content = file.read_bytes()
        place = draws.randrange(len(content))
        if number < num_bytes:
            changed = bytes([content[place] ^ draws.randrange(1, 256)])
            file.write_bytes(content[:place] + changed + content[place + 1 :])
        else:
            file.write_bytes(content[:place])
        try:
            checkpoint.load(path)
            wrong["bytes_not_noticed" if number < num_bytes else "cuts_not_noticed"] += 1
        except checkpoint.Damaged:
            pass
        file.write_bytes(content)
    checkpoint.load(path)
    return {
        "bytes": num_bytes,
        "cuts": num_cuts,
        "seconds": round(time.monotonic() - started, 1),
        "wrong": wrong,
    }


def torture(
    folder: Path,
    *,
    num_kills: int,
    num_stops: int,
    num_save_kills: int,
    num_bytes: int,
    seed: int,
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Do all of it; numbers of 0 leave parts out.

    Args:
        folder: For the runs; what is there is removed first.
        num_kills: SIGKILLs of trainers without workers, and as many with 2.
        num_stops: SIGTERMs of trainers without workers, and as many with 2.
        num_save_kills: SIGKILLs inside of a save; half of them with TMPDIR on another file system, where there is one.
        num_bytes: Bytes that are changed, one at a time; a tenth as many times a file is cut.
        seed: Of all moments and places.
        told: Called with a line about each part that is done.

    Returns:
        Figures of each part, and "wrong", their sum of what went wrong.
    """
    torch.set_num_threads(1)
    _import_everything()
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {}
    for workers in (0, 2):
        hits = partial(hit_training, num_workers=workers, seed=seed)
        parts[f"kills_{workers}_workers"] = partial(hits, num_hits=num_kills)
        parts[f"stops_{workers}_workers"] = partial(hits, num_hits=num_stops, number=signal.SIGTERM)
    others = [Path("/dev/shm")] if Path("/dev/shm").is_dir() else []
    parts["kills_in_save"] = partial(kill_saves, num_kills=num_save_kills - num_save_kills // 2, seed=seed)
    for other in others:
        parts["kills_in_save_tmpdir_elsewhere"] = partial(
            kill_saves, num_kills=num_save_kills // 2, seed=seed + 1, tmpdir=other
        )
    parts["corruptions"] = partial(corrupt, num_bytes=num_bytes, num_cuts=num_bytes // 10, seed=seed)
    wanted = {"kills": num_kills, "stops": num_stops, "corruptions": num_bytes}
    figures: dict[str, Any] = {}
    for name, work in parts.items():
        if not (num_save_kills if name.startswith("kills_in_save") else wanted[name.split("_")[0]]):
            continue
        shutil.rmtree(folder / name, ignore_errors=True)
        figures[name] = work(folder / name)
        told(f"{name}: {json.dumps(figures[name])}")
    return {**figures, "wrong": sum(sum(part["wrong"].values()) for part in figures.values())}


def _import_everything() -> None:
    """Import what a trainer imports on its way, so that its forks need not."""

    importlib.import_module("torch.utils.tensorboard")
    run = tiny_run()
    run.optimizer(run.method.param_groups())


def _fork(work: Callable[[], None], folder: Path) -> int:
    """Start `work` in a process group of its own; what it says goes to FOLDER/said.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, sys.stdout.fileno())
        os.dup2(said, sys.stderr.fileno())
        work()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    """Exit code of a process, -signal if one ended it; None if it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


def _said(folder: Path) -> str:
    return (folder / "said.txt").read_text()[-2000:]


def _message(pipe: Any) -> tuple[str, int] | None:
    """Next line of a pipe; None at its end."""
    select.select([pipe], [], [])
    words = pipe.readline().decode().split()
    return (words[0], int(words[1])) if words else None


def _whole_steps(out: Path, wrong: dict[str, int], *, name: str = "checkpoints") -> list[int]:
    """Steps of the checkpoints, all of which must be whole."""
    steps = []
    for path in sorted((out / name).glob("step_*")):
        try:
            steps.append(checkpoint.load(path)["step"])
        except ValueError:
            wrong["unreadable"] += 1
    return steps


def _last_logged(out: Path) -> int:
    return max((record["step"] for record in _log(out)), default=-1)


def _log(out: Path) -> Iterator[dict[str, Any]]:
    path = out / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        yield {name: value for name, value in json.loads(line).items() if name not in CLOCK}


def _outcome(out: Path) -> tuple[list[dict[str, Any]], dict[str, Any], bytes]:
    """The log, the last state and the encoder that a run leaves."""
    newest = checkpoint.latest(out / "checkpoints")
    assert newest is not None
    return list(_log(out)), checkpoint.load(newest), (out / "encoder.safetensors").read_bytes()


def _is_equal(first: Any, second: Any) -> bool:
    """Whether two states are the same, every bit of their tensors."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_is_equal(first[name], second[name]) for name in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(_is_equal(*pair) for pair in zip(first, second, strict=True))
    return first == second

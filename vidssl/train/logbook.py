"""What a run writes while it trains: metrics.jsonl, TensorBoard events, and a progress bar for people.

Nothing that fails here ends the training: it is counted and said once. Lines of metrics.jsonl that cannot be written,
the disk being full, wait until they can.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from ..files import remove_leftovers, replacing
from ..json_files import parse_json

logger = logging.getLogger(__name__)


class Logbook:
    """Scalars, pictures and progress of one run, continued from `first_step`.

    Args:
        folder: The run folder; None shows and writes nothing (ranks other than 0).
        first_step: Steps already done; what a stopped run logged after them is dropped.
        num_steps: Of the whole training.
        drop_evaluation: The evaluation at `first_step` is going to be done again.
    """

    def __init__(
        self, folder: Path | None, *, first_step: int, num_steps: int, drop_evaluation: bool = False
    ) -> None:
        self.folder = folder
        self.since = time.perf_counter()
        self.waited_seconds = 0.0
        self.num_samples = 0
        self.num_failures: dict[str, int] = {}
        self.pending: list[str] = []
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.metrics = folder / "metrics.jsonl"
        lines = [
            line
            for line, record in _lines_until(first_step, self.metrics)
            if not (drop_evaluation and record["step"] == first_step and "loss" not in record)
        ]
        with replacing(self.metrics) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.num_bytes = self.metrics.stat().st_size
        remove_leftovers(folder / "pictures")
        for path in (folder / "pictures").glob("*.png"):
            if int(path.stem.rpartition("_")[2]) > first_step:
                path.unlink()
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self.progress = Progress(
            TextColumn("pretrain"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            refresh_per_second=2,  # drawing it takes about a millisecond; 10 times a second by default
        )
        self.bar = self.progress.add_task("pretrain", total=num_steps, completed=first_step, text="")
        self._try("the progress bar", self.progress.start)

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder is None:
            return
        self._try("the progress bar", self.progress.stop)
        self._try("metrics.jsonl", self._write)
        self._try("TensorBoard", self.events.close)
        for what, number in self.num_failures.items():
            logger.warning("%s could not be written %d times", what, number)
        if self.pending:
            logger.error("%d lines of %s are lost", len(self.pending), self.metrics)

    def count(self, *, num_samples: int, waited_seconds: float) -> None:
        """Note one step: how many samples it took and how long it waited for them."""
        self.num_samples += num_samples
        self.waited_seconds += waited_seconds
        if self.folder is not None:
            self._try("the progress bar", self.progress.advance, self.bar)

    def scalars(self, step: int, values: dict[str, Tensor | float]) -> None:
        """Write the scalars of a step, with the rate since the last call."""
        numbers = {name: float(value) for name, value in values.items()}
        elapsed = time.perf_counter() - self.since
        rate, wait = self.num_samples / elapsed, self.waited_seconds / elapsed
        self.since, self.waited_seconds, self.num_samples = time.perf_counter(), 0.0, 0
        if self.folder is None:
            return
        self._note(step, {**numbers, "samples_per_second": round(rate, 2), "data_wait": round(wait, 4)})
        loss = numbers["loss"]
        text = (
            f"loss {loss:{'.4f' if abs(loss) < 1e6 else '.3e'}}  {rate:.1f} samples/s  waiting for data {wait:.0%}"
        )
        self._try("the progress bar", self.progress.update, self.bar, text=text)

    def evaluation(self, step: int, figures: dict[str, float], pictures: dict[str, Tensor]) -> None:
        """Write the figures and pictures of an evaluation in between."""
        self.pictures(step, pictures)
        if self.folder is not None:
            self._note(step, figures)

    def pictures(self, step: int, pictures: dict[str, Tensor]) -> None:
        """Write pictures, float (3, H, W) in [0, 1], to TensorBoard and as PNG files for the report."""
        if self.folder is None:
            return
        for name, picture in pictures.items():
            self._try("TensorBoard", self.events.add_image, name, picture.float().cpu(), step)
            path = self.folder / "pictures" / f"{name}_{step:08d}.png"
            self._try("a picture", _write_picture, path, picture)

    def flush(self) -> None:
        """Have everything so far on disk: a checkpoint that follows must not know of steps that the log lacks."""
        if self.folder is None:
            return
        self._try("metrics.jsonl", self._write, sync=True)
        self._try("TensorBoard", self.events.flush)

    def _note(self, step: int, record: dict[str, float]) -> None:
        self.pending.append(json.dumps({"step": step, **record}) + "\n")
        self._try("metrics.jsonl", self._write)
        for name, value in record.items():
            self._try("TensorBoard", self.events.add_scalar, name, value, step)

    def _write(self, *, sync: bool = False) -> None:
        """Write the lines that wait, in place of what an attempt that failed left of them."""
        data = "".join(self.pending).encode()
        with self.metrics.open("r+b") as file:
            file.seek(self.num_bytes)
            file.write(data)
            file.truncate()
            file.flush()
            if sync:
                os.fsync(file.fileno())
        self.num_bytes += len(data)
        self.pending.clear()

    def _try(self, what: str, write: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            write(*arguments, **options)
        except Exception as error:  # of whatever kind: a logger is not worth a training
            self.num_failures[what] = self.num_failures.get(what, 0) + 1
            if self.num_failures[what] == 1:
                logger.warning("%s cannot be written (%r); training goes on", what, error)


def _write_picture(path: Path, picture: Tensor) -> None:
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")


def _lines_until(step: int, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Lines of metrics.jsonl up to a step, and what they say.

    The last line may be cut short by a kill; any other that cannot be read is named.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, dict[str, float], where=f"{path}:{number}")
            if record["step"] <= step:
                kept.append((line, record))
        except (ValueError, KeyError):
            if number < len(lines):
                logger.warning("%s:%d is damaged and left out: %.60s", path, number, line)
    return kept

"""What a run writes while it trains: metrics.jsonl, TensorBoard events, and a progress bar for people."""

import json
import time
from pathlib import Path
from types import TracebackType

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

from .files import replacing


class Logbook:
    """Scalars, pictures and progress of one run, continued from `first_step`.

    Args:
        folder: The run folder; None shows and writes nothing (ranks other than 0).
        first_step: Steps already done; what a stopped run logged after them is dropped.
        num_steps: Of the whole training.
    """

    def __init__(self, folder: Path | None, *, first_step: int, num_steps: int) -> None:
        self.folder = folder
        self.since = time.perf_counter()
        self.waited_seconds = 0.0
        self.num_samples = 0
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.metrics = folder / "metrics.jsonl"
        if self.metrics.exists():
            kept = [line for line in self.metrics.read_text().splitlines() if _step(line) <= first_step]
            with replacing(self.metrics) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept))
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self.progress = Progress(
            TextColumn("pretrain"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = self.progress.add_task("pretrain", total=num_steps, completed=first_step, text="")
        self.progress.start()

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder is not None:
            self.progress.stop()
            self.events.close()

    def count(self, *, num_samples: int, waited_seconds: float) -> None:
        """Note one step: how many samples it took and how long it waited for them."""
        self.num_samples += num_samples
        self.waited_seconds += waited_seconds
        if self.folder is not None:
            self.progress.advance(self.bar)

    def scalars(self, step: int, values: dict[str, Tensor | float]) -> None:
        """Write the scalars of a step, with the rate since the last call."""
        numbers = {name: float(value) for name, value in values.items()}
        elapsed = time.perf_counter() - self.since
        rate, wait = self.num_samples / elapsed, self.waited_seconds / elapsed
        self.since, self.waited_seconds, self.num_samples = time.perf_counter(), 0.0, 0
        if self.folder is None:
            return
        record = {**numbers, "samples_per_second": round(rate, 2), "data_wait": round(wait, 4)}
        with self.metrics.open("a") as file:
            file.write(json.dumps({"step": step, **record}) + "\n")
        for name, value in record.items():
            self.events.add_scalar(name, value, step)
        text = f"loss {numbers['loss']:.4f}  {rate:.1f} samples/s  waiting for data {wait:.0%}"
        self.progress.update(self.bar, text=text)

    def evaluation(self, step: int, figures: dict[str, float], pictures: dict[str, Tensor]) -> None:
        """Write the figures and pictures of an evaluation in between."""
        self.pictures(step, pictures)
        if self.folder is None:
            return
        with self.metrics.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            self.events.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: dict[str, Tensor]) -> None:
        """Write pictures, float (3, H, W) in [0, 1], to TensorBoard and as PNG files for the report."""
        if self.folder is None:
            return
        from PIL import Image

        for name, picture in pictures.items():
            self.events.add_image(name, picture.float().cpu(), step)
            pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            path = self.folder / "pictures" / f"{name}_{step:08d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)


def _step(line: str) -> float:
    """Step of a line of metrics.jsonl; a line cut short by a crash counts as later than any."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return float("inf")

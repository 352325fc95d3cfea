"""What an evaluation says about itself: weights, versions and time in its result file, progress while it runs."""

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy
import PIL
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import __version__, stop
from ..files import replacing
from ..models.encoder import Encoder
from ..models.weights import check_finite

Item = TypeVar("Item")


def fingerprint(encoder: Encoder) -> str:
    """SHA-256 over architecture, mean, standard deviation and every weight of an encoder.

    Raises:
        ValueError: A weight is NaN or infinite; everything that is measured asks for this first.
    """
    check_finite(encoder, what=f"the encoder ({type(encoder).__name__})")
    digest = hashlib.sha256(json.dumps(encoder.architecture, sort_keys=True).encode())
    tensors = {**encoder.state_dict(), "mean": encoder.mean, "std": encoder.std}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of everything that can change a figure."""
    return {
        "vidssl": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def device_name(device: torch.device) -> str:
    """Name of the hardware for people: "cpu", or that of the GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


class Stopwatch:
    """Adds up the seconds that an iterator takes to give its items."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Go through `items`, with the clock running only while they work."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item


@contextmanager
def frame_progress(num_frames: int, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show a progress bar with the rate and the time left on stderr; call what it yields after every frame.

    It also looks whether a signal asks for a stop, and raises Stopped then.

    Args:
        num_frames: How many calls there will be.
        shown: False keeps silent.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=num_frames, rate="")
        start, num_done = time.perf_counter(), 0

        def advance(name: str) -> None:
            nonlocal num_done
            num_done += 1
            rate = num_done / (time.perf_counter() - start)
            bar.update(task, completed=num_done, description=name, rate=f"{rate:.2f} frames/s")
            stop.check()

        yield advance


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all; NaN, which JSON lacks, becomes null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_without_nan(document), indent=1, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

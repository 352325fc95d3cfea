"""The pass of an encoder over samples whose features are not on disk yet."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import rich
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ....models.encoder import Encoder
from ....stop import Stopped, check, leave_to_parent
from .cache import Store
from .views import Part, Read, Reading, Views

_MAX_LISTED = 10

logger = logging.getLogger(__name__)


@torch.inference_mode()
def encode_clips(
    encoder: nn.Module, views: Tensor, layers: Sequence[str], *, level: str, device: torch.device
) -> dict[str, np.ndarray]:
    """Encode clips, uint8 (B, T, 3, H, W), or waveforms, float32 (B, S): layer -> float32 (B, ...)."""
    if not isinstance(encoder, Encoder):
        return {"last": encoder(views.to(device)).float().cpu().numpy()}
    maps = encoder.layers(views.to(device).float() / 255, layers)
    pooled_dims = {"pooled": (1, 3, 4), "frames": (3, 4), "patches": ()}[level]
    return {
        layer: (values.mean(pooled_dims) if pooled_dims else values).float().cpu().numpy()
        for layer, values in maps.items()
    }


def fill(
    store: "Store",
    reading: Reading,
    encode: Callable[..., dict[str, np.ndarray]],
    *,
    todo: dict[int, list[str]],
    batch_size: int,
    num_workers: int,
    budget: float,
    progress: bool,
) -> None:
    """Encode the chunks of `todo` (number -> layers) and put them into the store, one after the other."""
    numbers = [number for chunk in todo for number in store.rows(chunk)]
    if len(numbers) < len(reading):
        logger.info(
            "features: %d of %d samples are in %s", len(reading) - len(numbers), len(reading), store.folder
        )
    loader: DataLoader[Read] = DataLoader(
        reading,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # the global one is not ours to draw from
    )
    num_short = 0
    try:
        with _progress(len(numbers), shown=progress) as advance:
            reads = advance(_alive(loader, reading.parts, numbers))
            for chunk, layers in todo.items():
                rows: dict[int, dict[str, np.ndarray]] = {}
                bad: dict[int, str] = {}
                # Batches never cross chunks, so that a chunk that is extracted again comes out the same.
                for own in _grouped(
                    islice(reads, len(store.rows(chunk))), size=-(-batch_size // len(reading.views))
                ):
                    rows |= _encoded(own, functools.partial(encode, layers=layers), batch_size=batch_size)
                    bad |= {read.number: read.reason for read in own if read.views is None}
                    num_short += sum(read.is_short for read in own)
                for number, reason in bad.items():
                    logger.warning("%s cannot be read and is left out: %s", reading.parts[number].path, reason)
                store.write(chunk, layers, rows, bad)
                check_budget(store.bad, reading.parts, budget=budget)
    except (KeyboardInterrupt, Stopped):
        logger.info("what was encoded is kept in %s; the same command goes on from there", store.folder)
        raise
    if num_short:
        what = "their last frame is repeated" if isinstance(reading.views, Views) else "silence follows them"
        logger.info("%d of %d samples are shorter than a clip: %s", num_short, len(numbers), what)


def _encoded(
    reads: list[Read], encode: Callable[[Tensor], dict[str, np.ndarray]], *, batch_size: int
) -> dict[int, dict[str, np.ndarray]]:
    """Encode the readable ones: number -> layer -> float32 (V, ...)."""
    readable = {read.number: read.views for read in reads if read.views is not None}
    if not readable:
        return {}
    pieces = [encode(clips) for clips in torch.cat(list(readable.values())).split(batch_size)]
    joined = {layer: np.concatenate([piece[layer] for piece in pieces]) for layer in pieces[0]}
    by_sample = {layer: np.split(values, len(readable)) for layer, values in joined.items()}
    return {
        number: {layer: values[place] for layer, values in by_sample.items()}
        for place, number in enumerate(readable)
    }


def _grouped(reads: Iterable[Read], *, size: int) -> Iterator[list[Read]]:
    iterator = iter(reads)
    while group := list(islice(iterator, size)):
        yield group


def _alive(loader: Iterable[Read], parts: list[Part], numbers: list[int]) -> Iterator[Read]:
    """Go through a loader; name the files that may have killed one of its processes."""
    num_done = 0
    try:
        for read in loader:
            num_done += 1
            yield read
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        suspects = "".join(f"  {parts[number].path}\n" for number in numbers[num_done : num_done + _MAX_LISTED])
        raise ValueError(
            f"a decoding process ended ({str(error).splitlines()[0]}). It was reading one of these files, or memory "
            f"ran out:\n{suspects}`vidssl data check` finds files that end the decoder; leave them out"
        ) from error


def _as_it_is(read: Any) -> Any:
    return read


def _one_thread(worker: int) -> None:
    leave_to_parent()
    torch.set_num_threads(1)  # a decoding process per core: more threads only fight over them


@contextmanager
def _progress(num_samples: int, *, shown: bool) -> Iterator[Callable[[Iterator[Read]], Iterator[Read]]]:
    """Show a bar with rate and time left; yields what counts the items of an iterator."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # The console of the log: two at once would write over each other.
    with Progress(*columns, console=rich.get_console(), disable=not shown) as bar:
        task = bar.add_task("features", total=num_samples, rate="")
        start = time.perf_counter()

        def advance(reads: Iterator[Read]) -> Iterator[Read]:
            for number, read in enumerate(reads, start=1):
                rate = number / (time.perf_counter() - start)
                bar.update(task, completed=number, rate=f"{rate:.1f} samples/s")
                check()
                yield read

        yield advance


def check_budget(bad: dict[int, str], parts: list[Part], *, budget: float) -> None:
    """Raise ValueError if more samples are unreadable than may be."""
    if len(bad) <= max(1, math.floor(budget * len(parts))):
        return
    shown = "".join(f"  {parts[number].path}: {reason}\n" for number, reason in list(bad.items())[:_MAX_LISTED])
    shown += "  ...\n" * (len(bad) > _MAX_LISTED)
    raise ValueError(
        f"{len(bad)} of {len(parts)} samples cannot be read, more than the share of {budget:g} that may be:\n{shown}"
        "Repair them or take them out of the list, or raise --bad-file-budget"
    )

"""The feature cache: one pass of an encoder over labelled files, kept on disk, read by every evaluator.

    features = extract(encoder, [*data.train, *data.test], views=Views(num_frames=8))["last"]

    CACHE/KEY/request.json     what was asked for: model, views, level, files with their sizes and times of change
    CACHE/KEY/LAYER.npy        float32, a row per sample, memory-mapped when read
    CACHE/KEY/journal.jsonl    a line per layer and chunk of samples that is on disk, with a checksum of its rows

KEY is a hash of request.json: another model, other options or a file that changed make another folder. Rows are
flushed to disk before the line that vouches for them, so a kill at any moment loses no more than a chunk; a chunk
whose rows or line do not agree with the checksum is extracted again.
"""

import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rich
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data.clips import padded, uniform_clips
from ..data.corpus import default_cache
from ..data.labelled import Item
from ..data.video import MediaError, open_audio, open_video
from ..files import replacing
from ..json_files import parse_json
from ..models.audio import LogMel
from ..models.encoder import Encoder
from ..stop import Stopped, check, leave_to_parent, stoppable
from .provenance import fingerprint, versions

Level = Literal["pooled", "frames", "patches"]

# Part of every key; raise it when what is read or how it is laid out changes.
_VERSION = 1
# Clips of a chunk: what a kill can lose, and what is flushed to disk at a time.
_CHUNK_CLIPS = 64
_MAX_LISTED = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Views:
    """Which pixels of a sample are looked at: clips x crops views, clip by clip.

    Clips divide the sample evenly, first and last included; a single one is the middle one. A sample that is shorter
    than a clip repeats its last frame. Frames are scaled (bilinear, aspect kept) and cut to a square.

    Args:
        num_clips: Of every sample.
        num_crops: 1, the middle square; or 3, that and both ends of the long side.
        num_frames: Of a clip; 1 for images.
        stride_frames: Frames of the file from one frame of a clip to the next.
        size_px: Height and width of the square.
        short_side_px: Height or width, whichever is smaller, that frames are scaled to; None is `size_px`.

    Raises:
        ValueError: A number is not positive, or the square does not fit.
    """

    num_clips: int = 1
    num_crops: int = 1
    num_frames: int = 8
    stride_frames: int = 4
    size_px: int = 224
    short_side_px: int | None = None

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops is {self.num_crops}, expected 1 (middle) or 3 (along the long side)")
        if self.scaled_px < self.size_px:
            raise ValueError(
                f"short_side_px is {self.short_side_px}, smaller than the square of {self.size_px} px cut from it"
            )

    @property
    def scaled_px(self) -> int:
        """Short side that frames are scaled to."""
        return self.size_px if self.short_side_px is None else self.short_side_px

    def __len__(self) -> int:
        return self.num_clips * self.num_crops


@dataclass(frozen=True)
class SoundViews:
    """Which sound of a sample is listened to. Shorter samples are followed by silence.

    Args:
        num_clips: Windows, which divide the sample evenly; a single one is the middle one.
        audio_seconds: Length of a window.
        sample_rate_hz: That sound is resampled to.
        from_video: The files are videos: time 0 is the first frame, not the first sample of sound.

    Raises:
        ValueError: A number is not positive.
    """

    num_clips: int = 1
    audio_seconds: float = 1.0
    sample_rate_hz: int = 16_000
    from_video: bool = False

    def __post_init__(self) -> None:
        _check_positive(self)

    def __len__(self) -> int:
        return self.num_clips


def _check_positive(views: Views | SoundViews) -> None:
    for name, value in dataclasses.asdict(views).items():
        if value is not None and not isinstance(value, bool) and not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


@dataclass(frozen=True)
class Features:
    """Features of samples, in the order of the items; unreadable files are left out.

    Args:
        values: float32, memory-mapped where that order is the one on disk. Pooled: (N, V, D), V views of each
            sample. Frames: (N, V, T', D). Patches: (N, V, T', D, h, w).
        label: Class of each sample, int64 (N,).
        source: Number of the recording, int64 (N,); equal numbers are parts of one.
        names: Of the samples, for people.
        class_names: Of the labels.
        items: The samples themselves.
        bad: (name, reason) of each sample that could not be read.
    """

    values: Tensor
    label: Tensor
    source: Tensor
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    items: tuple[Item, ...] = ()
    bad: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Sequence[int]) -> "Features":
        """Return some samples, in the order given."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        return dataclasses.replace(
            self,
            values=self.values if rows == range(len(self)) else self.values[index],
            label=self.label[index],
            source=self.source[index],
            names=tuple(self.names[row] for row in rows),
            items=tuple(self.items[row] for row in rows) if self.items else (),
        )


@dataclass(frozen=True, order=True)
class _Part:
    """A file, or a part of it: what features depend on. Labels do not matter."""

    path: str
    start: float  # seconds
    end: float  # seconds; infinity for the end of the file

    @classmethod
    def of(cls, item: Item) -> "_Part":
        end = math.inf if item.end_seconds is None else item.end_seconds
        return cls(os.fspath(item.path), item.start_seconds or 0.0, end)


def default_feature_cache() -> Path:
    """Return the folder for features: `$XDG_CACHE_HOME/vidssl/features` or `~/.cache/vidssl/features`."""
    return default_cache() / "features"


@stoppable
def extract(
    encoder: nn.Module,
    items: Sequence[Item],
    *,
    views: Views | SoundViews,
    class_names: Sequence[str] = (),
    layers: Sequence[str] = ("last",),
    level: Level = "pooled",
    cache: Path | None = None,
    batch_size: int = 16,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    bad_file_budget: float = 0.01,
    progress: bool = False,
) -> dict[str, Features]:
    """Encode samples, or take from the cache what was encoded before.

    Every different part of a file is encoded once, whatever its labels and however often it is asked for. The order
    of the items does not matter for the cache.

    Args:
        encoder: In eval mode: an `Encoder` with `Views`, an `AudioEncoder` with `SoundViews`.
        items: Samples, of any splits; recordings are numbered over all of them.
        views: What of each sample is encoded.
        class_names: Of the labels.
        layers: Names of `encoder.layer_names`, all encoded in one pass.
        level: "pooled" takes the mean over frames and cells, "frames" over cells, "patches" keeps them.
        cache: Folder; None is `default_feature_cache()`.
        batch_size: Clips encoded at a time.
        num_workers: Decoding processes; 0 decodes in this one.
        device: Where the encoder runs; it is moved there.
        bad_file_budget: Share of the samples that may be unreadable (one always may).
        progress: Show a progress bar on stderr.

    Returns:
        Layer -> features.

    Raises:
        ValueError: No items; too many files are unreadable; the encoder lacks a layer, or frames do not fit it.
        Stopped: A signal arrived; what was encoded is kept.
    """
    if not items:
        raise ValueError("there are no samples to extract features of")
    device = torch.device(device)
    _check_fit(encoder, views, layers=layers, level=level)
    parts = sorted({_Part.of(item) for item in items})
    request = _request(encoder, parts, views=views, level=level, device=device)
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    folder = (cache or default_feature_cache()) / key
    chunk_size = max(1, _CHUNK_CLIPS // len(views))
    with _locked(folder):
        store = _Store(folder, num_rows=len(parts), chunk_size=chunk_size)
        store.begin(request)
        todo = store.missing(layers)
        _check_budget(store.bad, parts, budget=bad_file_budget)
        if todo:
            encode = functools.partial(_encode, encoder.to(device), level=level, device=device)
            pictures = _Reading(parts, views)
            _fill(store, pictures, encode, todo=todo, batch_size=batch_size, num_workers=num_workers,
                  budget=bad_file_budget, progress=progress)  # fmt: skip
        return {layer: _features(store, layer, parts, items, class_names) for layer in layers}


def clip_times(
    duration_seconds: float, fps: float, *, num_clips: int, num_frames: int, stride_frames: int
) -> tuple[Tensor, bool]:
    """Times of clips that divide a video evenly; frames past its end are its last frame.

    Returns:
        float64 (num_clips, num_frames), seconds; and whether the video is shorter than a clip.
    """
    sampler = functools.partial(
        uniform_clips, num_clips=num_clips, num_frames=num_frames, stride_frames=stride_frames
    )
    span = (num_frames - 1) * stride_frames + 1
    return padded(sampler, duration_seconds, fps, torch.Generator(), span_frames=span)


class Thumbnails(Encoder):
    """Raw pixels as features: the grey values of each frame, averaged in 8 x 8 cells. The baseline of no learning."""

    def __init__(self, *, cells: int = 8) -> None:
        super().__init__(dim=cells**2, stride=1, architecture={"family": "thumbnails", "cells": cells})
        self.cells = cells

    def features(self, clip: Tensor) -> Tensor:
        """Shrink every frame: (B, T, 3, H, W) in [0, 1] -> (B, T, cells**2, 1, 1)."""
        weights = torch.tensor([0.299, 0.587, 0.114], device=clip.device)  # luma of ITU-R BT.601
        grey = torch.einsum("btchw,c->bthw", clip, weights)
        return F.adaptive_avg_pool2d(grey, self.cells).flatten(2)[..., None, None]


class LogMelStatistics(nn.Module):
    """Raw sound as features: mean and deviation over time of each log-mel band. The baseline of no learning."""

    def __init__(self, *, sample_rate_hz: int = 16_000) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate_hz=sample_rate_hz)
        self.dim = 80
        self.architecture = {"family": "log_mel_statistics", "sample_rate_hz": sample_rate_hz}

    def forward(self, waveform: Tensor) -> Tensor:
        """Describe (B, S) in [-1, 1] by (B, 80)."""
        energies = self.log_mel(waveform).squeeze(1)  # (B, mels, frames)
        return torch.cat([energies.mean(2), energies.std(2)], dim=1)


def _check_fit(encoder: nn.Module, views: Views | SoundViews, *, layers: Sequence[str], level: str) -> None:
    """Raise ValueError for what would fail after the first file was decoded."""
    if isinstance(encoder, Encoder) != isinstance(views, Views):
        raise ValueError(f"a {type(encoder).__name__} cannot encode {type(views).__name__}")
    if isinstance(encoder, Encoder) and isinstance(views, Views):
        encoder.check_layers(layers)
        if views.size_px % encoder.multiple:
            below = views.size_px - views.size_px % encoder.multiple
            near = " or ".join(str(size) for size in (below, below + encoder.multiple) if size)
            raise ValueError(
                f"frames of {views.size_px} px do not divide into the patches of {encoder.multiple} px of this "
                f"{type(encoder).__name__}; size_px must be a multiple, such as {near}"
            )
    elif tuple(layers) != ("last",) or level != "pooled":
        raise ValueError(f"encoders of sound give the layer last, pooled; asked for {', '.join(layers)}, {level}")


def _request(
    encoder: nn.Module, parts: list[_Part], *, views: Views | SoundViews, level: str, device: torch.device
) -> dict[str, Any]:
    """Everything that features depend on, as JSON values."""
    stamps = {path: _stamp(Path(path)) for path in {part.path for part in parts}}
    return {
        "version": _VERSION,
        "model": model_fingerprint(encoder),
        "views": {"of": type(views).__name__, **dataclasses.asdict(views)},
        "level": level,
        "device": device.type,
        "versions": {name: versions()[name] for name in ("vidssl", "torch")},
        "samples": [
            [part.path, *stamps[part.path], part.start, None if math.isinf(part.end) else part.end]
            for part in parts
        ],
    }


def model_fingerprint(encoder: nn.Module) -> str:
    """SHA-256 over architecture and weights of an encoder of pictures or of sound."""
    if isinstance(encoder, Encoder):
        return fingerprint(encoder)
    digest = hashlib.sha256(json.dumps(encoder.architecture, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _stamp(path: Path) -> list[int]:
    """Size and time of change of a file, or of the images in a folder; -1 if it cannot be found."""
    try:
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        states = [file.stat() for file in files]
    except OSError:
        return [-1, -1]
    return [sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Read:
    """What was read of a part.

    Args:
        number: Of the part.
        views: uint8 (V, T, 3, H, W) or float32 (V, S); None if it cannot be read.
        reason: Why not.
        is_short: Whether it is shorter than a clip.
    """

    number: int
    views: Tensor | None
    reason: str = ""
    is_short: bool = False


class _Reading(Dataset[_Read]):
    """Parts of files by number, decoded when they are asked for, in whichever process asks."""

    def __init__(self, parts: list[_Part], views: Views | SoundViews) -> None:
        self.parts = parts
        self.views = views

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> _Read:
        part = self.parts[number]
        try:
            if isinstance(self.views, Views):
                tensor, is_short = _pictures(part, self.views)
            else:
                tensor, is_short = _sound(part, self.views)
        except MediaError as error:
            return _Read(number, None, error.reason)
        return _Read(number, tensor, is_short=is_short)


def _pictures(part: _Part, views: Views) -> tuple[Tensor, bool]:
    """Decode the views of a part, uint8 (V, T, 3, H, W)."""
    with open_video(part.path) as reader:
        _duration(part, reader.info.duration_seconds)  # raises where nothing is left
        times, is_short = clip_times(
            reader.info.length(start_seconds=part.start, end_seconds=part.end),
            reader.info.fps,
            num_clips=views.num_clips,
            num_frames=views.num_frames,
            stride_frames=views.stride_frames,
        )
        wanted = (times + part.start).flatten().tolist()
        frames = reader.frames(wanted, short_side=views.scaled_px).video.unflatten(0, times.shape)
    height, width = frames.shape[-2:]
    free = (height - views.size_px, width - views.size_px)  # px
    middle = (free[0] // 2, free[1] // 2)
    places = [middle]
    if views.num_crops == 3:
        ends = [(0, middle[1]), (free[0], middle[1])] if height > width else [(middle[0], 0), (middle[0], free[1])]
        places = [ends[0], middle, ends[1]]
    size = views.size_px
    crops = [frames[..., top : top + size, left : left + size] for top, left in places]
    return torch.stack(crops, dim=1).flatten(0, 1), is_short  # clip by clip


def _sound(part: _Part, views: SoundViews) -> tuple[Tensor, bool]:
    """Decode the windows of a part, float32 (V, S)."""
    rate = views.sample_rate_hz
    if views.from_video:
        with open_video(part.path) as reader:
            duration = _duration(part, reader.info.duration_seconds)
            read = functools.partial(reader.audio, sample_rate_hz=rate)
            return _windows(part.start, duration, read, views=views)
    with open_audio(part.path) as sound:
        whole = sound.measure_seconds() if math.isinf(part.end) else part.end
        duration = _duration(part, whole)
        return _windows(part.start, duration, functools.partial(sound.read, sample_rate_hz=rate), views=views)


def _windows(
    start_seconds: float, duration: float, read: Callable[[float, float], Tensor], *, views: SoundViews
) -> tuple[Tensor, bool]:
    free = max(0.0, duration - views.audio_seconds)
    offsets = [free / 2] if views.num_clips == 1 else np.linspace(0, free, views.num_clips).tolist()
    # What comes after the part belongs to something else.
    length = min(duration, views.audio_seconds)
    windows = torch.stack([read(start_seconds + offset, length) for offset in offsets])
    num_samples = round(views.audio_seconds * views.sample_rate_hz)
    return F.pad(windows, (0, num_samples - windows.shape[1])), duration < views.audio_seconds


def _duration(part: _Part, whole_seconds: float) -> float:
    """Length of a part of a file that lasts `whole_seconds`."""
    duration = min(part.end, whole_seconds) - part.start
    if duration <= 0:
        raise MediaError(part.path, f"lasts {whole_seconds:.3f} s, so nothing is left from {part.start:g} s on")
    return duration


# ---------------------------------------------------------------- encoding


@torch.inference_mode()
def _encode(
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


def _fill(
    store: "_Store",
    reading: _Reading,
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
    loader: DataLoader[_Read] = DataLoader(
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
                _check_budget(store.bad, reading.parts, budget=budget)
    except (KeyboardInterrupt, Stopped):
        logger.info("what was encoded is kept in %s; the same command goes on from there", store.folder)
        raise
    if num_short:
        what = "their last frame is repeated" if isinstance(reading.views, Views) else "silence follows them"
        logger.info("%d of %d samples are shorter than a clip: %s", num_short, len(numbers), what)


def _encoded(
    reads: list[_Read], encode: Callable[[Tensor], dict[str, np.ndarray]], *, batch_size: int
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


def _grouped(reads: Iterable[_Read], *, size: int) -> Iterator[list[_Read]]:
    iterator = iter(reads)
    while group := list(islice(iterator, size)):
        yield group


def _alive(loader: Iterable[_Read], parts: list[_Part], numbers: list[int]) -> Iterator[_Read]:
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
def _progress(num_samples: int, *, shown: bool) -> Iterator[Callable[[Iterator[_Read]], Iterator[_Read]]]:
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

        def advance(reads: Iterator[_Read]) -> Iterator[_Read]:
            for number, read in enumerate(reads, start=1):
                rate = number / (time.perf_counter() - start)
                bar.update(task, completed=number, rate=f"{rate:.1f} samples/s")
                check()
                yield read

        yield advance


def _check_budget(bad: dict[int, str], parts: list[_Part], *, budget: float) -> None:
    """Raise ValueError if more samples are unreadable than may be."""
    if len(bad) <= max(1, math.floor(budget * len(parts))):
        return
    shown = "".join(f"  {parts[number].path}: {reason}\n" for number, reason in list(bad.items())[:_MAX_LISTED])
    shown += "  ...\n" * (len(bad) > _MAX_LISTED)
    raise ValueError(
        f"{len(bad)} of {len(parts)} samples cannot be read, more than the share of {budget:g} that may be:\n{shown}"
        "Repair them or take them out of the list, or raise --bad-file-budget"
    )


def _features(
    store: "_Store", layer: str, parts: list[_Part], items: Sequence[Item], class_names: Sequence[str]
) -> Features:
    """Put what is stored into the order of the items."""
    row_of = {part: row for row, part in enumerate(parts)}
    every = [row_of[_Part.of(item)] for item in items]
    kept = [(row, item) for row, item in zip(every, items, strict=True) if row not in store.bad]
    if not kept:
        raise ValueError(f"none of the samples can be read; the first: {parts[0].path}: {store.bad[0]}")
    rows, own = [row for row, _ in kept], tuple(item for _, item in kept)
    values = store.values(layer)
    base = Path(os.path.commonpath([part.path for part in parts]))
    base = base if len({part.path for part in parts}) > 1 else base.parent
    return Features(
        values=values if rows == list(range(len(parts))) else values[torch.tensor(rows)],
        label=torch.tensor([item.label for item in own]),
        source=torch.tensor(source_numbers(own)),
        names=tuple(_name(item, base) for item in own),
        class_names=tuple(class_names),
        items=own,
        bad=tuple(
            (_name(items[place], base), store.bad[row]) for place, row in enumerate(every) if row in store.bad
        ),
    )


def source_numbers(items: Sequence[Item]) -> list[int]:
    """Number the recordings that samples were cut from; a sample without one is its own."""
    numbers: dict[str | _Part, int] = {}
    return [numbers.setdefault(item.source or _Part.of(item), len(numbers)) for item in items]


def data_fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 over samples: files with sizes and times of change, parts, labels, recordings, in their order."""
    stamps = {path: _stamp(path) for path in {item.path for item in items}}
    rows = [
        [str(item.path), *stamps[item.path], item.label, item.source, item.start_seconds, item.end_seconds]
        for item in items
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _name(item: Item, base: Path) -> str:
    name = item.path.relative_to(base).as_posix()
    if item.start_seconds is None and item.end_seconds is None:
        return name
    end = "end" if item.end_seconds is None else f"{item.end_seconds:g}"
    return f"{name} [{item.start_seconds or 0:g}-{end} s]"


# ---------------------------------------------------------------- what lies on disk


class _Store:
    """Rows of the layers of one request, chunk by chunk.

    Args:
        folder: CACHE/KEY.
        num_rows: Samples.
        chunk_size: Samples of a chunk.

    Attributes:
        bad: Number -> reason of the samples that could not be read, of the chunks that were looked at.
    """

    def __init__(self, folder: Path, *, num_rows: int, chunk_size: int) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self.chunk_size = chunk_size
        self.bad: dict[int, str] = {}
        self._row_shapes: dict[str, tuple[int, ...]] = {}

    def begin(self, request: dict[str, Any]) -> None:
        """Write down what was asked for, unless that is done."""
        path = self.folder / "request.json"
        text = json.dumps(request, sort_keys=True)
        if not path.is_file() or path.read_bytes() != text.encode():
            with replacing(path) as temporary:
                temporary.write_text(text)

    def rows(self, chunk: int) -> range:
        """Numbers of the samples of a chunk."""
        return range(chunk * self.chunk_size, min((chunk + 1) * self.chunk_size, self.num_rows))

    def missing(self, layers: Sequence[str]) -> dict[int, list[str]]:
        """Check everything there is: chunk -> those of `layers` that are absent or damaged."""
        records = self._journal()
        todo: dict[int, list[str]] = {}
        for layer in layers:
            of_layer = {chunk: record for (chunk, name), record in records.items() if name == layer}
            for record in of_layer.values():
                if record["shape"] is not None:
                    self._prepare(layer, tuple(record["shape"]))
            damaged = [chunk for chunk, record in sorted(of_layer.items()) if not self._is_sound(record)]
            if damaged:
                logger.warning(
                    "features: %d of %d chunks of the layer %s in %s are damaged and extracted again: %s",
                    len(damaged), len(of_layer), layer, self.folder, ", ".join(map(str, damaged[:_MAX_LISTED])),
                )  # fmt: skip
            for chunk in range(-(-self.num_rows // self.chunk_size)):
                if chunk not in of_layer or chunk in damaged:
                    todo.setdefault(chunk, []).append(layer)
                else:
                    self.bad |= dict(of_layer[chunk]["bad"])
        return dict(sorted(todo.items()))

    def write(
        self, chunk: int, layers: Sequence[str], rows: dict[int, dict[str, np.ndarray]], bad: dict[int, str]
    ) -> None:
        """Put a chunk on disk: rows first, then the line that vouches for them."""
        lines = []
        for layer in layers:
            shape = next((row[layer].shape for row in rows.values()), None)
            if shape is not None:
                self._prepare(layer, shape)
            data = b""
            if layer in self._row_shapes:
                empty = np.zeros(self._row_shapes[layer], dtype=np.float32)
                block = [rows[number][layer] if number in rows else empty for number in self.rows(chunk)]
                data = np.stack(block).astype("<f4").tobytes()
                with self._path(layer).open("r+b") as file:
                    file.seek(self._offset(layer, chunk))
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            record = {
                "chunk": chunk,
                "layer": layer,
                "shape": list(self._row_shapes[layer]) if data else None,
                "bad": sorted([number, reason] for number, reason in bad.items()),
                "data": _digest(data),
            }
            lines.append(_line(record))
        self.bad |= bad
        with (self.folder / "journal.jsonl").open("ab") as journal:
            journal.write(b"".join(lines))
            journal.flush()
            os.fsync(journal.fileno())
        _flush_folder(self.folder)

    def values(self, layer: str) -> Tensor:
        """All rows of a layer, memory-mapped; writing to the tensor does not change the file."""
        return torch.from_numpy(np.load(self._path(layer), mmap_mode="c"))

    def _journal(self) -> dict[tuple[int, str], dict[str, Any]]:
        """Last line of each chunk and layer; lines that a kill tore or that were damaged are removed."""
        path = self.folder / "journal.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        records = {line: _record(line) for line in lines}
        sound = {line: record for line, record in records.items() if record is not None}
        if len(sound) < len(records):
            logger.warning(
                "features: %d lines of %s are torn or damaged; what they vouched for is extracted again",
                len(records) - len(sound),
                path,
            )
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(sound))
        return {(record["chunk"], record["layer"]): record for record in sound.values()}

    def _is_sound(self, record: dict[str, Any]) -> bool:
        """Whether the rows of a chunk are as they were written."""
        data = b""
        if record["shape"] is not None:
            layer, rows = record["layer"], self.rows(record["chunk"])
            with self._path(layer).open("rb") as file:
                file.seek(self._offset(layer, record["chunk"]))
                data = file.read(len(rows) * self._row_bytes(layer))
        return _digest(data) == record["data"]

    def _prepare(self, layer: str, row_shape: tuple[int, ...]) -> None:
        """Make the file of a layer whole in header and size; its rows may be anything."""
        known = self._row_shapes.setdefault(layer, row_shape)
        if known != row_shape:
            raise ValueError(f"layer {layer} has the shape {row_shape} for some samples and {known} for others")
        path, header = self._path(layer), self._header(layer)
        size = len(header) + self.num_rows * self._row_bytes(layer)
        if path.is_file() and path.stat().st_size == size:
            with path.open("rb") as file:
                if file.read(len(header)) == header:
                    return
        with path.open("r+b" if path.is_file() else "w+b") as file:
            file.write(header)
            file.truncate(size)
            file.flush()
            os.fsync(file.fileno())
        _flush_folder(self.folder)

    def _path(self, layer: str) -> Path:
        return self.folder / f"{layer}.npy"

    def _header(self, layer: str) -> bytes:
        buffer = io.BytesIO()
        shape = (self.num_rows, *self._row_shapes[layer])
        description = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    def _row_bytes(self, layer: str) -> int:
        return 4 * math.prod(self._row_shapes[layer])

    def _offset(self, layer: str, chunk: int) -> int:
        return len(self._header(layer)) + self.rows(chunk).start * self._row_bytes(layer)


def _line(record: dict[str, Any]) -> bytes:
    """A line of the journal: a checksum, then the record."""
    text = json.dumps(record, sort_keys=True).encode()
    return _digest(text).encode() + b" " + text + b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line of the journal says; None if it is not as it was written."""
    digest, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or digest != _digest(text).encode():
        return None
    return parse_json(text, where="the journal of features")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder: two that extract the same would write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("features: another process extracts into %s; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough while decoding processes hold a copy

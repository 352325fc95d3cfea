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
import functools
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....data.corpus.cache import default_cache
from ....data.published.labelled import Item
from ....models.audio import LogMel
from ....models.encoder import Encoder
from ....models.weights import check_finite
from ....stop import stoppable
from ...provenance import fingerprint, versions
from .cache import Store, locked_folder
from .encoding import check_budget, encode_clips, fill
from .views import Part, Reading, SoundViews, Views

Level = Literal["pooled", "frames", "patches"]

# Part of every key; raise it when what is read or how it is laid out changes.
_VERSION = 1
# Clips of a chunk: what a kill can lose, and what is flushed to disk at a time.
_CHUNK_CLIPS = 64


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
    parts = sorted({Part.of(item) for item in items})
    request = _request(encoder, parts, views=views, level=level, device=device)
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    folder = (cache or default_feature_cache()) / key
    chunk_size = max(1, _CHUNK_CLIPS // len(views))
    with locked_folder(folder):
        store = Store(folder, num_rows=len(parts), chunk_size=chunk_size)
        store.begin(request)
        todo = store.missing(layers)
        check_budget(store.bad, parts, budget=bad_file_budget)
        if todo:
            encode = functools.partial(encode_clips, encoder.to(device), level=level, device=device)
            pictures = Reading(parts, views)
            fill(store, pictures, encode, todo=todo, batch_size=batch_size, num_workers=num_workers,
                  budget=bad_file_budget, progress=progress)  # fmt: skip
        return {layer: _features(store, layer, parts, items, class_names) for layer in layers}


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
    encoder: nn.Module, parts: list[Part], *, views: Views | SoundViews, level: str, device: torch.device
) -> dict[str, Any]:
    """Everything that features depend on, as JSON values."""
    stamps = {path: stamp_of(Path(path)) for path in {part.path for part in parts}}
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
    """SHA-256 over architecture and weights of an encoder of pictures or of sound.

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    if isinstance(encoder, Encoder):
        return fingerprint(encoder)
    check_finite(encoder, what=f"the encoder ({type(encoder).__name__})")
    digest = hashlib.sha256(json.dumps(encoder.architecture, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stamp_of(path: Path) -> list[int]:
    """Size and time of change of a file, or of the images in a folder; -1 if it cannot be found."""
    try:
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        states = [file.stat() for file in files]
    except OSError:
        return [-1, -1]
    return [sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]


def _features(
    store: "Store", layer: str, parts: list[Part], items: Sequence[Item], class_names: Sequence[str]
) -> Features:
    """Put what is stored into the order of the items."""
    row_of = {part: row for row, part in enumerate(parts)}
    every = [row_of[Part.of(item)] for item in items]
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
    numbers: dict[str | Part, int] = {}
    return [numbers.setdefault(item.source or Part.of(item), len(numbers)) for item in items]


def data_fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 over samples: files with sizes and times of change, parts, labels, recordings, in their order."""
    stamps = {path: stamp_of(path) for path in {item.path for item in items}}
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

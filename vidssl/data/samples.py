"""Samples: what a dataset is to a loader. Whatever keeps to it, whoever wrote it, fills batches.

class Lines(Samples):
    layout = Layout(text=(1, 16))

    def __init__(self, path):
        self.path, self.lines = path, path.read_text().splitlines()

    def __len__(self):
        return len(self.lines)

    def name(self, index):
        return f"{self.path}, line {index + 1}"

    def sample(self, key, *, out=None, note=None):
        seed, position = key
        index = position % len(self)
        return Sample(index=index, seed=seed or 0, text=self.tokens(self.lines[index]))
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..batch import FIELDS
from .corpus.entry import Entry

# What of a sample lies in the memory of its batch, in that order: nothing begins in the middle of a number.
CONTENT = ("text", "text_time", "part", "points", "audio", "video")


def sample_seed(*numbers: int) -> int:
    """Mix whole numbers (run seed, epoch, index, ...) into one seed in [0, 2**63).

    A cryptographic hash, because seeds that differ by one must not give related draws.
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Sample:
    """One item of a batch; types and shapes as in `Batch` without B.

    Args:
        index: Number in the dataset.
        seed: What it was drawn from.
        video: With `time`, or neither.
        label: -1 is none.
        source_id: None is a source for each sample.
        bad: Files that it replaces: (path, reason).
        aspect: Of the picture that its frames show, if they are stretched.
    """

    index: int
    seed: int
    video: Tensor | None = None
    time: Tensor | None = None
    audio: Tensor | None = None
    label: int = -1
    source_id: int | None = None
    bad: tuple[tuple[str, str], ...] = ()
    text: Tensor | None = None
    text_time: Tensor | None = None
    points: Tensor | None = None
    part: Tensor | None = None
    aspect: float | None = None


class Entries(Sequence[Entry]):
    """Entries of files, packed into two pieces of memory and unpacked one by one.

    Python objects are written to whenever they are looked at, because their references are counted: forked processes
    that read a corpus of objects copy it page by page, each for itself, 100 MB for 100,000 files.
    """

    _NAMES = tuple(
        field.name for field in dataclasses.fields(Entry) if field.name not in ("path", "index", "member", "parts")
    )

    def __init__(self, entries: Sequence[Entry]) -> None:
        packed, ends = bytearray(), [0]
        for entry in entries:
            values = [os.fspath(entry.path), *(getattr(entry, name) for name in self._NAMES), entry.parts]
            packed += json.dumps(values).encode() + b"\n" + entry.index
            ends.append(len(packed))
        self._bytes, self._ends = np.frombuffer(packed, np.uint8), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> Entry:  # type: ignore[override]
        number = range(len(self))[number]
        packed, _, index = self._bytes[self._ends[number] : self._ends[number + 1]].tobytes().partition(b"\n")
        path, *values, parts = json.loads(packed)
        fields = dict(zip(self._NAMES, values, strict=True))
        return Entry(Path(path), **fields, index=index, parts=tuple(map(tuple, parts)))


@dataclass(frozen=True)
class Layout:
    """What every sample of a dataset takes in memory, known before one is read; types and shapes as in `Sample`.

    Args:
        video: (K, T, C, H, W); None without pictures, as everything here.
        audio: (K, S).
        pixels_last: Whether the video lies in memory as (K, T, H, W, C), which is how decoders write frames.
        text: (S, L).
        text_time: (S, 2).
        points: (N, 3).
        part: (N,).
    """

    video: tuple[int, ...] | None = None
    audio: tuple[int, ...] | None = None
    pixels_last: bool = False
    text: tuple[int, ...] | None = None
    text_time: tuple[int, ...] | None = None
    points: tuple[int, ...] | None = None
    part: tuple[int, ...] | None = None

    def _num_bytes(self) -> dict[str, int]:
        """Of each field of a sample, in the order in which they lie in memory: the widest numbers first."""
        shapes = {name: shape for name in CONTENT if (shape := getattr(self, name)) is not None}
        return {name: FIELDS[name][0].itemsize * math.prod(shape) for name, shape in shapes.items()}

    @property
    def num_bytes(self) -> int:
        """Of a sample."""
        return sum(self._num_bytes().values())

    def cut(self, memory: Any, num_samples: int) -> dict[str, Any]:
        """The stretch of `memory`, bytes (N,), that belongs to each field of so many samples."""
        stretches, start = {}, 0
        for name, num_bytes in self._num_bytes().items():
            stretches[name] = memory[start : start + num_samples * num_bytes]
            start += num_samples * num_bytes
        return stretches

    def split(self, memory: Tensor, num_samples: int) -> dict[str, Tensor]:
        """Views of the first bytes of `memory`, uint8 (N,), by name: (B, ...)."""
        return self.shaped(self.cut(memory, num_samples), num_samples)

    def shaped(self, stretches: Mapping[str, Tensor], num_samples: int) -> dict[str, Tensor]:
        """Bytes of each field, uint8 (N,), as what `Batch` holds: (B, ...)."""
        return {name: self._shaped(name, stretch, num_samples) for name, stretch in stretches.items()}

    def _shaped(self, name: str, stretch: Tensor, num_samples: int) -> Tensor:
        if name != "video" or not self.pixels_last:
            return stretch.view(FIELDS[name][0]).view(num_samples, *getattr(self, name))
        assert self.video is not None
        clips, frames, channels, height, width = self.video
        video = stretch.view(num_samples, clips, frames, height, width, channels)
        return rearrange(video, "b k t h w c -> b k t c h w")


@runtime_checkable
class Samples(Protocol):
    """A dataset, as `VideoDataset` and `ArrayDataset` are: what a `Loader` asks of it, and no more.

    Samples are numbered from 0. Each is a pure function of (seed, index): so any process may read it, and a run that
    was stopped goes on with the same bits. A dataset travels to the processes that read: it can be pickled.
    """

    if TYPE_CHECKING:

        @property
        def layout(self) -> Layout:
            """What every sample holds: the shape of each field, without B. All samples of a dataset have one shape.

            Fields that it does not name are absent from every sample and from the batch. Shorter text is padded with
            0, and fewer points are drawn again, by the dataset. `index`, `seed`, `label` (-1 is none) and `source_id`
            are in every batch and are not named here, nor is `time`, which comes with `video`.
            """
    else:
        layout: Layout  # a property would forbid a dataset to set it

    def __len__(self) -> int:
        """Number of samples, at least 1."""

    def name(self, index: int) -> str:
        """What people call a sample: its file; for messages."""

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read one sample.

        Args:
            key: (seed, position). `position % len` is the index; a position beyond the samples is one of them again.
                Every draw comes from the seed, an int64 >= 0; None is the sample without any draw.
            out: Memory of the batch in which the video is wanted, uint8 (K, T, C, H, W), whatever its strides; None
                without a video, or outside of a loader. Writing there saves a copy, that is all.
            note: To be told the index before a file is opened, so that one that hangs or crashes is known by name.

        Returns:
            The sample; types and shapes as in `Batch`, without B. Equal `source_id` are parts of one recording.

        Raises:
            ValueError: It cannot be read, nor can others in its place; in words for people, with the file's name.
        """

    def blame(self, index: int, reason: str) -> None:
        """Read another sample in the place of this one from now on: twice, reading it ended the process or hung.

        Raises:
            RuntimeError: No other can stand in for it; so it is where a dataset says nothing else.
        """
        raise RuntimeError(f"{self.name(index)} cannot be read: {reason}")


def store(sample: Sample, memory: Mapping[str, Tensor], place: int, *, dataset: Samples) -> None:
    """Write what a sample holds to its place in a batch.

    Args:
        sample: What `dataset` gave.
        memory: Name -> (B, ...), as the dataset's `layout` says.
        place: In the batch.
        dataset: For its name in messages.

    Raises:
        ValueError: The sample holds something else than its dataset announced.
    """
    for field in CONTENT:
        value, into = getattr(sample, field), memory.get(field)
        if value is into is None:
            continue
        if value is None or into is None or (value.dtype, value.shape) != (into.dtype, into.shape[1:]):
            raise ValueError(
                f"{dataset.name(sample.index)} gives {field}: {_told(value)}, and its dataset announces "
                f"{_told(None if into is None else into[0])} (layout.{field}); all samples of a dataset hold the same, "
                "in one type and shape: pad or cut it"
            )
        if value.data_ptr() != into[place].data_ptr():  # a decoder has written it there
            into[place].copy_(value)
    expected = None if sample.video is None else (torch.float64, sample.video.shape[:2])
    if expected != (None if sample.time is None else (sample.time.dtype, sample.time.shape)):
        wanted = "none, as there is no video" if expected is None else f"{expected[0]} of {tuple(expected[1])}"
        raise ValueError(
            f"{dataset.name(sample.index)} gives time: {_told(sample.time)}, expected {wanted} (layout.video): the "
            "time of each frame in seconds"
        )


def _told(value: Tensor | None) -> str:
    return "none" if value is None else f"{value.dtype} of {tuple(value.shape)}"

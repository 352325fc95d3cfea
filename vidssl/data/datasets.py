"""Samples of a corpus: decoded clips, sound and labels, each a pure function of (seed, epoch, index)."""

import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from ..batch import FIELDS
from . import _vanished
from ._reader import scaled_size
from ._times import Length
from .clips import ClipSampler, still
from .corpus import Corpus, Entry
from .shards import ShardEntries
from .video import Backend, MediaError, Reader, VideoInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What of a sample lies in the memory of its batch, in that order: nothing begins in the middle of a number.
CONTENT = ("text", "text_time", "part", "points", "audio", "video")

# Files tried in place of an unreadable one before the whole corpus is blamed.
MAX_REPLACEMENTS = 10

# Samples of shards that are left out and named; of a hundred million, a few percent would fill memory and log.
MAX_NAMED = 1000


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


class VideoDataset(Dataset[Sample]):
    """Clips of the videos of a corpus.

    Frames are scaled by the decoder so that the short side is `size_px`, then cut to a square of that size: at a
    random place along the long side in training, in the middle otherwise; the place is the same for all frames of
    a sample. Indices count the entries of the corpus that are long enough (and have sound that is not
    silent, where it is asked for); those left out are logged by name.

    An unreadable file is replaced by another one, chosen by the seed alone, and named in `Sample.bad`.

    Args:
        corpus: Files to read.
        clips: Which frames (vidssl.data.clips), usually `method.clips`.
        size_px: Height and width of the frames.
        audio_seconds: Length of the mono sound that starts with each clip; None for no sound.
        sample_rate_hz: Of that sound.
        backend: Decoder.

    Raises:
        ValueError: No video of the corpus fits.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        clips: ClipSampler,
        size_px: int = 256,
        audio_seconds: float | None = None,
        sample_rate_hz: int = 16_000,
        backend: Backend = "pyav",
    ) -> None:
        self.clips = clips
        self.size_px = size_px
        self.audio_seconds = audio_seconds
        self.sample_rate_hz = sample_rate_hz
        self.backend = backend
        self.corpus = corpus
        self.blamed: dict[int, str] = {}
        self.left_out, self.entries = self._sorted_out(corpus.entries)
        for entry, why in self.left_out:
            logging.getLogger(__name__).warning("%s is left out: %s", entry.path, why)
        if not self.entries:
            reasons = [*((entry.path, why) for entry, why in self.left_out), *corpus.bad]
            examples = "\n".join(f"  {path}: {why}" for path, why in reasons[:5])
            raise ValueError(f"none of the {len(reasons)} videos of {corpus.root} can be used:\n{examples}")

    def _sorted_out(self, entries: Sequence[Entry]) -> tuple[list[tuple[Entry, str]], Sequence[Entry]]:
        """Entries that cannot be used, each with the reason, and those that can."""
        if isinstance(entries, ShardEntries):
            return self._sorted_out_by_kind(entries)
        reasons = [self._why_not(entry) for entry in entries]
        left_out = [(entry, why) for entry, why in zip(entries, reasons, strict=True) if why]
        fit = [entry for entry, why in zip(entries, reasons, strict=True) if not why]
        return left_out, fit if any(entry.member for entry in fit) else Entries(fit)

    def _sorted_out_by_kind(self, entries: ShardEntries) -> tuple[list[tuple[Entry, str]], Sequence[Entry]]:
        """The same for a corpus that is too large to look at each entry: one of each kind decides."""
        fits = np.ones(len(entries), dtype=bool)
        left_out: list[tuple[Entry, str]] = []
        for alike in entries.alike():
            if why := self._why_not(entries[int(alike[0])]):
                fits[alike] = False
                left_out += [(entries[int(one)], why) for one in alike[: max(0, MAX_NAMED - len(left_out))]]
        num_left_out = len(entries) - int(fits.sum())
        if num_left_out > len(left_out):
            logging.getLogger(__name__).warning("%d entries are left out; some are named here", num_left_out)
        return left_out, entries.kept(np.flatnonzero(fits)) if num_left_out else entries

    def _why_not(self, entry: Entry) -> str | None:
        """Why an entry cannot be used, None if it can."""
        if self.audio_seconds is not None and not entry.has_audio:
            return "it has no sound"
        if self.audio_seconds is not None and entry.audio_silent:
            return "its sound is silent"
        try:
            self.clips(entry.length, entry.fps, torch.Generator())
        except ValueError as error:
            return str(error)
        return None

    def __len__(self) -> int:
        return len(self.entries)

    def shard_starts(self) -> "NDArray[np.int64]":
        """Index of the first sample of each shard, and at last the number of samples, int64 (num_shards + 1,).

        Raises:
            ValueError: The corpus is no shards.
        """
        if not isinstance(self.entries, ShardEntries):
            raise ValueError(
                f"{self.corpus.root} is no shards, whose samples could be read shard by shard; "
                "`vidssl data prepare --shards` makes them"
            )
        return self.entries.shard_starts

    @property
    def layout(self) -> Layout:
        """Of every sample."""
        first = self.entries[0]
        num_clips, num_frames = self.clips(first.length, first.fps, torch.Generator()).shape
        audio = None
        if self.audio_seconds is not None:
            audio = (num_clips, round(self.audio_seconds * self.sample_rate_hz))
        return Layout((num_clips, num_frames, 3, self.size_px, self.size_px), audio, pixels_last=True)

    def name(self, index: int) -> str:
        """File of an entry."""
        return str(self.entries[index].path)

    def blame(self, index: int, reason: str) -> None:
        """Take a file for unreadable from now on, because the attempt to read it ends the process."""
        self.blamed[index] = reason

    def __getitem__(self, key: tuple[int | None, int]) -> Sample:
        return self.sample(key)

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read the sample of key = (seed, position): position % len is the entry, the seed decides every draw.

        With seed None nothing is drawn: the un-augmented sample.

        Args:
            key: (seed, position).
            out: Where to write its frames, uint8 (K, T, 3, H, W); None is new memory.
            note: Is told the index of each entry before it is read, and every second while its disk is waited for.

        Raises:
            CorpusGone: Most files of the corpus are gone and did not come back within minutes.
            ValueError: Too many files in succession cannot be read.
        """
        seed, position = key
        bad: list[tuple[str, str]] = []
        index = position % len(self)
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                if index in self.blamed:
                    raise MediaError(self.entries[index].path, self.blamed[index])
                drawn = None if seed is None else sample_seed(seed, attempt)
                return self._read_when_there(index, note, seed=drawn, bad=tuple(bad), out=out)
            except MediaError as error:
                bad.append((str(error.path), error.reason))
                index = sample_seed(seed or 0, attempt, index) % len(self)
        files = "\n".join(f"  {path}: {reason}" for path, reason in bad)
        raise ValueError(f"{len(bad)} files drawn in succession cannot be read; check the corpus:\n{files}")

    def _times(self, entry: Entry, info: VideoInfo, generator: torch.Generator) -> Tensor:
        """Times of the clips of an entry; of its gaps the file itself is asked, an index of shards has no room."""
        length = info.length()
        if not isinstance(length, Length):
            return self.clips(entry.duration_seconds, entry.fps, generator)
        try:
            return self.clips(length, info.fps, generator)
        except ValueError as error:
            raise MediaError(entry.path, str(error)) from error

    def _read_when_there(self, index: int, note: Callable[[int], None] | None, **options: Any) -> Sample:
        """`read`, again and again while most files of the corpus are gone: that one of them is bad is not known."""
        note = note or (lambda _: None)
        for seconds in (*_vanished.WAITS_SECONDS, None):
            note(index)
            try:
                return self.read(index, **options)
            except MediaError:
                root, heartbeat = self.corpus.root, functools.partial(note, index)
                if not _vanished.wait_for(self.entries, index, root, seconds=seconds, heartbeat=heartbeat):
                    raise
        raise AssertionError("the last wait raises")

    def _open(self, entry: Entry) -> Reader:
        return entry.open(backend=self.backend)

    def read(
        self,
        index: int,
        *,
        seed: int | None,
        bad: tuple[tuple[str, str], ...] = (),
        out: Tensor | None = None,
    ) -> Sample:
        """Read one entry; `seed` None takes the middle square (clips that are random start at a fixed draw).

        Frames are written to `out`, uint8 (K, T, 3, H, W), if it is given.

        Raises:
            MediaError: The file cannot be read, or has not the frames that its index promised.
        """
        entry = self.entries[index]
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        with self._open(entry) as reader:
            times = self._times(entry, reader.info, generator)  # (K, T)
            if out is not None and out.shape[:2] != times.shape:
                raise ValueError(
                    f"{entry.path} gives {tuple(times.shape)} (clips, frames), the first video "
                    f"{tuple(out.shape[:2])}; a batch needs equal numbers"
                )
            height, width = scaled_size(reader.info.height, reader.info.width, short_side=self.size_px)
            if seed is None:
                top, left = (height - self.size_px) // 2, (width - self.size_px) // 2
            else:
                top = int(torch.randint(height - self.size_px + 1, (), generator=generator))
                left = int(torch.randint(width - self.size_px + 1, (), generator=generator))
            frames = reader.frames(
                times.flatten().tolist(),
                short_side=self.size_px,
                window=(top, left, self.size_px, self.size_px),
                out=None if out is None else out.view(times.numel(), *out.shape[2:]),
            )
            audio = None
            if self.audio_seconds is not None:
                audio = torch.stack(
                    [
                        reader.audio(start, self.audio_seconds, sample_rate_hz=self.sample_rate_hz)
                        for start in times[:, 0].tolist()
                    ]
                )
        return Sample(
            index=index,
            seed=0 if seed is None else seed,
            video=frames.video.unflatten(0, times.shape),
            time=frames.time.unflatten(0, times.shape),
            audio=audio,
            label=entry.label,
            source_id=_source_id(entry.source or str(entry.path)),
            bad=bad,
        )


def _source_id(source: str) -> int:
    """Number of a source in [0, 2**63), the same in every process and run."""
    return (
        int.from_bytes(hashlib.blake2b(source.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
        >> 1
    )


class ArrayDataset(Dataset[Sample]):
    """Clips of videos held in memory (vidssl.worlds), sampled as a VideoDataset samples files.

    Args:
        video: uint8 (N, F, 3, H, W), F frames each; images have F = 1.
        clips: Which frames (vidssl.data.clips).
        fps: Frame rate.
        audio: Mono waveforms in [-1, 1], float32 (N, samples), that start with the first frame.
        audio_seconds: Length of the sound that starts with each clip; needed with `audio`.
        sample_rate_hz: Of the waveforms.
        label: int64 (N,); None is no labels.
        source_id: int64 (N,); None is a source for each video.
    """

    def __init__(
        self,
        video: Tensor,
        *,
        clips: ClipSampler = still,
        fps: float = 25.0,
        audio: Tensor | None = None,
        audio_seconds: float = 1.0,
        sample_rate_hz: int = 16_000,
        label: Tensor | None = None,
        source_id: Tensor | None = None,
    ) -> None:
        self.video = video
        self.clips = clips
        self.fps = fps
        self.audio = audio
        self.audio_seconds = audio_seconds
        self.sample_rate_hz = sample_rate_hz
        self.label = torch.full((len(video),), -1) if label is None else label
        self.source_id = source_id

    def __len__(self) -> int:
        return len(self.video)

    @property
    def layout(self) -> Layout:
        """Of every sample."""
        num_clips, num_frames = self.clips(self.video.shape[1] / self.fps, self.fps, torch.Generator()).shape
        audio = None
        if self.audio is not None:
            audio = (num_clips, round(self.audio_seconds * self.sample_rate_hz))
        return Layout((num_clips, num_frames, *self.video.shape[2:]), audio)

    def name(self, index: int) -> str:
        """Of a video, for messages."""
        return f"video {index} in memory"

    def blame(self, index: int, reason: str) -> None:
        """Refuse to go on: there is no file that could be damaged."""
        raise RuntimeError(f"{self.name(index)} cannot be read: {reason}")

    def __getitem__(self, key: tuple[int | None, int]) -> Sample:
        return self.sample(key)

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read the sample of key = (seed, position), as in `VideoDataset`."""
        seed, position = key
        index = position % len(self)
        if note is not None:
            note(index)
        drawn = 0 if seed is None else sample_seed(seed, 0)
        num_frames = self.video.shape[1]
        times = self.clips(num_frames / self.fps, self.fps, torch.Generator().manual_seed(drawn))
        frames = (times * self.fps).round().long().clamp(max=num_frames - 1)
        audio = None
        if self.audio is not None:
            num_samples = round(self.audio_seconds * self.sample_rate_hz)
            starts = (times[:, 0] * self.sample_rate_hz).round().long().tolist()
            # Past the end of a recording there is silence.
            padded = torch.nn.functional.pad(self.audio[index], (0, num_samples))
            audio = torch.stack([padded[start : start + num_samples] for start in starts])
        video = self.video[index, frames]
        return Sample(
            index=index,
            seed=drawn,
            video=video if out is None else out.copy_(video),
            time=frames / torch.tensor(self.fps, dtype=torch.float64),
            audio=audio,
            label=int(self.label[index]),
            source_id=None if self.source_id is None else int(self.source_id[index]),
        )


ImageDataset = functools.partial(VideoDataset, clips=still)
"""Images as clips of one frame: `ImageDataset(corpus, size_px=224)`."""

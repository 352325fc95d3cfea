"""Samples of a corpus: decoded clips, sound and labels, each a pure function of (seed, epoch, index)."""

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from . import vanished
from .clips import ClipSampler, as_asked, still
from .corpus.corpus import Corpus
from .corpus.entry import Entry
from .corpus.shards import ShardEntries
from .media.packets.times import Length
from .media.reader import scaled_size
from .media.video import Backend, MediaError, Reader, VideoInfo
from .samples import Entries, Layout, Sample, sample_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Files tried in place of an unreadable one before the whole corpus is blamed.
MAX_REPLACEMENTS = 10

# Samples of shards that are left out and named; of a hundred million, a few percent would fill memory and log.
MAX_NAMED = 1000


class VideoDataset(Dataset[Sample]):
    """Clips of the videos of a corpus.

    Frames are scaled by the decoder so that the short side is `size_px`, then cut to a square of that size: at a
    random place along the long side in training, in the middle otherwise; the place is the same for all frames of
    a sample. Or they are kept whole in training, for views that begin with a window: scaled to that square whatever
    their shape, which `Sample.aspect` tells.

    Indices count the entries of the corpus that are long enough (and have sound that is not silent, where it is asked
    for); those left out are logged by name.

    An unreadable file is replaced by another one, chosen by the seed alone, and named in `Sample.bad`.

    Args:
        corpus: Files to read.
        clips: Which frames (vidssl.data.clips), usually `method.clips`.
        size_px: Height and width of the frames.
        audio_seconds: Length of the mono sound that starts with each clip; None for no sound.
        sample_rate_hz: Of that sound.
        whole_frames: Whether frames are kept whole where a seed is given; without one it is the middle square.
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
        whole_frames: bool = False,
        backend: Backend = "pyav",
    ) -> None:
        self.clips = as_asked(clips)
        self.size_px = size_px
        self.audio_seconds = audio_seconds
        self.sample_rate_hz = sample_rate_hz
        self.whole_frames = whole_frames
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
        for seconds in (*vanished.WAITS_SECONDS, None):
            note(index)
            try:
                return self.read(index, **options)
            except MediaError:
                root, heartbeat = self.corpus.root, functools.partial(note, index)
                if not vanished.wait_for(self.entries, index, root, seconds=seconds, heartbeat=heartbeat):
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
            is_whole = self.whole_frames and seed is not None
            frames = reader.frames(
                times.flatten().tolist(),
                **self._part_wanted(reader.info, None if seed is None else generator),
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
            aspect=reader.info.width / reader.info.height if is_whole else None,
        )

    def _part_wanted(self, info: VideoInfo, generator: torch.Generator | None) -> dict[str, Any]:
        """What of each frame is read, as options of `Reader.frames`; without a generator the middle square."""
        size = self.size_px
        if self.whole_frames and generator is not None:
            return {"size": (size, size)}
        height, width = scaled_size(info.height, info.width, short_side=size)
        if generator is None:
            top, left = (height - size) // 2, (width - size) // 2
        else:
            top = int(torch.randint(height - size + 1, (), generator=generator))
            left = int(torch.randint(width - size + 1, (), generator=generator))
        return {"short_side": size, "window": (top, left, size, size)}


def _source_id(source: str) -> int:
    """Number of a source in [0, 2**63), the same in every process and run."""
    return (
        int.from_bytes(hashlib.blake2b(source.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
        >> 1
    )


ImageDataset = functools.partial(VideoDataset, clips=still)
"""Images as clips of one frame: `ImageDataset(corpus, size_px=224)`."""

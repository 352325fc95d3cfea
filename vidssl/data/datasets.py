"""Samples of a corpus: decoded clips, sound and labels, each a pure function of (seed, epoch, index)."""

import functools
import hashlib
import logging
import struct
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .clips import ClipSampler, still
from .corpus import Corpus, Entry
from .video import Backend, MediaError, open_video

# Files tried in place of an unreadable one before the whole corpus is blamed.
MAX_REPLACEMENTS = 10


def sample_seed(*numbers: int) -> int:
    """Mix whole numbers (run seed, epoch, index, ...) into one seed in [0, 2**63).

    A cryptographic hash, because seeds that differ by one must not give related draws.
    """
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Sample:
    """One item of a batch; shapes as in `Batch` without B. `bad` names files that it replaces: (path, reason)."""

    index: int
    seed: int
    video: Tensor
    time: Tensor
    audio: Tensor | None
    label: int
    bad: tuple[tuple[str, str], ...] = ()


class VideoDataset(Dataset[Sample]):
    """Clips of the videos of a corpus.

    Frames are scaled by the decoder so that the short side is `size_px`, then cut to a square of that size: at a
    random place along the long side in training, in the middle otherwise; the place is the same for all frames of
    a sample. Indices count the entries of the corpus that are long enough (and have sound, where it is asked for);
    those left out are logged by name.

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
        self.left_out = [(entry, why) for entry in corpus.entries if (why := self._why_not(entry))]
        unfit = {entry.path for entry, _ in self.left_out}
        self.entries = [entry for entry in corpus.entries if entry.path not in unfit]
        for entry, why in self.left_out:
            logging.getLogger(__name__).warning("%s is left out: %s", entry.path, why)
        if not self.entries:
            reasons = [*((entry.path, why) for entry, why in self.left_out), *corpus.bad]
            examples = "\n".join(f"  {path}: {why}" for path, why in reasons[:5])
            raise ValueError(f"none of the {len(reasons)} videos of {corpus.root} can be used:\n{examples}")

    def _why_not(self, entry: Entry) -> str | None:
        """Why an entry cannot be used, None if it can."""
        if self.audio_seconds is not None and not entry.has_audio:
            return "it has no sound"
        try:
            self.clips(entry.duration_seconds, entry.fps, torch.Generator())
        except ValueError as error:
            return str(error)
        return None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: tuple[int | None, int]) -> Sample:
        """Read the sample of key = (seed, position): position % len is the entry, the seed decides every draw.

        With seed None nothing is drawn: the un-augmented sample.
        """
        seed, position = key
        bad: list[tuple[str, str]] = []
        index = position % len(self)
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                drawn = None if seed is None else sample_seed(seed, attempt)
                return self.read(index, seed=drawn, bad=tuple(bad))
            except MediaError as error:
                bad.append((str(error.path), error.reason))
                index = sample_seed(seed or 0, attempt, index) % len(self)
        files = "\n".join(f"  {path}: {reason}" for path, reason in bad)
        raise ValueError(f"{len(bad)} files drawn in succession cannot be read; check the corpus:\n{files}")

    def read(self, index: int, *, seed: int | None, bad: tuple[tuple[str, str], ...] = ()) -> Sample:
        """Read one entry; `seed` None takes the middle square (clips that are random start at a fixed draw).

        Raises:
            MediaError: The file cannot be read, or has not the frames that its index promised.
        """
        entry = self.entries[index]
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        times = self.clips(entry.duration_seconds, entry.fps, generator)  # (K, T)
        with open_video(entry.path, backend=self.backend) as reader:
            frames = reader.frames(times.flatten().tolist(), short_side=self.size_px)
            audio = None
            if self.audio_seconds is not None:
                audio = torch.stack(
                    [
                        reader.audio(start, self.audio_seconds, sample_rate_hz=self.sample_rate_hz)
                        for start in times[:, 0].tolist()
                    ]
                )
        height, width = frames.video.shape[-2:]
        if seed is None:
            top, left = (height - self.size_px) // 2, (width - self.size_px) // 2
        else:
            top = int(torch.randint(height - self.size_px + 1, (), generator=generator))
            left = int(torch.randint(width - self.size_px + 1, (), generator=generator))
        square = frames.video[..., top : top + self.size_px, left : left + self.size_px]
        return Sample(
            index=index,
            seed=0 if seed is None else seed,
            video=square.unflatten(0, times.shape),
            time=torch.as_tensor(frames.time, dtype=torch.float64).unflatten(0, times.shape),
            audio=audio,
            label=entry.label,
            bad=bad,
        )


ImageDataset = functools.partial(VideoDataset, clips=still)
"""Images as clips of one frame: `ImageDataset(corpus, size_px=224)`."""

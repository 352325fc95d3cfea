"""The protocol of samples: what a dataset gives and a loader puts into a batch."""

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .corpus.entry import Entry


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
    source_id: int = 0
    bad: tuple[tuple[str, str], ...] = ()


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
    """What every sample of a dataset takes in memory, known before one is read; shapes as in `Sample`.

    Args:
        video: (K, T, C, H, W) of uint8.
        audio: (K, S) of float32; None without sound.
        pixels_last: Whether the video lies in memory as (K, T, H, W, C), which is how decoders write frames.
    """

    video: tuple[int, ...]
    audio: tuple[int, ...] | None = None
    pixels_last: bool = False

    @property
    def num_bytes(self) -> int:
        """Of a sample."""
        return math.prod(self.video) + 4 * math.prod(self.audio or (0,))

    def split(self, memory: Tensor, num_samples: int) -> tuple[Tensor, Tensor | None]:
        """Views of the first bytes of `memory`, uint8 (N,), as video (B, K, T, C, H, W) and audio (B, K, S)."""
        num_audio = 4 * num_samples * math.prod(self.audio or (0,))
        return self.shaped(memory[num_audio : num_samples * self.num_bytes], memory[:num_audio], num_samples)

    def shaped(self, pixels: Tensor, sound: Tensor, num_samples: int) -> tuple[Tensor, Tensor | None]:
        """The bytes of pictures and of sound as video and audio."""
        audio = None
        if self.audio is not None:
            audio = sound.view(torch.float32).view(num_samples, *self.audio)
        if not self.pixels_last:
            return pixels.view(num_samples, *self.video), audio
        clips, frames, channels, height, width = self.video
        video = pixels.view(num_samples, clips, frames, height, width, channels)
        return rearrange(video, "b k t h w c -> b k t c h w"), audio

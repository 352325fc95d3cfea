"""Sound of several channels as one: their mean, and the loudest of them where they cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SILENCE = 1e-4  # largest magnitude of a silent sample: -80 dB, three steps of 16 bits

# Channels cancel in a stretch of this length whose mean has less than this share of the power that the mean of
# unrelated channels has. Of 44 files with stereo and 5.1 sound one had such a stretch: its loudest, in opposite phase.
BLOCK_SECONDS = 0.25
_CANCELLED_POWER = 0.05


def in_blocks(
    pieces: Iterator[tuple[float, NDArray[np.float32]]], *, num_samples: int
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Join pieces of sound (start, samples (C, S)) to blocks of at least `num_samples`, unless there is less."""
    start, pending = 0.0, np.zeros((0, 0), dtype=np.float32)
    for seconds, samples in pieces:
        if len(samples) != len(pending):
            if pending.size:
                yield start, pending
            start, pending = seconds, samples
        else:
            pending = np.concatenate([pending, samples], axis=1)
        if pending.shape[1] >= 2 * num_samples:  # so that what is left at the end is not too short to judge
            yield start, pending[:, :num_samples]
            start, pending = seconds, pending[:, num_samples:]
    if pending.size:
        yield start, pending


def cancels(mono: NDArray[np.float32], channels: NDArray[np.float32]) -> bool:
    """Tell whether the mean of channels (C, S), given as mono (S,), has lost what can be heard in them."""
    if np.abs(channels).max(initial=0.0) <= SILENCE:
        return False
    power = np.square(channels, dtype=np.float64).sum() / len(channels) ** 2  # of the mean, were they unrelated
    return bool(np.square(mono, dtype=np.float64).sum() < _CANCELLED_POWER * power)


def without_cancelling(
    mono: NDArray[np.float32], channels: NDArray[np.float32], *, sample_rate_hz: int
) -> NDArray[np.float32]:
    """Return the mean of all channels, and the loudest of them where they cancel (opposite phase).

    Args:
        mono: Mean of the channels (S,).
        channels: What it was made of (C, S).
        sample_rate_hz: Of both; the choice is made for each quarter of a second or what there is of it.
    """
    if len(channels) == 1:
        return mono
    num_blocks = max(1, int(mono.size / (BLOCK_SECONDS * sample_rate_hz)))
    parts = []
    for mean, block in zip(np.array_split(mono, num_blocks), np.array_split(channels, num_blocks, 1), strict=True):
        loudest = int(np.square(block, dtype=np.float64).sum(axis=1).argmax())
        parts.append(block[loudest] if cancels(mean, block) else mean)
    return np.concatenate(parts)

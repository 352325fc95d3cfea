"""When the frames of a video are shown: what containers say of it, put in order, and where nothing was recorded.

Containers are wrong in known ways. AVI counts packets, so that pictures which refer forwards come out with each
other's stamps; damage leaves single stamps that fit nowhere; phones and cameras pause.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# No codec holds back more pictures than these to put them in order (H.264 A.3.1, HEVC A.4.2: 16).
_MAX_REORDERED = 16

# Stamps that belong to other pictures still have the steps of the file, a dropped picture left out here and there.
_MAX_STEP, _MAX_ODD = 2.0, 0.05

# Nothing was recorded where two frames lie further apart than a second and than this many usual steps.
_GAP_SECONDS, _GAP_FACTOR = 1.0, 10

# Steps on either side of one that say what is usual there: the frame rate may change for good.
_NEIGHBOURS = 8

# A pause of a steady recording: three frames or more are not there. There may be two, and one in a hundred steps.
# Screens are recorded when they change: pauses are usual then, and steps are of any length.
_PAUSE_FACTOR, _MAX_PAUSES, _STEADY_SHARE, _STEADY_WITHIN = 3.5, 0.01, 0.95, 0.5

# Fewer steps than these say nothing of what is usual.
_MIN_STEPS = 6


class Part(NamedTuple):
    """A part of a video without a gap: seconds of its first frame, frames, and frames per second."""

    start_seconds: float
    num_frames: int
    fps: float


class Length(float):
    """Length of a video in seconds, a float to whoever does not ask for `parts`.

    Args:
        seconds: From the first frame to the end of the last.
        parts: Between the gaps, in order.
    """

    parts: tuple[Part, ...]

    def __new__(cls, seconds: float, parts: Sequence[tuple[float, int, float]]) -> Length:
        """A length in seconds that knows its parts."""
        length = super().__new__(cls, seconds)
        length.parts = tuple(Part(*part) for part in parts)
        return length

    def __reduce__(self) -> tuple[type[Length], tuple[float, tuple[Part, ...]]]:
        return Length, (float(self), self.parts)


def in_order(items: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort the values of (number, value) in the stretches where they are a permutation of each other.

    Decoders deliver pictures in the order in which they are shown. A stretch begins and ends where all values before
    are smaller than all after; it is sorted if no value occurs twice, none moves by more than the pictures that a
    decoder may hold back, and what comes out has the steps of the rest of the file. Other stretches stay as they
    are: a single damaged stamp would move all its neighbours.
    """
    values = np.array([value for _, value in items], dtype=np.int64)
    if len(values) < 2 or (np.diff(values) > 0).all():
        return list(items)
    usual = float(np.median(np.diff(np.unique(values)))) if len(np.unique(values)) > 1 else 0.0
    is_end = np.append(
        np.maximum.accumulate(values)[:-1] < np.minimum.accumulate(values[::-1])[::-1][1:], True
    )  # (N,): all before and here are smaller than all after
    start = 0
    for end in (np.flatnonzero(is_end) + 1).tolist():
        order = np.argsort(values[start:end], kind="stable")
        inside = values[start:end][order]
        steps = np.diff(inside)
        moved = np.abs(order - np.arange(end - start)).max()
        if len(steps) and moved <= _MAX_REORDERED and (steps > 0).all():
            # Where pictures were dropped steps are longer, and whole multiples still.
            is_whole = np.abs(steps / usual - np.round(steps / usual)).max() <= _MAX_ODD
            if steps.max() <= _MAX_STEP * usual or is_whole:
                values[start:end] = inside
        start = end
    return [(number, value) for (number, _), value in zip(items, values.tolist(), strict=True)]


def stamped_seconds(pts: Sequence[int | None], *, time_base: float, fps: float) -> NDArray[np.float64]:
    """Turn time stamps of frames in order of presentation into increasing seconds of the file.

    Stamps that are each other's are sorted (`in_order`). Of the rest, the largest set that increases is believed;
    frames between are spread evenly between their believed neighbours, frames before the first and after the last
    believed one follow at the mean interval, or at `fps` where a single stamp is believed.

    Args:
        pts: Time stamp of each frame in units of `time_base`, None where it is missing (N,).
        time_base: Seconds.
        fps: Frames per second where the stamps say nothing.

    Returns:
        float64 (N,), strictly increasing.
    """
    known = longest_increasing(
        in_order([(number, value) for number, value in enumerate(pts) if value is not None])
    )
    numbers = np.array([number for number, _ in known], dtype=np.float64)
    seconds = np.array([value for _, value in known], dtype=np.float64) * time_base
    interval = (seconds[-1] - seconds[0]) / (numbers[-1] - numbers[0]) if len(known) > 1 else 1 / fps
    if not known:
        return np.arange(len(pts)) / fps
    every = np.arange(len(pts), dtype=np.float64)
    times = np.interp(every, numbers, seconds)
    times += interval * (np.minimum(every - numbers[0], 0) + np.maximum(every - numbers[-1], 0))
    return times


def repaired_times(pts: Sequence[int | None], *, time_base: float, fps: float) -> NDArray[np.float64]:
    """As `stamped_seconds`, the first 0."""
    seconds = stamped_seconds(pts, time_base=time_base, fps=fps)
    return seconds - seconds[0]


def longest_increasing(items: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return a longest subsequence of (number, value) whose values increase strictly (patience sorting)."""
    tails: list[int] = []  # smallest last value of an increasing run of each length
    ends: list[int] = []  # place of that value in items
    previous: list[int] = []
    for place, (_, value) in enumerate(items):
        length = bisect.bisect_left(tails, value)
        tails[length : length + 1] = [value]
        ends[length : length + 1] = [place]
        previous.append(ends[length - 1] if length else -1)
    run = []
    place = ends[-1] if ends else -1
    while place >= 0:
        run.append(items[place])
        place = previous[place]
    return run[::-1]


def gaps(times_seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of each frame after which there is a gap, int64 (G,).

    A gap is longer than a second and than ten steps that are usual around it: a camera that was off, not one that
    takes a picture every minute.

    Args:
        times_seconds: Increasing (N,).
    """
    steps = np.diff(times_seconds)
    if len(steps) < _MIN_STEPS or steps.max() <= _GAP_SECONDS:
        return np.empty(0, dtype=np.int64)
    long = np.flatnonzero(steps > _GAP_SECONDS)
    padded = np.pad(steps, _NEIGHBOURS, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)[long]
    return long[steps[long] > _GAP_FACTOR * (1 + 1e-9) * np.nanmedian(around, axis=1)]


def pauses(times_seconds: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """Return the frames after which some are missing, int64 (P,), and the usual step in seconds.

    Gaps (`gaps`) are left out. Clips go over pauses: what happens there is faster than it was.

    Args:
        times_seconds: Increasing (N,).
    """
    steps = np.diff(times_seconds)
    if len(steps) < 2 * _NEIGHBOURS:
        return np.empty(0, dtype=np.int64), 0.0
    usual = float(np.median(steps))
    is_long = steps > _PAUSE_FACTOR * usual
    is_steady = np.mean(np.abs(steps[~is_long] / usual - 1) <= _STEADY_WITHIN) >= _STEADY_SHARE
    if not is_steady or is_long.sum() > 2 + _MAX_PAUSES * len(steps):
        return np.empty(0, dtype=np.int64), usual
    return np.setdiff1d(np.flatnonzero(is_long), gaps(times_seconds)), usual


def rate_and_duration(
    times_seconds: NDArray[np.float64], *, unit_seconds: float, last_seconds: float, fps: float
) -> tuple[float, float]:
    """Return (mean frames per second outside the gaps, seconds from the first frame to the end of the last).

    Args:
        times_seconds: Increasing, the first 0 (N,).
        unit_seconds: To which they are rounded.
        last_seconds: How long the container shows the last frame, 0 where it does not say. Asked only where the
            others are not shown equally long.
        fps: Frames per second of a single frame.
    """
    if len(times_seconds) < 2:
        return fps, 1 / fps
    steps, last = np.diff(times_seconds), float(times_seconds[-1])
    gap_after = gaps(times_seconds)
    is_even = steps.max() - steps.min() <= 1.5 * unit_seconds
    if is_even or (last_seconds <= 0 and len(gap_after) == 0):
        mean = len(steps) / last
        return mean, last + 1 / mean
    ordinary = np.delete(steps, gap_after)
    usual = float(np.median(ordinary)) if len(ordinary) else 1 / fps
    # What is shown longer than any other frame is a still at the end, or a damaged table.
    end = min(last_seconds, float(ordinary.max(initial=usual))) if last_seconds > 0 else usual
    recorded = float(ordinary.sum()) + len(gap_after) * usual + end
    return len(times_seconds) / recorded, last + end


def length_of(
    times_seconds: NDArray[np.float64], *, fps: float, start_seconds: float, end_seconds: float
) -> float:
    """Seconds from `start_seconds` to `end_seconds` of a video, for samplers of clips.

    Args:
        times_seconds: Of its frames, increasing (N,).
        fps: Frames per second of a part of one frame.
        start_seconds: 0 for the first frame.
        end_seconds: That of the last frame, or before it.

    Returns:
        A `Length` if the video has gaps.
    """
    after = gaps(times_seconds)
    if len(after) == 0:
        return end_seconds - start_seconds
    inside = [
        part[(part >= start_seconds) & (part < end_seconds)] - start_seconds
        for part in np.split(times_seconds, after + 1)
    ]
    parts = [
        Part(float(part[0]), len(part), (len(part) - 1) / float(part[-1] - part[0]) if len(part) > 1 else fps)
        for part in inside
        if len(part)
    ]
    return Length(end_seconds - start_seconds, parts) if parts else end_seconds - start_seconds

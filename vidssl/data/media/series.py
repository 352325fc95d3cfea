"""Which images of a folder are the frames of its video: one series of numbers, not two cameras or flow in turn."""

from __future__ import annotations

import collections
import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .container import MediaError, printable
from .images import image_paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True)
class Series:
    """Images of a folder whose names differ in a number.

    Args:
        name: Of the images, # for the number.
        paths: In natural order.
        numbers: Of each.
    """

    name: str
    paths: list[Path]
    numbers: list[int]

    def __str__(self) -> str:
        return f"{self.name} ({len(self.paths)})"


def frame_paths(folder: Path) -> list[Path]:
    """List the frames of a folder in natural order.

    All its images, unless they are several series with the same numbers. A series beside others whose names begin
    with "flow" is taken without them: so TSN and mmaction lay out frames with their optical flow.

    Raises:
        MediaError: There are several series with the same numbers, such as left_1.png and right_1.png.
    """
    images = image_paths(folder)
    flow = {path for series in _flow(folder, _rivals(images)) for path in series.paths}
    return [path for path in images if path not in flow]


def series_notes(folder: Path) -> list[tuple[str, str]]:
    """(kind, detail) of what is worth knowing of a folder that `frame_paths` reads."""
    notes = []
    flow = _flow(folder, _rivals(image_paths(folder)))
    if flow:
        notes.append(("flow beside the frames", f"{_listed(flow)}; they are passed over"))
    for series in _all_series(frame_paths(folder)):
        missing = _missing(series.numbers)
        if missing:
            first = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            notes.append(
                (
                    "missing frame numbers",
                    f"{len(missing)} of {series.name}, first {first}; those that are there are taken for neighbours",
                )
            )
    return notes


def _flow(folder: Path, rivals: Sequence[Series]) -> list[Series]:
    """Those of several series that are optical flow of another, which must be one."""
    flow = [series for series in rivals if series.name.lower().startswith("flow")]
    if len(rivals) - len(flow) > 1 or (rivals and len(flow) == len(rivals)):
        raise MediaError(
            folder,
            f"holds {len(rivals)} series of images, {_listed(rivals)}; the frames of a video are one: give each a "
            "folder of its own",
        )
    return flow


def _listed(series: Sequence[Series]) -> str:
    return ", ".join(printable(str(one)) for one in series[:5]) + (", ..." if len(series) > 5 else "")


def _rivals(images: Sequence[Path]) -> list[Series]:
    """Series of at least two images that share half of their numbers with the longest; nothing where none does."""
    every = [series for series in _all_series(images) if len(series.paths) > 1]
    longest = max(every, key=lambda series: len(series.paths), default=None)
    if longest is None:
        return []
    known = set(longest.numbers)
    rivals = [one for one in every if 2 * sum(number in known for number in one.numbers) >= len(one.numbers)]
    return rivals if len(rivals) > 1 else []


def _all_series(images: Sequence[Path]) -> list[Series]:
    """Group images by their names without numbers, and by numbers that name a camera or the like (cam2_0001)."""
    by_text: dict[tuple[str, str], list[Path]] = collections.defaultdict(list)
    for path in images:
        suffix = path.suffix.lower()
        by_text[re.sub(r"\d+", "#", path.stem), _SAME_SUFFIX.get(suffix, suffix)].append(path)
    found = []
    for (text, _), paths in by_text.items():
        if "#" not in text:
            continue
        columns = list(zip(*(map(int, re.findall(r"\d+", path.stem)) for path in paths), strict=True))
        frame = max(
            range(len(columns)), key=lambda column: len(set(columns[column]))
        )  # what differs most: the frame
        parts = text.split("#")
        # Numbers behind a word name a camera or a shot; behind a letter between digits (T12-00-05, 12h05m10) a time.
        words = [bool(re.search(r"[^\W\d_]$", part)) and (n == 0 or len(part) > 1) for n, part in enumerate(parts)]
        named = [n for n in range(len(columns)) if n != frame and words[n]]
        groups: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
        for place in range(len(paths)):
            groups[tuple(columns[n][place] for n in named)].append(place)
        for places in groups.values():
            runs = iter(range(len(columns)))
            name = re.sub(r"\d+", lambda run: "#" if next(runs) == frame else run[0], paths[places[0]].stem)  # noqa: B023
            found.append(
                Series(
                    name + paths[places[0]].suffix,
                    [paths[place] for place in places],
                    [columns[frame][place] for place in places],
                )
            )
    return found


def _missing(numbers: Sequence[int]) -> list[int]:
    """Numbers that a series leaves out; none where they do not count frames (times, every fifth)."""
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    if len(steps) < 2 or min(steps) < 1:
        return []
    step = math.gcd(*steps)
    if np.median(steps) != step:
        return []
    known = set(numbers)
    return [number for number in range(numbers[0], numbers[-1], step) if number not in known]

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

# Folders of optical flow beside frames (TSN, mmaction, tvl1_flow/u of two-stream networks).
_FLOW_FOLDER = re.compile(r"(optical_?|tvl1_?)?flow([_-]?[xyuv])?", re.IGNORECASE)


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
    with "flow" is taken without them: so TSN and mmaction lay out frames with their optical flow. A cover or
    thumbnail beside a series is none of its frames.

    Raises:
        MediaError: There are several series with the same numbers, such as left_1.png and right_1.png.
    """
    images = image_paths(folder)
    flow = {path for series in _flow(folder, _rivals(images)) for path in series.paths}
    frames = [path for path in images if path not in flow]
    strays = _strays(frames)
    return [path for path in frames if path not in strays]


def flow_folders(names: Sequence[str]) -> list[str]:
    """Those of the folders in a folder that hold optical flow, by their names: flow_x, u beside v."""
    is_pair = {"u", "v"} <= {name.lower() for name in names}
    return [name for name in names if _FLOW_FOLDER.fullmatch(name) or (is_pair and name.lower() in {"u", "v"})]


def series_notes(folder: Path) -> list[tuple[str, str]]:
    """(kind, detail) of what is worth knowing of a folder that `frame_paths` reads."""
    notes = []
    images = image_paths(folder)
    flow = _flow(folder, _rivals(images))
    beside = flow_folders(_folders(folder))
    if flow or beside:
        names = ", ".join([_listed(flow)] * bool(flow) + [f"folder {printable(name)}" for name in beside])
        notes.append(("flow beside the frames", f"{names}; they are passed over"))
    strays = sorted(_strays([path for path in images if not any(path in series.paths for series in flow)]))
    if strays:
        first = ", ".join(printable(path.name) for path in strays[:3]) + (", ..." if len(strays) > 3 else "")
        notes.append(("images beside the frames", f"{len(strays)} of no series, {first}; they are passed over"))
    if _looks_like_flow(folder, images):
        notes.append(("looks like optical flow", "by its name, yet it is taken for a video of its own"))
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


def _looks_like_flow(folder: Path, images: Sequence[Path]) -> bool:
    """Whether the names of a folder, of the one above it, or of all images say so."""
    if all(path.name.lower().startswith("flow") for path in images):
        return True
    return any(place.name in flow_folders(_folders(place.parent)) for place in (folder, folder.parent))


def _folders(parent: Path) -> list[str]:
    """Names of the folders in one, none where it may not be listed."""
    try:
        return sorted(path.name for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []


def _strays(images: Sequence[Path]) -> set[Path]:
    """Images alone with their name beside a series that has most images: cover.png, thumb_1.jpg."""
    every = _all_series(images)
    longest = max(every, key=lambda series: len(series.paths), default=None)
    if longest is None or len(longest.paths) < 2 or 2 * len(longest.paths) <= len(images):
        return set()
    in_series = {path for series in every if len(series.paths) > 1 for path in series.paths}
    word = _word(longest.paths[0])  # img.jpg before img1.jpg is a frame
    return {path for path in images if path not in in_series and _word(path) != word}


def _word(path: Path) -> str:
    return re.sub(r"[\W\d_]+", "", path.stem).lower()


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

"""Which files are cut from one recording, as far as their names say so."""

from __future__ import annotations

import collections
import re
from typing import TYPE_CHECKING

from ..media.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Names that data sets give to clips; the first group is the recording, wherever the clip lies.
_PUBLISHED = (
    re.compile(r"(v_.+_g\d+)_c\d+"),  # UCF101: v_CLASS_g01_c01
    re.compile(r"(.+)_\d{6}_\d{6}"),  # Kinetics: YouTube id, start and end in seconds
    re.compile(
        r"(.+)_[fhlu]_(?:cm|nm)_np\d_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+"
    ),  # HMDB51: film, class, properties
    re.compile(r"\d-(\d+)-[A-Z]-\d+"),  # ESC-50: fold, recording, take, class
)
# What tools that cut videos append; beside each other in one folder.
_CUT = re.compile(r"(.+?)[-_ ](?:scene|clip|part|seg|segment|chunk)[-_ ]?\d+", re.IGNORECASE)
_GROUPED = re.compile(r"(.*g\d+)_c\d+")  # groups of UCF101 under other names
_NUMBERED = re.compile(r"(.*?)(\d+)")


def recordings(paths: Sequence[Path]) -> list[str]:
    """Name the recording of each file; "" where its name says nothing."""
    return [_named(path) for path in paths]


def frames_of(paths: Sequence[Path], class_names: Sequence[str]) -> list[str]:
    """Name the video of each image that is a frame of one; "" if they are none.

    Images that are numbered without a gap in folders of their own, several of a class, are the frames of a video
    each.

    Args:
        paths: Of the files.
        class_names: Of each.
    """
    none = ["" for _ in paths]
    if not all(path.suffix.lower() in IMAGE_SUFFIXES for path in paths):
        return none
    classes: dict[Path, set[str]] = collections.defaultdict(set)
    stems: dict[Path, set[str]] = collections.defaultdict(set)
    for path, class_name in zip(paths, class_names, strict=True):
        classes[path.parent].add(class_name)
        stems[path.parent].add(path.stem)
    of_class = collections.Counter(next(iter(own)) for own in classes.values())
    are_frames = all(len(own) == 1 for own in classes.values()) and max(of_class.values(), default=0) > 1
    if are_frames and all(_is_series(own) for own in stems.values()):
        return [str(path.parent) for path in paths]
    return none


def _named(path: Path) -> str:
    for pattern in _PUBLISHED:
        if match := pattern.fullmatch(path.stem):
            return match[1]
    match = _GROUPED.fullmatch(path.stem) or _CUT.fullmatch(path.stem)
    return str(path.with_name(match[1])) if match else ""


def _is_series(stems: set[str]) -> bool:
    """Whether names differ in a number alone, which counts on without a gap."""
    matches = [_NUMBERED.fullmatch(stem) for stem in stems]
    numbers = [int(match[2]) for match in matches if match]
    return (
        len(stems) > 1
        and len(numbers) == len(stems)
        and len({match[1] for match in matches if match}) == 1
        and max(numbers) - min(numbers) == len(numbers) - 1
    )

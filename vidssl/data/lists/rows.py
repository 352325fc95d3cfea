"""Lines of a list, and what is made sure of all at once: samples that are named again, numbers of frames."""

import logging
import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..media.container import printable

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListRow:
    """One line of a list.

    Args:
        where: List and line, for messages.
        line: Number of the line, from 1.
        path: The file that it names; it need not be there.
        texts: What stands in the columns, by the names of `USUAL_COLUMNS`; "path" is as the list has it.
    """

    where: str
    line: int
    path: Path
    texts: dict[str, str]


def check_repeats(samples: Iterable[tuple[Hashable, str, str, str]], *, name: str) -> None:
    """Refuse samples of two classes, and say how many are listed again in one: each time counts.

    Args:
        samples: (what tells samples apart, class, path, list and line) of each.
        name: Of the list, for the message.

    Raises:
        ValueError: A sample is listed under two classes.
    """
    first: dict[Hashable, tuple[str, str]] = {}
    again: list[str] = []
    for key, class_name, path, where in samples:
        known = first.get(key)
        if known is None:
            first[key] = (class_name, where)
            continue
        if known[0] != class_name:
            raise ValueError(
                f"{where}: '{printable(path)}' has the label '{printable(class_name)}' here and "
                f"'{printable(known[0])}' in {known[1]}; a sample has one: keep one of the lines"
            )
        again.append(f"{os.path.basename(where)} as {os.path.basename(known[1])}")  # noqa: PTH119 (with its line)
    if again:
        more = ", ..." if len(again) > 3 else ""
        _log.warning(
            "%s: %d lines name a sample that is listed before (%s%s); it counts each time",
            name,
            len(again),
            ", ".join(again[:3]),
            more,
        )


def drop_frame_counts(rows: Sequence[ListRow]) -> int:
    """Read "FOLDER NUM_FRAMES LABEL" as mmaction means it; return how many lines are like that: none, or all.

    Raises:
        ValueError: Lines hold several numbers, and are not all of folders with their number of frames.
    """
    numbers = [row.texts.get("label", "").split() for row in rows]
    several = [
        place for place, words in enumerate(numbers) if len(words) > 1 and all(w.isdecimal() for w in words)
    ]
    for place in several:
        row = rows[place]
        if len(numbers[place]) > 2 or len(several) < len(rows) or not row.path.is_dir():
            raise ValueError(
                f"{row.where}: several numbers behind the path: '{row.texts['label']}'; expected path and label, or in "
                "every line a folder of frames, their number and the label (mmaction)"
            )
        row.texts["label"] = numbers[place][1]
    return len(several)

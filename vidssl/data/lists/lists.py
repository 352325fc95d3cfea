"""The one reader of lists of files, for every command: which character separates the columns, and what they are.

Lists come from many tools: path,label of spreadsheets, "path label" of SlowFast and V-JEPA, tabs, semicolons, with a
heading or without. A list is read with the separator under which its lines name files that are there; what was taken
is told, and where two readings are as good as each other that is an error.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.container import printable
from ..media.images import IMAGE_SUFFIXES
from .rows import ListRow, check_repeats, drop_frame_counts
from .suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from .text import read_text
from .trust import refuse_outside

if TYPE_CHECKING:
    from collections.abc import Sequence

# What lists call their columns; without a heading they come in this order.
USUAL_COLUMNS = {
    "path": (
        "path",
        "file",
        "filepath",
        "file_path",
        "filename",
        "file_name",
        "video",
        "video_path",
        "image_path",
    ),
    "label": ("label", "class", "class_name", "category"),
    "split": ("split",),
    "start": ("start_s", "start_seconds"),
    "end": ("end_s", "end_seconds"),
    "source": ("source",),
}
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")  # the first that occurs is the test split

_SEPARATORS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "::": "two colons", " ": "a space"}
_MAX_TRIED = 64  # lines under which files are looked for before a separator is taken


@dataclass(frozen=True)
class Columns:
    """What the columns of a list are called, and which values make the test split; None is the usual name.

    Args:
        path: Column of the file names.
        label: Column of the classes.
        split: Column of the split.
        source: Column of the recordings that samples were cut from.
        test_values: Values of the split column that are the test split; all others are for training. Empty:
            train, and test or val.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    source: str | None = None
    test_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a list says.

    Args:
        columns: There are, by the names of `USUAL_COLUMNS`.
        rows: In order.
        description: How it was read, in words; who goes on with it logs that.
    """

    columns: tuple[str, ...]
    rows: list[ListRow]
    description: str


def read_list(path: Path, *, columns: Columns | None = None, allow_outside: bool | None = None) -> Listing:
    """Read a list of files (.txt, .csv, .tsv).

    Args:
        path: Of the list. Paths in it are relative to its folder.
        columns: How they are called, where the caller knows.
        allow_outside: Whether it may name files that do not lie below its folder. None asks the environment: they
            are allowed if VIDSSL_ALLOW_OUTSIDE is 1.

    Raises:
        ValueError: It cannot be read, is empty or malformed, can be read in two ways, or leads out of its folder.
    """
    asked = columns or Columns()
    lines = _lines(path)
    if not lines:
        raise ValueError(_nothing_in(path))
    reading = _chosen([_Reading(path, lines, separator, asked) for separator in (*_SEPARATORS, None)])
    rows = reading.rows()
    if not rows:
        raise ValueError(_nothing_in(path))
    place = _places(reading, asked, width=len(rows[0][1]), told=columns is not None)
    width = len(reading.heading or rows[0][1])
    first = rows[0][0] if len(rows[0][1]) == width else lines[0][0]
    result = []
    for line, cells in rows:
        where = f"{printable(path)}:{line}"
        if len(cells) != width:
            raise ValueError(f"{where}: {_ragged(cells, width, first)}; {reading.name} separates the columns")
        texts = {name: cells[number] for name, number in place.items()}
        for name in ("path", "label"):
            if name in texts and not texts[name]:
                raise ValueError(f"{where}: the {name} is empty; {reading.name} separates the columns")
        if "split" in texts and not reading.heading and not asked.test_values:
            _check_split(texts["split"], where, width)
        if "://" in texts["path"]:
            raise ValueError(f"{where}: '{texts['path']}' is a URL; only local files are read, download it first")
        refuse_outside(path.parent, texts["path"], where=where, allowed=allow_outside)
        result.append(ListRow(where, line, path.parent / texts["path"], texts))
    num_counted = drop_frame_counts(result) if reading.separator == " " and not reading.heading else 0
    names = [(os.path.normpath(row.path), row.texts.get("start"), row.texts.get("end")) for row in result]
    samples = [
        (name, row.texts.get("label", ""), row.texts["path"], row.where)
        for name, row in zip(names, result, strict=True)
    ]
    check_repeats(samples, name=printable(path))
    heads = result[:2] if not reading.heading and len(result) > 1 else []
    if heads and not _is_media(heads[0].texts["path"]) and not exists(heads[0].path) and exists(heads[1].path):
        raise ValueError(
            f"{heads[0].where}: {printable(heads[0].path)} does not exist; if the line is a heading, call the column "
            f"of the files {USUAL_COLUMNS['path'][0]} and that of the classes {USUAL_COLUMNS['label'][0]}"
        )
    unused = [name for number, name in enumerate(reading.heading) if number not in place.values()]
    unused += ["the number of frames"] if num_counted else []
    how = f"{', '.join(place)} separated by {reading.name}" if width > 1 else "one path each"
    how += f"; not used: {', '.join(map(printable, unused))}" if unused else ""
    return Listing(tuple(place), result, f"{printable(path)}: {len(result)} lines, {how}")


def exists(path: Path) -> bool:
    """Whether there is a file or folder of that name; names that cannot be are none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long to be a name, or with a zero byte
        return False


def example_of(path: Path) -> str:
    """A line as a list of that name has them."""
    return "clips/run.mp4,0" if path.suffix.lower() == ".csv" else "clips/run.mp4 0"


def _nothing_in(path: Path) -> str:
    return f"{printable(path)} lists no files; expected one per line, e.g. '{example_of(path)}'"


def _lines(path: Path) -> list[tuple[int, str]]:
    """(number, text) of every line that is not blank."""
    try:
        text = read_text(path, names_files=True)
    except OSError as error:
        raise ValueError(f"{printable(path)} cannot be read ({error.strerror})") from error
    # Not by splitlines: names may hold what else it takes for the end of a line.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


class _Reading:
    """A list as it reads with one separator; None is one path a line."""

    def __init__(
        self, path: Path, lines: Sequence[tuple[int, str]], separator: str | None, columns: Columns
    ) -> None:
        self.path = path
        self.lines = lines
        self.separator = separator
        self.columns = columns
        self.name = "nothing" if separator is None else _SEPARATORS[separator]
        self._width = 2  # of lines that spaces separate: only the path may hold some itself
        names = {name for usual in (USUAL_COLUMNS["path"], USUAL_COLUMNS["label"]) for name in usual}
        asked = {columns.path, columns.label, columns.split, columns.source}
        self.heading: list[str] = []
        first = lines[0][1]
        if separator == " ":
            self._width = max(2, len(first.split()))
        cells = self._cells_or_none(first) or []
        num_known = sum(cell.lower() in names or cell in asked for cell in cells)
        if num_known > 1 or (num_known == 1 and not any(exists(path.parent / cell) for cell in cells)):
            self.heading = cells
        else:
            self._width = 2

    @property
    def is_used(self) -> bool:
        """Whether the separator occurs at all."""
        tried = "".join(line for _, line in self._tried)
        return self.separator is None or self.separator in tried or bool(len(self.heading) > 1)

    @cached_property
    def _tried(self) -> list[tuple[int, str]]:
        body = self.lines[1:] if self.heading else self.lines
        return list(body[:: max(1, len(body) // _MAX_TRIED)])

    @cached_property
    def trial(self) -> list[tuple[str, ...] | None]:
        """Cells of the lines that are tried; None where one cannot be read like this."""
        found = [self._cells_or_none(line) for _, line in self._tried]
        return [None if cells is None else tuple(cells) for cells in found]

    @cached_property
    def rank(self) -> tuple[bool, int, bool]:
        """Whether there is a heading, how many lines name a file that is there, whether all have as many columns."""
        there = sum(
            cells is not None
            and (bool(self.heading) or not _is_within_name(cells))
            and cells[self.place] != ""
            and exists(self.path.parent / cells[self.place])
            for cells in self.trial
        )
        return bool(self.heading), there, len({len(cells or ()) for cells in self.trial}) == 1

    @property
    def place(self) -> int:
        """Number of the column that most likely holds the paths."""
        lower = [name.lower() for name in self.heading]
        names = [self.columns.path.lower()] if self.columns.path else USUAL_COLUMNS["path"]
        return next((lower.index(name) for name in names if name in lower), 0)

    @property
    def looks_right(self) -> bool:
        """Whether the lines look like paths with labels, whatever files there are."""
        return self.rank[2] and all(
            cells
            and len(cells) > 1
            and not _is_within_name(cells)
            and (_is_media(cells[0]) or cells[1].isdecimal())
            for cells in self.trial
        )

    def rows(self) -> list[tuple[int, list[str]]]:
        """(number of the line, cells) without the heading."""
        rows = []
        for number, line in self.lines[1:] if self.heading else self.lines:
            try:
                rows.append((number, self._cells(line)))
            except csv.Error as error:
                raise ValueError(
                    f"{printable(self.path)}:{number}: {error}; expected e.g. '{example_of(self.path)}'"
                ) from error
        return rows

    def _cells_or_none(self, line: str) -> list[str] | None:
        try:
            cells = self._cells(line)
        except csv.Error:
            return None
        return cells if len(cells) > self.place else None

    def _cells(self, line: str) -> list[str]:
        if self.separator is None:
            line = line.strip(" ")
            is_quoted = len(line) > 2 and line[0] == line[-1] == '"' and line.count('"') % 2 == 0
            return [line[1:-1].replace('""', '"') if is_quoted else line]
        if self.separator == "::":
            return [cell.strip() for cell in line.split("::")]
        is_quoted = '"' in line
        if self.separator == " " and not is_quoted:
            return self._words(line.strip())
        reader = csv.reader([line.strip(" ")], delimiter=self.separator, strict=True, skipinitialspace=True)
        return [cell.strip() for cell in next(reader)]

    def _words(self, line: str) -> list[str]:
        """Cells of a line that spaces separate; the path is the longest that is a file, else all words but the last."""
        cells = line.rsplit(None, self._width - 1)
        if self._width == 2:
            for number in range(1, line.count(" ") + 1):
                path, *label = line.rsplit(" ", number)
                if path.strip() and exists(self.path.parent / path.strip()):
                    return [path.strip(), " ".join(label).strip()]
        return cells


def _is_media(cell: str) -> bool:
    suffix = os.path.splitext(cell)[1].lower()  # noqa: PTH122 (no path yet)
    return suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES or suffix in AUDIO_SUFFIXES


def _is_within_name(cells: Sequence[str]) -> bool:
    """Whether a line is split within a name that holds the separator, rather than between path and label."""
    return len(cells) == 2 and _is_media(cells[1]) and not _is_media(cells[0])


def _chosen(readings: Sequence[_Reading]) -> _Reading:
    """The reading under which most lines name files.

    Raises:
        ValueError: Two of them are equally good and say different things.
    """
    path = readings[0].path
    usual = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    own = next(reading for reading in readings if reading.separator == usual)
    used = [reading for reading in readings if reading.is_used or reading is own]
    best = max(reading.rank for reading in used)
    if best[1] == 0:  # no file is there, so that the look of the lines decides
        headed = [reading for reading in used if reading.heading]
        if headed:
            return max(headed, key=lambda reading: (len(reading.heading), reading is own))
        right = [reading for reading in used if reading.looks_right]
        return own if own in right or not right else right[0]
    equal = [reading for reading in used if reading.rank == best]
    different = [reading for reading in equal if reading.trial != equal[0].trial]
    if not different:
        return own if own in equal else equal[0]
    one, other = equal[0], different[0]
    number = next(place for place, cells in enumerate(one.trial) if cells != other.trial[place])
    line = one._tried[number][0]
    raise ValueError(
        f"{printable(path)}:{line}: can be read in two ways: separated by {one.name} it is "
        f"{_spelled(one.trial[number])}, by {other.name} {_spelled(other.trial[number])}; separate path and label by "
        "the same character in every line, and put names that hold it in double quotes"
    )


def _spelled(cells: tuple[str, ...] | None) -> str:
    return " and ".join(f"'{printable(cell)}'" for cell in cells or ("nothing",))


def _places(reading: _Reading, columns: Columns, *, width: int, told: bool) -> dict[str, int]:
    """Number of the column that holds the path, the label, ..."""
    name_of_list, heading = printable(reading.path), reading.heading
    asked = {"path": columns.path, "label": columns.label, "split": columns.split, "source": columns.source}
    if not heading:
        if any(asked.values()):
            raise ValueError(f"{name_of_list} has no heading, so columns cannot be chosen by name")
        if width > len(USUAL_COLUMNS):
            raise ValueError(
                f"{name_of_list}:{reading.lines[0][0]}: {width} columns without a heading, separated by "
                f"{reading.name}; expected path and label, or a first line that names the columns"
            )
        return {name: number for number, name in enumerate(list(USUAL_COLUMNS)[:width])}
    lower = [name.lower() for name in heading]
    place = {}
    for name, usual in USUAL_COLUMNS.items():
        wanted = asked.get(name)
        if wanted is not None and wanted not in heading:
            raise ValueError(f"{name_of_list} has no column {wanted!r}; it has {', '.join(heading)}")
        names = [wanted.lower()] if wanted else [one for one in usual if one in lower]
        if names:
            place[name] = lower.index(names[0])
    needed = ("path", "label") if told else ("path",)
    for name in needed:
        if name not in place:
            how = f"say which it is by --{name}-column" if told else f"call the one that holds it {name}"
            raise ValueError(f"{name_of_list} has no column {name!r}; {how}: {', '.join(heading)}")
    return place


def _ragged(cells: Sequence[str], width: int, first: int) -> str:
    if {len(cells), width} == {1, 2}:
        without = "no label" if len(cells) == 1 else f"the label '{cells[1]}'"
        return f"has {without}, unlike line {first}; either every line has a label or none"
    return f"{len(cells)} columns, expected {width} as in line {first}"


def _check_split(split: str, where: str, width: int) -> None:
    if split.lower() not in (*TRAIN_NAMES, *TEST_NAMES):
        raise ValueError(
            f"{where}: {width} columns without a heading are path, label and split, but '{split}' is neither train nor "
            "test; give path and label alone, or a first line that names the columns"
        )

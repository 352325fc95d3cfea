"""Labelled videos, images and sounds in the layouts their authors publish, as training and test samples.

    data = labelled_set("UCF101", split=1)
    data.train[0]   # Item(path=..., label=0, source="ApplyEyeMakeup g08")

Layouts are told apart by what lies in the folder; `TREES` shows each. Nothing is decoded here.
"""

from __future__ import annotations

import collections
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from ..lists.lists import TEST_NAMES, TRAIN_NAMES, Columns, exists, read_list
from ..lists.recordings import frames_of, recordings
from ..lists.rows import check_repeats
from ..lists.sources import is_list
from ..media.container import printable
from ..media.images import natural_key
from .layouts import (
    NUM_SPLITS,
    READERS,
    TREES,
    Media,
    Row,
    _media_of,
    folders_of,
    holds_media,
    indented,
    kinetics_lists,
    something_labels,
)
from .parted import held_out, without_missing

Layout = Literal["auto", "ucf101", "hmdb51", "kinetics", "something", "imagenet", "esc50", "folders", "list"]


_MAX_LISTED = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One labelled sample: a file, or a part of one.

    Args:
        path: The file.
        label: Number of its class, from 0.
        source: Name of the recording it was cut from; "" if it is its own. Samples of one recording are never
            counted as neighbours of each other.
        start_seconds: Where the sample starts; None for the start of the file.
        end_seconds: Where it ends; None for the end of the file.
    """

    path: Path
    label: int
    source: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class LabelledSet:
    """A data set split in two.

    Args:
        name: For people: "UCF101 split 1".
        media: What the files are.
        class_names: Name of each label.
        train: What may be learned from, in the order of the published list.
        test: What is scored.
    """

    name: str
    media: Media
    class_names: tuple[str, ...]
    train: tuple[Item, ...]
    test: tuple[Item, ...]


def labelled_set(
    root: str | os.PathLike[str],
    *,
    layout: Layout = "auto",
    split: int = 1,
    columns: Columns | None = None,
    source_pattern: str | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    missing_budget: float = 0.01,
) -> LabelledSet:
    """Read which files belong to which class and split.

    Args:
        root: Folder in one of the layouts of `TREES`, or a list (.csv, .txt).
        layout: Which of them; "auto" tells by what lies there.
        split: Of the data sets that publish several: UCF101 and HMDB51 have 1 to 3; ESC-50 has 1 to 5, the fold
            that is the test split.
        columns: Of a list.
        source_pattern: Regular expression that tells files cut from one recording: those whose paths match it with
            equal groups. None is what the data set publishes (groups of UCF101, films of HMDB51, src_file of
            ESC-50, YouTube ids of Kinetics), or what the names say (see `_recordings`), else each file for itself.
        test_share: Share of the recordings of each class that a drawn test split takes, where none is published.
        seed: Of that draw.
        missing_budget: Share of the listed files that may be missing, in [0, 1].

    Raises:
        ValueError: Nothing of that layout is there; a list is malformed; files are missing; a sample is in both
            splits; a split is empty. The message names file and line, and shows the expected tree.
    """
    root = Path(root).absolute()
    if source_pattern is not None and re.compile(source_pattern).groups == 0:
        raise ValueError(f"source_pattern {source_pattern!r} has no group (...) that names the source")
    found_layout = _detect(root) if layout == "auto" else layout
    _check_use(root, found_layout, split=split, columns=columns)
    if found_layout == "list":
        rows = list(_list(root, columns or Columns()))
    else:
        rows = list(READERS[found_layout](root, split))
    rows = without_missing(rows, root, layout=found_layout, budget=missing_budget)
    name = _set_name(root, found_layout, split)
    if source_pattern is not None:
        rows = [replace(row, source=_matched(source_pattern, row)) for row in rows]
    elif not any(row.source for row in rows):
        rows = _with_recordings(rows, name, layout=found_layout)
    if rows and all(row.split == "all" for row in rows):
        rows = held_out(rows, share=test_share, seed=seed, name=name)
    return _assemble(rows, name=name, root=root, layout=found_layout)


def split_numbers(root: str | os.PathLike[str], *, layout: Layout = "auto") -> tuple[int, ...]:
    """Numbers of the splits that a data set publishes: (1, 2, 3) for UCF101; (1,) where there is only one."""
    found_layout = _detect(Path(root).absolute()) if layout == "auto" else layout
    return tuple(range(1, NUM_SPLITS.get(found_layout, 1) + 1))


def _detect(root: Path) -> str:
    """Tell a layout by what lies in the folder."""
    if root.is_file():
        if is_list(root):
            return "list"
        raise ValueError(f"{printable(root)} is neither a folder nor a list (.csv, .txt, .tsv) of labelled files")
    if not root.is_dir():
        raise ValueError(f"{printable(root)} does not exist; give the folder of a labelled data set, or a list")
    signs: dict[str, Callable[[], bool]] = {
        "ucf101": lambda: (root / "ucfTrainTestlist").is_dir(),
        "hmdb51": lambda: (root / "testTrainMulti_7030_splits").is_dir(),
        "esc50": lambda: (root / "meta" / "esc50.csv").is_file(),
        "something": lambda: something_labels(root) is not None and not (root / "train").is_dir(),
        "kinetics": lambda: bool(kinetics_lists(root, "train")),
        "imagenet": lambda: (root / "train").is_dir(),
        "folders": lambda: any(holds_media(folder) for folder in folders_of(root)),
    }
    for layout, is_there in signs.items():
        if is_there():
            return layout
    lists = sorted(path.name for path in root.iterdir() if is_list(path))
    hint = f"; to read a list, give the list itself ({', '.join(lists[:5])})" if lists else ""
    trees = "\n".join(f"{layout}:\n{indented(tree)}" for layout, tree in TREES.items())
    raise ValueError(f"{printable(root)} has no layout that is known{hint}. These are:\n{trees}")


def _check_use(root: Path, layout: str, *, split: int, columns: Columns | None) -> None:
    """Raise ValueError for options that the layout has no use for, and for what is not there."""
    if not root.exists():
        raise ValueError(f"{printable(root)} does not exist; expected\n{indented(TREES[layout])}")
    if root.is_dir() == (layout == "list"):
        kind = "a folder" if root.is_dir() else "a file"
        raise ValueError(f"{printable(root)} is {kind}; the layout {layout!r} is\n{indented(TREES[layout])}")
    if not 1 <= split <= NUM_SPLITS.get(layout, 1):
        raise ValueError(
            f"split is {split}, but {printable(root)} (layout {layout!r}) has splits 1 to {NUM_SPLITS.get(layout, 1)}"
        )
    if columns not in (None, Columns()) and layout != "list":
        raise ValueError(f"columns are of lists; {printable(root)} has the layout {layout!r}, which names its own")


def _list(path: Path, columns: Columns) -> Iterator[Row]:
    """Rows of a list."""
    listing = read_list(path, columns=columns)
    names, listed = listing.columns, listing.rows
    if "label" not in names:
        raise ValueError(f"{printable(path)} has no labels; expected\n{indented(TREES['list'])}")
    if "split" not in names and columns.test_values:
        raise ValueError(
            f"test_values {columns.test_values} need a split column; {printable(path)} has {', '.join(names)}"
        )
    values = [row.texts["split"] for row in listed] if "split" in names else []
    splits = _split_names(path, values, columns.test_values)
    logger.info("%s", listing.description)
    for row in listed:
        start, end = (_seconds(row.texts.get(name, ""), row.where) for name in ("start", "end"))
        if (start or 0) >= (math.inf if end is None else end):
            raise ValueError(f"{row.where}: the part ends at {end} s, not after its start at {start} s")
        yield Row(
            row.path if exists(row.path) else None,
            row.texts["path"],
            row.texts["label"],
            splits[row.texts["split"]] if "split" in names else "all",
            row.where,
            row.texts.get("source", ""),
            start,
            end,
        )


def _split_names(path: Path, values: Sequence[str], test_values: Sequence[str]) -> dict[str, str]:
    """What each value of the split column stands for: "train", "test" or "" (unused)."""
    counts = collections.Counter(values)
    if test_values:
        absent = [value for value in test_values if value not in counts]
        if absent:
            raise ValueError(
                f"{printable(path)}: no sample has the split {', '.join(absent)}; there are {', '.join(counts)}"
            )
        return {value: "test" if value in test_values else "train" for value in counts}
    strange = [value for value in counts if value.lower() not in (*TRAIN_NAMES, *TEST_NAMES)]
    if strange:
        raise ValueError(
            f"{printable(path)}: the split is neither train nor test: {', '.join(strange[:_MAX_LISTED])}; say which "
            "values make the test split by --test-values, all others are for training"
        )
    test = next((name for name in TEST_NAMES if any(value.lower() == name for value in counts)), None)
    names = {}
    for value in counts:
        names[value] = "train" if value.lower() in TRAIN_NAMES else "test" if value.lower() == test else ""
        if not names[value]:
            logger.info("%s: %d samples of the split '%s' are not used", path.name, counts[value], value)
    return names


def _assemble(rows: list[Row], *, name: str, root: Path, layout: str) -> LabelledSet:
    """Number the classes and check the splits."""
    parts = {part: [row for row in rows if row.split == part] for part in ("train", "test")}
    for part, own in parts.items():
        if not own:
            raise ValueError(
                f"{printable(root)} has no samples for the {part} split; expected\n{indented(TREES[layout])}"
            )
    trained = {row.key: row.where for row in parts["train"]}
    twice = next((row for row in parts["test"] if row.key in trained), None)
    if twice is not None:
        raise ValueError(f"{twice.where}: {twice.wanted} is a training sample, too ({trained[twice.key]})")
    if layout != "list":  # whose reader has looked
        check_repeats(((row.key, row.class_name, row.wanted, row.where) for row in rows if row.path), name=name)
    class_names = sorted({row.class_name for row in rows}, key=natural_key)
    unseen = sorted({row.class_name for row in parts["test"]} - {row.class_name for row in parts["train"]})
    if unseen:
        logger.warning("%s: %d classes have no training sample: %s", name, len(unseen), ", ".join(unseen[:5]))
    _warn_of_shared_files(parts["train"], parts["test"], name)
    number = {class_name: label for label, class_name in enumerate(class_names)}

    def items(part: str) -> tuple[Item, ...]:
        return tuple(
            Item(row.path, number[row.class_name], row.source, row.start, row.end)
            for row in parts[part]
            if row.path is not None
        )

    return LabelledSet(name, _media(rows), tuple(class_names), items("train"), items("test"))


def _warn_of_shared_files(train: list[Row], test: list[Row], name: str) -> None:
    """Parts of one recording on both sides make a test easy; that may be its point, but must be known."""
    own = {row.path for row in train if not row.source}
    shared = {row.path for row in test if not row.source and row.path in own}
    if shared:
        logger.warning(
            "%s: %d files have parts in both splits, so recordings can be recognised; where classes should be, name "
            "the column of the recordings by --source-column (that of the file names will do)",
            name,
            len(shared),
        )
    recorded = {row.source for row in train if row.source}
    both = [row.source for row in test if row.source in recorded]
    if both:
        logger.warning(
            "%s: %d test samples are of recordings that have training samples, too (such as %s): its split lets "
            "recordings be recognised in the place of classes",
            name,
            len(both),
            printable(both[0]),
        )


def _with_recordings(rows: list[Row], name: str, *, layout: str) -> list[Row]:
    """Add what the names of files say of the recordings that they were cut from."""
    paths = [row.path for row in rows if row.path]
    found = recordings(paths)
    if not any(found) and layout == "list" and all(row.split == "all" for row in rows):
        found = frames_of(paths, [row.class_name for row in rows])
    if any(found):
        logger.info(
            "%s: names tell that %d samples were cut from %d recordings, such as %s; --source-pattern tells otherwise",
            name,
            sum(map(bool, found)),
            len({one for one in found if one}),
            printable(next(one for one in found if one)),
        )
    return [replace(row, source=source) for row, source in zip(rows, found, strict=True)]


def _media(rows: Iterable[Row]) -> Media:
    """What the files are, by their names or, where these say nothing, their first bytes."""
    examples: dict[str, Path] = {}
    for row in rows:
        assert row.path is not None
        examples.setdefault(_media_of(row.path), row.path)
    if len(examples) == 1 and "other" not in examples:
        return cast(Media, next(iter(examples)))
    kinds = ", ".join(f"{kind} ({printable(path)})" for kind, path in examples.items())
    raise ValueError(f"the files must all be videos, all images or all sounds; there are {kinds}")


def _matched(pattern: str, row: Row) -> str:
    match = re.search(pattern, str(row.path))
    return "/".join(match.groups("")) if match else ""


def _set_name(root: Path, layout: str, split: int) -> str:
    if layout == "list":
        return f"{root.parent.name}/{root.name}"
    names = {"ucf101": "UCF101", "hmdb51": "HMDB51", "esc50": "ESC-50", "kinetics": "Kinetics"}
    name = names.get(layout, "Something-Something" if layout == "something" else root.name)
    return f"{name} split {split}" if layout in NUM_SPLITS else name


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{where}: '{text}' is no time in seconds from 0")
    return seconds

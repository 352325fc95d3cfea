"""Labelled videos, images and sounds in the layouts their authors publish, as training and test samples.

    data = labelled_set("UCF101", split=1)
    data.train[0]   # Item(path=..., label=0, source="ApplyEyeMakeup g08")

Layouts are told apart by what lies in the folder; `TREES` shows each. Nothing is decoded here.
"""

from __future__ import annotations

import collections
import csv
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ..json_files import parse_json
from ._container import printable
from ._images import IMAGE_SUFFIXES, natural_key
from ._lists import TEST_NAMES, TRAIN_NAMES, Columns, exists, read_list
from ._recordings import frames_of, recordings
from ._sources import Source, find_in_folder, is_list, kind_of
from ._suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES

Media = Literal["video", "image", "audio"]
Layout = Literal["auto", "ucf101", "hmdb51", "kinetics", "something", "imagenet", "esc50", "folders", "list"]

TREES = {
    "ucf101": """ROOT/UCF-101/CLASS/v_CLASS_g01_c01.avi
ROOT/ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt ... testlist03.txt""",
    "hmdb51": """ROOT/CLASS/*.avi (or ROOT/hmdb51_org/CLASS/*.avi)
ROOT/testTrainMulti_7030_splits/CLASS_test_split1.txt ... CLASS_test_split3.txt""",
    "kinetics": """ROOT/train.csv, val.csv (or in ROOT/annotations): label,youtube_id,time_start,time_end,split
ROOT/train/ID_000010_000020.mp4, ROOT/val/ID_000010_000020.mp4 (or in train/CLASS, val/CLASS)""",
    "something": """ROOT/labels.json, train.json, validation.json (or in ROOT/labels)
ROOT/20bn-something-something-v2/ID.webm (or ROOT/videos/ID.mp4)""",
    "imagenet": """ROOT/train/CLASS/FILE
ROOT/val/CLASS/FILE (or test, or validation); FILE is an image, a video, a folder of frames or a sound""",
    "esc50": """ROOT/meta/esc50.csv: filename,fold,target,category,esc10,src_file,take
ROOT/audio/1-100032-A-0.wav""",
    "folders": """ROOT/CLASS/FILE; FILE is an image, a video, a folder of frames or a sound; there is no split, so one \
is drawn""",
    "list": """LIST.csv: a heading with path, label and, optionally, split, start_s, end_s, source; a sample a line
LIST.txt: path<tab>label, or path label; commas, tabs, semicolons or spaces separate the columns; paths are relative \
to the folder of the list""",
}
NUM_SPLITS = {"ucf101": 3, "hmdb51": 3, "esc50": 5}

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


@dataclass(frozen=True)
class _Row:
    """A sample as a list names it, before it is known whether the file is there.

    Args:
        path: The file; None if there is none.
        wanted: What the list asks for.
        class_name: Of its class.
        split: "train", "test" or "" (neither).
        where: List and line, or the folder it lies in.
        source: As in `Item`.
        start: Seconds, as in `Item`.
        end: Likewise.
    """

    path: Path | None
    wanted: str
    class_name: str
    split: str
    where: str
    source: str = ""
    start: float | None = None
    end: float | None = None

    @property
    def key(self) -> tuple[str, float | None, float | None]:
        return str(self.path), self.start, self.end


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
        rows = list(_READERS[found_layout](root, split))
    rows = _without_missing(rows, root, layout=found_layout, budget=missing_budget)
    name = _set_name(root, found_layout, split)
    if source_pattern is not None:
        rows = [replace(row, source=_matched(source_pattern, row)) for row in rows]
    elif not any(row.source for row in rows):
        rows = _with_recordings(rows, name, layout=found_layout)
    if rows and all(row.split == "all" for row in rows):
        rows = _held_out(rows, share=test_share, seed=seed, name=name)
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
        "something": lambda: _something_labels(root) is not None and not (root / "train").is_dir(),
        "kinetics": lambda: bool(_kinetics_lists(root, "train")),
        "imagenet": lambda: (root / "train").is_dir(),
        "folders": lambda: any(_holds_media(folder) for folder in _folders(root)),
    }
    for layout, is_there in signs.items():
        if is_there():
            return layout
    lists = sorted(path.name for path in root.iterdir() if is_list(path))
    hint = f"; to read a list, give the list itself ({', '.join(lists[:5])})" if lists else ""
    trees = "\n".join(f"{layout}:\n{_indented(tree)}" for layout, tree in TREES.items())
    raise ValueError(f"{printable(root)} has no layout that is known{hint}. These are:\n{trees}")


def _check_use(root: Path, layout: str, *, split: int, columns: Columns | None) -> None:
    """Raise ValueError for options that the layout has no use for, and for what is not there."""
    if not root.exists():
        raise ValueError(f"{printable(root)} does not exist; expected\n{_indented(TREES[layout])}")
    if root.is_dir() == (layout == "list"):
        kind = "a folder" if root.is_dir() else "a file"
        raise ValueError(f"{printable(root)} is {kind}; the layout {layout!r} is\n{_indented(TREES[layout])}")
    if not 1 <= split <= NUM_SPLITS.get(layout, 1):
        raise ValueError(
            f"split is {split}, but {printable(root)} (layout {layout!r}) has splits 1 to {NUM_SPLITS.get(layout, 1)}"
        )
    if columns not in (None, Columns()) and layout != "list":
        raise ValueError(f"columns are of lists; {printable(root)} has the layout {layout!r}, which names its own")


# ---------------------------------------------------------------- readers of the layouts: (root, split) -> rows


def _ucf101(root: Path, split: int) -> Iterator[_Row]:
    lists = root / "ucfTrainTestlist"
    classes = {}
    for where, line in _lines(lists / "classInd.txt", "ucf101"):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise ValueError(f"{where}: got '{line}', expected e.g. '1 ApplyEyeMakeup'")
        classes[name] = int(number)
    files = _by_stem(_first_folder(root, "UCF-101", "UCF101"))
    for part, file in (("train", f"trainlist{split:02}.txt"), ("test", f"testlist{split:02}.txt")):
        for where, line in _lines(lists / file, "ucf101"):
            path, _, number = line.partition(" ")
            class_name, _, stem = path.removesuffix(".avi").partition("/")
            if class_name not in classes or not stem or number not in ("", str(classes[class_name])):
                raise ValueError(
                    f"{where}: got '{line}', expected e.g. 'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1' with a "
                    "class and its number from classInd.txt"
                )
            group = re.search(r"_(g\d+)_c\d+$", stem)
            source = f"{class_name} {group[1]}" if group else ""
            yield _Row(files.get(f"{class_name}/{stem}"), path, class_name, part, where, source)


def _hmdb51(root: Path, split: int) -> Iterator[_Row]:
    lists = sorted((root / "testTrainMulti_7030_splits").glob(f"*_test_split{split}.txt"))
    if not lists:
        raise _no_file(root / "testTrainMulti_7030_splits" / f"CLASS_test_split{split}.txt", "hmdb51")
    files = _by_stem(_first_folder(root, "hmdb51_org", "videos"))
    for file in lists:
        class_name = file.name.removesuffix(f"_test_split{split}.txt")
        for where, line in _lines(file, "hmdb51"):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not name:
                raise ValueError(
                    f"{where}: got '{line}', expected a file name and 1 (train), 2 (test) or 0 (unused), e.g. "
                    "'April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1'"
                )
            part = {"0": "", "1": "train", "2": "test"}[use]
            # FILM_CLASS_PROPERTIES_NUMBER.avi
            film, is_there, _ = name.partition(f"_{class_name}_")
            path = files.get(f"{class_name}/{name.strip().removesuffix('.avi')}")
            yield _Row(path, f"{class_name}/{name}", class_name, part, where, film if is_there else "")


def _kinetics(root: Path, split: int) -> Iterator[_Row]:
    classes: set[str] = set()
    for part, names in (("train", ("train",)), ("test", ("val", "validate", "validation"))):
        lists = _kinetics_lists(root, names[0])
        if len(lists) != 1:
            problem = f"has {len(lists)} lists named *{names[0]}*.csv: {', '.join(map(str, lists))}"
            raise ValueError(f"{printable(root)} {problem}; expected one\n{_indented(TREES['kinetics'])}")
        folders = [root / name for name in names if (root / name).is_dir()]
        if not folders:
            raise _no_file(root / names[0], "kinetics")
        files = {key.rpartition("/")[2]: path for key, path in _by_stem(folders[0]).items()}
        for where, row in _table(lists[0], needed=("label", "youtube_id", "time_start", "time_end")):
            try:
                span = f"{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
            except ValueError as error:
                raise ValueError(f"{where}: time_start and time_end must be seconds, got {row}") from error
            class_name = row["label"]
            if part == "test" and class_name not in classes:
                raise ValueError(f"{where}: the class '{class_name}' does not occur in the training list")
            classes.add(class_name)
            stem = f"{row['youtube_id']}_{span}"
            wanted = f"{folders[0].name}/{stem}.mp4"
            yield _Row(files.get(stem), wanted, class_name, part, where, row["youtube_id"])


def _something(root: Path, split: int) -> Iterator[_Row]:
    labels = _something_labels(root)
    if labels is None:
        raise _no_file(root / "labels.json", "something")
    known = _json(labels, "something")
    files = _by_stem(_first_folder(root, "20bn-something-something-v2", "videos"))
    for part, name in (("train", "train"), ("test", "validation")):
        path = next((path for path in _something_files(labels.parent, name) if path.is_file()), None)
        if path is None:
            raise _no_file(labels.parent / f"{name}.json", "something")
        for number, entry in enumerate(_json(path, "something")):
            where = f"{printable(path)}: entry {number}"
            try:
                class_name = entry["template"].replace("[", "").replace("]", "")
                video = str(entry["id"])
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{where} is {entry}; expected 'id' and 'template'") from error
            if class_name not in known:
                raise ValueError(f"{where}: '{class_name}' is not in {labels.name}")
            yield _Row(files.get(video), f"{video}.webm", class_name, part, where)


def _imagenet(root: Path, split: int) -> Iterator[_Row]:
    test = next((root / name for name in ("val", "test", "validation") if (root / name).is_dir()), None)
    if test is None or not (root / "train").is_dir():
        raise _no_file(root / ("train" if test else "val"), "imagenet")
    unused = [folder.name for folder in _folders(root) if folder not in (root / "train", test)]
    if unused := [name for name in unused if _holds_media(root / name)]:
        logger.warning(
            "%s: what lies in %s is not used: train and %s are", printable(root), ", ".join(unused), test.name
        )
    yield from _class_folders({"train": root / "train", "test": test}, layout="imagenet")


def _folders_layout(root: Path, split: int) -> Iterator[_Row]:
    yield from _class_folders({"all": root}, layout="folders")


def _esc50(root: Path, split: int) -> Iterator[_Row]:
    table = root / "meta" / "esc50.csv"
    if not table.is_file():
        raise _no_file(table, "esc50")
    files = _by_stem(root / "audio")
    for where, row in _table(table, needed=("filename", "fold", "category", "src_file")):
        path = files.get(Path(row["filename"]).stem)
        part = "test" if row["fold"] == str(split) else "train"
        yield _Row(path, row["filename"], row["category"], part, where, row["src_file"])


_READERS: dict[str, Callable[[Path, int], Iterator[_Row]]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "kinetics": _kinetics,
    "something": _something,
    "imagenet": _imagenet,
    "folders": _folders_layout,
    "esc50": _esc50,
}


def _list(path: Path, columns: Columns) -> Iterator[_Row]:
    """Rows of a list."""
    listing = read_list(path, columns=columns)
    names, listed = listing.columns, listing.rows
    if "label" not in names:
        raise ValueError(f"{printable(path)} has no labels; expected\n{_indented(TREES['list'])}")
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
        yield _Row(
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


# ---------------------------------------------------------------- from rows to a set


def _without_missing(rows: list[_Row], root: Path, *, layout: str, budget: float) -> list[_Row]:
    """Leave out unused rows and those without a file; too many of the latter are an error."""
    rows = [row for row in rows if row.split]
    missing = [row for row in rows if row.path is None]
    if not missing:
        return rows
    shown = "".join(f"  {row.where}: {printable(row.wanted)}\n" for row in missing[:_MAX_LISTED])
    shown += "  ...\n" * (len(missing) > _MAX_LISTED)
    text = f"{len(missing)} of {len(rows)} files listed for {printable(root)} are missing"
    if len(missing) > budget * len(rows):
        share = math.ceil(len(missing) / len(rows) * 1000) / 1000
        more = f"Go on without them by --missing-budget {share:g}. " if len(missing) < len(rows) else ""
        raise ValueError(
            f"{text}, more than {budget:g} of them:\n{shown}{more}Expected:\n{_indented(TREES[layout])}"
        )
    logger.warning("%s and left out:\n%s", text, shown.rstrip())
    return [row for row in rows if row.path is not None]


def _held_out(rows: list[_Row], *, share: float, seed: int, name: str) -> list[_Row]:
    """Draw a test split: a share of the recordings of every class, at least one where there are two."""
    if not 0 < share < 1:
        raise ValueError(f"test_share is {share}, expected more than 0 and less than 1")
    generator = np.random.default_rng(seed)
    # Parts of a file are of one recording, whatever the list says of sources.
    recordings = [row.source or str(row.path) for row in rows]
    by_class: dict[str, set[str]] = collections.defaultdict(set)
    seen: set[str] = set()
    for row, recording in zip(rows, recordings, strict=True):
        if recording not in seen or recording in by_class[row.class_name]:
            by_class[row.class_name].add(recording)
        seen.add(recording)
    test: set[str] = set()
    for class_name in sorted(by_class, key=natural_key):
        own = sorted(by_class[class_name])
        num_test = min(len(own) - 1, max(1, round(share * len(own)))) if own else 0
        test |= {own[number] for number in generator.permutation(len(own))[:num_test].tolist()}
    result = [
        replace(row, split="test" if recording in test else "train")
        for row, recording in zip(rows, recordings, strict=True)
    ]
    logger.info(
        "%s publishes no split: %d of %d recordings (seed %d) are held out as the test split, %d of %d samples",
        name, len(test), len(seen), seed, sum(row.split == "test" for row in result), len(rows),
    )  # fmt: skip
    return result


def _assemble(rows: list[_Row], *, name: str, root: Path, layout: str) -> LabelledSet:
    """Number the classes and check the splits."""
    parts = {part: [row for row in rows if row.split == part] for part in ("train", "test")}
    for part, own in parts.items():
        if not own:
            raise ValueError(
                f"{printable(root)} has no samples for the {part} split; expected\n{_indented(TREES[layout])}"
            )
    trained = {row.key: row.where for row in parts["train"]}
    twice = next((row for row in parts["test"] if row.key in trained), None)
    if twice is not None:
        raise ValueError(f"{twice.where}: {twice.wanted} is a training sample, too ({trained[twice.key]})")
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


def _warn_of_shared_files(train: list[_Row], test: list[_Row], name: str) -> None:
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


def _with_recordings(rows: list[_Row], name: str, *, layout: str) -> list[_Row]:
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


def _media(rows: Iterable[_Row]) -> Media:
    """What the files are, by their names or, where these say nothing, their first bytes."""
    examples: dict[str, Path] = {}
    for row in rows:
        assert row.path is not None
        examples.setdefault(_media_of(row.path), row.path)
    if len(examples) == 1 and "other" not in examples:
        return cast(Media, next(iter(examples)))
    kinds = ", ".join(f"{kind} ({printable(path)})" for kind, path in examples.items())
    raise ValueError(f"the files must all be videos, all images or all sounds; there are {kinds}")


def _media_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:  # before anything that asks the disk: there may be a million
        return "image"
    if suffix in VIDEO_SUFFIXES or path.is_dir():
        return "video"
    return kind_of(path)


def _matched(pattern: str, row: _Row) -> str:
    match = re.search(pattern, str(row.path))
    return "/".join(match.groups("")) if match else ""


def _set_name(root: Path, layout: str, split: int) -> str:
    if layout == "list":
        return f"{root.parent.name}/{root.name}"
    names = {"ucf101": "UCF101", "hmdb51": "HMDB51", "esc50": "ESC-50", "kinetics": "Kinetics"}
    name = names.get(layout, "Something-Something" if layout == "something" else root.name)
    return f"{name} split {split}" if layout in NUM_SPLITS else name


# ---------------------------------------------------------------- files and folders


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _no_file(path: Path, layout: str) -> ValueError:
    return ValueError(f"{printable(path)} is missing; expected\n{_indented(TREES[layout])}")


def _text(path: Path, layout: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except FileNotFoundError as error:
        raise _no_file(path, layout) from error


def _lines(path: Path, layout: str) -> Iterator[tuple[str, str]]:
    """(file and line, text) of every line that is not blank."""
    for number, line in enumerate(_text(path, layout).splitlines(), start=1):
        if line.strip():
            yield f"{printable(path)}:{number}", line.strip()


def _table(path: Path, *, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of a CSV file with a heading."""
    heading, rows = None, csv.reader(_text(path, "list").splitlines())
    for cells in rows:
        where = f"{printable(path)}:{rows.line_num}"
        if heading is None:
            heading = cells
            if absent := [name for name in needed if name not in heading]:
                raise ValueError(f"{where}: no column {', '.join(absent)}; got {', '.join(heading)}")
        elif cells:
            if len(cells) != len(heading):
                raise ValueError(f"{where}: {len(cells)} columns, the heading has {len(heading)}")
            yield where, dict(zip(heading, cells, strict=True))


def _json(path: Path, layout: str) -> Any:
    try:
        return parse_json(_text(path, layout), Any, where=printable(path))
    except ValueError as error:
        raise ValueError(f"{error}; expected\n{_indented(TREES[layout])}") from error


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


def _folders(root: Path) -> list[Path]:
    found = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))


def _first_folder(root: Path, *names: str) -> Path:
    """The first of some folders that is there, else the root itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def _holds_media(folder: Path) -> bool:
    """Whether there are videos, images or sounds below a folder, hidden ones left out."""
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if any(_media_of(Path(parent, name)) != "other" for name in names if not name.startswith(".")):
            return True
    return False


def _by_stem(folder: Path) -> dict[str, Path]:
    """Media files of a folder and its folders by "FOLDER/NAME" without suffix: re-encoded files are found, too."""
    found = {}
    for base in [folder, *_folders(folder)] if folder.is_dir() else []:
        prefix = "" if base == folder else f"{base.name}/"
        with os.scandir(base) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 (a million names)
                if suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES | IMAGE_SUFFIXES:
                    found[prefix + stem] = base / entry.name
    return found


def _class_folders(parts: dict[str, Path], *, layout: str) -> Iterator[_Row]:
    """Samples of folders of classes, by split: those that pretraining on the same folders finds."""
    for folder in parts.values():
        if not _folders(folder):
            raise ValueError(
                f"{printable(folder)} holds no folder per class; expected\n{_indented(TREES[layout])}"
            )
    found = {split: find_in_folder(folder, media="video") for split, folder in parts.items()}
    media: Media = "video"
    if not any(source.holds_videos for source in found.values()):
        for media in ("image", "audio"):
            found = {split: find_in_folder(folder, media=media) for split, folder in parts.items()}
            if any(source.paths for source in found.values()):
                break
    for split, source in found.items():
        _check_found(source, media, layout=layout)
        for path in source.paths:
            class_name = path.relative_to(source.root).parts[0]
            yield _Row(path, str(path), class_name, split, str(source.root / class_name))


def _check_found(source: Source, media: Media, *, layout: str) -> None:
    """Raise ValueError for what would be left out of folders of classes; tell what is no media."""
    root = printable(source.root)
    if source.closed:
        folders = "".join(f"\n  {printable(folder)} {reason}" for folder, reason in source.closed)
        raise ValueError(f"{root} holds folders that are closed; open them, or move them away:{folders}")
    loose = [path for path in source.paths if path.parent == source.root and path not in source.frame_folders]
    if loose:
        shown = ", ".join(printable(path.name) for path in loose[:_MAX_LISTED])
        raise ValueError(
            f"{len(loose)} of {len(source.paths)} {media} files lie directly in {root}, beside the folders of the "
            f"classes: {shown}{', ...' * (len(loose) > _MAX_LISTED)}. Move them into the folder of their class, or "
            f"away; `vidssl extract --no-labels` takes all files of a folder. Expected\n{_indented(TREES[layout])}"
        )
    # A class whose images lie directly in its folder, among classes of videos: are they frames or samples?
    classes = [folder for folder in source.frame_folders if folder.parent == source.root]
    if media == "video" and classes:
        raise ValueError(
            f"{len(classes)} of the folders of {root} hold images ({printable(classes[0])}), others hold videos: the "
            "files must all be videos, all images or all sounds. Expected\n" + _indented(TREES[layout])
        )
    if source.other_media and source.paths:
        examples = sorted({media: source.paths[0], **source.other_media}.items())
        kinds = ", ".join(f"{kind} ({printable(path)})" for kind, path in examples)
        raise ValueError(f"the files must all be videos, all images or all sounds; there are {kinds}")
    if source.others:
        logger.info("%s: passed over: %s", root, source.others)


def _kinetics_lists(root: Path, part: str) -> list[Path]:
    """Lists of a split: ROOT/*train*.csv, else ROOT/annotations/*train*.csv."""
    for folder in (root, root / "annotations"):
        if found := sorted(folder.glob(f"*{part}*.csv")):
            return found
    return []


def _something_labels(root: Path) -> Path | None:
    paths = (path for folder in (root, root / "labels") for path in _something_files(folder, "labels"))
    return next((path for path in paths if path.is_file()), None)


def _something_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Names that the files of Something-Something had over the years."""
    return folder / f"{name}.json", folder / f"something-something-v2-{name}.json"

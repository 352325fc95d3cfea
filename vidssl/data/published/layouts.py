"""The layouts that authors of labelled data sets publish, each with a reader: (root, split) -> rows."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...json_files import parse_json
from ..lists.sources import Source, find_in_folder, kind_of
from ..lists.suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from ..lists.text import read_text
from ..media.container import printable
from ..media.images import IMAGE_SUFFIXES, natural_key

Media = Literal["video", "image", "audio"]

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
class Row:
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
        """What tells samples apart."""
        return str(self.path), self.start, self.end


def _ucf101(root: Path, split: int) -> Iterator[Row]:
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
            yield Row(files.get(f"{class_name}/{stem}"), path, class_name, part, where, source)


def _hmdb51(root: Path, split: int) -> Iterator[Row]:
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
            yield Row(path, f"{class_name}/{name}", class_name, part, where, film if is_there else "")


def _kinetics(root: Path, split: int) -> Iterator[Row]:
    classes: set[str] = set()
    for part, names in (("train", ("train",)), ("test", ("val", "validate", "validation"))):
        lists = kinetics_lists(root, names[0])
        if len(lists) != 1:
            problem = f"has {len(lists)} lists named *{names[0]}*.csv: {', '.join(map(str, lists))}"
            raise ValueError(f"{printable(root)} {problem}; expected one\n{indented(TREES['kinetics'])}")
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
            yield Row(files.get(stem), wanted, class_name, part, where, row["youtube_id"])


def _something(root: Path, split: int) -> Iterator[Row]:
    labels = something_labels(root)
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
            yield Row(files.get(video), f"{video}.webm", class_name, part, where)


def _imagenet(root: Path, split: int) -> Iterator[Row]:
    test = next((root / name for name in ("val", "test", "validation") if (root / name).is_dir()), None)
    if test is None or not (root / "train").is_dir():
        raise _no_file(root / ("train" if test else "val"), "imagenet")
    unused = [folder.name for folder in folders_of(root) if folder not in (root / "train", test)]
    if unused := [name for name in unused if holds_media(root / name)]:
        logger.warning(
            "%s: what lies in %s is not used: train and %s are", printable(root), ", ".join(unused), test.name
        )
    yield from class_folders({"train": root / "train", "test": test}, layout="imagenet")


def _folders_layout(root: Path, split: int) -> Iterator[Row]:
    yield from class_folders({"all": root}, layout="folders")


def _esc50(root: Path, split: int) -> Iterator[Row]:
    table = root / "meta" / "esc50.csv"
    if not table.is_file():
        raise _no_file(table, "esc50")
    files = _by_stem(root / "audio")
    for where, row in _table(table, needed=("filename", "fold", "category", "src_file")):
        path = files.get(Path(row["filename"]).stem)
        part = "test" if row["fold"] == str(split) else "train"
        yield Row(path, row["filename"], row["category"], part, where, row["src_file"])


READERS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "kinetics": _kinetics,
    "something": _something,
    "imagenet": _imagenet,
    "folders": _folders_layout,
    "esc50": _esc50,
}


def _media_of(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:  # before anything that asks the disk: there may be a million
        return "image"
    if suffix in VIDEO_SUFFIXES or path.is_dir():
        return "video"
    return kind_of(path)


def indented(text: str) -> str:
    """Indent every line, for messages."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def _no_file(path: Path, layout: str) -> ValueError:
    return ValueError(f"{printable(path)} is missing; expected\n{indented(TREES[layout])}")


def _text(path: Path, layout: str) -> str:
    try:
        return read_text(path, names_files=True)
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
        raise ValueError(f"{error}; expected\n{indented(TREES[layout])}") from error


def folders_of(root: Path) -> list[Path]:
    """Folders that lie directly in a folder, in order."""
    found = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))


def _first_folder(root: Path, *names: str) -> Path:
    """The first of some folders that is there, else the root itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def holds_media(folder: Path) -> bool:
    """Whether there are videos, images or sounds below a folder, hidden ones left out."""
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if any(_media_of(Path(parent, name)) != "other" for name in names if not name.startswith(".")):
            return True
    return False


def _by_stem(folder: Path) -> dict[str, Path]:
    """Media files of a folder and its folders by "FOLDER/NAME" without suffix: re-encoded files are found, too."""
    found = {}
    for base in [folder, *folders_of(folder)] if folder.is_dir() else []:
        prefix = "" if base == folder else f"{base.name}/"
        with os.scandir(base) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 (a million names)
                if suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES | IMAGE_SUFFIXES:
                    found[prefix + stem] = base / entry.name
    return found


def class_folders(parts: dict[str, Path], *, layout: str) -> Iterator[Row]:
    """Samples of folders of classes, by split: those that pretraining on the same folders finds."""
    for folder in parts.values():
        if not folders_of(folder):
            raise ValueError(f"{printable(folder)} holds no folder per class; expected\n{indented(TREES[layout])}")
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
            yield Row(path, str(path), class_name, split, str(source.root / class_name))


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
            f"away; `vidssl extract --no-labels` takes all files of a folder. Expected\n{indented(TREES[layout])}"
        )
    # A class whose images lie directly in its folder, among classes of videos: are they frames or samples?
    classes = [folder for folder in source.frame_folders if folder.parent == source.root]
    if media == "video" and classes:
        raise ValueError(
            f"{len(classes)} of the folders of {root} hold images ({printable(classes[0])}), others hold videos: the "
            "files must all be videos, all images or all sounds. Expected\n" + indented(TREES[layout])
        )
    if source.other_media and source.paths:
        examples = sorted({media: source.paths[0], **source.other_media}.items())
        kinds = ", ".join(f"{kind} ({printable(path)})" for kind, path in examples)
        raise ValueError(f"the files must all be videos, all images or all sounds; there are {kinds}")
    if source.others:
        logger.info("%s: passed over: %s", root, source.others)


def kinetics_lists(root: Path, part: str) -> list[Path]:
    """Lists of a split: ROOT/*train*.csv, else ROOT/annotations/*train*.csv."""
    for folder in (root, root / "annotations"):
        if found := sorted(folder.glob(f"*{part}*.csv")):
            return found
    return []


def something_labels(root: Path) -> Path | None:
    """The file that names the classes of Something-Something; None if there is none."""
    paths = (path for folder in (root, root / "labels") for path in _something_files(folder, "labels"))
    return next((path for path in paths if path.is_file()), None)


def _something_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Names that the files of Something-Something had over the years."""
    return folder / f"{name}.json", folder / f"something-something-v2-{name}.json"

"""Finding the files of a corpus: folders to any depth, lists and CSV files."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ._container import MediaError, printable, sniff
from ._images import IMAGE_SUFFIXES, image_paths, natural_key

if TYPE_CHECKING:
    from collections.abc import Sequence

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .dv .flv .gif .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpeg .mpg "
    ".mts .mxf .nut .ogv .qt .rm .rmvb .ts .vob .webm .wmv".split()
)
_AUDIO_SUFFIXES = frozenset(".aac .aif .aiff .amr .au .flac .m4a .mp3 .oga .ogg .opus .w64 .wav .wma".split())
# Names that say what a file is: no look at its bytes is needed.
_OTHER_SUFFIXES = frozenset(
    ".ckpt .csv .db .gz .h5 .hdf5 .html .json .jsonl .log .md .npy .npz .pdf .pkl .pt .pth .py .safetensors .sh "
    ".srt .tar .tgz .toml .tsv .txt .vtt .xml .yaml .yml .zip".split()
)

# Every class up to the largest label is given a name; a number of an account or a date must not fill the memory.
MAX_LABEL = 9_999_999


@dataclass
class Source:
    """Files of a corpus before they are opened."""

    root: Path
    paths: list[Path]
    labels: list[int] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    num_other: int = 0


def find(
    source: Path,
    *,
    labels: Literal["none", "folder"],
    media: Literal["video", "image", "any"],
    allow_outside: bool = False,
) -> Source:
    """Find the videos or images of a folder, a list (.txt) or a CSV file; see `Corpus.scan`.

    Raises:
        ValueError: The source does not exist, is malformed, or holds none.
    """
    if labels not in {"none", "folder"} or media not in {"video", "image", "any"}:
        raise ValueError(
            f"labels is {labels!r}, expected 'none' or 'folder'; media is {media!r}, expected 'video', 'image' or "
            "'any'"
        )
    source = source.absolute()
    if source.is_dir():
        found = _find_in_folder(source, media=media)
        if not found.paths and media == "any":
            found = _find_in_folder(source, media="image")
        if not found.paths:
            wanted = f"{_wanted('video')}, nor {_wanted('image')}" if media == "any" else _wanted(media)
            raise ValueError(
                f"{printable(source)} holds no {wanted}; {found.num_other} other files were passed over"
            )
        if labels == "folder":
            _label_by_folder(found)
    elif source.suffix.lower() in {".txt", ".csv"} and source.is_file():
        found = _read_list(source, allow_outside=allow_outside)
    elif source.exists():
        raise ValueError(
            f"{printable(source)} is neither a folder nor a list (.txt: one path per line; .csv: path,label); "
            f"give the folder that holds it"
        )
    else:
        raise ValueError(
            f"{printable(source)} does not exist; give a folder of videos, a .txt list or a .csv file"
        )
    found.labels = found.labels or [-1] * len(found.paths)
    return found


def _wanted(media: str) -> str:
    suffixes = sorted(VIDEO_SUFFIXES if media == "video" else IMAGE_SUFFIXES)
    frames = (
        ", nor a folder of at least two images without videos or folders beside them" if media == "video" else ""
    )
    return f"{media} files ({' '.join(suffixes)}){frames}"


def _find_in_folder(root: Path, *, media: str) -> Source:
    found = Source(root, [])
    seen: set[tuple[int, int]] = set()  # folders by device and inode: links may lead in circles
    for folder, subfolders, names in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=natural_key)
        paths = [Path(folder, name) for name in sorted(names, key=natural_key) if not name.startswith(".")]
        kinds = [_kind(path) for path in paths]
        wanted = "video" if media == "any" else media
        chosen = [path for path, kind in zip(paths, kinds, strict=True) if kind == wanted]
        if media == "video" and not chosen and not subfolders and len(image_paths(Path(folder))) >= 2:
            chosen = [Path(folder)]
            found.num_other += kinds.count("other")
        else:
            found.num_other += len(paths) - len(chosen)
        found.paths += chosen
    return found


def _kind(path: Path) -> Literal["video", "image", "other"]:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in _AUDIO_SUFFIXES or suffix in _OTHER_SUFFIXES or not path.is_file():
        return "other"
    try:
        kind = sniff(path)
    except MediaError:  # empty or unreadable, and its name does not claim to be media
        return "other"
    return {"image": "image", "media": "video", "unknown": "other"}[kind]  # type: ignore[return-value]


def _label_by_folder(found: Source) -> None:
    direct = [path for path in found.paths if path.parent == found.root or path == found.root]
    if direct:
        raise ValueError(
            f"{printable(direct[0])} lies directly in {printable(found.root)}; labels='folder' needs one folder "
            f"per class, as in {printable(found.root)}/CLASS/{printable(direct[0].name)}"
        )
    found.class_names = sorted({path.parent.name for path in found.paths}, key=natural_key)
    number = {name: label for label, name in enumerate(found.class_names)}
    found.labels = [number[path.parent.name] for path in found.paths]


def _read_list(source: Path, *, allow_outside: bool) -> Source:
    """Read a .txt or .csv list of paths and optional labels."""
    name = printable(source)
    example = "clips/run.mp4,0" if source.suffix.lower() == ".csv" else "clips/run.mp4 0"
    try:
        text = source.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror})") from error
    lines = text.splitlines()
    rows: list[tuple[int, str, str | None]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if source.suffix.lower() == ".csv":
                row = _csv_row(line, is_first=not rows)
            else:
                row = _list_row(line, source.parent)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{name}:{number}: {error}; expected e.g. '{example}'") from error
        if row is not None:
            rows.append((number, *row))
    if not rows:
        raise ValueError(f"{name} lists no files; expected one per line, e.g. '{example}'")
    found = Source(source, [])
    for number, path, label in rows:
        if "://" in path:
            raise ValueError(f"{name}:{number}: '{path}' is a URL; only local files are read, download it first")
        if (label is None) != (rows[0][2] is None):
            without = "no label" if label is None else f"the label '{label}'"
            raise ValueError(
                f"{name}:{number}: has {without}, unlike line {rows[0][0]}; either every line has a label or none"
            )
        if not allow_outside:
            refuse_outside(source.parent, path, where=f"{name}:{number}")
        found.paths.append(source.parent / path)
    absent = [(number, path) for (number, _, _), path in zip(rows, found.paths, strict=True) if not _exists(path)]
    if absent:
        number, first = absent[0]
        more = f" ({len(absent)} of {len(rows)} lines name no file)" if len(absent) > 1 else ""
        raise ValueError(
            f"{name}:{number}: {printable(first)} does not exist{more}; paths are relative to the list's folder; "
            f"expected e.g. '{example}'"
        )
    if rows[0][2] is not None:
        _number_labels(found, [(number, label or "") for number, _, label in rows], name)
    return found


def refuse_outside(folder: Path, path: str, *, where: str) -> None:
    """Raise ValueError if a path in a list does not lie below the folder of the list.

    Args:
        folder: Of the list.
        path: As the list has it. Links below the folder may lead anywhere: who made them owns the folder.
        where: File and line, for the message.
    """
    folder = Path(os.path.normpath(folder))
    if not Path(os.path.normpath(folder / path)).is_relative_to(folder):
        raise ValueError(
            f"{where}: '{path}' leads out of {printable(folder)}, the folder of the list; lists may come from others, "
            "so they reach only what lies beside or below them: move the list to a folder above its files"
        )


def _csv_row(line: str, *, is_first: bool) -> tuple[str, str | None] | None:
    """Split "path" or "path,label"; None for the heading."""
    cells = [cell.strip() for cell in next(csv.reader([line], strict=True))]
    if (
        is_first
        and cells[0].lower() == "path"
        and [cell.lower() for cell in cells] in (["path"], ["path", "label"])
    ):
        return None
    if len(cells) > 2:
        raise ValueError(f"{len(cells)} columns instead of path and label")
    if len(cells) == 1 and (";" in cells[0] or "\t" in cells[0]):
        raise ValueError("a semicolon or a tab separates the columns, not a comma")
    if not cells[0]:
        raise ValueError("the path is empty")
    if len(cells) == 2 and not cells[1]:
        raise ValueError("the label is empty")
    return cells[0], cells[1] if len(cells) == 2 else None


def _list_row(line: str, folder: Path) -> tuple[str, str | None]:
    """Split "path", "path<tab>label" or "path label"; a line that names a file as it stands is a path."""
    line = line.strip(" ")
    if "\t" in line:
        path, _, label = line.partition("\t")
        if not path.strip() or not label.strip() or "\t" in label:
            raise ValueError("a tab separates one path from one label")
        return path.strip(), label.strip()
    path, _, label = line.rpartition(" ")
    if path and not _exists(folder / line) and (label.isdecimal() or _exists(folder / path)):
        return path.strip(), label
    return line, None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long to be a name, or with a zero byte
        return False


def _number_labels(found: Source, labels: Sequence[tuple[int, str]], name: str) -> None:
    texts = [text for _, text in labels]
    if all(text.isdecimal() for text in texts):
        for number, text in labels:
            if len(text) > len(str(MAX_LABEL)):
                raise ValueError(
                    f"{name}:{number}: label is {text[:40]}; classes are counted from 0 to {MAX_LABEL}"
                )
        found.labels = [int(text) for text in texts]
        found.class_names = [str(label) for label in range(max(found.labels) + 1)]
        return
    for number, text in labels:
        if not text.isdecimal() and text.lstrip("+-").replace(".", "", 1).isdecimal():
            raise ValueError(f"{name}:{number}: label is {text}; labels are whole numbers from 0, or names")
    found.class_names = sorted(set(texts), key=natural_key)
    number_of = {text: label for label, text in enumerate(found.class_names)}
    found.labels = [number_of[text] for text in texts]

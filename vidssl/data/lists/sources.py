"""Finding the files of a corpus: folders to any depth, lists and CSV files."""

from __future__ import annotations

import collections
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..media.container import MediaError, printable, sniff
from ..media.images import IMAGE_SUFFIXES, image_paths, natural_key
from ..media.series import flow_folders
from .lists import TEST_NAMES, TRAIN_NAMES, example_of, exists, read_list
from .suffixes import AUDIO_SUFFIXES, LIST_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Names that say what a file is: no look at its bytes is needed.
_OTHER_SUFFIXES = frozenset(
    ".ckpt .csv .db .gz .h5 .hdf5 .html .json .jsonl .log .md .npy .npz .pdf .pkl .pt .pth .py .safetensors .sh "
    ".srt .tar .tgz .toml .tsv .txt .vtt .xml .yaml .yml .zip".split()
)

# Every class up to the largest label is given a name; a number of an account or a date must not fill the memory.
MAX_LABEL = 9_999_999

_MAX_NAMED = 3

_log = logging.getLogger(__name__)


@dataclass
class Others:
    """Files of a folder that were passed over: how many of each suffix, and the first by name."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    first: list[str] = field(default_factory=list)

    def add(self, path: Path, root: Path) -> None:
        """Count a file below `root`."""
        self.counts[path.suffix.lower()] += 1
        if len(self.first) < _MAX_NAMED:
            self.first.append(printable(path.relative_to(root)))

    def __len__(self) -> int:
        return self.counts.total()

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.counts.most_common())
        return f"{len(self)} files that are not read ({kinds}): {', '.join(self.first)}" + ", ..." * (
            len(self) > len(self.first)
        )


@dataclass
class Source:
    """Files of a corpus before they are opened.

    Args:
        root: Folder or list.
        paths: Files, and folders of frames.
        labels: Of each path.
        class_names: Of the labels.
        others: What was passed over.
        closed: (folder, why) of each folder that cannot be listed; what it holds is not among the paths.
        frame_folders: Those of the paths that are folders of frames.
        other_media: Kind -> the first file below a folder of the root that is media of another kind than the paths.
        has_parts: Whether a list names parts of files.
    """

    root: Path
    paths: list[Path]
    labels: list[int] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    others: Others = field(default_factory=Others)
    closed: list[tuple[Path, str]] = field(default_factory=list)
    frame_folders: list[Path] = field(default_factory=list)
    other_media: dict[str, Path] = field(default_factory=dict)
    has_parts: bool = False

    @property
    def holds_videos(self) -> bool:
        """Whether these are videos for those who did not ask for videos.

        A folder of images may be a class, or a video in frames. Several of different names in a folder below the
        root are videos, ROOT/CLASS/VIDEO/FRAME, and so they are one deeper (ROOT/CLASS/DAY/VIDEO/FRAME). What lies
        in ROOT/train and its like is told alike; several of one name, CLASS/images/FILE, are no videos.
        """
        if len(self.paths) > len(self.frame_folders) or self.root in self.frame_folders:
            return len(self.paths) > len(self.frame_folders)
        parts = [one.relative_to(self.root).parts for one in self.frame_folders]
        is_split = any(place[0].lower() in TRAIN_NAMES for place in parts)
        names: dict[tuple[str, ...], set[str]] = collections.defaultdict(set)
        for place in parts:
            depth = 2 if is_split and place[0].lower() in (*TRAIN_NAMES, *TEST_NAMES) else 1
            if len(place) > depth:
                names[place[:depth]].add(place[-1])
        return any(len(own) > 1 for own in names.values())

    def refuse_parts(self) -> None:
        """Raise ValueError for parts of files, which training does not read."""
        if self.has_parts:
            raise ValueError(
                f"{printable(self.root)} lists parts of files (start_s, end_s), which evaluations of frozen features "
                "read and training does not: cut the files first, or list whole ones"
            )


def find(
    source: Path,
    *,
    labels: Literal["none", "folder"],
    media: Literal["video", "image", "any"],
    allow_outside: bool | None = False,
) -> Source:
    """Find the videos or images of a folder or a list (.txt, .csv, .tsv); see `scan`.

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
        found = find_in_folder(source, media="video" if media == "any" else media)
        if media == "any" and not found.holds_videos:
            found = find_in_folder(source, media="image")
        for folder, reason in found.closed:
            _log.warning("%s %s", printable(folder), reason)
        if not found.paths and not found.closed:
            wanted = f"{_wanted('video')}, nor {_wanted('image')}" if media == "any" else _wanted(media)
            passed_over = f": {found.others}" if found.others else ""
            raise ValueError(
                f"{printable(source)} holds no {wanted}; {len(found.others)} other files were passed over{passed_over} "
                "(hidden ones, .NAME, are not looked at)"
            )
        if found.others:
            _log.info("%s: passed over: %s", printable(source), found.others)
        if labels == "folder":
            _label_by_folder(found)
    elif is_list(source) and source.is_file():
        found = _read_list(source, allow_outside=allow_outside)
    elif source.exists():
        raise ValueError(
            f"{printable(source)} is neither a folder nor a list (.txt: one path per line; .csv: path,label; .tsv); "
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


def is_list(path: Path) -> bool:
    """Whether a file is a list of others, by its name."""
    return path.suffix.lower() in LIST_SUFFIXES


def find_in_folder(root: Path, *, media: Literal["video", "image", "audio"]) -> Source:
    """Find the samples of one kind of media: what a sample is, for every command.

    A video is a file, or a folder with at least two images and no video in it, nor a folder but of the optical flow of
    these images. Links are followed, hidden files and folders left out.
    """
    found = Source(root, [])

    def close(error: OSError) -> None:
        folder = Path(error.filename or root)
        found.closed.append((folder, f"cannot be entered ({error.strerror}); what it holds is not read"))

    seen: set[tuple[int, int]] = set()  # folders by device and inode: links may lead in circles
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=close):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=natural_key)
        paths = [Path(folder, name) for name in sorted(names, key=natural_key) if not name.startswith(".")]
        kinds = [kind_of(path) for path in paths]
        chosen = [path for path, kind in zip(paths, kinds, strict=True) if kind == media]
        others = [(path, kind) for path, kind in zip(paths, kinds, strict=True) if kind != media]
        is_alone = flow_folders(subfolders) == subfolders  # flow of these frames is no video of its own
        if media == "video" and not chosen and is_alone and len(image_paths(Path(folder))) >= 2:
            chosen = [Path(folder)]
            flow = (path for name in subfolders for path in sorted(Path(folder, name).rglob("[!.]*")))
            others += [(path, "other") for path in flow if path.is_file()]
            subfolders.clear()
            found.frame_folders += chosen
            others = [(path, kind) for path, kind in others if kind != "image"]
        for path, kind in others:
            found.others.add(path, root)
            if kind != "other" and path.parent != root:
                found.other_media.setdefault(kind, path)
        found.paths += chosen
    return found


def kind_of(path: Path) -> Literal["video", "image", "audio", "other"]:
    """What a file holds, by its name or, where that says nothing, its first bytes."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    try:
        if suffix in _OTHER_SUFFIXES or not path.is_file():
            return "other"
        kind = sniff(path)
    except (MediaError, OSError):  # empty or unreadable, and its name does not claim to be media
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


def _read_list(source: Path, *, allow_outside: bool | None) -> Source:
    """Read a list of paths and optional labels."""
    listing = read_list(source, allow_outside=allow_outside)
    rows = listing.rows
    found = Source(source, [row.path for row in rows])
    found.has_parts = any(row.texts.get(name) for row in rows for name in ("start", "end"))
    absent = [row for row in rows if not exists(row.path)]
    if absent:
        more = f" ({len(absent)} of {len(rows)} lines name no file)" if len(absent) > 1 else ""
        raise ValueError(
            f"{absent[0].where}: {printable(absent[0].path)} does not exist{more}; paths are relative to the list's "
            f"folder; expected e.g. '{example_of(source)}'"
        )
    if "label" in listing.columns:
        _number_labels(found, [(row.line, row.texts["label"]) for row in rows], printable(source))
    splits = sorted({row.texts["split"] for row in rows}) if "split" in listing.columns else []
    taken = f"; taken from every split: {', '.join(map(printable, splits))}" if splits else ""
    _log.info("%s%s", listing.description, taken)
    return found


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

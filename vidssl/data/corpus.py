"""A corpus: the videos or images of a folder or a list, looked at once, with what is wrong with each of them.

    corpus = Corpus.scan("my_videos")
    print(corpus.summary())

Files are looked at in child processes, several at a time: a file that crashes the decoder or keeps it busy for
ever is reported like any other bad file. What was found is kept in the user's cache folder and believed as long as
a file's size and time of change stay the same.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..files import replacing
from ..json_files import Object, read_json
from ._audit import Finding, packet_findings
from ._container import MediaError, complaints, printable, regular_file
from ._isolation import allowed_seconds, call_each
from ._member import Member
from ._pyav import PyAVReader
from ._sources import Source, find, is_list
from ._times import Length

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from rich.console import Group

    from .video import Backend, Reader

__all__ = ["Audit", "Corpus", "Entry", "Finding", "audit"]

# Part of every cache record; raise it when what `probe` returns or how files are read changes.
_PROBE_VERSION = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One video or image of a corpus.

    Args:
        path: Absolute path of the file, or of the folder of frames.
        duration_seconds: From the first frame to the end of the last.
        fps: Mean frame rate.
        num_frames: Frames that can be shown.
        width: Of the upright picture, pixels.
        height: Likewise.
        has_audio: Whether there is an audio stream.
        audio_silent: Whether no sample of it exceeds -80 dB of full scale; None without audio, or if it cannot be
            decoded.
        label: Number of its class in `Corpus.class_names`, -1 without labels.
        source: Name of what it was cut from, where several files may be parts of one recording; else empty.
        index: What `open_video` need not find out again about the file, a few hundred bytes for each ten seconds.
        member: Where it lies in a shard (vidssl.data.shards); None for a file of its own. Then `path` is for people.
        damage: What looks wrong with a file that can be read all the same, as far as it goes; else empty. The scan
            sees what a look at the packets tells; `audit` decodes every picture and sees more.
        parts: (seconds of the first frame, frames, frames per second) of each part between gaps in which nothing was
            recorded; empty without gaps.
    """

    path: Path
    duration_seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    has_audio: bool
    audio_silent: bool | None
    label: int = -1
    source: str = ""
    index: bytes = field(default=b"", repr=False)
    member: Member | None = field(default=None, repr=False)
    damage: str = ""
    parts: Sequence[tuple[float, int, float]] = ()

    @property
    def length(self) -> float:
        """The duration for samplers of clips: a `Length` where there are gaps."""
        return Length(self.duration_seconds, self.parts) if self.parts else self.duration_seconds

    def open(self, *, backend: Backend = "pyav") -> Reader:
        """Open it; see `open_video`.

        Raises:
            MediaError: It cannot be read.
        """
        from .shards import index_of
        from .video import open_video

        if self.member is None:
            return open_video(self.path, backend=backend, index=self.index)
        if not self.member.is_remote:
            regular_file(self.member)
        try:
            member, known = self.member.load()
        except OSError as error:
            raise MediaError(self.member, str(error.strerror)) from error
        return open_video(member, backend=backend, index=index_of(known, member))


@dataclass(frozen=True)
class Corpus:
    """Videos or images, and the files that should have been but cannot be read.

    Args:
        root: The folder or list that was scanned, absolute.
        entries: In the order of the list, or of the file names.
        class_names: Name of each label; empty without labels.
        bad: (path, reason) of each file that cannot be read, and of each folder that cannot be entered.
        num_other: Files passed over because they are not what was asked for.
        others: The same by suffix, with the first names, in words.
    """

    root: Path
    entries: Sequence[Entry]
    class_names: tuple[str, ...] = ()
    bad: tuple[tuple[Path, str], ...] = ()
    num_other: int = 0
    others: str = ""

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def scan(
        cls,
        source: str | os.PathLike[str],
        *,
        labels: Literal["none", "folder"] = "none",
        media: Literal["video", "image", "any"] = "video",
        source_pattern: str | None = None,
        cache: Path | None = None,
        num_workers: int | None = None,
        timeout_seconds: float = 60.0,
        allow_outside: bool | None = None,
        progress: bool = True,
        allow_urls: bool | None = None,
    ) -> Corpus:
        """Look at every file of a folder or list once, or read the index of shards.

        Folder: searched to any depth, links followed, hidden files and folders passed over. A file is taken for
        what its name or, where that says nothing, its first bytes say.

        List (`.txt`, `.csv`, `.tsv`): a path per line, optionally followed by its label; or a first line that names
        the columns, such as path, label and split (all lines are taken, whatever their split). Commas, tabs,
        semicolons, spaces or two colons separate them: those under which the lines name files that are there. Paths
        are relative to the list's folder, labels are whole numbers from 0 or names, and either every line has one or
        none has.

        Shards: a folder, or the URL of one, that `vidssl data prepare --shards` wrote, or that holds tar files and
        neither folders nor media beside them, or a single tar file; see `vidssl.data.shards`.

        Args:
            source: The folder or list.
            labels: "folder" takes the name of the folder that holds a file (or folder of frames) for its class.
                Labels of a list are always used.
            media: "video" finds video files, and folders with at least two images, no video and no folder in them,
                each of which is one video. "image" finds image files, each a video of one frame.
                "any" finds videos or, where there are none, images: those of folders that lie directly below the
                root, too, which may be classes; several folders of images in a folder below it are videos.
            source_pattern: Regular expression that tells files cut from one recording: those whose paths match it
                with equal groups, for example r"v_(\\w+_g\\d+)_c\\d+" for UCF101. None takes each file for a
                recording of its own.
            cache: Folder for what was found; by default `$XDG_CACHE_HOME/vidssl` or `~/.cache/vidssl`.
            num_workers: Files looked at a time; by default the number of processors, at most 16.
            timeout_seconds: Longest time for one file, and 4 s more for each of its megabytes; a file that takes
                longer is bad.
            allow_outside: Whether a list may name files that do not lie below its folder. Lists of strangers could
                else have any file of this machine read. None asks the environment: they may if VIDSSL_ALLOW_OUTSIDE
                is 1.
            progress: Show a progress bar.
            allow_urls: Whether `source` may be a URL (of shards; any store that fsspec knows). None asks the
                environment: they are allowed if VIDSSL_ALLOW_URLS is 1.

        Raises:
            ValueError: Nothing was found, the list is malformed, labels are asked for where there are none, or
                `source_pattern` has no group.
        """
        if source_pattern is not None and re.compile(source_pattern).groups == 0:
            raise ValueError(f"source_pattern {source_pattern!r} has no group (...) that names the source")
        from .shards import is_sharded, scan_shards

        if is_sharded(source):
            return scan_shards(
                source,
                labels=labels,
                media=media,
                source_pattern=source_pattern,
                cache=cache,
                num_workers=num_workers,
                timeout_seconds=timeout_seconds,
                progress=progress,
                allow_urls=allow_urls,
            )
        found = find(Path(source), labels=labels, media=media, allow_outside=allow_outside)
        found.refuse_parts()
        store = _Cache.of(found.root, cache or default_cache())
        stamps = [stamp_of(path) for path in found.paths]
        stamped = list(zip(found.paths, stamps, strict=True))
        records = {path: record for path, stamp in stamped if (record := store.get(path, stamp)) is not None}
        todo = [path for path in dict.fromkeys(found.paths) if path not in records]
        answers = call_each(
            "vidssl.data.corpus:probe",
            [os.fspath(path) for path in todo],
            num_workers=num_workers or default_workers(),
            timeout_seconds=[allowed_seconds(stamp_of(path)[0], timeout_seconds=timeout_seconds) for path in todo],
        )
        stamp_by_path = dict(stamped)
        with store:
            for place, answer in with_progress(answers, len(todo), f"scan {printable(found.root)}", show=progress):
                path = todo[place]
                records[path] = {"reason": answer["died"]} if "died" in answer else answer
                store.note(path, stamp_by_path[path], records[path])
            if todo:
                store.save(stamped, records)
        entries, bad = [], list(found.closed)
        for path, label in zip(found.paths, found.labels, strict=True):
            record = records[path]
            if "reason" in record:
                bad.append((path, record["reason"]))
            else:
                match = re.search(source_pattern, os.fspath(path)) if source_pattern else None
                origin = "/".join(match.groups("")) if match else ""
                index, parts = base64.b64decode(record["index"]), tuple(map(tuple, record["parts"]))
                told = {**record, "index": index, "parts": parts}
                entries.append(Entry(path=path, label=label, source=origin, **told))
        if bad:
            _log.warning(
                "%d of %d files of %s cannot be read, see Corpus.bad", len(bad), len(found.paths), found.root
            )
        damaged = [entry for entry in entries if entry.damage]
        if damaged:
            _log.warning(
                "%d of %d files of %s are damaged or cut off and are read as far as they go (%s: %s); "
                "`vidssl data check` says more",
                len(damaged),
                len(found.paths),
                found.root,
                printable(damaged[0].path),
                damaged[0].damage,
            )
        return cls(
            root=found.root,
            entries=tuple(entries),
            class_names=tuple(found.class_names),
            bad=tuple(bad),
            num_other=len(found.others),
            others=str(found.others) if found.others else "",
        )

    def summary(self) -> str:
        """Describe the corpus in a few lines, bad files by name."""
        hours = sum(entry.duration_seconds for entry in self.entries) / 3600
        sound = sum(entry.has_audio and not entry.audio_silent for entry in self.entries)
        silent = sum(bool(entry.audio_silent) for entry in self.entries)
        sizes = collections.Counter(f"{entry.width}x{entry.height}" for entry in self.entries)
        lines = [
            f"{printable(self.root)}: {len(self)} entries, {hours:.2f} hours, "
            f"{sum(entry.num_frames for entry in self.entries)} frames",
            f"sound: {sound} with, {silent} with a silent track, {len(self) - sound - silent} without",
            "sizes: " + ", ".join(f"{size} ({count})" for size, count in sizes.most_common(5)),
        ]
        if self.class_names:
            lines.append(f"classes: {len(self.class_names)}")
        if self.num_other:
            lines.append(f"passed over: {self.others or f'{self.num_other} files that are not read'}")
        damaged = [entry for entry in self.entries if entry.damage]
        if damaged:
            lines.append(f"damaged or cut off: {len(damaged)}")
            lines += [f"  {printable(entry.path)}: {entry.damage}" for entry in damaged]
        if self.bad:
            lines.append(f"cannot be read: {len(self.bad)}")
            lines += [f"  {printable(path)}: {reason}" for path, reason in self.bad]
        return "\n".join(lines)


def probe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Look at one file: fields of its `Entry`, the index in base64, or {"reason": why it cannot be read}.

    Runs in a child process.
    """
    from .video import open_video

    try:
        with complaints() as said, open_video(path) as reader:
            info = reader.info
            has_audio = info.audio_sample_rate_hz is not None
            found = {
                "duration_seconds": info.duration_seconds,
                "fps": info.fps,
                "num_frames": info.num_frames,
                "width": info.width,
                "height": info.height,
                "has_audio": has_audio,
                "audio_silent": _is_silent(path) if has_audio else None,
                "index": base64.b64encode(reader.packed_index()).decode(),
                "parts": getattr(info.length(), "parts", ()),
            }
            findings = (
                packet_findings(reader.packet_index, num_promised=reader.num_promised)
                if isinstance(reader, PyAVReader)
                else []
            )
    except MediaError as error:
        return {"reason": error.reason}
    errors = [str(one) for one in findings if one.severity == "error"]
    return found | {"damage": "; ".join(errors or said[:1])}


def _is_silent(path: str | os.PathLike[str]) -> bool | None:
    """Whether the sound of a file is silent; None if it cannot be decoded, which is no fault of the pictures."""
    from .video import open_audio

    try:
        with open_audio(path) as sound:
            return sound.is_silent()
    except MediaError:
        return None


def default_cache() -> Path:
    """Return the folder for what is known of scanned files: `$XDG_CACHE_HOME/vidssl` or `~/.cache/vidssl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidssl"


class _Answer(TypedDict):
    stamp: list[int]
    answer: Object


class _Stored(TypedDict, total=False):
    version: int
    records: dict[str, _Answer]


class _Cache:
    """Answers of `probe` by path, with the size and the time of change for which they hold.

    They lie in one file, written at the end of a scan. Until then each is a line of a journal beside it, so that a
    scan that is killed loses the file it was at.
    """

    def __init__(self, file: Path, records: dict[str, dict[str, Any]]) -> None:
        self.file = file
        self.records = records
        self._journal = file.with_suffix(".part")
        self._stream: BinaryIO | None = None

    @classmethod
    def of(cls, root: Path, folder: Path) -> _Cache:
        """What is known of a root."""
        name = hashlib.blake2b(os.fsencode(root), digest_size=12).hexdigest()
        cache = cls(folder / f"scan-{name}.json", {})
        with contextlib.suppress(OSError, ValueError):  # absent, or not ours: look at the files again
            stored = read_json(cache.file, _Stored)
            cache.records = stored.get("records", {}) if stored.get("version") == _PROBE_VERSION else {}
        with contextlib.suppress(OSError):
            for line in cache._journal.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # cut off by a kill
                    version, path, record = json.loads(line)
                    if version == _PROBE_VERSION:
                        cache.records[path] = record
        return cache

    def __enter__(self) -> _Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def get(self, path: Path, stamp: list[int]) -> dict[str, Any] | None:
        record = self.records.get(os.fspath(path))
        return record["answer"] if record and record["stamp"] == stamp else None

    def note(self, path: Path, stamp: list[int], answer: dict[str, Any]) -> None:
        """Write down one answer at once."""
        line = json.dumps([_PROBE_VERSION, os.fspath(path), {"stamp": stamp, "answer": answer}])
        with contextlib.suppress(OSError):  # `save` tells of it
            if self._stream is None:
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._journal.open("ab", buffering=0)
            self._stream.write(b"\n" + line.encode() + b"\n")  # the first ends a line that a kill cut off

    def save(self, stamped: Sequence[tuple[Path, list[int]]], answers: dict[Path, dict[str, Any]]) -> None:
        """Write what was found, whole or not at all; a folder that cannot be written costs only time."""
        records = {os.fspath(path): {"stamp": stamp, "answer": answers[path]} for path, stamp in stamped}
        try:
            with replacing(self.file) as temporary:
                temporary.write_text(json.dumps({"version": _PROBE_VERSION, "records": records}))
            self._journal.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("what was found in the scan is not kept: %s", error)


def stamp_of(path: Path) -> list[int]:
    """What changes when a file, or the images in a folder, change."""
    try:
        status = path.stat()
        if not path.is_dir():
            return [status.st_size, status.st_mtime_ns]
        images = [image.stat() for image in path.iterdir()]
    except OSError:
        return [-1, -1]
    return [
        sum(image.st_size for image in images),
        max((image.st_mtime_ns for image in images), default=0),
        len(images),
    ]


@dataclass(frozen=True)
class Audit:
    """What `audit` found. Print it with rich for a table of every file with a finding.

    Args:
        root: The folder, list or file that was audited.
        files: (path, findings) of every file, in order.
        num_other: Files passed over because they are not what was asked for.
        others: The same by suffix, with the first names, in words.
    """

    root: Path
    files: tuple[tuple[Path, tuple[Finding, ...]], ...]
    num_other: int = 0
    others: str = ""

    @property
    def bad(self) -> list[tuple[Path, str]]:
        """(path, reasons) of each file with an error."""
        found = [
            (path, [str(one) for one in findings if one.severity == "error"]) for path, findings in self.files
        ]
        return [(path, "; ".join(errors)) for path, errors in found if errors]

    def counts(self) -> dict[tuple[str, str], int]:
        """Files by (severity, kind of finding), the most frequent first, errors before notes."""
        kinds = collections.Counter(
            kind for _, findings in self.files for kind in {(one.severity, one.kind) for one in findings}
        )
        return dict(sorted(kinds.items(), key=lambda item: (item[0][0], -item[1], item[0][1])))

    def summary(self) -> str:
        """Count files and findings in a few lines."""
        lines = [f"{printable(self.root)}: {len(self.files)} files, {len(self.bad)} with errors"]
        lines += [f"  {severity}: {kind} ({count})" for (severity, kind), count in self.counts().items()]
        if self.num_other:
            lines.append(f"  passed over: {self.others or f'{self.num_other} files that are not read'}")
        return "\n".join(lines)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Column, Table

        # Folded, never cut: the name of a bad file is what the table is for.
        table = Table(Column("file", overflow="fold"), Column("finding", overflow="fold"))
        base = self.root if self.root.is_dir() else self.root.parent
        for path, findings in self.files:
            name = path.relative_to(base) if path.is_relative_to(base) else path
            for one in findings:
                colour = "red" if one.severity == "error" else "yellow"
                table.add_row(escape(printable(name)), f"[{colour}]{one.severity}[/] {escape(str(one))}")
        return Group(*([table] if table.row_count else []), escape(self.summary()))


def audit(
    source: str | os.PathLike[str],
    *,
    media: Literal["video", "image"] = "video",
    num_workers: int | None = None,
    timeout_seconds: float = 600.0,
    progress: bool = True,
) -> Audit:
    """Decode every file of a folder, a list or shards, or a single file, to its last packet, and say what is wrong.

    Each file is decoded in a child process: one that crashes the decoder or takes longer than `timeout_seconds` is
    reported, the others go on. Arguments as for `Corpus.scan`.

    Raises:
        ValueError: Nothing was found, or the list is malformed.
    """
    from .shards import audit_shards, is_sharded

    if is_sharded(source):
        return audit_shards(
            source, media=media, num_workers=num_workers, timeout_seconds=timeout_seconds, progress=progress
        )
    path = Path(source).absolute()
    single = path.exists() and not path.is_dir() and not is_list(path)
    found = Source(path, [path]) if single else find(path, labels="none", media=media, allow_outside=None)
    paths = list(dict.fromkeys(found.paths))  # a list may name a file several times, or parts of it
    answers = call_each(
        "vidssl.data._audit:examine",
        [os.fspath(file) for file in paths],
        num_workers=num_workers or default_workers(),
        timeout_seconds=[allowed_seconds(stamp_of(file)[0], timeout_seconds=timeout_seconds) for file in paths],
    )
    findings: dict[int, tuple[Finding, ...]] = {}
    for number, answer in with_progress(answers, len(paths), f"check {printable(path)}", show=progress):
        died = [{"severity": "error", "kind": "cannot be read", "detail": answer.get("died", "")}]
        findings[number] = tuple(Finding(**one) for one in answer.get("findings", died))
    closed = [(folder, (Finding("error", "closed folder", reason),)) for folder, reason in found.closed]
    files = (*closed, *((file, findings[number]) for number, file in enumerate(paths)))
    others = str(found.others) if found.others else ""
    return Audit(root=path, files=files, num_other=len(found.others), others=others)


def default_workers() -> int:
    return min(16, os.cpu_count() or 1)


def with_progress(
    answers: Iterator[tuple[int, dict[str, Any]]], total: int, title: str, *, show: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    from rich.markup import escape
    from rich.progress import track

    yield from track(answers, description=escape(title), total=total, disable=not show or total == 0)

"""What scans found, in the user's cache folder, believed as long as a file's size and time of change stay."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ...files import replacing
from ...json_files import Object, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

# Part of every cache record; raise it when what `probe` returns or how files are read changes.
_PROBE_VERSION = 8

_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """Return the folder for what is known of scanned files: `$XDG_CACHE_HOME/vidssl` or `~/.cache/vidssl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidssl"


class _Answer(TypedDict):
    stamp: list[int]
    answer: Object


class _Stored(TypedDict, total=False):
    version: int
    records: dict[str, _Answer]


class ScanCache:
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
    def of(cls, root: Path, folder: Path) -> ScanCache:
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

    def __enter__(self) -> ScanCache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def get(self, path: Path, stamp: list[int]) -> dict[str, Any] | None:
        """The answer for a file, None if it is not known or the file changed."""
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

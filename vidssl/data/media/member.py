"""A file inside a tar archive: archives store their members whole, so a member is a stretch of the archive's bytes."""

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ...json_files import parse_json

# A member of a remote archive is fetched whole. Prepared clips have a few megabytes; more is a film.
MAX_FETCHED_BYTES = 2**28

# Between tries of a request. Object stores ask for it: a few requests in a million fail for no lasting reason.
_WAITS_SECONDS = (1.0, 4.0)


@dataclass(frozen=True)
class Member(os.PathLike[str]):
    """A file inside an archive; read like a `Path` by whoever opens, sniffs or names it, but never by its name.

    Args:
        shard: Absolute path or URL of the archive.
        shard_bytes: Size of the archive when it was indexed.
        name: Of the file.
        offset: Of its first byte in the archive.
        num_bytes: Its size.
        known_file: File that holds what is known of it, see `load`; None is the archive.
        known_offset: Where, of the first byte.
        known_bytes: How much; 0 is nothing.
    """

    shard: str
    shard_bytes: int
    name: str
    offset: int
    num_bytes: int
    known_file: str | None = None
    known_offset: int = 0
    known_bytes: int = 0
    _content: bytes | None = field(default=None, repr=False, compare=False)

    def __fspath__(self) -> str:
        return f"{self.shard}/{self.name}"

    def __str__(self) -> str:
        return os.fspath(self)

    @property
    def suffix(self) -> str:
        """As of a `Path`."""
        return PurePosixPath(self.name).suffix

    @property
    def is_remote(self) -> bool:
        """Whether the archive has a URL."""
        return "://" in self.shard

    def absolute(self) -> Member:
        """As of a `Path`."""
        return self

    def spelled(self) -> str:
        """Spell it for another process; `parsed` reads it."""
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self) if one.name != "_content"})

    @classmethod
    def parsed(cls, text: str) -> Member:
        """Read what `spelled` returned."""
        return cls(**parse_json(text, where="the name of a sample"))

    def load(self) -> tuple[Member, bytes]:
        """Return the member, with its content if it is remote, and what is known of it, in a single request.

        Raises:
            OSError: It cannot be read.
        """
        if self.is_remote and self.known_bytes and self.known_file is None:
            first = min(self.offset, self.known_offset)
            last = max(self.offset + self.num_bytes, self.known_offset + self.known_bytes)
            content = _fetched(self.shard, first, last)
            own, known = self.offset - first, self.known_offset - first
            held = replace(self, _content=content[own : own + self.num_bytes])
            return held, content[known : known + self.known_bytes]
        return self.held(), self._known()

    def held(self) -> Member:
        """Return a member that reads without requests: a local one as it is, a remote one with its content.

        Raises:
            OSError: It cannot be fetched.
        """
        if not self.is_remote or self._content is not None:
            return self
        return replace(self, _content=_fetched(self.shard, self.offset, self.offset + self.num_bytes))

    def _known(self) -> bytes:
        if not self.known_bytes:
            return b""
        with Path(self.known_file or self.shard).open("rb") as file:
            file.seek(self.known_offset)
            return file.read(self.known_bytes)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the member, and nothing else of the archive, for reading.

        Raises:
            OSError: The archive cannot be opened.
        """
        assert mode == "rb", "archives are only read"
        held = self.held()
        if held._content is not None:
            return io.BytesIO(held._content)
        return _Stretch(os.open(self.shard, os.O_RDONLY), self.offset, self.num_bytes)  # type: ignore[return-value]


class _Stretch(io.RawIOBase):
    """Some consecutive bytes of a file as a file of their own, which owns the descriptor.

    PyAV closes no file that it was given: that is left to the collector, which in a circle (of a traceback, say) would
    find a file object within this one first, and complain.
    """

    def __init__(self, descriptor: int, offset: int, num_bytes: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._num_bytes = num_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, to the end of the stretch without one."""
        left = max(0, self._num_bytes - self._place)
        size = left if size is None or size < 0 else min(size, left)
        block = os.pread(self._descriptor, size, self._offset + self._place)
        self._place += len(block)
        return block

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read into a buffer; return how much was read."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._num_bytes}[whence]
        if start + offset < 0:
            raise OSError(f"cannot go to byte {start + offset}")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        """Close the archive's file; may be called again."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _fetched(url: str, first: int, last: int) -> bytes:
    """Bytes [first, last) of a remote file.

    Raises:
        OSError: They cannot be had: absent, refused, or three tries failed.
    """
    if last - first > MAX_FETCHED_BYTES:
        raise OSError(None, f"has {last - first} bytes, at most {MAX_FETCHED_BYTES} are fetched; prepare it")
    from fsspec.core import url_to_fs

    for wait_seconds in (*_WAITS_SECONDS, None):
        try:
            system, path = url_to_fs(url)  # anew in each process: connections do not survive a fork
            content = system.cat_file(path, start=first, end=last)
            if len(content) == last - first:
                return content
            failure: Exception = EOFError(f"{len(content)} bytes came instead of {last - first}")
        except (FileNotFoundError, PermissionError, ImportError) as error:
            failure, wait_seconds = error, None
        except Exception as error:  # each kind of store has errors of its own
            failure = error
        if wait_seconds is None:
            break
        time.sleep(wait_seconds)
    raise OSError(None, f"cannot be fetched ({type(failure).__name__}: {failure})") from failure

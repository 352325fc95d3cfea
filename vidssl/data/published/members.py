"""What lies in zip, tar and rar archives, one regular file after the other."""

import io
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from ..lists.archive_limits import (
    bounded_headers,
    check_members,
    check_ratio,
    check_size,
    check_zip_directory,
    check_zip_member,
    unpacked,
)
from ..lists.trust import safe_name
from .rar import RAR4, list_rar, unpack_rar

GIB = 2**30


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive.

    Args:
        name: As stored.
        num_bytes: Its size when unpacked.
        open: Gives its content; call it before the next member is asked for.
    """

    name: str
    num_bytes: int
    open: Callable[[], IO[bytes]]


def _check_total(num_bytes: int, max_bytes: int | None, label: str) -> None:
    if max_bytes is not None and num_bytes > max_bytes:
        raise ValueError(
            f"{label} holds more than {max_bytes / GIB:.3g} GiB, the most expected; is it the right file?"
        )


def members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of an archive, in its order; rar archives are unpacked to a folder inside `scratch` meanwhile."""
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from zip_members(path, scratch, max_bytes=max_bytes)
    elif magic[: len(RAR4) - 1] == RAR4[:-1]:
        yield from rar_members(path, scratch, max_bytes=max_bytes)
    else:
        with path.open("rb") as stream:
            yield from tar_members(stream, str(path))


def zip_members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of a zip archive."""
    check_zip_directory(path)
    with zipfile.ZipFile(path) as archive:
        check_members(len(archive.infolist()), str(path))
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_total(sum(info.file_size for info in infos), max_bytes, str(path))
        _room(sum(info.file_size for info in infos), scratch, str(path))
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise ValueError(f"{path} holds {info.filename!r}, which is a link or a device; refused")
            if info.flag_bits & 1:
                raise ValueError(f"{path} holds {info.filename!r}, which is encrypted; no published data set is")
            check_zip_member(info, str(path))
            yield Member(info.filename, info.file_size, partial(archive.open, info))


def tar_members(stream: IO[bytes], label: str) -> Iterator[Member]:
    """Regular files of a tar archive, compressed or not, read from front to back."""
    # Content is read here and written by `_copy`, so the extraction filters of tarfile, which Python has from 3.10.12
    # and 3.11.4 on, are not needed: owners, modes and links of the archive never reach the disk.
    with tarfile.open(fileobj=unpacked(stream), mode="r|", tarinfo=bounded_headers(label)) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            check_size(info, label)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise ValueError(f"{label} holds {info.name!r}, which is a link or a device; refused")
            yield Member(info.name, info.size, partial(_opened, archive, info))


def rar_members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of a rar archive, which another program unpacks to a folder inside `scratch` first."""
    entries = list_rar(path)
    for entry in entries:
        safe_name(entry.name, str(path))
        if entry.trouble:
            raise ValueError(f"{path} holds {entry.name!r}, which is {entry.trouble}; refused")
    listed = sorted(entry.num_bytes for entry in entries if not entry.is_folder)
    check_ratio(sum(listed), path.stat().st_size, str(path))
    _check_total(sum(listed), max_bytes, str(path))
    _room(2 * sum(listed), scratch, str(path))
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".rar-") as folder:
        unpack_rar(path, Path(folder), max_file_bytes=max(listed, default=0))
        found = sorted(item for item in Path(folder).rglob("*") if item.is_symlink() or not item.is_dir())
        if any(not stat.S_ISREG(item.lstat().st_mode) for item in found):
            raise ValueError(f"{path} holds links or devices; refused")
        if sorted(item.lstat().st_size for item in found) != listed:
            raise ValueError(
                f"{path} lists {len(listed)} files, of which {len(found)} came out whole; get it again"
            )
        for item in found:
            yield Member(item.relative_to(folder).as_posix(), item.stat().st_size, partial(_content, item))


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None, "regular files have content"
    return content


def _content(path: Path) -> IO[bytes]:
    return path.open("rb")


def _room(num_bytes: int, folder: Path, label: str) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"{label} needs {num_bytes / GIB:.1f} GiB in {folder}, which has {free / GIB:.1f} GiB left"
        )


class _Joined(io.RawIOBase):
    """Several files read as one.

    Args:
        paths: In order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what the current file gives; 0 at the end of the last one."""
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            if block := self._file.read(len(buffer)):
                buffer[: len(block)] = block
                return len(block)
            self._file.close()
            self._file = None

"""Rar archives: what is in them is read here, unpacking is left to a program that the machine has.

The list comes from the headers themselves (RAR 4 and RAR 5 as documented in technote.txt of WinRAR), so that names,
links and sizes are known before any other program touches the archive.
"""

import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..lists.archive_limits import LimitError, check_members

RAR4, RAR5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"

MAX_HEADER_BYTES = 2**21  # as the format has it
MAX_PROGRAM_BYTES = 6 * 2**30  # of memory: dictionaries of the format take up to 4 GiB
# Program -> its command, in the order in which they are looked for. Paths are absolute, so none is taken for an option.
PROGRAMS = {
    "unrar": ["unrar", "x", "-y", "-idq", "-p-", "{archive}", "{folder}/"],
    "unar": ["unar", "-quiet", "-no-directory", "-output-directory", "{folder}", "{archive}"],
    "7z": ["7z", "x", "-y", "-bd", "-p", "-o{folder}", "{archive}"],
    "7zz": ["7zz", "x", "-y", "-bd", "-p", "-o{folder}", "{archive}"],
    "bsdtar": ["bsdtar", "-x", "-f", "{archive}", "-C", "{folder}"],
}


@dataclass(frozen=True)
class Entry:
    """A file or folder in a rar archive.

    Args:
        name: As stored, with / or \\ between folders.
        num_bytes: Unpacked.
        is_folder: It holds no data.
        trouble: Why it cannot be taken: "a link", "encrypted", "split over several archives"; "" if it can.
    """

    name: str
    num_bytes: int
    is_folder: bool
    trouble: str


def list_rar(path: Path) -> list[Entry]:
    """List a rar archive from its headers.

    Raises:
        ValueError: It is no rar archive, its headers are encrypted, or it ends too early.
    """
    with path.open("rb") as stream:
        try:
            magic = stream.read(len(RAR4))
            if magic == RAR4:
                return _counted(_rar4(stream), path)
            if magic + stream.read(1) == RAR5:
                return _counted(_rar5(stream, str(path)), path)
        except (struct.error, IndexError, OverflowError) as error:  # or points far behind its end
            raise ValueError(f"{path} ends in the middle of a header: it is damaged, get it again") from error
        except _EncryptedError as error:
            raise ValueError(f"{path} is encrypted; no published data set is") from error
    raise ValueError(f"{path} is no rar archive")


def _counted(entries: Iterator[Entry], path: Path) -> list[Entry]:
    found = []
    for entry in entries:
        found.append(entry)
        check_members(len(found), str(path))
    return found


def unpack_rar(path: Path, folder: Path, *, max_file_bytes: int | None = None) -> None:
    """Unpack a rar archive into an empty folder with the first of `PROGRAMS` that can.

    A program gets no more memory than `MAX_PROGRAM_BYTES` and writes no file larger than `max_file_bytes`.

    Raises:
        ValueError: None is installed, or those that are failed.
    """
    failures = []
    for program in (name for name in PROGRAMS if shutil.which(name)):
        command = [word.format(archive=path.resolve(), folder=folder.resolve()) for word in PROGRAMS[program]]
        blocks = "unlimited" if max_file_bytes is None else max_file_bytes // 512 + 1
        limits = f"ulimit -v {MAX_PROGRAM_BYTES // 1024}; ulimit -f {blocks}"
        bounded = ["/bin/sh", "-c", f'{limits}; exec "$@"', "sh", *command]
        done = subprocess.run(bounded, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode == 0:
            return
        # The next one may know better: 7z of Debian, for one, is built without rar.
        failures.append(f"{program}: {' '.join((done.stderr or done.stdout).split())[-300:]}")
        shutil.rmtree(folder)
        folder.mkdir()
    if failures:
        raise ValueError(f"{path} cannot be unpacked; it may be damaged. {'. '.join(failures)}")
    raise ValueError(
        f"{path} is a rar archive, and none of the programs that unpack one is installed: {', '.join(PROGRAMS)}. "
        "Install one of them (Debian: apt install unar; macOS: brew install unar)"
    )


class _EncryptedError(Exception):
    pass


def _rar4(stream: BinaryIO) -> Iterator[Entry]:
    while head := stream.read(7):
        _, kind, flags, size = struct.unpack("<HBHH", head)
        if size < 7:
            raise IndexError("a header smaller than its own size")
        body = stream.read(size - 7)
        num_packed = struct.unpack_from("<I", body)[0] if flags & 0x8000 else 0
        if kind == 0x73 and flags & 0x80:
            raise _EncryptedError
        if kind == 0x74:
            num_packed, num_bytes, system, _, _, _, _, name_size, attributes = struct.unpack_from(
                "<IIBIIBBHI", body
            )
            offset = 25
            if flags & 0x100:  # larger than 4 GiB
                high_packed, high = struct.unpack_from("<II", body, offset)
                num_packed, num_bytes, offset = num_packed + (high_packed << 32), num_bytes + (high << 32), 33
            # Unicode names follow the plain one after a zero byte.
            name = body[offset : offset + name_size].partition(b"\0")[0].decode("utf-8", "replace")
            trouble = "encrypted" if flags & 0x04 else "split over several archives" if flags & 0x03 else ""
            if system == 3 and stat.S_ISLNK(attributes):  # 3 is Unix
                trouble = "a link"
            yield Entry(name, num_bytes, flags & 0xE0 == 0xE0, trouble)
        if kind == 0x7B:
            return
        stream.seek(num_packed, 1)
    raise IndexError("no end block")


def _rar5(stream: BinaryIO, label: str) -> Iterator[Entry]:
    while stream.read(4):  # checksum of the header
        size = _number(stream)
        if size > MAX_HEADER_BYTES:
            raise LimitError(f"{label} has a header of {size:,} bytes, more than {MAX_HEADER_BYTES:,}; refused")
        header = stream.read(size)
        if len(header) < size:
            raise IndexError("header cut off")
        numbers = _Numbers(header)
        kind, flags = numbers.next(), numbers.next()
        num_extra = numbers.next() if flags & 1 else 0
        num_packed = numbers.next() if flags & 2 else 0
        if kind == 4:
            raise _EncryptedError
        if kind == 2:
            yield _rar5_file(numbers, split=bool(flags & 0x18), extra=_Numbers(header[size - num_extra :]))
        if kind == 5:
            return
        stream.seek(num_packed, 1)
    raise IndexError("no end block")


def _rar5_file(numbers: "_Numbers", *, split: bool, extra: "_Numbers") -> Entry:
    flags, num_bytes, _ = numbers.next(), numbers.next(), numbers.next()
    numbers.offset += 4 * (bool(flags & 2) + bool(flags & 4))  # time and checksum
    _, _ = numbers.next(), numbers.next()  # compression, system
    name_size = numbers.next()
    name = numbers.data[numbers.offset : numbers.offset + name_size].decode("utf-8", "replace")
    trouble = "split over several archives" if split else ""
    while extra.offset < len(extra.data):
        record_size = extra.next()
        end = extra.offset + record_size
        trouble = {1: "encrypted", 5: "a link"}.get(extra.next(), trouble)
        extra.offset = end
    return Entry(name, num_bytes, bool(flags & 1), trouble)


class _Numbers:
    """Whole numbers of variable length, seven bits a byte, the last byte below 128."""

    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def next(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.data[self.offset]
            self.offset += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise IndexError("a number of more than 64 bits")


def _number(stream: BinaryIO) -> int:
    """One such number from a stream."""
    digits = b""
    while not digits or digits[-1] >= 0x80:
        byte = stream.read(1)
        if not byte:
            raise IndexError("number cut off")
        digits += byte
        if len(digits) > 10:
            raise IndexError("a number of more than 64 bits")
    return _Numbers(digits).next()

"""What an archive may ask for before anything is read or written for it: headers, directories, members, expansion.

Lists of members and headers are built in memory by zipfile and tarfile, as large as the archive says; whoever made it
decides. Limits are far above those of published data sets.
"""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import IO, Any, cast

MAX_MEMBERS = 4_000_000
MAX_DIRECTORY_BYTES = 2**28  # of a zip archive: 64 bytes for each of so many members
MAX_HEADER_BYTES = 2**20  # of a long name, or of other facts about a member
MAX_RATIO = 200  # unpacked to packed; videos and pictures are packed already
FREE_BYTES = 2**28  # unpacked without a look at the ratio: small archives of text

_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class LimitError(ValueError):
    """An archive asks for more than any published one does."""


def check_members(count: int, label: str) -> None:
    """Refuse archives of too many members."""
    if count > MAX_MEMBERS:
        raise LimitError(
            f"{label} holds more than {MAX_MEMBERS:,} members (MAX_MEMBERS); no published data set does"
        )


def check_ratio(num_bytes: int, num_packed: int, label: str) -> None:
    """Refuse archives that unpack to many times their size."""
    if num_bytes > max(FREE_BYTES, MAX_RATIO * num_packed):
        raise LimitError(
            f"{label} unpacks to more than {MAX_RATIO} times its size (MAX_RATIO), as no videos or pictures do; refused"
        )


def check_zip_directory(path: Path) -> None:
    """Refuse a zip archive whose list of members zipfile would not hold in memory; it reads that in one piece."""
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, num_bytes - 22 - 2**16)
        file.seek(start)
        tail = file.read(22 + 2**16)
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) < place + 22:
            return  # no zip archive: zipfile says so
        count, size = struct.unpack_from("<HI", tail, place + 10)
        locator = place - 20
        if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
            # Zip64, whose own record lies right before its locator, of at least 56 bytes.
            (offset,) = struct.unpack_from("<Q", tail, locator + 8)
            for where in {min(offset, num_bytes), max(0, start + locator - 56)}:
                file.seek(where)
                record = file.read(56)
                if len(record) == 56 and record[:4] == b"PK\x06\x06":
                    found = struct.unpack_from("<QQ", record, 32)
                    count, size = max(count, found[0]), max(size, found[1])
    if min(size, num_bytes) > MAX_DIRECTORY_BYTES:
        raise LimitError(f"{path} has a directory of {size:,} bytes, more than {MAX_DIRECTORY_BYTES:,}; refused")
    check_members(count, str(path))


def check_zip_member(info: zipfile.ZipInfo, label: str) -> None:
    """Refuse compressions of which Python unpacks a block in one piece, however large."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LimitError(
            f"{label} holds {info.filename!r} in compression {info.compress_type}; expected 0 (stored) or 8 (deflated)"
        )


def check_size(info: tarfile.TarInfo, label: str) -> None:
    """Refuse a member of less than nothing: what follows it would be looked for before it."""
    if info.size < 0:
        raise LimitError(
            f"{label} holds {info.name!r:.80}, whose size is {info.size}; it is damaged, get it again"
        )


def bounded_headers(label: str) -> type[tarfile.TarInfo]:
    """Give a class for `tarfile.open(tarinfo=)` that refuses headers of absurd size before they are read."""
    in_a_row = 0
    num_members = 0
    num_global = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Any:
            nonlocal in_a_row, num_global, num_members
            info = super().frombuf(buf, encoding, errors)
            check_size(info, label)
            if info.type not in _EXTENDED:
                in_a_row, num_members = 0, num_members + 1
                check_members(num_members, label)
                if info.type == tarfile.GNUTYPE_SPARSE:
                    raise LimitError(f"{label} holds {info.name!r:.80}, which is a sparse file; refused")
                return info
            in_a_row += 1
            num_global += info.size if info.type == tarfile.XGLTYPE else 0
            if max(info.size, num_global) > MAX_HEADER_BYTES:
                raise LimitError(
                    f"{label} has a header of {max(info.size, num_global):,} bytes, more than {MAX_HEADER_BYTES:,} "
                    "(MAX_HEADER_BYTES); refused"
                )
            if in_a_row > 8:
                raise LimitError(f"{label} has more than 8 headers before a single member; refused")
            return info

        def _refuse_sparse(self, *arguments: Any) -> None:
            raise LimitError(f"{label} holds a sparse file; refused")

        # Its map of holes is as long as the archive says.
        _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse

    return Header


def unpacked(stream: IO[bytes]) -> IO[bytes]:
    """A stream, decompressed where it is compressed, piece by piece; tarfile unpacks each piece it reads whole."""
    source = stream if hasattr(stream, "peek") else io.BufferedReader(cast(io.RawIOBase, stream))
    magic = cast(io.BufferedReader, source).peek(6)[:6]
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=source))
    if magic[:3] == b"BZh":
        return cast(IO[bytes], bz2.BZ2File(source))
    if magic == b"\xfd7zXZ\0" or magic[:3] == b"\x5d\0\0":
        return cast(IO[bytes], lzma.LZMAFile(source))
    return source

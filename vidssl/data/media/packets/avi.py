"""Empty chunks of AVI: a camera that drops a picture writes one, and demuxers pass it over without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def num_empty_chunks(path: Path, *, stream: int) -> int:
    """Count the chunks of a stream that hold nothing, as far as the file goes.

    Args:
        path: An AVI file, several RIFF chunks long where it is large (OpenDML).
        stream: Number of the stream.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        ids = {b"%02d%s" % (stream, kind) for kind in (b"dc", b"db")}
        return sum(size == 0 and name in ids for name, size in _chunks(file, 0, end))


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield (name, bytes) of the chunks between two places, those inside of lists too, lists left out."""
    while start + 8 <= end:
        file.seek(start)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        if name in {b"RIFF", b"LIST"}:
            # The size of a list that was never finished may be anything.
            yield from _chunks(file, start + 12, min(end, start + 8 + size) if size else end)
        else:
            yield name, size
        start += 8 + size + size % 2

"""The index of some shards: where each sample lies and what is known of it, in records of fixed size."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files import file_sha256, replacing
from ...json_files import read_json
from ..media.container import describe, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDEX, RECORDS, NAMES, KNOWN = "shards.json", "shards.records.npy", "shards.names.npy", "shards.known.bin"
FORMAT = "vidssl shards 1"  # raise it when records or what is known of a sample change
RECORD = np.dtype(
    [
        ("offset", "<u8"),
        ("num_bytes", "<u8"),
        ("known_offset", "<u8"),
        ("known_bytes", "<u4"),
        ("name_end", "<u8"),
        ("duration_seconds", "<f8"),
        ("fps", "<f8"),
        ("num_frames", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("audio", "i1"),  # a number of AUDIO
        ("label", "<i4"),
    ]
)
# (has_audio, audio_silent) by the number in a record.
AUDIO = [(False, None), (True, False), (True, True), (True, None)]

_MAPPED_BYTES = 2**24  # larger files of an index are mapped, so that the processes of a machine share them
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar")  # names no folder, no URL, no chain of stores
MAX_KNOWN_BYTES = 2**24
_MAX_OFFSET = 2**62  # what files can be asked for
_BLOCK = 2**20  # records that are compared at once


@dataclass(frozen=True)
class Part:
    """The index of some shards.

    Args:
        folder: Of the index, on a local disk.
        base: Folder or URL of the shards.
        facts: Content of `INDEX`.
        records: Of the samples, `RECORD` (N,).
        names: Of the samples, uint8.
    """

    folder: Path
    base: str
    facts: dict[str, Any]
    records: NDArray[Any]
    names: NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path, base: str) -> Part:
        """Read an index.

        Raises:
            ValueError: It is damaged, or of another version.
        """
        try:
            facts = read_json(folder / INDEX)
            if facts["format"] != FORMAT:
                raise ValueError(f"its format is {facts['format']!r}, expected {FORMAT!r}")
            records, names = _array(folder / RECORDS), _array(folder / NAMES)
            if records.dtype != RECORD or names.dtype != np.uint8 or records.ndim != 1 or names.ndim != 1:
                raise ValueError("its arrays are of another kind")
            shards = [
                (str(one["name"]), int(one["num_bytes"]), int(one["num_samples"])) for one in facts["shards"]
            ]
            wrong = [name for name, _, _ in shards if facts["prepared"] and not SHARD_NAME.fullmatch(name)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no name of a shard")
            if min((count for _, _, count in shards), default=0) < 0 or len(records) != sum(
                count for _, _, count in shards
            ):
                raise ValueError(f"it has {len(records)} records, which is not what its shards add up to")
            if (wrong_place := _first_wrong(records, shards, num_name_bytes=len(names))) is not None:
                raise ValueError(f"sample {wrong_place} of {RECORDS} cannot be as it says")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{printable(folder / INDEX)} cannot be used ({describe(error)})") from error
        return cls(folder, base, facts, records, names)

    def __reduce__(self) -> tuple[Any, ...]:
        return Part.load, (self.folder, self.base)  # processes share the files, they do not copy them

    def shard(self, number: int) -> str:
        """Path or URL of a shard."""
        return f"{self.base}/{self.facts['shards'][number]['name']}"


def _array(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED_BYTES else None, allow_pickle=False)


def _first_wrong(
    records: NDArray[Any], shards: Sequence[tuple[str, int, int]], *, num_name_bytes: int
) -> int | None:
    """The first record that leads out of its shard or says what cannot be; None if there is none."""
    ends = np.cumsum([count for _, _, count in shards])
    shard_bytes = np.array([num_bytes for _, num_bytes, _ in shards], dtype=np.uint64)
    name_start = 0
    for start in range(0, len(records), _BLOCK):
        block = records[start : start + _BLOCK]
        sizes = shard_bytes[np.searchsorted(ends, np.arange(start, start + len(block)), side="right")]
        name_ends = np.append(np.uint64(name_start), block["name_end"])
        wrong = (block["num_bytes"] > sizes) | (block["offset"] > sizes - block["num_bytes"])
        wrong |= (block["known_bytes"] > MAX_KNOWN_BYTES) | (block["known_offset"] > _MAX_OFFSET)
        wrong |= (name_ends[1:] < name_ends[:-1]) | (name_ends[1:] > num_name_bytes)
        wrong |= (block["audio"] < 0) | (block["audio"] >= len(AUDIO))
        for field in ("duration_seconds", "fps"):
            wrong |= ~((block[field] > 0) & (block[field] < np.inf))
        if wrong.any():
            return start + int(wrong.argmax())
        name_start = int(name_ends[-1])
    return None


def save_index(
    folder: Path, *, rows: Sequence[tuple[Any, ...]], names: Sequence[str], facts: dict[str, Any]
) -> None:
    """Write an index; the file that makes it valid comes last.

    Args:
        folder: To write into.
        rows: Fields of `RECORD` of each sample but `name_end`, as `row_of` returns them.
        names: Of the samples.
        facts: "shards": [{"name", "num_bytes", "num_samples", "sha256"}], "class_names", "prepared", "media", "bad".
    """
    encoded = [os.fsencode(name) for name in names]
    records = np.zeros(len(rows), RECORD)
    fields = [name for name in RECORD.names or () if name != "name_end"]
    for place, field in enumerate(fields):
        records[field] = [row[place] for row in rows]
    records["name_end"] = np.cumsum([len(name) for name in encoded])
    digests = {}
    for file, array in ((RECORDS, records), (NAMES, np.frombuffer(b"".join(encoded), np.uint8))):
        with replacing(folder / file) as temporary:
            with temporary.open("wb") as stream:
                np.save(stream, array)
            digests[file] = file_sha256(temporary)
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, "files": digests, **facts}, indent=1) + "\n")


def row_of(
    facts: dict[str, Any], *, offset: int, num_bytes: int, known_offset: int, known_bytes: int, label: int = -1
) -> tuple[Any, ...]:
    """One record but its name; `facts` as `corpus.probe` finds them."""
    sound = AUDIO.index((facts["has_audio"], facts["audio_silent"]))
    seen = (facts["duration_seconds"], facts["fps"], facts["num_frames"], facts["width"], facts["height"])
    return (offset, num_bytes, known_offset, known_bytes, *seen, sound, label)


def cached_folder(cache: Path, place: str) -> Path:
    """Folder of the cache for the index of a shard, or for that of a folder of shards elsewhere."""
    return cache / f"shards-{hashlib.blake2b(os.fsencode(place), digest_size=12).hexdigest()}"


def is_current(folder: Path, stamp: Any) -> bool:
    """Whether the index in a folder is that of the shard as it is now."""
    try:
        facts = read_json(folder / INDEX)
        return facts["format"] == FORMAT and facts["stamp"] == stamp
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not ours: look at the shard again
        return False

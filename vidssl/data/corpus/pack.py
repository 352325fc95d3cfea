"""Packing prepared videos into shards; the format is written in `shards.py`."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import replacing
from ...json_files import parse_json
from ..media.known import restamp
from .encode import encode
from .part import row_of, save_index
from .probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

_DIGITS = 9  # of the number in a member's name


def encode_and_look(request: str) -> dict[str, Any]:
    """Encode a file as `_encode.encode` does, and look at the result as a scan would, in one child process."""
    answer = encode(request)
    if "num_bytes" in answer:
        facts = probe(json.loads(request)["target"])
        if "reason" in facts:
            return facts
        answer["facts"] = facts
    return answer


class Packer:
    """The shards of an output folder.

    Args:
        out: The folder.
        folder: For what is not finished, on the same disk; `shards.jsonl` in it lists finished shards.
    """

    def __init__(self, out: Path, folder: Path) -> None:
        self.out = out
        self.encoded = folder / "encoded"
        self._file = folder / "shards.jsonl"
        self.shards: list[dict[str, Any]] = []
        if self._file.exists():
            lines = self._file.read_bytes().rpartition(b"\n")[0].splitlines()  # a kill may have cut the last one
            self.shards = [parse_json(line, where=str(self._file)) for line in lines]
            _rewrite(self._file, self.shards)
        self.packed = {name for shard in self.shards for name, *_ in shard["members"]}

    def pack(
        self,
        names: Sequence[str],
        facts: Mapping[str, dict[str, Any]],
        *,
        labels: Mapping[str, tuple[int, str]],
        max_bytes: int,
        advance: Callable[[str], None],
    ) -> None:
        """Write `names` in order into shards of at most `max_bytes` (a single larger video has one of its own).

        Args:
            names: Of encoded files that are in no shard yet.
            facts: What `corpus.probe` found, by name.
            labels: Number and name of the class, by name; empty without classes.
            max_bytes: Of a shard.
            advance: Called with each name.
        """
        for group in _groups(names, {name: self._size(name, facts[name]) for name in names}, max_bytes=max_bytes):
            shard = f"{len(self.shards):06d}.tar"
            first = sum(len(one["members"]) for one in self.shards)
            with replacing(self.out / shard) as temporary, temporary.open("wb") as file:
                stream = _Hashed(file)
                members = [
                    [name, *self._add(stream, name, first + place, facts[name], labels.get(name))]
                    for place, name in enumerate(group)
                ]
                stream.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of an archive
            done = {
                "name": shard,
                "num_bytes": stream.place,
                "sha256": stream.digest.hexdigest(),
                "members": members,
            }
            self.shards.append(done)
            with self._file.open("a") as ledger:
                ledger.write(json.dumps(done) + "\n")
                ledger.flush()
                os.fsync(ledger.fileno())
            for name in group:
                self.packed.add(name)
                (self.encoded / name).unlink()
                advance(name)

    def _size(self, name: str, facts: dict[str, Any]) -> int:
        """About what a sample takes in a shard."""
        num_bytes = (self.encoded / name).stat().st_size + len(json.dumps(facts)) + len(name)
        return num_bytes + 4 * tarfile.BLOCKSIZE

    def _add(
        self, stream: _Hashed, name: str, number: int, facts: dict[str, Any], label: tuple[int, str] | None
    ) -> tuple[int, int, int, int]:
        """Write a sample; return (offset, size) of its video and of what is known of it."""
        path = self.encoded / name
        num_bytes = path.stat().st_size
        index = restamp(base64.b64decode(facts["index"]), num_bytes=num_bytes)
        known = {"name": name, **facts, "index": base64.b64encode(index).decode()}
        if label:
            known["class"] = label[1]
        with path.open("rb") as video:
            offset = _write_member(stream, f"{number:0{_DIGITS}d}.mp4", video, num_bytes)
        text = json.dumps(known).encode()
        known_offset = _write_member(stream, f"{number:0{_DIGITS}d}.json", io.BytesIO(text), len(text))
        if label:
            digits = str(label[0]).encode()
            _write_member(stream, f"{number:0{_DIGITS}d}.cls", io.BytesIO(digits), len(digits))
        return offset, num_bytes, known_offset, len(text)

    def save_index(
        self,
        facts: Mapping[str, dict[str, Any]],
        *,
        labels: Mapping[str, tuple[int, str]],
        class_names: Sequence[str],
    ) -> None:
        """Write the index of all shards."""
        rows, names = [], []
        for shard in self.shards:
            for name, offset, num_bytes, known_offset, known_bytes in shard["members"]:
                label = labels[name][0] if name in labels else -1
                spots = {"offset": offset, "num_bytes": num_bytes}
                spots |= {"known_offset": known_offset, "known_bytes": known_bytes}
                rows.append(row_of(facts[name], **spots, label=label))
                names.append(name)
        shards = [
            {**{key: shard[key] for key in ("name", "num_bytes", "sha256")}, "num_samples": len(shard["members"])}
            for shard in self.shards
        ]
        described = {
            "shards": shards,
            "class_names": list(class_names),
            "prepared": True,
            "media": "video",
            "bad": [],
        }
        save_index(self.out, rows=rows, names=names, facts=described)


class _Hashed:
    """A file that is written from front to back, its SHA-256 computed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.place = 0

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self.digest.update(block)
        self.place += len(block)


def _write_member(stream: _Hashed, name: str, content: BinaryIO, num_bytes: int) -> int:
    """Write a regular file of a tar archive, the same bytes whenever and by whomever; return its offset."""
    header = tarfile.TarInfo(name)
    header.size = num_bytes
    stream.write(header.tobuf(tarfile.USTAR_FORMAT))
    offset = stream.place
    while block := content.read(2**20):
        stream.write(block)
    stream.write(bytes(-num_bytes % tarfile.BLOCKSIZE))
    return offset


def _groups(names: Sequence[str], sizes: Mapping[str, int], *, max_bytes: int) -> Iterator[list[str]]:
    """Cut names into runs of at most `max_bytes`, at least one name each."""
    group: list[str] = []
    total = 0
    for name in names:
        if group and total + sizes[name] > max_bytes:
            yield group
            group, total = [], 0
        group.append(name)
        total += sizes[name]
    if group:
        yield group


def _rewrite(file: Path, records: Sequence[dict[str, Any]]) -> None:
    with replacing(file) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))

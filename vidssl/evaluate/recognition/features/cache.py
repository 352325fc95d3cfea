"""Features on disk: chunks of rows, each with a line of a journal that vouches for them."""

import fcntl
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....files import replacing
from ....json_files import parse_json

_MAX_LISTED = 10

logger = logging.getLogger(__name__)


class Store:
    """Rows of the layers of one request, chunk by chunk.

    Args:
        folder: CACHE/KEY.
        num_rows: Samples.
        chunk_size: Samples of a chunk.

    Attributes:
        bad: Number -> reason of the samples that could not be read, of the chunks that were looked at.
    """

    def __init__(self, folder: Path, *, num_rows: int, chunk_size: int) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self.chunk_size = chunk_size
        self.bad: dict[int, str] = {}
        self._row_shapes: dict[str, tuple[int, ...]] = {}

    def begin(self, request: dict[str, Any]) -> None:
        """Write down what was asked for, unless that is done."""
        path = self.folder / "request.json"
        text = json.dumps(request, sort_keys=True)
        if not path.is_file() or path.read_bytes() != text.encode():
            with replacing(path) as temporary:
                temporary.write_text(text)

    def rows(self, chunk: int) -> range:
        """Numbers of the samples of a chunk."""
        return range(chunk * self.chunk_size, min((chunk + 1) * self.chunk_size, self.num_rows))

    def missing(self, layers: Sequence[str]) -> dict[int, list[str]]:
        """Check everything there is: chunk -> those of `layers` that are absent or damaged."""
        records = self._journal()
        todo: dict[int, list[str]] = {}
        for layer in layers:
            of_layer = {chunk: record for (chunk, name), record in records.items() if name == layer}
            for record in of_layer.values():
                if record["shape"] is not None:
                    self._prepare(layer, tuple(record["shape"]))
            damaged = [chunk for chunk, record in sorted(of_layer.items()) if not self._is_sound(record)]
            if damaged:
                logger.warning(
                    "features: %d of %d chunks of the layer %s in %s are damaged and extracted again: %s",
                    len(damaged), len(of_layer), layer, self.folder, ", ".join(map(str, damaged[:_MAX_LISTED])),
                )  # fmt: skip
            for chunk in range(-(-self.num_rows // self.chunk_size)):
                if chunk not in of_layer or chunk in damaged:
                    todo.setdefault(chunk, []).append(layer)
                else:
                    self.bad |= dict(of_layer[chunk]["bad"])
        return dict(sorted(todo.items()))

    def write(
        self, chunk: int, layers: Sequence[str], rows: dict[int, dict[str, np.ndarray]], bad: dict[int, str]
    ) -> None:
        """Put a chunk on disk: rows first, then the line that vouches for them."""
        lines = []
        for layer in layers:
            shape = next((row[layer].shape for row in rows.values()), None)
            if shape is not None:
                self._prepare(layer, shape)
            data = b""
            if layer in self._row_shapes:
                empty = np.zeros(self._row_shapes[layer], dtype=np.float32)
                block = [rows[number][layer] if number in rows else empty for number in self.rows(chunk)]
                data = np.stack(block).astype("<f4").tobytes()
                with self._path(layer).open("r+b") as file:
                    file.seek(self._offset(layer, chunk))
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            record = {
                "chunk": chunk,
                "layer": layer,
                "shape": list(self._row_shapes[layer]) if data else None,
                "bad": sorted([number, reason] for number, reason in bad.items()),
                "data": _digest(data),
            }
            lines.append(_line(record))
        self.bad |= bad
        with (self.folder / "journal.jsonl").open("ab") as journal:
            journal.write(b"".join(lines))
            journal.flush()
            os.fsync(journal.fileno())
        _flush_folder(self.folder)

    def values(self, layer: str) -> Tensor:
        """All rows of a layer, memory-mapped; writing to the tensor does not change the file."""
        return torch.from_numpy(np.load(self._path(layer), mmap_mode="c"))

    def _journal(self) -> dict[tuple[int, str], dict[str, Any]]:
        """Last line of each chunk and layer; lines that a kill tore or that were damaged are removed."""
        path = self.folder / "journal.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        records = {line: _record(line) for line in lines}
        sound = {line: record for line, record in records.items() if record is not None}
        if len(sound) < len(records):
            logger.warning(
                "features: %d lines of %s are torn or damaged; what they vouched for is extracted again",
                len(records) - len(sound),
                path,
            )
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(sound))
        return {(record["chunk"], record["layer"]): record for record in sound.values()}

    def _is_sound(self, record: dict[str, Any]) -> bool:
        """Whether the rows of a chunk are as they were written."""
        data = b""
        if record["shape"] is not None:
            layer, rows = record["layer"], self.rows(record["chunk"])
            with self._path(layer).open("rb") as file:
                file.seek(self._offset(layer, record["chunk"]))
                data = file.read(len(rows) * self._row_bytes(layer))
        return _digest(data) == record["data"]

    def _prepare(self, layer: str, row_shape: tuple[int, ...]) -> None:
        """Make the file of a layer whole in header and size; its rows may be anything."""
        known = self._row_shapes.setdefault(layer, row_shape)
        if known != row_shape:
            raise ValueError(f"layer {layer} has the shape {row_shape} for some samples and {known} for others")
        path, header = self._path(layer), self._header(layer)
        size = len(header) + self.num_rows * self._row_bytes(layer)
        if path.is_file() and path.stat().st_size == size:
            with path.open("rb") as file:
                if file.read(len(header)) == header:
                    return
        with path.open("r+b" if path.is_file() else "w+b") as file:
            file.write(header)
            file.truncate(size)
            file.flush()
            os.fsync(file.fileno())
        _flush_folder(self.folder)

    def _path(self, layer: str) -> Path:
        return self.folder / f"{layer}.npy"

    def _header(self, layer: str) -> bytes:
        buffer = io.BytesIO()
        shape = (self.num_rows, *self._row_shapes[layer])
        description = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    def _row_bytes(self, layer: str) -> int:
        return 4 * math.prod(self._row_shapes[layer])

    def _offset(self, layer: str, chunk: int) -> int:
        return len(self._header(layer)) + self.rows(chunk).start * self._row_bytes(layer)


def _line(record: dict[str, Any]) -> bytes:
    """A line of the journal: a checksum, then the record."""
    text = json.dumps(record, sort_keys=True).encode()
    return _digest(text).encode() + b" " + text + b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line of the journal says; None if it is not as it was written."""
    digest, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or digest != _digest(text).encode():
        return None
    return parse_json(text, where="the journal of features")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder: two that extract the same would write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("features: another process extracts into %s; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough while decoding processes hold a copy

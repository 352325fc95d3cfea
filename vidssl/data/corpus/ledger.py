"""What of a corpus is prepared already."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import replacing
from ...json_files import parse_json
from ..media.container import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .pack import Packer


class _Ledger:
    """What is finished in an output folder; one process at a time writes there."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / ".prepare"
        self.packer: Packer | None = None
        self.records: dict[str, dict[str, Any]] = {}
        self._file = self.folder / "done.jsonl"

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: Path, *, shards: bool) -> Iterator[_Ledger]:
        """Take possession of `out`, remove what a killed process left half done, read what is finished."""
        ledger = cls(out)
        folder = ledger.folder
        if out.exists() and not folder.is_dir() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"--out {printable(out)} holds other things; give a folder that is new or empty")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(f"another process is preparing into {printable(out)}; wait for it") from error
            ledger._remove_leftovers()
            ledger._read()
            if any(("facts" in record) != shards for record in ledger.records.values()):
                kinds = ("files", "shards") if shards else ("shards", "files")
                raise ValueError(
                    f"{printable(out)} holds prepared {kinds[0]}, not {kinds[1]}; give another folder"
                )
            if shards:
                from .pack import Packer

                ledger.packer = Packer(out, folder)
            try:
                yield ledger
            finally:
                ledger._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for leftover in (*self.folder.glob("*.tmp"), *self.out.glob(".*.tar.*.tmp")):
            leftover.unlink(missing_ok=True)

    def _read(self) -> None:
        if not self._file.exists():
            return
        whole, _, cut = self._file.read_bytes().rpartition(b"\n")
        if cut:  # a kill in the middle of a line
            self._file.write_bytes(whole + b"\n" if whole else b"")
        for line in whole.splitlines():
            record = parse_json(line, where=str(self._file))
            self.records[record.pop("path")] = record

    def check_source(self, root: Path, stamps: Mapping[str, list[int]]) -> None:
        """Raise ValueError if what is finished was made from another source; write down which one it is.

        A source that was moved holds the same files: what is finished is known by name, size and time of change.
        """
        file = self.folder / "source.json"
        before = json.loads(file.read_bytes())["source"] if file.exists() else None
        if before is not None and before != os.fspath(root):
            moved = all(stamps.get(name) == record["stamp"] for name, record in self.records.items())
            if not (moved and self.records):
                raise ValueError(
                    f"--out {printable(self.out)} holds what was prepared from {printable(before)}, and "
                    f"{printable(root)} is another corpus, which would lie in between; give another --out"
                )
        if before != os.fspath(root):
            with replacing(file) as temporary:
                temporary.write_text(json.dumps({"source": os.fspath(root)}) + "\n")

    def flush(self) -> None:
        """Bring the ledger to disk: what is known of a packed file stands there alone."""
        if self._file.exists():
            with self._file.open("rb") as file:
                os.fsync(file.fileno())

    def place(self, name: str) -> Path:
        """Where an encoded file is put."""
        return self.packer.encoded / name if self.packer else self.out / name

    def check_packed(self, stamps: Mapping[str, list[int]], settings: dict[str, int]) -> None:
        """Raise ValueError if what is in shards is not what would be packed now."""
        for name in self.packer.packed if self.packer else ():
            record = self.records[name]
            if name not in stamps or record["stamp"] != stamps[name] or record["settings"] != settings:
                what = "is gone" if name not in stamps else "or the settings have changed"
                raise ValueError(
                    f"{printable(name)} {what} since it was packed into shards of {printable(self.out)}, which are "
                    "never rewritten; give another --out"
                )

    def holds(self, name: str, stamp: list[int], settings: dict[str, int]) -> bool:
        """Whether a file is finished: same source, same settings, and still there."""
        record = self.records.get(name)
        if record is None or record["stamp"] != stamp or record["settings"] != settings:
            return False
        if self.packer and name in self.packer.packed:
            return True
        try:
            return self.place(name).stat().st_size == record["num_bytes"]
        except OSError:
            return False

    def add(self, name: str, stamp: list[int], settings: dict[str, int], answer: dict[str, Any]) -> None:
        self.records[name] = {"stamp": stamp, "settings": settings, **answer}
        with self._file.open("a") as file:
            file.write(json.dumps({"path": name, **self.records[name]}) + "\n")

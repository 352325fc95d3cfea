"""The record of samples that were replaced because their file cannot be read: which file, why, when, how often."""

import collections
import json
from pathlib import Path
from typing import TypedDict

from ..files import replacing
from ..json_files import parse_json


class _Record(TypedDict):
    step: int
    file: str
    reason: str


class BadSamples:
    """Lines of JSON, {"step", "file", "reason", "count"}, one for each replaced sample; `count` is of its file so far.

    The record is as much a function of the seed as the samples are: what a stopped run wrote of steps that it takes
    again is dropped when it is continued.

    Args:
        path: Of the record.
        first_step: The step from which the run goes on.

    Attributes:
        reasons: File -> why it could not be read the first time.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        self._path = path
        self._counts: collections.Counter[str] = collections.Counter()
        self.reasons: dict[str, str] = {}
        if not path.exists():
            return
        written = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # A line without its end was being written when the run was killed.
        whole = [line for line in written if line.endswith("\n")]
        records = [
            parse_json(line, _Record, where=f"{path}:{number}") for number, line in enumerate(whole, start=1)
        ]
        lines = [line for line, record in zip(whole, records, strict=True) if record["step"] < first_step]
        if lines != written:
            with replacing(path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        for record in (one for one in records if one["step"] < first_step):
            self._counts[record["file"]] += 1
            self.reasons.setdefault(record["file"], record["reason"])

    def add(self, step: int, bad: list[tuple[str, str]]) -> None:
        """Write down the files, as (path, reason), that had to be replaced in a step."""
        records = []
        for file, reason in bad:
            self._counts[file] += 1
            self.reasons.setdefault(file, reason)
            records.append({"step": step, "file": file, "reason": reason, "count": self._counts[file]})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as record_file:
            record_file.write("".join(json.dumps(record) + "\n" for record in records))

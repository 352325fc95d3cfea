"""What was measured of a run: evaluations on sequences, with the figures of each of them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from ..evaluate.propagation.davis import COLUMNS, TASKS
from ..evaluate.propagation.masks import read_mask
from ..files import own_file
from ..json_files import ResultRecord, mismatch, read_json

BASELINES = {"identity": ("Identity", "#94a3b8"), "random": ("Random weights", "#f59e0b")}
RUN_COLORS = ("#1d4ed8", "#0d9488", "#be185d", "#7c3aed")


class _Curves(TypedDict):
    J: list[float | None]
    F: list[float | None]


class _Scores(TypedDict):
    scored_frames: list[str]
    objects: dict[str, _Curves]


class _DavisModel(TypedDict):
    name: str
    sha256: str | None


class _DavisSettings(TypedDict):
    year: int | str
    resolution: str


class _DavisProtocol(TypedDict):
    name: str


_Columns = TypedDict("_Columns", dict.fromkeys(COLUMNS, float | None))  # type: ignore[misc]


class _Measured(TypedDict):
    """Of a result.json of `evaluate_davis`, what the page shows."""

    model: _DavisModel
    protocol: _DavisProtocol | None
    settings: _DavisSettings
    root: str
    figures: _Columns
    parts: dict[str, dict[str, float | None]]
    objects: dict[str, _Columns]
    unscored: list[str]
    frames_per_second: float
    num_sequences: int
    num_frames: int


@dataclass(frozen=True)
class Evaluation:
    """A folder that `evaluate_davis` wrote.

    Args:
        folder: Where it is.
        kind: "identity", "random" or "run".
        label: How the page calls it.
        color: Of its bars and lines.
        result: Content of result.json.
        records: Content of sequences/NAME.json by name.
    """

    folder: Path
    kind: str
    label: str
    color: str
    result: dict[str, Any]
    records: dict[str, dict[str, Any]]

    def score(self, sequence: str) -> float:
        """J&F-Mean of a sequence, in [0, 1]; NaN where it was not scored."""
        value = self.result["parts"].get(sequence, {}).get("J&F-Mean")
        return math.nan if value is None else value

    def frame_scores(self, sequence: str) -> dict[str, float]:
        """J&F of a sequence by the name of the frame, mean over objects."""
        record = self.records[sequence]
        curves = [(values["J"], values["F"]) for values in record["objects"].values()]
        return dict(
            zip(record["scored_frames"], np.nanmean(np.array(curves, float), axis=(0, 1)).tolist(), strict=True)
        )

    def mask(self, sequence: str, frame: Path) -> Tensor:
        """Read the mask that belongs to a frame."""
        path = self.folder / "masks" / sequence / f"{frame.stem}.png"
        return read_mask(own_file(path, folder=self.folder))


def find_evaluations(folder: Path) -> list[Evaluation]:
    """Read the DAVIS evaluations of a run folder: identity, random weights, then the others by name."""
    found: list[tuple[int, str, str, Path, dict[str, Any]]] = []
    seen: set[str] = set()
    paths = [
        path
        for pattern in ("*/result.json", "*/baselines/*/result.json")
        for path in sorted(folder.glob(f"evaluate/{pattern}"))
    ]
    for path in paths:
        result = _read(path, folder=folder, kind=ResultRecord)
        if result.get("task") not in TASKS.values():
            continue
        if problem := mismatch(result, _Measured):
            raise ValueError(f"{path} is not what `vidssl evaluate davis` writes: {problem}")
        kind = "run"
        if result["model"]["sha256"] is None:
            kind = "identity"
        elif result["model"]["name"].startswith("random:"):
            kind = "random"
        # Every evaluation brings its baselines; equal ones are shown once.
        what = json.dumps([kind, result["model"]["sha256"], result["protocol"], result["parts"]], sort_keys=True)
        if kind == "run" or what not in seen:
            found.append((["identity", "random", "run"].index(kind), path.parent.name, kind, path.parent, result))
        seen.add(what)
    found.sort(key=lambda item: item[:2])
    kinds = [kind for _, _, kind, _, _ in found]
    evaluations: list[Evaluation] = []
    for _, name, kind, place, result in found:
        label, color = BASELINES.get(kind, ("Pretrained", RUN_COLORS[len(evaluations) % len(RUN_COLORS)]))
        if kind == "run" and kinds.count("run") == 1:
            color = RUN_COLORS[0]
        # Several of a kind are told apart by their folders.
        label = label if kinds.count(kind) == 1 else f"{label}: {name}"
        records = {name: _sequence(place / "sequences" / f"{name}.json", folder=place) for name in result["parts"]}
        evaluations.append(Evaluation(place, kind, label, color, result, records))
    return evaluations


def _read(path: Path, *, folder: Path, kind: Any) -> dict[str, Any]:
    return read_json(own_file(path, folder=folder), kind)


def _sequence(path: Path, *, folder: Path) -> dict[str, Any]:
    """Scores of a sequence by object and frame."""
    record = _read(path, folder=folder, kind=_Scores)
    lengths = {len(curve) for curves in record["objects"].values() for curve in (curves["J"], curves["F"])}
    if lengths != {len(record["scored_frames"])}:
        raise ValueError(f"{path} has {len(record['scored_frames'])} scored frames, but other numbers of scores")
    return record

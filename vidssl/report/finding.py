"""Results of evaluations, found in the folders that `vidssl evaluate` and `vidssl pretrain` wrote."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import own_file
from ..json_files import ResultRecord, RunRecord, mismatch, read_json
from .published import Setup

# Baselines in the order of their rows, with names and colours; what else is measured is a model.
BASELINES = {
    "chance": ("chance", "#cbd5e1"),
    "identity": ("identity", "#94a3b8"),
    "raw": ("raw pixels", "#a8a29e"),
    "random": ("random weights", "#f59e0b"),
}

# Options of an encoder that protocols set.
CHOSEN_BY_PROTOCOL = ("layer", "stride", "padding_mode", "pos_embed")
KINDS = (*BASELINES, "model")


@dataclass(frozen=True)
class Evaluation:
    """A result.json, and whose it is.

    Args:
        folder: Where it lies.
        kind: "model", or one of `BASELINES`.
        result: Its content.
        run: Content of the run.json of the run that was measured; None for encoders from elsewhere.
    """

    folder: Path
    kind: str
    result: dict[str, Any]
    run: dict[str, Any] | None

    @property
    def setup(self) -> Setup:
        """What decides which results it may be compared with."""
        result = self.result
        # Seeds are what rows are spread over.
        settings = {name: value for name, value in (result.get("settings") or {}).items() if name != "seed"}
        return Setup(result["task"], result.get("protocol"), settings, result.get("num_sequences"))

    @property
    def who(self) -> str:
        """The same text for encoders that differ in nothing but their seed, or in what protocols choose."""
        if self.kind != "model":
            return _key(self.kind, self.architecture)
        if self.run is not None:
            options = {name: value for name, value in self.run["options"].items() if name != "seed"}
            return _key(self.run["config"], options, self.architecture)
        return _key(self.result["model"]["name"], self.architecture)

    @property
    def architecture(self) -> dict[str, Any]:
        """Of the encoder, without the options that protocols choose: they make no other encoder of it."""
        return _without_choices(self.result["model"]["architecture"] or {})

    @property
    def choices(self) -> dict[str, Any]:
        """Options of the encoder that protocols choose, as it was measured."""
        architecture = self.result["model"]["architecture"] or {}
        return {name: architecture[name] for name in CHOSEN_BY_PROTOCOL if name in architecture}

    @property
    def run_name(self) -> str | None:
        """Of the run that was measured: the name of its folder; None for encoders from elsewhere."""
        if self.run is None:
            return None
        is_inside = self.folder.parent.name == "evaluate"
        return (self.folder.parents[1] if is_inside else Path(self.result["model"]["name"])).resolve().name

    @property
    def seed(self) -> int | None:
        """Of the training run; None for encoders from elsewhere."""
        return self.run["options"].get("seed") if self.run else None

    def figure(self, column: str, part: str | None = None) -> float:
        """A figure, or that of a part; NaN where there is none."""
        figures = self.result["figures"] if part is None else self.result["parts"].get(part, {})
        value = figures.get(column)
        return math.nan if value is None else value


def find(folder: str | Path) -> list[Evaluation]:
    """Read the evaluations of a run, of an evaluation folder, or of a folder of evaluation folders.

    Raises:
        ValueError: There is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give run folders, or folders that `vidssl evaluate` wrote")
    places = {
        "run": sorted((folder / "evaluate").glob("*/result.json")),
        "evaluation": [folder / "result.json"] if (folder / "result.json").is_file() else [],
        "evaluations": sorted(folder.glob("*/result.json")),
    }
    paths = places["run"] if (folder / "run.json").is_file() else places["evaluation"] or places["evaluations"]
    if not paths:
        raise ValueError(
            f"{folder} holds no evaluation: neither evaluate/*/result.json, nor result.json, nor */result.json. "
            f"`vidssl evaluate davis --model {folder} --root DAVIS` writes one"
        )
    found = []
    for path in paths:
        found.append(_read(path, run_folder=folder))
        found += [_read(one, run_folder=folder) for one in sorted(path.parent.glob("baselines/*/result.json"))]
    return found


def _read(path: Path, *, run_folder: Path) -> Evaluation:
    result = read_json(own_file(path, folder=run_folder))
    if missing := [name for name in ("task", "figures", "model") if name not in result]:
        raise ValueError(f"{path} has no {', '.join(missing)}: an older version wrote it; evaluate again")
    if problem := mismatch(result, ResultRecord):
        raise ValueError(f"{path} is not what vidssl writes: {problem}")
    # Recognition has the accuracy of every class beside its parts.
    by_class = {f"class {name}": {"accuracy": value} for name, value in result.get("classes", {}).items()}
    result["parts"] = {**result.get("parts", {}), **by_class}
    name, kind = result["model"]["name"], "model"
    if path.parents[1].name == "baselines" and path.parent.name in BASELINES:
        kind = path.parent.name
    elif name in BASELINES or name.startswith("random:"):
        kind = name.partition(":")[0]
    # Of a run that was measured with --out, the name says where it is.
    places = [folder / "run.json" for folder in (run_folder, Path(name))] if kind == "model" else []
    found = [own_file(place, folder=place.parent) for place in places if place.is_file()]
    run = read_json(found[0], RunRecord) if found else None
    return Evaluation(path.parent, kind, result, run)


def _without_choices(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture without the options that protocols choose; of a layer, that of its network."""
    kept = {name: value for name, value in architecture.items() if name not in CHOSEN_BY_PROTOCOL}
    return {**kept, "of": _without_choices(kept["of"])} if isinstance(kept.get("of"), dict) else kept


def _key(*values: Any) -> str:
    return json.dumps(values, sort_keys=True, default=str)

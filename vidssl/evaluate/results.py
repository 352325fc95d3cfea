"""What every evaluator gives: official figures, the same by part, and how they came about."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from .provenance import write_json


@dataclass(frozen=True)
class Result:
    """Figures of an evaluation.

    Args:
        task: "davis", "jhmdb", "knn", ...
        figures: Official columns over the whole data set, in [0, 1]; NaN where nothing was scored.
        parts: The same, or some of them, for each part: sequence, class, split, direction.
        record: What else result.json holds, JSON values: "settings" (knobs of the task), "protocol" (all knobs of a
            propagation protocol, or None), "model" ({"name", "architecture", "sha256"}; the sha256 of a baseline
            without weights is None), "root", "device", "versions", "command", "date".
    """

    task: str
    figures: dict[str, float]
    parts: dict[str, dict[str, float]]
    record: dict[str, Any]

    def write(self, out: str | Path) -> None:
        """Write OUT/result.json, whole or not at all."""
        document = {"task": self.task, "figures": self.figures, "parts": self.parts, **self.record}
        write_json(Path(out) / "result.json", document)


def side_by_side(results: Mapping[str, Result], *, title: str) -> Table:
    """Draw several results of one task for the terminal, a row each, in per cent.

    Args:
        results: Name of the row -> result; columns are the figures of the first.
        title: Of the table; say what was measured, on what, by which protocol.
    """
    columns = list(next(iter(results.values())).figures)
    table = Table("", *columns, title=title)
    for name, result in results.items():
        table.add_row(name, *(per_cent(result.figures.get(column, math.nan)) for column in columns))
    return table


def per_cent(value: float) -> str:
    """Write a figure of [0, 1] with one decimal, as papers do; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"

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


def side_by_side(results: Mapping[str, Result], *, title: str, width: int | None = None) -> Table:
    """Draw several results of one task for the terminal, in per cent.

    A result is a line where its figures fit into the width; else a figure is a line, with its standard deviation
    ("NAME std") beside it.

    Args:
        results: Name -> result; which figures are shown, the first decides.
        title: Of the table; say what was measured, on what, by which protocol.
        width: Letters of a line; None is as many as it takes.
    """
    columns = list(next(iter(results.values())).figures)
    # Borders and spaces take three letters a column.
    needed = sum(len(column) + 3 for column in ["", *columns]) + max(map(len, results))
    if width is None or needed <= width:
        table = Table("", *columns, title=title)
        for name, result in results.items():
            table.add_row(name, *(per_cent(result.figures.get(column, math.nan)) for column in columns))
        return table
    table = Table("", *results, title=title)
    for column in columns:
        if column.endswith(" std"):
            continue
        cells = []
        for result in results.values():
            spread = result.figures.get(f"{column} std", math.nan)
            text = per_cent(result.figures.get(column, math.nan))
            cells.append(text if math.isnan(spread) else f"{text} ± {per_cent(spread)}")
        table.add_row(column, *cells)
    return table


def per_cent(value: float) -> str:
    """Write a figure of [0, 1] with one decimal, as papers do; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"

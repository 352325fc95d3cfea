"""What every evaluator gives: official figures, the same by part, and how they came about."""

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
            without weights is None), "uncertainty" (n, and an interval of each figure:
            `vidssl.evaluate.metrics.interval.uncertainty`), "root", "device", "versions", "command", "date".
        baselines: Results of what was measured beside it, by name, where that was asked for.
    """

    task: str
    figures: dict[str, float]
    parts: dict[str, dict[str, float]]
    record: dict[str, Any]
    baselines: "dict[str, Result]" = field(default_factory=dict)

    def write(self, out: str | Path) -> None:
        """Write OUT/result.json, whole or not at all."""
        document = {"task": self.task, "figures": self.figures, "parts": self.parts, **self.record}
        write_json(Path(out) / "result.json", document)


@contextmanager
def folder_of(out: str | Path | None) -> Iterator[Path]:
    """Give the folder for results: `out`, or for None one that is gone after the block."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="vidssl-") as folder:
        yield Path(folder)


def side_by_side(results: Mapping[str, Result], *, title: str, width: int | None = None) -> Table:
    """Draw several results of one task for the terminal, in per cent.

    A result is a line where its figures fit into the width; else a figure is a line, with its standard deviation
    ("NAME std") beside it. Intervals stand below their figures, and what they are in the caption.

    Args:
        results: Name -> result; which figures are shown, the first decides.
        title: Of the table; say what was measured, on what, by which protocol.
        width: Letters of a line; None is as many as it takes.
    """
    first = next(iter(results.values()))
    columns = list(first.figures)
    caption = _spoken(first.record.get("uncertainty"))
    rows = [
        [f"{_figure(result, column)}{_interval(result, column)}" for column in columns]
        for result in results.values()
    ]
    # Borders and spaces take three letters a column.
    by_column = [[column, *texts] for column, *texts in zip(columns, *rows, strict=True)]
    needed = sum(max(len(line) for text in own for line in text.split("\n")) + 3 for own in by_column)
    needed += 3 + max(map(len, results))
    if width is None or needed <= width:
        table = Table("", *columns, title=title, caption=caption)
        for name, row in zip(results, rows, strict=True):
            table.add_row(name, *row)
        return table
    table = Table("", *results, title=title, caption=caption)
    for column in columns:
        if column.endswith(" std"):
            continue
        cells = []
        for result in results.values():
            spread = result.figures.get(f"{column} std", math.nan)
            text = _figure(result, column)
            text += "" if math.isnan(spread) else f" ± {per_cent(spread)}"
            cells.append(text + _interval(result, column))
        table.add_row(column, *cells)
    return table


def _figure(result: Result, column: str) -> str:
    return per_cent(result.figures.get(column, math.nan))


def _interval(result: Result, column: str) -> str:
    """A line with the bounds of a figure, where it has any."""
    bounds = result.record.get("uncertainty", {}).get("intervals", {}).get(column)
    return "" if bounds is None else f"\n[{per_cent(bounds[0])}, {per_cent(bounds[1])}]"


def _spoken(uncertainty: Mapping[str, Any] | None) -> str | None:
    """Say what the intervals are, or why there are none."""
    if not uncertainty:
        return None
    unit, n, num_samples = (uncertainty[name] for name in ("unit", "n", "num_samples"))
    if not uncertainty["intervals"]:
        return uncertainty["note"] or None
    what = f"n = {n} {unit}s" + ("" if num_samples == n else f" ({num_samples} samples)")
    text = f"{what}; in brackets: 95 % intervals, by bootstrap over {unit}s"
    return text + (f"; {uncertainty['note']}" if uncertainty["note"] else "")


def per_cent(value: float) -> str:
    """Write a figure of [0, 1] with one decimal, as papers do; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def slug(text: str) -> str:
    """Turn a name into the name of a folder."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")

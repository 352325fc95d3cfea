"""How sure the figures of a benchmark are: its sequences drawn again with replacement (`metrics.interval`).

What a benchmark reports are functions of sums over its sequences (of scores and their number, of confusions, of counts
of joints), so a draw costs a product of matrices, not a second evaluation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..metrics.interval import intervals_of, uncertainty
from ..metrics.miou import figures as miou_figures
from ..metrics.pck import Counts, pck

Records = list[dict[str, Any]]
Summary = tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]

Sums = tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]
"""A row (V,) for each sequence, (S, V), and what makes figures of the sum of rows."""


def sequence_uncertainty(sums: Sums, figures: Mapping[str, float]) -> dict[str, Any]:
    """What result.json says of the figures of a benchmark (`metrics.interval.uncertainty`).

    Args:
        sums: Of its sequences.
        figures: As they are reported. What the sums do not give again has no interval, and is named.
    """
    rows, figures_of = sums
    whole = figures_of(rows.sum(axis=0))
    names = [name for name, value in figures.items() if abs(whole.get(name, math.nan) - value) < 1e-9]
    unsure = [name for name, value in figures.items() if name not in names and not math.isnan(value)]

    def drawn(counts: Tensor) -> dict[str, Tensor]:
        found = [figures_of(row) for row in counts.numpy() @ rows]
        return {name: torch.tensor([one[name] for one in found], dtype=torch.float64) for name in names}

    note = f"no interval for {', '.join(unsure)}: it is no function of sums over sequences" if unsure else ""
    intervals = intervals_of(drawn, len(rows), block_units=rows.size) if names else {}
    return uncertainty(intervals, num_units=len(rows), num_samples=len(rows), unit="sequence", note=note)


def weighted_means(
    records: Sequence[dict[str, Any]],
    summarise: Callable[[Records], Summary],
    *,
    weight: Callable[[dict[str, Any]], float] = lambda more: 1.0,
) -> Sums:
    """Sums for figures that are means over sequences, each over those that have the figure.

    Args:
        records: Of the sequences.
        summarise: Of the benchmark.
        weight: What `summarise` records of a sequence alone, beside its figures -> its weight in the mean: the number
            of its objects, say.
    """
    singles = [summarise([record]) for record in records]
    names = list(dict.fromkeys(name for figures, _, _ in singles for name in figures))
    rows = []
    for figures, _, more in singles:
        values = np.array([figures.get(name, math.nan) for name in names], dtype=np.float64)
        weights = np.where(np.isnan(values), 0.0, weight(more))
        rows.append(np.concatenate([np.nan_to_num(values) * weights, weights]))

    def figures_of(row: np.ndarray) -> dict[str, float]:
        with np.errstate(invalid="ignore"):
            means = row[: len(names)] / row[len(names) :]
        return dict(zip(names, means.tolist(), strict=True))

    return np.stack(rows), figures_of


def confusion_sums(records: Sequence[dict[str, Any]]) -> Sums:
    """Sums for VIP: the confusions of all videos together."""
    rows = np.array([record["confusion"] for record in records], dtype=np.int64)
    return rows.reshape(len(rows), -1), lambda row: miou_figures(row.reshape(rows.shape[1:]))


def joint_sums(records: Sequence[dict[str, Any]], *, variant: str) -> Sums:
    """Sums for JHMDB: joints that count, that are right, that were found and that are there."""
    rows = np.array(
        [
            [
                *(
                    number
                    for one in (variant, "tapvid")
                    for number in (*record[one]["counted"], *np.ravel(record[one]["correct"]))
                ),
                record["found"],
                record["present"],
            ]
            for record in records
        ],
        dtype=np.int64,
    )
    num_joints = len(records[0][variant]["counted"])

    def figures_of(row: np.ndarray) -> dict[str, float]:
        figures: dict[str, float] = {}
        for prefix, own in zip(("", "tapvid "), np.split(row[:-2], 2), strict=True):
            values = pck(Counts(own[:num_joints], own[num_joints:].reshape(-1, num_joints)))
            figures |= {f"{prefix}{name}": value for name, value in values.items()}
        return figures | {"coverage": row[-2] / row[-1] if row[-1] else math.nan}

    return rows, figures_of

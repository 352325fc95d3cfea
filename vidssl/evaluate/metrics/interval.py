"""How sure a figure is: percentile intervals by the bootstrap over recordings (Efron 1979).

    intervals = mean_intervals({"top1": right}, source)     # {"top1": (0.41, 0.63)}

What is drawn with replacement are recordings (sequences of a benchmark), with all their samples: clips cut from one
recording are right or wrong together, and drawing them apart would claim a certainty that is not there. A single
recording tells nothing of others: no interval.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

LEVEL = 0.95
NUM_RESAMPLES = 1000

Intervals = dict[str, tuple[float, float]]

# Weights that are held at once: 32 MB of float64.
_BLOCK = 2**22
# Of the normal distribution, two-sided 95 %.
_QUANTILE = 1.959964


def resampled(num_units: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[Tensor]:
    """Draw as many units as there are, with replacement, again and again: how often each was drawn, int64 (B, U).

    The blocks hold `num_resamples` rows together; a seed gives the same rows whatever their size.
    """
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < num_resamples:
        rows = min(num_resamples - done, max(1, _BLOCK // num_units))
        drawn = torch.randint(num_units, (rows, num_units), generator=generator)
        yield torch.zeros(rows, num_units, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))
        done += rows


def mean_intervals(values: Mapping[str, Tensor], source: Tensor, **options: int) -> Intervals:
    """Intervals of means over samples.

    Args:
        values: By figure, (N,): whether each sample is right, say.
        source: Number of the recording of each sample, int64 (N,).
        options: `num_resamples`, `seed`.

    Returns:
        Figure -> lower and upper bound; empty of a single recording.
    """
    _, unit = source.unique(return_inverse=True)
    num_units = int(unit.max()) + 1
    table = torch.stack([torch.ones(len(source)).double(), *(one.double() for one in values.values())], dim=1)
    sums = table.new_zeros(num_units, table.shape[1]).index_add_(0, unit, table)  # per recording

    def means(counts: Tensor) -> dict[str, Tensor]:
        total = counts.double() @ sums
        return dict(zip(values, (total[:, 1:] / total[:, :1]).unbind(1), strict=True))

    return intervals_of(means, num_units, **options)


def mean_class_intervals(right: Tensor, label: Tensor, source: Tensor, **options: int) -> Intervals:
    """Interval of "mean_class", the mean over classes of the share that is right; what lacks a class leaves it out.

    Args:
        right: (M,).
        label: Class of each sample, int64 (M,).
        source: Number of its recording, int64 (M,).
        options: `num_resamples`, `seed`.
    """
    _, unit = source.unique(return_inverse=True)
    _, column = label.unique(return_inverse=True)
    num_classes = int(column.max()) + 1

    def means(counts: Tensor) -> dict[str, Tensor]:
        weight = counts[:, unit].double()  # (B, M)
        places = column.expand_as(weight)
        total = weight.new_zeros(len(weight), num_classes).scatter_add_(1, places, weight)
        hits = weight.new_zeros(len(weight), num_classes).scatter_add_(1, places, weight * right.double())
        return {"mean_class": (hits / total).nanmean(1)}

    return intervals_of(means, int(unit.max()) + 1, block_units=len(source), **options)


def intervals_of(
    statistic: Callable[[Tensor], Mapping[str, Tensor]],
    num_units: int,
    *,
    block_units: int | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Intervals:
    """Intervals of any figures.

    Args:
        statistic: How often each unit was drawn, int64 (B, U) -> figures of each draw, by name, (B,); NaN where a draw
            has none.
        num_units: U.
        block_units: Numbers that `statistic` holds for each draw; None is `num_units`.
        num_resamples: Draws.
        seed: Of the draws.

    Returns:
        Figure -> lower and upper bound. Where every draw gives 0, or every draw gives 1, the bootstrap knows of no
        spread, and Wilson's interval of a share of that many units stands instead. Empty of a single unit.
    """
    if num_units < 2:
        return {}
    rows = max(1, _BLOCK // (block_units or num_units))
    found: dict[str, list[Tensor]] = {}
    for block in resampled(num_units, num_resamples=num_resamples, seed=seed):
        for part in block.split(rows):
            for name, values in statistic(part).items():
                found.setdefault(name, []).append(values.double())
    intervals = {}
    for name, blocks in found.items():
        values = torch.cat(blocks)
        values = values[~values.isnan()]
        if len(values) and bool((values == values[0]).all()) and float(values[0]) in (0.0, 1.0):
            intervals[name] = wilson(float(values[0]), num_units)
        elif len(values):
            tail = (1 - LEVEL) / 2
            low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
            intervals[name] = (low, high)
    return intervals


def mean_uncertainty(splits: list[dict[str, Any]]) -> dict[str, Any]:
    """What result.json says of means over splits, each of which has its `uncertainty`.

    The bounds are the means of the bounds: right if the splits test the same recordings, else wider than need be.
    """
    names = set.intersection(*(set(one["intervals"]) for one in splits))
    bounds = {
        name: [sum(one["intervals"][name][end] for one in splits) / len(splits) for end in (0, 1)]
        for name in splits[0]["intervals"]
        if name in names
    }
    return {
        **splits[0],
        "n": sum(one["n"] for one in splits),
        "num_samples": sum(one["num_samples"] for one in splits),
        "intervals": bounds,
        "note": f"bounds are the means of those of {len(splits)} splits; n is the sum of theirs",
    }


def wilson(share: float, num_trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent trials (Wilson 1927)."""
    square = _QUANTILE**2
    middle = (share + square / (2 * num_trials)) / (1 + square / num_trials)
    half = _QUANTILE * math.sqrt(share * (1 - share) / num_trials + square / (4 * num_trials**2))
    half /= 1 + square / num_trials
    return max(0.0, middle - half), min(1.0, middle + half)


def uncertainty(
    intervals: Intervals, *, num_units: int, num_samples: int, unit: str = "recording", note: str = ""
) -> dict[str, Any]:
    """What result.json says of it, JSON values.

    Args:
        intervals: By figure.
        num_units: n, recordings or sequences.
        num_samples: That were scored.
        unit: What was drawn.
        note: What else must be known.
    """
    if num_units < 2:
        note = f"n is {num_units} {unit}: one tells nothing of others, so there is no interval"
    return {
        "unit": unit,
        "n": num_units,
        "num_samples": num_samples,
        "level": LEVEL,
        "num_resamples": NUM_RESAMPLES,
        "intervals": {name: list(bounds) for name, bounds in intervals.items()},
        "note": note,
    }

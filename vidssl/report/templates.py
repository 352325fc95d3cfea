"""Templates of the pages, and figures as papers write them."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a figure over seeds.

    Args:
        mean: NaN where nothing was scored.
        std: Sample standard deviation; NaN for a single value.
        count: Values.
    """

    mean: float
    std: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation of the values that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    std = statistics.stdev(known) if len(known) > 1 else math.nan
    return Spread(statistics.fmean(known) if known else math.nan, std, len(known))


def environment() -> Any:
    """Templates of the pages, with what they need to write figures."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("vidssl.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {"cell": cell, "share": share}
    made.filters.update(filters)
    return made


def cell(value: Spread, *, plain: bool = False) -> str:
    """Write a figure as papers do: "61.8", or "61.8 +- 0.4" over seeds; a dash where there is none."""
    if math.isnan(value.mean):
        return "\N{EN DASH}"
    scale = 1 if plain else 100
    text = f"{scale * value.mean:.1f}"
    return text if math.isnan(value.std) else f"{text} \N{PLUS-MINUS SIGN} {scale * value.std:.1f}"


def share(value: float | None) -> str:
    """Write a figure of [0, 1] in per cent."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{100 * value:.1f}"

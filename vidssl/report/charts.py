"""Charts of the report, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a file may have any name
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#475569",
    "axes.titlesize": 9,
    "axes.titlecolor": "#1e293b",
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "svg.hashsalt": "vidssl",
}
RAW, SMOOTH = "#bfdbfe", "#1d4ed8"
MAX_DOT_LINES = 40


def curve(steps: Sequence[int], values: Sequence[float], *, title: str, width: float, height: float) -> str:
    """Draw a scalar over the steps, as it is and as running mean over a tenth of the run; sizes in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, values, color=RAW, linewidth=1, marker="o" if len(values) == 1 else "")
        axes.plot(steps, running_mean(values, width=max(1, len(values) // 20)), color=SMOOTH, linewidth=1.5)
        axes.set_title(title, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        return svg_text(figure)


def running_mean(values: Sequence[float], *, width: int) -> np.ndarray:
    """Mean over a window of `width` values on either side and the value itself; smaller windows at the ends.

    Values that are not finite are left out.
    """
    series = np.asarray(values, dtype=np.float64)
    known = np.isfinite(series)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, series, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first = np.clip(np.arange(len(series)) - width, 0, None)
    last = np.clip(np.arange(len(series)) + width + 1, None, len(series))
    number = counts[last] - counts[first]
    return np.where(number > 0, (totals[last] - totals[first]) / np.maximum(number, 1), np.nan)


def bars(groups: Sequence[str], series: Mapping[str, Mapping[str, float]], colors: Mapping[str, str]) -> str:
    """Draw one group of horizontal bars per name in `groups`, one bar per series; values in [0, 1] as per cent."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(5.2, 0.5 + len(groups) * (0.17 * len(series) + 0.14)), layout="constrained")
        axes = figure.add_subplot()
        thickness = 0.84 / len(series)
        for number, (label, values) in enumerate(series.items()):
            places = [place + (number - (len(series) - 1) / 2) * thickness for place in range(len(groups))]
            lengths = [100 * values.get(group, np.nan) for group in groups]
            drawn = axes.barh(places, lengths, height=0.9 * thickness, color=colors[label], label=label)
            axes.bar_label(drawn, ["" if np.isnan(x) else f"{x:.1f}" for x in lengths], padding=3, fontsize=7)
        axes.set_yticks(range(len(groups)))
        axes.set_yticklabels(groups)
        axes.invert_yaxis()
        axes.set_xlabel("J&F-Mean, per cent")
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
        return svg_text(figure)


def along(series: Mapping[str, Sequence[float]], colors: Mapping[str, str]) -> str:
    """Draw J&F in [0, 1] as per cent against the number of the scored frame; one line per series."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for label, values in series.items():
            axes.plot(range(1, len(values) + 1), 100 * np.asarray(values), color=colors[label], linewidth=1.8)
        axes.set_xlabel("scored frame")
        axes.set_ylabel("J&F, per cent")
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.01)
        return svg_text(figure)


@dataclass(frozen=True)
class Bar:
    """A figure with its spread.

    Args:
        label: What it is of.
        value: In [0, 1].
        spread: Standard deviation; NaN where there is none.
        color: Of the bar.
        style: "own"; "read", a published figure (outlined); or "memory", one that is not verified (dashed).
    """

    label: str
    value: float
    spread: float
    color: str
    style: Literal["own", "read", "memory"] = "own"


def bars_with_spread(drawn: Sequence[Bar], *, title: str) -> str:
    """Draw horizontal bars from top to bottom, values in [0, 1] as per cent, with whiskers of a standard deviation."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(7.2, 0.55 + 0.23 * len(drawn)), layout="constrained")
        axes = figure.add_subplot()
        for place, bar in enumerate(drawn):
            length, spread = 100 * bar.value, 0 if np.isnan(bar.spread) else 100 * bar.spread
            outline = "--" if bar.style == "memory" else "-"
            face = bar.color if bar.style == "own" else "white"
            axes.barh(place, length, height=0.72, color=face, edgecolor=bar.color, linestyle=outline)
            if spread:
                axes.errorbar(length, place, xerr=spread, color="#0f172a", capsize=2.5, linewidth=1)
            text = f"{length:.1f}" + (f" \N{PLUS-MINUS SIGN} {spread:.1f}" if spread else "")
            axes.annotate(
                text, (length + spread, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7
            )
        axes.set_yticks(range(len(drawn)))
        axes.set_yticklabels([bar.label for bar in drawn])
        axes.invert_yaxis()
        axes.set_title(f"{title}, per cent", loc="left")
        axes.margins(x=0.12)
        axes.set_xlim(left=min(0.0, *axes.get_xlim()))
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(False)
        return svg_text(figure)


@dataclass(frozen=True)
class Marker:
    """Shape of dots.

    Args:
        shape: As matplotlib calls it.
        letter: The same shape in text, for legends.
    """

    shape: str
    letter: str


MARKERS = (
    Marker("o", "\N{BLACK CIRCLE}"),
    Marker("s", "\N{BLACK SQUARE}"),
    Marker("^", "\N{BLACK UP-POINTING TRIANGLE}"),
    Marker("D", "\N{BLACK DIAMOND}"),
)


@dataclass(frozen=True)
class Dots:
    """Figures of one series.

    Args:
        color: Of the dots.
        marker: Their shape.
        values: In [0, 1], NaN where there is none; one per name.
        label: What the series is called.
    """

    color: str
    marker: Marker
    values: Sequence[float]
    label: str


def dots(names: Sequence[str], series: Sequence[Dots], *, title: str) -> str:
    """Draw a line per name and a dot on it per series; values in [0, 1] as per cent.

    Past 40 names the lines are too many to read: then there is one per series, with a dot per name and a stroke at
    their mean.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    turned = len(names) > MAX_DOT_LINES
    lines = [one.label for one in series] if turned else list(names)
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(7.2, 0.55 + (0.4 if turned else 0.2) * len(lines)), layout="constrained")
        axes = figure.add_subplot()
        for number, one in enumerate(series):
            values = 100 * np.asarray(one.values, dtype=np.float64)
            places = np.arange(len(names), dtype=np.float64)
            if turned:
                # Dots of one line are spread over its height in a fixed pattern, so that they do not hide each other.
                places = number + 0.3 * (2 * (0.618 * places % 1) - 1)
                axes.plot([np.nanmean(values)] * 2, [number - 0.4, number + 0.4], color=one.color)
            size = 3 if turned else 5
            axes.plot(values, places, one.marker.shape, color=one.color, markersize=size, alpha=0.75)
        axes.set_yticks(range(len(lines)))
        axes.set_yticklabels(lines)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, -104), min(right, 104))  # nothing is above 100 per cent
        axes.hlines(range(len(lines)), *axes.get_xlim(), color="#e2e8f0", linewidth=0.8, zorder=0)
        axes.set_title(f"{title}, per cent", loc="left")
        axes.tick_params(length=0)
        return svg_text(figure)


def svg_text(figure) -> str:  # type: ignore[no-untyped-def]
    """Give a figure of matplotlib as SVG, the same text for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()

"""Several encoders side by side: every task, with spread over seeds, baselines, and published figures where these were
measured the same way.

Results come from result.json files (evaluate/results.py). Those of one task on the same data make a table; inside it,
results stand together if they share protocol and settings, for figures of different protocols differ by several
points. Runs of one config that differ in nothing but their seed are one row: mean, sample standard deviation, number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import replacing
from . import charts
from .embed import svg_uri
from .finding import BASELINES, KINDS, Evaluation, _key, find
from .grouping import WITHOUT_KNOBS, _groups, _labels
from .published import PUBLISHED, Figure, Setup, changed_knobs, why_not
from .sheets import Row, Shown, _pictures
from .templates import environment

TITLES = {
    "davis": "DAVIS-2017, masks",
    "davis2016": "DAVIS-2016, masks",
    "youtubevos": "YouTube-VOS, masks",
    "jhmdb": "JHMDB, joints",
    "vip": "VIP, parts",
    "otb": "OTB, boxes",
    "got10k": "GOT-10k, boxes",
    "tapvid": "TAP-Vid, points",
    "knn": "Nearest neighbours",
    "linear": "Linear classifier",
    "finetune": "Fine-tuning",
    "lowshot": "Few labels",
    "retrieval": "Retrieval",
    "audio-video-retrieval": "Retrieval between sound and video",
    "cluster": "Clusters",
}
COLORS = ("#1d4ed8", "#0d9488", "#be185d", "#7c3aed", "#b45309", "#15803d", "#0369a1", "#a21caf")
PUBLISHED_COLOR = "#334155"
MAX_OPEN_PARTS = 12
# Columns that are no shares: they are not shown in per cent.
PLAIN = ("rank", "inertia")


# Finding results.


# Arranging them.


def sections(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Tables, charts and pictures of every task and data set, for tasks.html."""
    by_data: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        facts = (one.result.get(name) for name in ("num_sequences", "num_frames"))
        by_data.setdefault(_key(one.result["task"], _data_name(one), *facts), []).append(one)
    first = {one.who: one for one in reversed(evaluations)}
    labels = _labels([first[who] for who in dict.fromkeys(one.who for one in evaluations)])
    models = [who for who in labels if first[who].kind == "model"]
    colors = {who: COLORS[number % len(COLORS)] for number, who in enumerate(models)}
    styles = {who: (label, colors.get(who) or BASELINES[first[who].kind][1]) for who, label in labels.items()}
    order = [*TITLES, *sorted({one.result["task"] for one in evaluations} - set(TITLES))]
    groups = sorted(by_data.values(), key=lambda group: order.index(group[0].result["task"]))
    return [_section(group, styles) for group in groups]


def _section(evaluations: Sequence[Evaluation], styles: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Everything about one task on one data set."""
    first = evaluations[0].result
    task = first["task"]
    columns = _columns(one.result["figures"] for one in evaluations)
    main = columns[0]
    groups = _groups(evaluations, styles)
    shown = _shown(groups)
    beside, apart = _published(task, groups)
    with_knobs = [one.setup.settings for one in evaluations if one.kind not in WITHOUT_KNOBS]
    all_settings = with_knobs or [one.setup.settings for one in evaluations]
    shared = {
        name: value
        for name, value in all_settings[0].items()
        if all(settings.get(name) == value for settings in all_settings)
    }
    num = first.get("num_sequences")
    size = f"{num} sequence{'s' if num != 1 else ''}, {first.get('num_frames')} frames of " if num else ""
    return {
        "task": task,
        "title": TITLES.get(task, task),
        "data": f"{size}{_data_name(evaluations[0])}",
        "settings": shared,
        "columns": columns,
        "plain": [column for column in columns if _is_plain(column)],
        "main": main,
        "groups": [
            {
                "title": _group_title(setup, shared),
                "knobs": dict(setup.protocol or {}),
                "settings": {name: value for name, value in setup.settings.items() if name not in shared},
                "has_knobs": any(row.kind not in WITHOUT_KNOBS for row in rows),
                "rows": rows,
                "published": beside[number],
            }
            for number, (setup, rows) in enumerate(groups)
        ],
        "apart": apart,
        "apart_columns": list(dict.fromkeys(column for one in apart for column in one["figure"].figures)),
        "bars": None
        if _is_plain(main)
        else svg_uri(charts.bars_with_spread(_bars(groups, beside, main), title=main)),
        "has_spread": any(not math.isnan(one.row.spread(main).std) for one in shown),
        "parts": _parts(shown, main, is_sequences=num is not None),
        "pictures": _pictures(shown, main),
    }


def _group_title(setup: Setup, shared: Mapping[str, Any]) -> str:
    """The protocol, and what is not as published under its name."""
    if setup.protocol is None:
        # Tasks without propagation have settings only.
        own = {
            name: value
            for name, value in setup.settings.items()
            if name not in shared and not isinstance(value, dict | list)
        }
        return _listed(own)
    changed = changed_knobs(setup)
    return f"protocol {setup.protocol['name']}" + (f", but {_listed(changed)}" if changed else "")


def _published(
    task: str, groups: Sequence[tuple[Setup, list[Row]]]
) -> tuple[list[list[Figure]], list[dict[str, Any]]]:
    """Published figures that stand beside each group, and the others with the reason why they do not."""
    beside: list[list[Figure]] = [[] for _ in groups]
    apart = []
    setups = [setup for setup, _ in groups]
    names = [setup.protocol and setup.protocol["name"] for setup in setups]
    for figure in PUBLISHED.get(task, ()):
        reasons = [why_not(figure, setup) for setup in setups]
        fitting = [number for number, reason in enumerate(reasons) if not reason]
        if fitting:  # its own protocol rather than one much like it
            beside[min(fitting, key=lambda number: names[number] != figure.protocol)].append(figure)
            continue
        # The group that comes nearest says it best.
        nearest = names.index(figure.protocol) if figure.protocol in names else len(names) - 1
        apart.append({"figure": figure, "reason": reasons[nearest]})
    return beside, apart


def _bars(
    groups: Sequence[tuple[Setup, list[Row]]], beside: Sequence[Sequence[Figure]], column: str
) -> list[charts.Bar]:
    """All rows of a section from top to bottom, published figures below those of their protocol."""
    drawn = []
    several = sum(setup.protocol is not None for setup, _ in groups) > 1
    for (setup, rows), figures in zip(groups, beside, strict=True):
        name = f" [{setup.protocol['name']}]" if several and setup.protocol else ""
        for row in rows:
            found = row.spread(column)
            drawn.append(charts.Bar(row.label + name, found.mean, found.std, row.color))
        for figure in sorted(figures, key=lambda figure: figure.figures.get(column, math.nan)):
            if column in figure.figures:
                label = figure.label + (" (from memory)" if figure.source == "memory" else "")
                value = figure.figures[column]
                drawn.append(charts.Bar(label + name, value, math.nan, PUBLISHED_COLOR, figure.source))
    return [bar for bar in drawn if not math.isnan(bar.value)]


def _shown(groups: Sequence[tuple[Setup, list[Row]]]) -> list[Shown]:
    """All rows of a section, told apart where one encoder was measured by several protocols."""
    several = sum(setup.protocol is not None for setup, _ in groups) > 1
    found = []
    for number, (setup, rows) in enumerate(groups):
        name = f" [{setup.protocol['name']}]" if several and setup.protocol else ""
        marker = charts.MARKERS[number % len(charts.MARKERS) if several else 0]
        found += [Shown(row, row.label + name, marker) for row in rows]
    return found


def _parts(shown: Sequence[Shown], main: str, *, is_sequences: bool) -> list[dict[str, Any]]:
    """Figures by sequence, class, joint ...: one table per set of columns."""
    columns_of: dict[str, tuple[str, ...]] = {}
    for one in shown:
        for member in one.row.members:
            for name, figures in member.result["parts"].items():
                columns_of.setdefault(name, tuple(figures))
    tables = []
    for columns in dict.fromkeys(columns_of.values()):
        names = [name for name, own in columns_of.items() if own == columns]
        column = main if main in columns else next(iter(columns), main)
        cells = [(one, {name: one.row.spread(column, name) for name in names}) for one in shown]
        cells = [(one, own) for one, own in cells if any(cell.count for cell in own.values())]
        if not cells:
            continue
        words = {name.partition(" ")[0] for name in names if " " in name}
        is_kind = len(words) == 1 and all(" " in name for name in names)
        kind = words.pop() if is_kind else "sequence" if is_sequences else "part"
        if all("=" in name for name in names):
            kind, is_kind = "setting", False
        series = [
            charts.Dots(one.row.color, one.marker, [cell.mean for cell in own.values()], one.label)
            for one, own in cells
        ]
        is_plain = _is_plain(column)
        tables.append(
            {
                "kind": kind,
                "column": column,
                "is_plain": is_plain,
                "shown": [one for one, _ in cells],
                "lines": [
                    {"name": name.removeprefix(f"{kind} "), "cells": [own[name] for _, own in cells]}
                    for name in names
                ],
                "is_open": len(names) <= MAX_OPEN_PARTS and kind != "setting",
                "chart": None
                if is_plain or kind == "setting"
                else svg_uri(
                    charts.dots(
                        [name.removeprefix(f"{kind} ") for name in names], series, title=f"{column} by {kind}"
                    )
                ),
            }
        )
    return tables


# Writing the page.


def write_comparison(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write a page that needs no other file: the evaluations of several runs or folders side by side.

    Args:
        folders: See `find`.
        out: The page, an .html file.

    Returns:
        Its path.

    Raises:
        ValueError: A folder holds no evaluation.
    """
    out = Path(out)
    evaluations = [one for folder in folders for one in find(folder)]
    parts = sections(evaluations)
    page = (
        environment()
        .get_template("comparison.html")
        .render(
            title=" and ".join(sorted({Path(folder).resolve().name for folder in folders}))
            if len(folders) < 4
            else "Comparison",
            sections=parts,
            overview=overview(parts),
            evaluations=evaluations,
            commands=list(
                dict.fromkeys(one.result["command"] for one in evaluations if one.result.get("command"))
            ),
            version=__version__,
        )
    )
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def overview(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The main figure of every encoder on every task: a line per encoder, a list of (protocol, spread) per task."""
    lines: dict[str, dict[str, Any]] = {}
    for number, section in enumerate(parts):
        for group in section["groups"]:
            for row in group["rows"]:
                line = lines.setdefault(
                    row.label,
                    {"label": row.label, "color": row.color, "kind": row.kind, "cells": [[] for _ in parts]},
                )
                value = (group["knobs"].get("name", ""), row.spread(section["main"]))
                if value not in line["cells"][number]:
                    line["cells"][number].append(value)
    return sorted(lines.values(), key=lambda line: KINDS.index(line["kind"]))


def _columns(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Columns in which anything was scored; of none, all."""
    figures = list(figures)
    names = dict.fromkeys(name for own in figures for name in own)
    columns = [name for name in names if not name.endswith(" std")]  # they stand behind their means
    return [name for name in columns if any(own.get(name) is not None for own in figures)] or columns


def _is_plain(column: str) -> bool:
    return any(word in column for word in PLAIN)


def _data_name(one: Evaluation) -> str:
    root = Path(str(one.result.get("root", ""))).name
    return str(one.setup.settings.get("data") or root or "unknown data")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

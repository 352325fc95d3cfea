"""Several encoders side by side: every task, with spread over seeds, baselines, and published figures where these were
measured the same way.

Results come from result.json files (evaluate/results.py). Those of one task on the same data make a table; inside it,
results stand together if they share protocol and settings, for figures of different protocols differ by several
points. Runs of one config that differ in nothing but their seed are one row: mean, sample standard deviation, number.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..files import own_file, replacing
from ..json_files import ResultRecord, RunRecord, mismatch, read_json
from . import charts
from .embed import jpeg_uri, svg_uri
from .published import PUBLISHED, Figure, Setup, changed_knobs, why_not

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
# Baselines in the order of their rows, with names and colours; what else is measured is a model.
BASELINES = {
    "chance": ("chance", "#cbd5e1"),
    "identity": ("identity", "#94a3b8"),
    "raw": ("raw pixels", "#a8a29e"),
    "random": ("random weights", "#f59e0b"),
}
PUBLISHED_COLOR = "#334155"
PICTURE_WIDTH_PX = 1200
MAX_PICTURED_MODELS = 4
MAX_OPEN_PARTS = 12
# Columns that are no shares: they are not shown in per cent.
PLAIN = ("rank", "inertia")
RETRIEVED = "What was retrieved"

# Options of an encoder that protocols set.
CHOSEN_BY_PROTOCOL = ("layer", "stride", "padding_mode", "pos_embed")
KINDS = (*BASELINES, "model")
WITHOUT_KNOBS = ("chance", "identity")


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


@dataclass(frozen=True)
class Row:
    """Evaluations of one encoder under one setup, one per seed.

    Args:
        label: What the page calls it.
        color: Of its bars and dots.
        members: One per seed.
    """

    label: str
    color: str
    members: tuple[Evaluation, ...]

    @property
    def kind(self) -> str:
        """As of `Evaluation`."""
        return self.members[0].kind

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, as far as they are known."""
        return sorted(
            {one.run["options"]["seed"] for one in self.members if one.run and "seed" in one.run["options"]}
        )

    @property
    def runs(self) -> list[str]:
        """Names of the runs that were measured."""
        return list(dict.fromkeys(one.run_name for one in self.members if one.run_name is not None))

    def spread(self, column: str, part: str | None = None) -> Spread:
        """Mean and spread of a figure over the seeds that have it; of a single one, the spread that it reports."""
        found = spread([one.figure(column, part) for one in self.members])
        if found.count != 1:
            return found
        return Spread(found.mean, spread([one.figure(f"{column} std", part) for one in self.members]).mean, 1)


@dataclass(frozen=True)
class Shown:
    """A row in charts and legends.

    Args:
        row: The row.
        label: With the protocol where there are several.
        marker: Shape of its dots, one per protocol.
    """

    row: Row
    label: str
    marker: charts.Marker


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation of the values that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    std = statistics.stdev(known) if len(known) > 1 else math.nan
    return Spread(statistics.fmean(known) if known else math.nan, std, len(known))


# Finding results.


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
    result = read_json(own_file(path, folder=path.parent))
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
    run = next((read_json(place, RunRecord) for place in places if place.is_file()), None)
    return Evaluation(path.parent, kind, result, run)


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
    size = f"{num} sequence{'s' if num != 1 else ''}, {first['num_frames']} frames of " if num else ""
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


def _groups(
    evaluations: Sequence[Evaluation], styles: Mapping[str, tuple[str, str]]
) -> list[tuple[Setup, list[Row]]]:
    """Rows by protocol and settings: baselines for which these do not matter come first."""
    by_setup: dict[str, tuple[Setup, list[Evaluation]]] = {}
    for one in sorted(evaluations, key=lambda one: one.kind not in WITHOUT_KNOBS):
        setup = one.setup
        if one.kind in WITHOUT_KNOBS:
            plain = {name: value for name, value in setup.settings.items() if not isinstance(value, dict | list)}
            setup = Setup(setup.task, None, {} if one.kind == "chance" else plain, setup.num_sequences)
        key = _key(one.kind in WITHOUT_KNOBS, setup.protocol, setup.settings)
        by_setup.setdefault(key, (setup, []))[1].append(one)
    groups = []
    for setup, own in by_setup.values():
        by_encoder: dict[str, dict[str, Evaluation]] = {}
        for one in own:
            weights = one.result["model"]["sha256"] or _key(one.result["figures"])
            # Only runs and random weights are known to differ by their seeds; other files are other encoders.
            encoder = _key(one.who, one.result["model"]["architecture"])
            is_seed = one.kind == "random" or (one.kind == "model" and one.run is not None)
            encoder = encoder if is_seed else _key(encoder, weights)
            # The same weights measured twice are one measurement; so are equal baselines of several encoders.
            by_encoder.setdefault(encoder, {}).setdefault(weights, one)
        members = [tuple(seeds.values()) for seeds in by_encoder.values()]
        whos = [seeds[0].who for seeds in members]
        rows = []
        for seeds, who in zip(members, whos, strict=True):
            label, color = styles[who]
            if whos.count(who) > 1:
                same = [one[0].choices for one, other in zip(members, whos, strict=True) if other == who]
                label += f" ({_choices(seeds[0], same) or (seeds[0].result['model']['sha256'] or '')[:8]})"
            rows.append(Row(label, color, seeds))
        groups.append((setup, sorted(rows, key=lambda row: KINDS.index(row.kind))))
    return groups


def _labels(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """What to call each encoder; what tells two of one name apart stands behind it."""
    labels = {}
    for one in evaluations:
        name = one.run["config"] if one.run else one.result["model"]["name"]
        label = name if one.kind in ("model", "raw") else BASELINES[one.kind][0]
        if one.architecture.get("family") == "layer":
            label += f", layer {one.architecture['name']}"
        labels[one.who] = label
    for label in [label for label in dict.fromkeys(labels.values()) if list(labels.values()).count(label) > 1]:
        same = [one for one in evaluations if labels[one.who] == label]
        options = [dict(one.run["options"]) if one.run else {} for one in same]
        facts = [
            {"network": _network(one.architecture), **given, **one.architecture, "seed": None}
            for one, given in zip(same, options, strict=True)
        ]
        telling = _telling(facts)
        for one, own in zip(same, facts, strict=True):
            texts = [f"{name} {own[name]}" if name != "network" else own[name] for name in telling if name in own]
            texts = texts or [one.run_name or "without an option of the others"]
            labels[one.who] = f"{label} ({', '.join(texts)})"
    return labels


def _choices(one: Evaluation, same: Sequence[Mapping[str, Any]]) -> str:
    """The options that one evaluation of an encoder has otherwise than others beside it; nothing where none tells."""
    telling = _telling(same) if len({_key(own) for own in same}) == len(same) else []
    return ", ".join(f"{name} {one.choices[name]}" for name in telling if name in one.choices)


def _without_choices(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """An architecture without the options that protocols choose; of a layer, that of its network."""
    kept = {name: value for name, value in architecture.items() if name not in CHOSEN_BY_PROTOCOL}
    return {**kept, "of": _without_choices(kept["of"])} if isinstance(kept.get("of"), dict) else kept


def _telling(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the facts that tell all of these apart: in their order, each that tells more apart."""
    telling: list[str] = []
    for name in dict.fromkeys(name for own in facts for name in own):
        apart, further = (
            len({_key(*(own.get(one) for one in names)) for own in facts}) for names in (telling, [*telling, name])
        )
        if further > apart:
            telling.append(name)
    return telling


def _network(architecture: Mapping[str, Any]) -> str:
    """Short name of a network: "resnet 18", "vit_small_patch16_224"."""
    if architecture.get("family") == "layer":
        return _network(architecture["of"])
    return str(architecture.get("name") or f"{architecture.get('family')} {architecture.get('depth', '')}".strip())


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
    for figure in PUBLISHED.get(task, ()):
        reasons = [why_not(figure, setup) for setup in setups]
        if "" in reasons:
            beside[reasons.index("")].append(figure)
            continue
        # The group that comes nearest says it best.
        names = [setup.protocol and setup.protocol["name"] for setup in setups]
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


def _pictures(shown: Sequence[Shown], column: str) -> list[dict[str, Any]]:
    """Contact sheets of the sequences on which the first model is best and worst, and grids of what was retrieved."""
    sheets: list[tuple[Shown, Evaluation, dict[str, Path]]] = []
    for one in shown:
        drawn = [(one, member, _drawn(member.folder)) for member in one.row.members if member.kind == "model"]
        sheets += [found for found in drawn if found[2]][:1]  # one seed stands for all
    # A network with random weights may be all there is.
    sheets = sheets or [(one, one.row.members[0], _drawn(one.row.members[0].folder)) for one in shown]
    sheets = [found for found in sheets if found[2]]
    if not sheets:
        return []
    _, leader, paths = sheets[0]
    scores = {name: leader.figure(column, name) for name in paths}
    known = sorted((name for name in scores if not math.isnan(scores[name])), key=lambda name: -scores[name])
    titles = {known[0]: "Best", known[-1]: "Worst"} if len(known) > 1 else dict.fromkeys(known, "")
    titles |= dict.fromkeys([RETRIEVED] if RETRIEVED in paths else [], "")
    return [
        {
            "title": title,
            "name": name,
            "label": one.label,
            "seed": member.seed if len(one.row.members) > 1 else None,
            "value": spread([member.figure(column, name)]),
            "uri": _sheet_uri(own[name]),
        }
        for name, title in titles.items()
        for one, member, own in sheets[:MAX_PICTURED_MODELS]
        if name in own
    ]


def _drawn(folder: Path) -> dict[str, Path]:
    """Pictures of an evaluation by the name of the sequence, or of what they show."""
    sheets = {path.stem: own_file(path, folder=folder) for path in sorted(folder.glob("overlays/*.png"))}
    found = [
        path for path in sorted(folder.rglob("retrieval.png")) if "baselines" not in path.relative_to(folder).parts
    ]
    grids = [own_file(path, folder=folder) for path in found]
    return sheets | ({RETRIEVED: grids[0]} if grids else {})


def _sheet_uri(path: Path) -> str:
    with Image.open(path) as image:
        sheet = image.convert("RGB")
    if sheet.width > PICTURE_WIDTH_PX:
        size = (PICTURE_WIDTH_PX, round(sheet.height * PICTURE_WIDTH_PX / sheet.width))
        sheet = sheet.resize(size, Image.Resampling.LANCZOS)
    return jpeg_uri(sheet)


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


def _key(*values: Any) -> str:
    return json.dumps(values, sort_keys=True, default=str)

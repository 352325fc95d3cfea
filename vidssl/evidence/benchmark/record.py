"""results/benchmark.json and docs/benchmarks.md: what was measured, on which machine."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluate.provenance import versions
from ...files import replacing
from ...json_files import read_json

PICTURE = "scaling.svg"  # beside the page


def machine() -> str:
    """Describe this machine without naming it: cores, processor, memory, system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} cores of {_processor()}, {gibibytes:.0f} GiB, {platform.system()} on {platform.machine()}"


def read(path: Path) -> dict[str, Any]:
    """Give the records by row; none if nothing was measured yet."""
    return read_json(path) if path.is_file() else {}


def write(
    measured: Mapping[str, dict[str, Any]],
    *,
    order: Sequence[str],
    results: Path,
    docs: Path,
    command: str,
    date: str,
) -> dict[str, Any]:
    """Put rows in place of what stood under their names, keep the others, and generate the page.

    Args:
        measured: What `measure` returned, by row.
        order: Names of all rows as the table is to list them; a row that is no more is dropped.
        results: benchmark.json.
        docs: benchmarks.md.
        command: What was typed, without paths.
        date: Of the measurement, year-month-day.

    Returns:
        All records, old and new.
    """
    here = {"machine": machine(), "versions": versions() | {"platform": platform.system()}}
    records = read(results)
    for name, record in measured.items():
        records[name] = {**record, **here, "date": date, "command": command}
    records = {name: records[name] for name in order if name in records}
    with replacing(results) as temporary:
        temporary.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    with replacing(docs) as temporary:
        temporary.write_text(page(records), encoding="utf-8")
    return records


def page(records: Mapping[str, dict[str, Any]]) -> str:
    """Give the text of docs/benchmarks.md."""
    places = list(dict.fromkeys(_place(record) for record in records.values()))
    curves = {name: record for name, record in records.items() if "points" in record}
    records = {name: record for name, record in records.items() if name not in curves}
    lines = [
        "# Speed, side by side",
        "",
        "Generated from `results/benchmark.json`, which `python tools/benchmark.py NAME ... --peer NAME=PATH` writes, "
        "a row at a time. Both sides of a row run in one process of one thread, in an order drawn anew for every "
        "round; times are CPU seconds of the process, medians over the rounds, with quartiles in brackets (the range "
        "where there are fewer than four rounds). Ratios are taken within rounds. What is asked for is judged by the "
        "median. Other work on the machine and the layout of memory move ratios by up to 10 % from run to run: what is "
        "closer to a limit is a tie.",
        "",
        "| row | ours | peer | ours, s | peer, s | ours / peer | peer / ours | asked for | holds | machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        seconds, figures = record["seconds"], record["figures"]
        cells = [
            f"[{name}](#{name})",
            record["ours"],
            record["peer"],
            *(_number(seconds[side]) for side in ("ours", "peer")),
            _number(figures["ratio"]),
            _number(figures["speedup"]),
            _asked(record),
            _verdict(record),
            str(places.index(_place(record)) + 1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for name, record in records.items():
        peers = ", ".join(f"{peer} {version[:12]}" for peer, version in record["peer_versions"].items())
        figures = {key: value for key, value in record["figures"].items() if key not in ("ratio", "speedup")}
        lines += [
            "",
            f"### {name}",
            "",
            f"{record['what']} {_rounds(record)}, {record['date']}, `{record['command']}`."
            + (f" Peers: {peers}." if peers else ""),
        ]
        lines += [""] * bool(figures) + [f"- {_words(key)}: {_number(value)}" for key, value in figures.items()]
    lines += _growth(curves, places) if curves else []
    lines += ["", "## Machines", ""]
    lines += [f"{number}. {place}" for number, place in enumerate(places, start=1)]
    return "\n".join(lines) + "\n"


def _growth(curves: Mapping[str, dict[str, Any]], places: Sequence[str]) -> list[str]:
    lines = [
        "",
        "## How cost grows",
        "",
        "CPU seconds, child processes included, medians over the rounds, points in an order drawn anew for every "
        "round. Growth is the slope of the upper half of a curve on double logarithmic axes: 1 is in proportion.",
        "",
        f"![How CPU time and memory grow]({PICTURE})",
        "",
        "| curve | along | figure | at the first | at the last | growth | may be at most | machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in curves.items():
        first, last = record["points"][0], record["points"][-1]
        for figure, values in record["series"].items():
            limit, grown = record["limits"].get(figure), record["growth"][figure]
            cells = [
                name,
                f"{record['along']}, {first:,} to {last:,}",
                _words(figure),
                *(f"{value:.3g}" for value in (values[0], values[-1])),
                f"{grown:.2f}" if limit is None or grown <= limit else f"**{grown:.2f}**",
                "-" if limit is None else f"{limit:g}",
                str(places.index(_place(record)) + 1),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += [""]
    lines += [
        f"- {name}: {record['what']} {_rounds(record)}, {record['date']}, `{record['command']}`."
        for name, record in curves.items()
    ]
    return lines


def _rounds(record: Mapping[str, Any]) -> str:
    return "1 round" if record["rounds"] == 1 else f"{record['rounds']} rounds"


def holds(record: Mapping[str, Any]) -> bool:
    """Whether everything asked of a row or a curve holds."""
    if "points" in record:
        return all(record["growth"][figure] <= limit for figure, limit in record["limits"].items())
    return all(goal["holds"] for goal in record["goals"])


def summary(name: str, record: Mapping[str, Any]) -> str:
    """Say in one line what was measured."""
    if "points" in record:
        grown = ", ".join(f"{_words(figure)} x^{slope:.2f}" for figure, slope in record["growth"].items())
        return f"{name} over {record['along']}: {grown}; holds: {'yes' if holds(record) else '**no**'}"
    figures = ", ".join(f"{_words(key)} {_number(value)}" for key, value in record["figures"].items())
    return f"{name}: {figures}; asked for: {_asked(record)}; holds: {_verdict(record)}"


def _asked(record: Mapping[str, Any]) -> str:
    goals = record["goals"]
    return ", ".join(f"{_words(goal['figure'])} {goal['sign']} {goal['limit']:g}" for goal in goals) or "-"


def _place(record: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {record['versions'][name]}" for name in ("python", "torch", "numpy"))
    return f"{record['machine']}; {packages}"


def _verdict(record: Mapping[str, Any]) -> str:
    missed = [goal["figure"] for goal in record["goals"] if not goal["holds"]]
    if not record["goals"]:
        return "-"
    return f"**no**: {', '.join(map(_words, missed))}" if missed else "yes"


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
    return f"{value:.3g}"


def _words(figure: str) -> str:
    return {"ratio": "ours / peer", "speedup": "peer / ours"}.get(figure, figure.replace("_", " "))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    if names:
        return names[0]
    if sys.platform == "darwin":
        brand = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(brand, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or "an unnamed processor"

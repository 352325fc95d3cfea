"""Rows of a table, and the pictures that are shown of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.media.images import read_image
from ..files import own_file
from . import charts
from .embed import jpeg_uri
from .finding import Evaluation
from .templates import Spread, spread

PICTURE_WIDTH_PX = 1200
MAX_PICTURED_MODELS = 4

RETRIEVED = "What was retrieved"


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
    sheet = read_image(path)
    if sheet.width > PICTURE_WIDTH_PX:
        size = (PICTURE_WIDTH_PX, round(sheet.height * PICTURE_WIDTH_PX / sheet.width))
        sheet = sheet.resize(size, Image.Resampling.LANCZOS)
    return jpeg_uri(sheet)

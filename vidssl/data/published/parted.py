"""Samples that a list names: those that are missing, and a split drawn where none is published."""

from __future__ import annotations

import collections
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..media.container import printable
from ..media.images import natural_key
from .layouts import TREES, Row, indented

_MAX_LISTED = 10

logger = logging.getLogger(__name__)


def without_missing(rows: list[Row], root: Path, *, layout: str, budget: float) -> list[Row]:
    """Leave out unused rows and those without a file; too many of the latter are an error."""
    rows = [row for row in rows if row.split]
    missing = [row for row in rows if row.path is None]
    if not missing:
        return rows
    shown = "".join(f"  {row.where}: {printable(row.wanted)}\n" for row in missing[:_MAX_LISTED])
    shown += "  ...\n" * (len(missing) > _MAX_LISTED)
    text = f"{len(missing)} of {len(rows)} files listed for {printable(root)} are missing"
    if len(missing) > budget * len(rows):
        share = math.ceil(len(missing) / len(rows) * 1000) / 1000
        more = f"Go on without them by --missing-budget {share:g}. " if len(missing) < len(rows) else ""
        raise ValueError(
            f"{text}, more than {budget:g} of them:\n{shown}{more}Expected:\n{indented(TREES[layout])}"
        )
    logger.warning("%s and left out:\n%s", text, shown.rstrip())
    return [row for row in rows if row.path is not None]


def held_out(rows: list[Row], *, share: float, seed: int, name: str) -> list[Row]:
    """Draw a test split: a share of the recordings of every class, at least one where there are two."""
    if not 0 < share < 1:
        raise ValueError(f"test_share is {share}, expected more than 0 and less than 1")
    generator = np.random.default_rng(seed)
    # Parts of a file are of one recording, whatever the list says of sources.
    recordings = [row.source or str(row.path) for row in rows]
    by_class: dict[str, set[str]] = collections.defaultdict(set)
    seen: set[str] = set()
    for row, recording in zip(rows, recordings, strict=True):
        if recording not in seen or recording in by_class[row.class_name]:
            by_class[row.class_name].add(recording)
        seen.add(recording)
    test: set[str] = set()
    for class_name in sorted(by_class, key=natural_key):
        own = sorted(by_class[class_name])
        num_test = min(len(own) - 1, max(1, round(share * len(own)))) if own else 0
        test |= {own[number] for number in generator.permutation(len(own))[:num_test].tolist()}
    result = [
        replace(row, split="test" if recording in test else "train")
        for row, recording in zip(rows, recordings, strict=True)
    ]
    logger.info(
        "%s publishes no split: %d of %d recordings (seed %d) are held out as the test split, %d of %d samples",
        name, len(test), len(seen), seed, sum(row.split == "test" for row in result), len(rows),
    )  # fmt: skip
    return result

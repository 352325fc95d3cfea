"""Speed, measured side by side: each row compares code of ours with a peer's in one run (`tools/benchmark.py`).

Rows are declared in the modules beside this one, as tuples `ROWS` of `measuring.Row`, curves of how cost grows as
`scaling.CURVES`. What was measured is kept in results/benchmark.json, a record per row and curve, and
docs/benchmarks.md and docs/scaling.svg are generated from it.
"""

import datetime
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ... import catalog
from .measuring import Case, Goal, MissingPeer, Peers, Row, at_least, at_most, measure
from .record import PICTURE, holds, page, read, summary, write

if TYPE_CHECKING:
    from . import scaling

logger = logging.getLogger(__name__)

__all__ = [
    "Case",
    "Goal",
    "MissingPeer",
    "Peers",
    "Row",
    "all_curves",
    "all_rows",
    "at_least",
    "at_most",
    "measure",
    "page",
    "read",
    "run",
    "write",
]


def all_rows() -> dict[str, Row]:
    """Give all rows by their names, in the order of the table."""
    from . import augmenting, cifar, decoding, end_to_end, evaluation, loading, training

    modules = (decoding, loading, augmenting, evaluation, end_to_end, training, cifar)
    return {row.name: row for module in modules for row in module.ROWS}


def all_curves() -> "dict[str, scaling.Curve]":
    """Give all curves by their names, in the order of the table."""
    from . import scaling

    return {curve.name: curve for curve in scaling.CURVES}


def run(names: Sequence[str] = (), *, peers: Peers, rounds: int | None = None) -> bool:
    """Measure rows and curves and record each as soon as it is done; what lacks a peer is named and left out.

    Args:
        names: Of rows and curves; none is all.
        peers: Where the peers are.
        rounds: In place of each one's own number.

    Returns:
        Whether everything asked of what was measured holds.

    Raises:
        ValueError: There is no such row or curve.
    """
    from . import scaling

    rows, curves = all_rows(), all_curves()
    known: dict[str, Row | scaling.Curve] = {**rows, **curves}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no row {name!r}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    results = catalog.shared_folder("results") / catalog.BENCHMARK
    held = True
    for name in names or known:
        try:
            if name in rows:
                record = measure(rows[name], peers, rounds=rounds)
            else:
                record = scaling.trace(curves[name], peers, rounds=rounds)
        except MissingPeer as missing:
            logger.warning("%s is not measured: %s", name, missing)
            continue
        folders = [peer for peer in known[name].needs if peer in peers.folders]
        docs = results.parent.parent / "docs" / "benchmarks.md"
        records = write(
            {name: record},
            order=list(known),
            results=results,
            docs=docs,
            command=" ".join(["python tools/benchmark.py", name, *(f"--peer {peer}=PATH" for peer in folders)]),
            date=datetime.date.today().isoformat(),
        )
        if name in curves:
            found = {curve: records[curve] for curve in curves if curve in records}
            docs.with_name(PICTURE).write_text(scaling.plot(found), encoding="utf-8")
        logger.warning("%s", summary(name, record))
        held &= holds(record)
    return held

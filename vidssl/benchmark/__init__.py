"""Speed, measured side by side: each row compares code of ours with a peer's in one run (`tools/benchmark.py`).

Rows are declared in the modules beside this one, as tuples `ROWS` of `measuring.Row`. What was measured is kept in
results/benchmark.json, a record per row, and docs/benchmarks.md is generated from it.
"""

import datetime
import logging
from collections.abc import Sequence

import torch

from .. import catalog
from .measuring import Case, Goal, MissingPeer, Peers, Row, at_least, at_most, measure
from .record import page, read, summary, write

logger = logging.getLogger(__name__)

__all__ = [
    "Case",
    "Goal",
    "MissingPeer",
    "Peers",
    "Row",
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
    from . import decoding, evaluation, loading, training

    return {row.name: row for module in (decoding, loading, evaluation, training) for row in module.ROWS}


def run(names: Sequence[str] = (), *, peers: Peers, rounds: int | None = None) -> bool:
    """Measure rows and record each as soon as it is done; those whose peers are missing are named and left out.

    Args:
        names: Of rows; none is all.
        peers: Where the peers are.
        rounds: In place of each row's own number.

    Returns:
        Whether everything asked of the measured rows holds.

    Raises:
        ValueError: There is no such row.
    """
    known = all_rows()
    for name in names:
        if name not in known:
            raise ValueError(f"there is no row {name!r}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    results = catalog.shared_folder("results") / catalog.BENCHMARK
    held = True
    for name in names or known:
        try:
            record = measure(known[name], peers, rounds=rounds)
        except MissingPeer as missing:
            logger.warning("%s is not measured: %s", name, missing)
            continue
        folders = [peer for peer in known[name].needs if peer in peers.folders]
        write(
            {name: record},
            order=list(known),
            results=results,
            docs=results.parent.parent / "docs" / "benchmarks.md",
            command=" ".join(["python tools/benchmark.py", name, *(f"--peer {peer}=PATH" for peer in folders)]),
            date=datetime.date.today().isoformat(),
        )
        logger.warning("%s", summary(name, record))
        held &= all(goal["holds"] for goal in record["goals"])
    return held

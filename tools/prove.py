"""Prove that methods learn: python tools/prove.py NAME ... | --all writes results/NAME.json and docs/results.md."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from vidssl.evidence.proof import proofs, prove
from vidssl.evidence.refutation import summary


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    every: Annotated[bool, tyro.conf.arg(name="all")] = False,
    seeds: tuple[int, ...] = (0, 1, 2),
    num_processes: int = os.cpu_count() or 1,
    out: Path | None = None,
) -> None:
    """Run proofs; exits with 1 where one is refuted.

    Args:
        names: Names of configs with a proof, such as rotation_resnet18.
        every: All of them.
        seeds: Of weights, order and draws.
        num_processes: Seeds measured at a time, one thread each.
        out: Folder that keeps the runs.
    """
    records = prove(tuple(proofs()) if every else names, seeds=seeds, num_processes=num_processes, out=out)
    print(*map(summary, records), sep="\n")
    sys.exit(not all(record["holds"] for record in records))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    tyro.cli(main)

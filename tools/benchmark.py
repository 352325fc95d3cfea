"""Compare with peers: python tools/benchmark.py NAME ... --peer dino=PATH writes benchmark.json and benchmarks.md."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything reads it

import sys
from typing import Annotated

import tyro

from vidssl.evidence import benchmark


def main(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    peer: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=PATH")] = (),
    rounds: int | None = None,
) -> None:
    """Measure rows, side by side, and curves; put them into results/benchmark.json and docs/benchmarks.md.

    Args:
        names: Rows and curves; none is all that can be measured here.
        peer: Code or data of a peer in a folder; may be given several times.
        rounds: In place of each one's own number.
    """
    held = benchmark.run(names, peers=benchmark.Peers.parse(peer), rounds=rounds)
    sys.exit(not held)


if __name__ == "__main__":
    tyro.cli(main)

"""The plan of docs/scale.md: python tools/simulate_scale.py [--num-clips N ...] [--write] computes and simulates it."""

from pathlib import Path

import tyro

from vidssl.evidence.benchmark.plan import Plan, page, write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"


def main(
    plan: Plan = Plan(),  # noqa: B008 (frozen)
    *,
    write: bool = False,
    sampled: bool = False,
) -> None:
    """Print the figures: arithmetic, order, windows, checkpoints.

    Args:
        plan: Corpus and machines.
        write: Put the figures into docs/scale.md.
        sampled: Do not count every position of an epoch (which takes most of the time).
    """
    text = page(plan, exhaustive=not sampled)
    print(text)
    if write:
        write_page(PAGE, text)


if __name__ == "__main__":
    tyro.cli(main)

"""The plan of docs/scale.md: python tools/simulate_scale.py [--num-clips N ...] [--write] computes and simulates it."""

from pathlib import Path

import tyro

from vidssl.benchmark import scale

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"


def main(
    plan: scale.Plan = scale.Plan(),  # noqa: B008 (frozen)
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
    text = scale.page(plan, exhaustive=not sampled)
    print(text)
    if write:
        scale.write(PAGE, text)


if __name__ == "__main__":
    tyro.cli(main)

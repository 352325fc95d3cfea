"""Kill, stop and damage runs at random moments: python tools/torture.py --out FILE. Exits 1 if anything is lost.

What is promised, and what this measured, is in docs/reliability.md. The default takes about ten minutes.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import tyro

from vidssl.evidence.torture import torture


def main(
    *,
    kills: int = 200,
    stops: int = 50,
    save_kills: int = 300,
    bytes_changed: int = 1000,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Hit runs: so many SIGKILLs and SIGTERMs in training, half of them with 2 decoding processes; kills in a save."""
    numbers = {"num_kills": kills // 2, "num_stops": stops // 2, "num_save_kills": save_kills}
    with tempfile.TemporaryDirectory() as name:
        figures = torture(
            Path(name), **numbers, num_bytes=bytes_changed, seed=seed, told=partial(print, flush=True)
        )
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(figures["wrong"] != 0)


if __name__ == "__main__":
    tyro.cli(main)

"""Proofs that methods learn: frozen features against random initialisation, over seeds, written to results/.

`python tools/prove.py NAME` runs one; docs/results.md is generated from the files it writes.
"""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import catalog, config, demo


def prove_colorization(
    *, out: Path = Path("runs/prove/colorization"), seeds: Sequence[int] = (0, 1, 2), device: str = "auto"
) -> dict[str, Any]:
    """Pretrain `video/colorization_demo` once per seed and propagate the masks of the demo's validation set.

    The corpus is the demo's (seed 0); a seed decides the initial weights, the order of the data and every draw. The
    random encoder is the same network at the initial weights of the same seed.

    Args:
        out: Folder for corpus, runs and masks; running again goes on where it stopped.
        seeds: At least three, for a spread.
        device: Where to compute.

    Returns:
        What was written to results/colorization.json.
    """
    from .commands.pretrain import FitOptions, train
    from .evaluate.provenance import versions

    corpus = out / "corpus"
    demo.write_corpus(corpus, seed=0)
    identity = demo.evaluate("identity", corpus / "val", out / "identity", seed=0, device=device)
    figures: dict[str, list[float]] = {"random": [], "pretrained": []}
    seconds = []
    for seed in seeds:
        run = out / f"seed{seed}"
        start = time.perf_counter()
        options = FitOptions(out=run, seed=seed, device=device, save_every=100, picture_every=100)
        train(config.load(demo.CONFIG), {"root": str(corpus / "train")}, options)
        seconds.append(round(time.perf_counter() - start))
        for name, model in (("random", f"random:{run}"), ("pretrained", str(run))):
            result = demo.evaluate(model, corpus / "val", run / "evaluate" / name, seed=seed, device=device)
            figures[name].append(100 * result.figures["J&F-Mean"])
    gains = [after - before for before, after in zip(figures["random"], figures["pretrained"], strict=True)]
    record = {
        "name": "colorization",
        "config": demo.CONFIG,
        "command": "python tools/prove.py colorization",
        "metric": f"J&F-Mean in per cent, demo validation set, protocol {demo.PROTOCOL}",
        "seeds": list(seeds),
        "baseline": {"identity": round(100 * identity.figures["J&F-Mean"], 2)},
        "random": [round(value, 2) for value in figures["random"]],
        "pretrained": [round(value, 2) for value in figures["pretrained"]],
        "gain": [round(value, 2) for value in gains],
        "figure": (
            f"demo J&F {_spread(figures['pretrained'])} against {_spread(figures['random'])} at random "
            f"initialisation, {len(seeds)} seeds"
        ),
        "training_seconds": seconds,
        "versions": versions(),
    }
    write_result(record)
    return record


PROOFS = {"colorization": prove_colorization}


def write_result(record: dict[str, Any]) -> None:
    """Write results/NAME.json and generate docs/results.md anew from all results."""
    folder = catalog.shared_folder("results")
    (folder / f"{record['name']}.json").write_text(json.dumps(record, indent=2) + "\n")
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    (folder.parent / "docs" / "results.md").write_text(results_page(records))


def results_page(records: Sequence[dict[str, Any]]) -> str:
    """Give the text of docs/results.md."""
    lines = [
        "# Measured results",
        "",
        "Generated from `results/*.json`, which `python tools/prove.py NAME` writes: frozen features of the "
        "pretrained encoder against the same network at random initialisation, mean and standard deviation over "
        "seeds.",
        "",
        "| method | config | metric | baseline | random | pretrained | gain, smallest and mean | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        baseline = ", ".join(f"{name} {value:.1f}" for name, value in record["baseline"].items())
        lines.append(
            f"| {record['name']} | `{record['config']}` | {record['metric']} | {baseline} | "
            f"{_spread(record['random'])} | {_spread(record['pretrained'])} | "
            f"{min(record['gain']):+.1f}, {statistics.mean(record['gain']):+.1f} | {len(record['seeds'])} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} +- {statistics.stdev(values):.1f}"

"""Proofs that methods learn: frozen features against random initialisation and controls, over seeds.

A proof has the name of its recipe: configs/proofs/NAME.py defines `PROOF`, a `Proof`. `python tools/prove.py NAME` runs
it, for NAME the name of the recipe's file, and writes results/NAME.json; docs/results.md is generated from those.
"""

import contextlib
import dataclasses
import importlib.util
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from .. import catalog, config
from ..commands import demo
from .refutation import Claim, judge, sentence

if TYPE_CHECKING:
    from torch import Tensor

    from ..method import Method
    from ..train.run import Run

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Proof:
    """A small experiment that shows what a method learns, in minutes on one CPU core.

    Args:
        metric: What the figures "random" and "pretrained" are, with their unit.
        claims: What must hold, stated beforehand; any that does not refutes the proof.
        measure: (seed, empty folder) -> figures: "random", "pretrained", and every control by its name. The seed
            decides initial weights, order of the data and every draw; it is set when `measure` is called.
    """

    metric: str
    claims: tuple[Claim, ...]
    measure: Callable[[int, Path], dict[str, float]]


# The demo's proof takes twenty minutes a seed; `--all` leaves it out, its method has a small proof as well.
DEMO_PROOF = "colorization"
DEMO_CLAIMS = (Claim("pretrained", "above", "random", 5), Claim("pretrained", "above", "identity", 5))


def prove(
    names: Sequence[str], *, seeds: Sequence[int] = (0, 1, 2), num_processes: int = 1, out: Path | None = None
) -> list[dict[str, Any]]:
    """Run proofs, each seed in a process of one thread, and write results/NAME.json and docs/results.md.

    Args:
        names: Names of configs that have a proof ("rotation_convnet"), or "colorization", the demo's.
        seeds: At least three, for a spread.
        num_processes: Seeds measured at a time; the figures do not depend on it.
        out: Folder that keeps the runs; None keeps nothing.

    Returns:
        What was written.

    Raises:
        ValueError: A name is not known, or there are fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"there is no spread over the seeds {tuple(seeds)}; give two or more")
    known = proofs()
    unknown = [name for name in names if name not in known and name != DEMO_PROOF]
    if unknown:
        near = catalog.near_misses(unknown[0], list(known))
        hint = f"perhaps you meant {' or '.join(near)}" if near else f"there are {', '.join(known)}"
        raise ValueError(f"there is no proof {unknown[0]!r}; {hint}")
    records = []
    if DEMO_PROOF in names:
        records.append(prove_colorization(seeds=seeds))
    todo = [(name, seed) for name in names if name in known for seed in seeds]
    measured: dict[tuple[str, int], tuple[dict[str, float], float]] = {}
    # Spawned, not forked: the parent has run threads. A process measures one seed, so that none inherits anything.
    with get_context("spawn").Pool(num_processes, maxtasksperchild=1) as pool, Progress() as progress:
        bar = progress.add_task("prove", total=len(todo))
        jobs = [(name, known[name], seed, out) for name, seed in todo]
        for name, seed, figures, seconds in pool.imap_unordered(_measure, jobs):
            measured[name, seed] = figures, seconds
            progress.advance(bar)
            progress.console.print(f"{name}, seed {seed}, {seconds:.0f} s: {_inline(figures)}", highlight=False)
            if all((name, number) in measured for number in seeds):
                records.append(_record(name, known[name], seeds, [measured[name, number] for number in seeds]))
                write_result(records[-1])
    return records


def proofs() -> dict[str, str]:
    """Names of all proofs and their configs, such as "rotation_convnet": "image/rotation_convnet"."""
    return {entry.path.stem: entry.name for entry in catalog.entries() if entry.proof is not None}


def proof_of(config_name: str) -> Proof:
    """Import the proof of a recipe: configs/proofs/NAME.py.

    Its module has a name of its own: the file of the recipe has the same, and both are in use at a time.
    """
    path = catalog.find(config_name).proof
    if path is None:
        raise ValueError(f"{config_name} has no proof; write configs/proofs/{config_name}.py")
    spec = importlib.util.spec_from_file_location(f"proof_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.PROOF


def _measure(job: tuple[str, str, int, Path | None]) -> tuple[str, int, dict[str, float], float]:
    """Measure one seed of (name, config, seed, folder to keep): name, seed, figures and CPU seconds."""
    import torch

    name, config_name, seed, out = job
    torch.set_num_threads(1)
    proof = proof_of(config_name)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) if out is None else out / name / f"seed{seed}"
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty: a proof starts anew; choose another --out")
        start = time.process_time()
        torch.manual_seed(seed)
        with contextlib.redirect_stdout(io.StringIO()):  # the progress bars of the runs
            figures = proof.measure(seed, folder)
        return name, seed, {key: float(value) for key, value in figures.items()}, time.process_time() - start


def _record(
    name: str, config_name: str, seeds: Sequence[int], measured: Sequence[tuple[dict[str, float], float]]
) -> dict[str, Any]:
    from ..evaluate.provenance import versions

    proof = proof_of(config_name)
    figures = {key: [round(one[key], 4) for one, _ in measured] for key in measured[0][0]}
    claims = [judge(claim, figures) for claim in proof.claims]
    return {
        "name": name,
        "config": config_name,
        "command": f"python tools/prove.py {name}",
        "metric": proof.metric,
        "claims": claims,
        "holds": not any(claim["refuted"] for claim in claims),
        "seeds": list(seeds),
        "figures": figures,
        "figure": (
            f"{proof.metric}: {_spread(figures['pretrained'])}, {_spread(figures['random'])} at random "
            f"initialisation, {len(seeds)} seeds"
        ),
        "cpu_seconds": [round(seconds) for _, seconds in measured],
        "versions": versions(),
    }


def pretrain(run: "Run", *, out: Path, seed: int) -> "Method":
    """Train in a proof: `fit` with few checkpoints and no pictures."""
    from ..train.loop import fit

    return fit(run, out=out, seed=seed, log_every=25, save_every=run.steps, picture_every=10 * run.steps)


def shipped(name: str, video: "Tensor", *, folder: Path, highest_lr: float | None = None, **options: Any) -> "Run":
    """Build a recipe as `vidssl pretrain` does, its `run` with options that make it small, on videos in memory.

    Networks, views, optimizer and the form of the schedule are the recipe's.

    Args:
        name: Of the recipe, such as "image/moco_resnet18".
        video: uint8 (N, F, 3, H, W).
        folder: Empty; holds the few pictures that the recipe finds where it looks for its data.
        highest_lr: The schedule is scaled to it, since its height belongs to the batches of the paper; None keeps it.
        options: Of the recipe.
    """
    from PIL import Image

    from ..data import ArrayDataset

    pictures = folder / "corpus" / "pictures"  # one video where videos are looked for
    pictures.mkdir(parents=True)
    for number, frame in enumerate(video[:64].flatten(0, 1)[:64].movedim(1, 3)):
        Image.fromarray(frame.numpy()).save(pictures / f"{number:02d}.png")
    run = config.load(name).run(str(folder / "corpus"), **options)
    schedule = run.learning_rate
    if highest_lr is not None:
        scale = highest_lr / max(run.learning_rate(step / run.steps) for step in range(run.steps))

        def schedule(progress: float) -> float:
            return scale * run.learning_rate(progress)

    return dataclasses.replace(run, dataset=ArrayDataset(video, clips=run.method.clips), learning_rate=schedule)


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
    from ..commands.pretrain import FitOptions, train
    from ..evaluate.provenance import versions

    corpus = out / "corpus"
    demo.write_corpus(corpus, seed=0)
    identity = demo.evaluate("identity", corpus / "val", out / "identity", seed=0, device=device)
    figures: dict[str, list[float]] = {"random": [], "pretrained": []}
    seconds = []
    for seed in seeds:
        run = out / f"seed{seed}"
        start = time.process_time()
        options = FitOptions(out=run, seed=seed, device=device, save_every=100, picture_every=100)
        train(config.load(demo.CONFIG), {"root": str(corpus / "train")}, options)
        seconds.append(round(time.process_time() - start))
        for name, model in (("random", f"random:{run}"), ("pretrained", str(run))):
            result = demo.evaluate(model, corpus / "val", run / "evaluate" / name, seed=seed, device=device)
            figures[name].append(round(100 * result.figures["J&F-Mean"], 2))
    figures["identity"] = [round(100 * identity.figures["J&F-Mean"], 2)] * len(seeds)
    claims = [judge(claim, figures) for claim in DEMO_CLAIMS]
    record = {
        "name": DEMO_PROOF,
        "config": demo.CONFIG,
        "command": f"python tools/prove.py {DEMO_PROOF}",
        "metric": f"J&F-Mean in per cent, demo validation set, protocol {demo.PROTOCOL}",
        "claims": claims,
        "holds": not any(claim["refuted"] for claim in claims),
        "seeds": list(seeds),
        "figures": figures,
        "figure": (
            f"demo J&F {_spread(figures['pretrained'])} against {_spread(figures['random'])} at random "
            f"initialisation, {len(seeds)} seeds"
        ),
        "cpu_seconds": seconds,
        "versions": versions(),
    }
    write_result(record)
    return record


def write_result(record: dict[str, Any]) -> None:
    """Write results/NAME.json and generate docs/results.md anew from all results."""
    folder = catalog.shared_folder("results")
    (folder / f"{record['name']}.json").write_text(json.dumps(record, indent=2) + "\n")
    records = catalog.proof_results(folder)
    (folder.parent / "docs" / "results.md").write_text(results_page(records))


def results_page(records: Sequence[dict[str, Any]]) -> str:
    """Give the text of docs/results.md."""
    lines = [
        "# Measured results",
        "",
        "Generated from `results/*.json`, which `python tools/prove.py NAME` writes: frozen features of the "
        "pretrained encoder against the same network at random initialisation and against controls, mean and "
        "standard deviation over seeds. The worlds are synthetic and small (`vidssl/evidence/worlds.py`): these "
        "figures show that a method learns what it should, and compare with nothing published.",
        "",
        "What must hold was stated before the measurement: a margin, and beside it how far the means lie apart and the "
        "pooled standard deviation over the seeds, which they must exceed, too. `python tools/prove.py` exits with 1 "
        "where a control does as well as the method.",
        "",
        "| method | metric | random | pretrained | controls and further figures | what must hold: what was measured | "
        "holds | seeds | CPU seconds per seed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        figures = record["figures"]
        others = ", ".join(
            f"{name.replace('_', ' ')} {_spread(values)}"
            for name, values in figures.items()
            if name not in ("random", "pretrained")
        )
        # Of the demo's proof, run before CPU seconds were kept, only the wall time is known.
        seconds = round(statistics.mean(record["cpu_seconds"])) if "cpu_seconds" in record else "-"
        lines.append(
            f"| {record['name']} | {record['metric']} | {_spread(figures['random'])} | "
            f"{_spread(figures['pretrained'])} | {others} | "
            f"{'; '.join(map(sentence, record['claims']))} | {'yes' if record['holds'] else 'no'} | "
            f"{len(record['seeds'])} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    digits = 1 if max(map(abs, values)) >= 10 else 3
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


def _inline(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())

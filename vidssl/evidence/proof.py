"""Proofs that methods learn: frozen features against random initialisation and controls, over seeds.

A proof has the name of its recipe: configs/proofs/NAME.py defines `PROOF`, a `Proof`. `python tools/prove.py NAME` runs
it, for NAME the name of the recipe's file, and writes results/NAME.json; docs/results.md is generated from those.
"""

import contextlib
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

if TYPE_CHECKING:
    from torch import Tensor

    from ..method import Method
    from ..models import Encoder
    from ..train.loop import Run
    from .worlds import Sprites

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Proof:
    """A small experiment that shows what a method learns, in minutes on one CPU core.

    Args:
        metric: What the figures "random" and "pretrained" are, with their unit.
        line: What must hold, in words.
        holds: Whether it does, from the means of all figures over the seeds.
        measure: (seed, empty folder) -> figures: "random", "pretrained", and every control by its name. The seed
            decides initial weights, order of the data and every draw; it is set when `measure` is called.
    """

    metric: str
    line: str
    holds: Callable[[Figures], bool]
    measure: Callable[[int, Path], dict[str, float]]


# The demo's proof takes twenty minutes a seed; `--all` leaves it out, its method has a small proof as well.
DEMO_PROOF = "colorization"


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
    means = {key: statistics.mean(values) for key, values in figures.items()}
    return {
        "name": name,
        "config": config_name,
        "command": f"python tools/prove.py {name}",
        "metric": proof.metric,
        "line": proof.line,
        "holds": bool(proof.holds(means)),
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


def pooled_features(encoder: "Encoder", video: "Tensor", *, batch_size: int = 256) -> "Tensor":
    """Encode clips, un-augmented, in evaluation mode: uint8 (N, T, 3, H, W) -> (N, D)."""
    import torch

    encoder.eval()
    with torch.no_grad():
        return torch.cat([encoder(clips.float() / 255) for clips in video.split(batch_size)])


def letters_probe(encoder: "Encoder", *, num_train: int = 3000, num_test: int = 1500) -> float:
    """Linear probe of frozen features on the letters of worlds, per cent of the test images that are right."""
    from ..evaluate.recognition.probe import linear_accuracy
    from . import worlds

    train, train_label = worlds.letters(num_train, seed=1_000_001)
    test, test_label = worlds.letters(num_test, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


HEIGHT_BANDS = 6


def height_probe(encoder: "Encoder", train: "Sprites", test: "Sprites") -> float:
    """Linear probe of frozen features of frames: in which of six bands is the middle of the sprite? Per cent.

    The bands are equally likely in `train`; chance is 100 / HEIGHT_BANDS.

    Args:
        encoder: Sees each frame as a clip of its own.
        train: Videos of one frame with one sprite.
        test: Others.
    """
    import torch

    from ..evaluate.recognition.probe import linear_accuracy

    train_height, test_height = (sprites.centers_px[:, 0, 0, 1].contiguous() for sprites in (train, test))
    edges = train_height.quantile(torch.linspace(0, 1, HEIGHT_BANDS + 1)[1:-1])
    return 100 * linear_accuracy(
        pooled_features(encoder, train.video),
        torch.bucketize(train_height, edges),
        pooled_features(encoder, test.video),
        torch.bucketize(test_height, edges),
    )


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
    record = {
        "name": DEMO_PROOF,
        "config": demo.CONFIG,
        "command": f"python tools/prove.py {DEMO_PROOF}",
        "metric": f"J&F-Mean in per cent, demo validation set, protocol {demo.PROTOCOL}",
        "line": "above random initialisation and identity",
        "holds": statistics.mean(figures["pretrained"])
        > max(statistics.mean(figures["random"]), statistics.mean(figures["identity"])),
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
        "figures show "
        "that a method learns what it should, and compare with nothing published.",
        "",
        "| method | metric | random | pretrained | controls and further figures | what must hold | holds | seeds | "
        "CPU seconds per seed |",
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
            f"{_spread(figures['pretrained'])} | {others} | {record['line']} | {'yes' if record['holds'] else 'no'} | "
            f"{len(record['seeds'])} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    digits = 1 if max(map(abs, values)) >= 10 else 3
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


def _inline(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


def sprite_jaccard(
    encoder: "Encoder | None",
    *,
    num_sprites: int,
    speed_px: tuple[float, float],
    num_videos: int = 50,
    num_frames: int = 4,
) -> float:
    """Region similarity J of masks of sprites carried from the first to the last frame, per cent.

    Features are frozen, labels are propagated by the protocol `crw` (vidssl.evaluate.propagation.propagate) at
    the encoder's stride. Mean over all sprites that the first frame shows; only the last frame counts, and no ground.

    Args:
        encoder: Anything whose cells cover the frame, that is h = ceil(H / stride); None carries the first mask
            unchanged (identity).
        num_sprites: In each of the videos, unseen ones of 64 x 64 pixels (vidssl.evidence.worlds).
        speed_px: Smallest and largest speed, pixels per frame.
        num_videos: How many.
        num_frames: The first, those in between and the last.
    """
    import torch

    from ..evaluate.metrics.jf import region_similarity
    from ..evaluate.propagation.propagate import identity_masks, propagate_masks
    from ..evaluate.propagation.protocols import CRW
    from . import worlds

    world = worlds.sprites(
        num_videos, seed=1_000_003, num_frames=num_frames, num_sprites=num_sprites, speed_px=speed_px
    )
    if encoder is not None:
        encoder.eval()
    values = []
    for video, ids in zip(world.video, world.ids, strict=True):
        masks = (
            identity_masks(video, ids[0])
            if encoder is None
            else propagate_masks(encoder, video, ids[0], protocol=CRW)
        )
        last, truth = list(masks)[-1].numpy(), ids[-1].numpy()
        shown = [number for number in torch.unique(ids[0]).tolist() if number]
        values += [region_similarity(truth == number, last == number) for number in shown]
    return 100 * statistics.mean(values)

"""vidssl demo: the main job end to end, on a corpus that is made up on the spot.

OUT/corpus/          videos to learn from, and a validation set in the layout of DAVIS
OUT/run/             the run: video colorization on OUT/corpus/train
OUT/run/evaluate/    identity, random weights, pretrained: label propagation on OUT/corpus/val
OUT/run/report.html  all of it on a page
"""

import logging
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import catalog, config
from ..json_files import read_json

if TYPE_CHECKING:
    from ..evaluate.results import Result as Evaluation

CONFIG = "video/colorization_demo"
PROTOCOL = "crw"
COLUMNS = ("J&F-Mean", "J-Mean", "F-Mean")

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def demo(
    *,
    out: Path = Path("demo"),
    seed: int = 0,
    steps: int = 1000,
    num_train_videos: int = 96,
    num_val_videos: int = 8,
    num_train_frames: int = 72,
    num_val_frames: int = 32,
    width_px: int = 320,
    height_px: int = 192,
    device: str = "auto",
    command: str | None = None,
) -> None:
    """Write a corpus of moving shapes, pretrain video colorization on it, measure, and draw a report.

    Running it again goes on where it stopped, and repeats nothing that is done.

    Args:
        out: Folder for everything.
        seed: Of the corpus, the training and the random weights it is compared with.
        steps: Of the training.
        num_train_videos: Videos to learn from.
        num_val_videos: Sequences to measure on.
        num_train_frames: Length of a training video, 24 frames per second.
        num_val_frames: Length of a validation sequence.
        width_px: Width of the videos, even.
        height_px: Height of the videos, even.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu.
        command: Command line that started this, for the record.
    """
    from rich.console import Console
    from rich.table import Table

    from ..report.page import write_report
    from .pretrain import FitOptions, train

    corpus, run = out / "corpus", out / "run"
    seconds: dict[str, float] = {}

    def stage(name: str, work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        logger.info("demo: %s", name)
        start = time.perf_counter()
        result = work(*arguments, **options)
        seconds[name] = time.perf_counter() - start
        return result

    sizes = {
        "num_train_videos": num_train_videos,
        "num_val_videos": num_val_videos,
        "num_train_frames": num_train_frames,
        "num_val_frames": num_val_frames,
        "width_px": width_px,
        "height_px": height_px,
    }
    stage("corpus", write_corpus, corpus, seed=seed, **sizes)
    values = {"root": str(corpus / "train"), "steps": steps}
    fit_options = FitOptions(out=run, seed=seed, device=device, save_every=100, picture_every=100)
    stage("pretraining", train, config.load(CONFIG), values, fit_options, command=command)
    models = {"identity": "identity", "random": f"random:{run}", "pretrained": str(run)}
    results = {
        name: stage(name, evaluate, model, corpus / "val", run / "evaluate" / name, seed=seed, device=device)
        for name, model in models.items()
    }
    path = stage("report", write_report, run)

    figures = Table("model", *COLUMNS, title=f"{corpus / 'val'}, protocol {PROTOCOL}, per cent")
    for name, result in results.items():
        figures.add_row(name, *(f"{100 * result.figures[column]:.1f}" for column in COLUMNS))
    times = Table("stage", "seconds")
    for name, duration in seconds.items():
        times.add_row(name, f"{duration:.0f}")
    times.add_row("all", f"{sum(seconds.values()):.0f}")
    console = Console()
    console.print(times, figures)
    console.print(f"report: {path}", highlight=False, soft_wrap=True)


def write_corpus(folder: Path, *, seed: int, **sizes: int) -> None:
    """Write the corpus, unless the same one is there.

    Raises:
        ValueError: Another corpus is there.
    """
    script = config.load_module(catalog.shared_folder("datasets") / "prepare_moving_shapes.py")
    if folder.exists():
        record = read_json(folder / "corpus.json")
        there = {
            "seed": record["seed"],
            "num_train_videos": record["train"]["num_videos"],
            "num_train_frames": record["train"]["num_frames"],
            "num_val_videos": record["val"]["num_videos"],
            "num_val_frames": record["val"]["num_frames"],
            "width_px": record["width_px"],
            "height_px": record["height_px"],
        }
        differences = [
            f"{name} is {there[name]} there, {value} now"
            for name, value in {"seed": seed, **sizes}.items()
            if there[name] != value
        ]
        if differences:
            raise ValueError(f"{folder} holds another corpus: {'; '.join(differences)}; choose another --out")
        return
    # What a stopped demo left is ours alone by its name, and may go.
    unfinished = folder.with_name(".corpus.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    script.write_corpus(unfinished, seed=seed, **sizes)
    unfinished.replace(folder)


def evaluate(model: str, root: Path, out: Path, *, seed: int, device: str) -> "Evaluation":
    """Measure one model on the validation set; sequences that are done are taken over."""
    from ..evaluate.propagation.davis import evaluate_davis
    from ._device import compute_device
    from ._model import load_for, protocol_named

    encoder, protocol = None, None
    if model != "identity":
        encoder, protocol = load_for(model, protocol_of=protocol_named(PROTOCOL), weights=None, seed=seed)
    options: dict[str, Any] = {"root": root, "model": model, "protocol": PROTOCOL, "seed": seed, "out": out}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return evaluate_davis(
        encoder,
        root=root.resolve(),
        out=out,
        model_name=model,
        protocol=protocol,
        device=compute_device(device),
        progress=True,
        command=shlex.join(["vidssl", "evaluate", "davis", *words]),
    )

"""vidssl evaluate davis: figures of a frozen encoder under an official protocol of label propagation."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from ._measure import MeasureOptions, listed


def davis(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None,
    layout: Literal["davis2017", "davis2016", "youtubevos"] = "davis2017",
    sequences: str | None = None,
    subset: str = "val",
    resolution: str = "480p",
    command: str | None = None,
) -> None:
    """Carry the first mask of every sequence through it with frozen features; print the official DAVIS figures.

    Writes masks, overlays, per-sequence figures and result.json to OUT; the same network with random weights and the
    first mask left where it is are measured beside it. Running the same command again takes over what is done.

    Args:
        root: Folder in the layout of DAVIS (JPEGImages/480p, Annotations/480p, ImageSets/2017/val.txt), or of a
            split of YouTube-VOS (JPEGImages, Annotations, meta.json).
        options: What is measured, and where.
        protocol: How labels travel; published figures differ by protocol. None is dino for vision transformers and
            crw for everything else.
        layout: Of ROOT. davis2016 takes everything that is not background for one object; in youtubevos objects may
            come in later.
        sequences: Names of sequences, with commas between them. None is all of the subset.
        subset: List of sequences, ImageSets/2017/SUBSET.txt.
        resolution: Folder inside JPEGImages and Annotations.
        command: Command line that started this, for the record.
    """
    from rich.console import Console

    from ...data.published.benchmarks import davis_sequences, youtubevos_sequences
    from ...evaluate.propagation.davis import TASKS, davis_benchmark, official_tables, write_tables
    from .._model import protocol_named
    from ._measure import measure

    if layout == "youtubevos":
        benchmark = davis_benchmark(youtubevos_sequences(root, names=listed(sequences)), task="youtubevos")
    else:
        year = int(layout.removeprefix("davis"))
        wanted = davis_sequences(root, names=listed(sequences), year=year, subset=subset, resolution=resolution)
        benchmark = davis_benchmark(wanted, task=TASKS[year], year=year, subset=subset, resolution=resolution)
    results, out = measure(benchmark, options, protocol=protocol_named(protocol), root=root, command=command)
    own = next(iter(results.values()))
    Console().print(official_tables(own))
    if layout != "youtubevos":
        write_tables(own, out, subset=subset)

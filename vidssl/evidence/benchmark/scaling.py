"""How cost grows with what is asked for: clip length, resolution, batch, corpus, context.

A curve is measured point by point (`tools/benchmark.py NAME`, as the rows are), in an order drawn anew for every
round. How fast it grows is the slope of its upper half on double logarithmic axes: 1 is in proportion.
"""

import gc
import math
import os
import random
import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...augment import recipes
from ...batch import Batch
from ...data.clips import random_clips
from ...data.corpus.corpus import Corpus
from ...data.corpus.scan import scan as scan_corpus
from ...data.datasets import VideoDataset
from ...data.loader import Loader
from ...data.media.video import open_video
from ...evaluate.propagation.affinity import propagate
from ...methods import SimCLR
from ...models import ResNet
from ...report.charts import STYLE, svg_text
from .decoding import long_videos, write_large_video
from .measuring import Peers, peak_bytes


@dataclass(frozen=True)
class Curve:
    """One curve, or several over the same points.

    Args:
        name: On the command line and in the page.
        what: The work, for people.
        along: What the points count, with its unit.
        points: Increasing.
        prepare: Peers -> function that does the work of a point and returns its figures by name. Names end in their
            unit: "seconds" or "mb".
        limits: Largest growth of each figure: 1 is in proportion to the points.
        rounds: Times every point is measured.
        needs: Names of PACKAGES and FOLDERS (vidssl.evidence.benchmark.measuring).
    """

    name: str
    what: str
    along: str
    points: tuple[int, ...]
    prepare: Callable[[Peers], Callable[[int], Mapping[str, float]]]
    limits: Mapping[str, float]
    rounds: int = 3
    needs: tuple[str, ...] = ()


def trace(curve: Curve, peers: Peers, *, rounds: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure a curve.

    Returns:
        Record of JSON values: "what", "along", "points", "rounds", "series" (medians by figure and point), "growth"
        (by figure), "limits".

    Raises:
        MissingPeer: What it needs is not there.
    """
    peers.require(curve.needs)
    work = curve.prepare(peers)
    generator = random.Random(seed)
    found: dict[str, dict[int, list[float]]] = {}
    num_rounds = rounds or curve.rounds
    for _ in range(num_rounds):
        for point in generator.sample(curve.points, len(curve.points)):
            for figure, value in work(point).items():
                found.setdefault(figure, {}).setdefault(point, []).append(value)
    series = {
        figure: [statistics.median(values[point]) for point in curve.points] for figure, values in found.items()
    }
    return {
        "what": curve.what,
        "along": curve.along,
        "points": list(curve.points),
        "rounds": num_rounds,
        "series": series,
        "growth": {figure: growth(curve.points, values) for figure, values in series.items()},
        "limits": dict(curve.limits),
    }


def growth(points: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the upper half of a curve on double logarithmic axes, by least squares: x ** slope."""
    half = len(points) // 2
    x, y = (np.log(np.asarray(numbers, dtype=np.float64)[half:]) for numbers in (points, values))
    return float(np.polyfit(x, y, 1)[0])


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU time of a call, with that of child processes that it started and waited for."""
    gc.collect()
    started = _cpu_seconds_so_far()
    call()
    return _cpu_seconds_so_far() - started


def _cpu_seconds_so_far() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _python_peak_bytes(call: Callable[[], Any]) -> int:
    """Most memory that objects of Python hold during a call: to the byte, where the system counts by the megabyte."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _repeated(call: Callable[[], Any], *, at_least_seconds: float = 0.2) -> float:
    """CPU time of a call, from as many as take a while."""
    call()
    count, total = 0, 0.0
    while total < at_least_seconds:
        total += cpu_seconds(call)
        count += 1
    return total / count


def _reading(
    times_of: Callable[[int, np.ndarray], list[float]], short_side_of: Callable[[int], int | None]
) -> Any:
    """Read frames of a 720p video."""

    def prepare(peers: Peers) -> Callable[[int], Mapping[str, float]]:
        video = write_large_video(list(long_videos(peers)))
        with open_video(video) as reader:
            index, every = reader.packed_index(), reader.info.pts_seconds

        def read(point: int) -> None:
            with open_video(video, index=index) as reader:
                reader.frames(times_of(point, every), short_side=short_side_of(point))

        return lambda point: {"seconds": _repeated(partial(read, point))}

    return prepare


def _augmenting(peers: Peers) -> Callable[[int], Mapping[str, float]]:
    view = recipes.simclr(112)
    generator = torch.Generator().manual_seed(0)

    def measure(point: int) -> Mapping[str, float]:
        video = torch.randint(256, (point, 4, 3, 128, 170), dtype=torch.uint8, generator=generator)
        seed = torch.randint(2**62, (point,), generator=generator)
        return {"seconds": _repeated(lambda: view(video, seed), at_least_seconds=0.5)}

    return measure


def _stepping(peers: Peers) -> Callable[[int], Mapping[str, float]]:
    method = SimCLR(ResNet(18, width=16, stride=32, layer="layer4"), view=recipes.simclr(64))
    optimizer = torch.optim.AdamW(method.parameters())
    generator = torch.Generator().manual_seed(0)

    def measure(point: int) -> Mapping[str, float]:
        batch = Batch(
            index=torch.arange(point),
            video=torch.randint(256, (point, 1, 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
            seed=torch.randint(2**62, (point,), generator=generator),
            source_id=torch.arange(point),
        )

        def step() -> None:
            method(batch, 0.0)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return {"seconds": _repeated(step)}

    return measure


def _propagating(shape_of: Callable[[int], tuple[int, int, int]]) -> Any:
    """Propagate to one frame; `shape_of` gives context frames, rows and columns of a point."""

    def prepare(peers: Peers) -> Callable[[int], Mapping[str, float]]:
        def measure(point: int) -> Mapping[str, float]:
            num_frames, height, width = shape_of(point)
            generator = torch.Generator().manual_seed(0)
            frames = F.normalize(torch.randn(num_frames + 1, 64, height, width, generator=generator), dim=1)
            labels = torch.rand(num_frames, 3, height, width, generator=generator)
            call = partial(
                propagate, frames[0], frames[1:], labels, temperature=0.1, topk=5, radius_cells=12, window="square"
            )
            seconds = _repeated(call)
            return {"seconds": seconds, "peak_mb": peak_bytes(call) / 1e6}

        return measure

    return prepare


def _first_batch(corpus: Corpus) -> Batch:
    dataset = VideoDataset(corpus, clips=partial(random_clips, num_frames=4), size_px=32)
    return next(Loader(dataset, batch_size=8).batches(0, 1))


NUM_PATTERNS = 50  # different videos in the corpus; the others are links to them


def _scanning(peers: Peers) -> Callable[[int], Mapping[str, float]]:
    def measure(point: int) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder) / "corpus", Path(folder) / "cache"
            _write_corpus(root, num_files=point)
            scan = partial(scan_corpus, root, cache=cache, progress=False)
            first = cpu_seconds(scan)
            again = cpu_seconds(scan)
            return {
                "first_scan_seconds": first,
                "later_scan_seconds": again,
                "later_scan_peak_mb": _python_peak_bytes(scan) / 1e6,
                "first_batch_seconds": _repeated(partial(_first_batch, scan())),
            }

    return measure


def _write_corpus(root: Path, *, num_files: int) -> None:
    """Write a corpus of tiny videos, a thousand in a folder; after the first few they are links."""
    import av

    patterns: list[Path] = []
    for number in range(num_files):
        path = root / f"{number // 1000:04d}" / f"{number:08d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= NUM_PATTERNS:
            os.link(patterns[number % NUM_PATTERNS], path)
            continue
        patterns.append(path)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
            stream.height = stream.width = 32
            stream.pix_fmt = "yuv420p"
            for level in range(10):
                picture = np.full((32, 32, 3), (20 * level + number) % 256, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def plot(records: Mapping[str, dict[str, Any]]) -> str:
    """Draw all curves, seconds to the left and megabytes to the right: SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = 3
    rows = math.ceil(len(records) / columns)
    with mpl.rc_context({**STYLE, "text.parse_math": True}):  # powers of ten on the axes
        figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
        for place, (name, record) in enumerate(records.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.set(xscale="log", yscale="log", title=name, xlabel=record["along"], ylabel="CPU seconds")
            memory = None
            for figure_name, values in record["series"].items():
                label = f"{figure_name.replace('_', ' ')}: x^{record['growth'][figure_name]:.2f}"
                if figure_name.endswith("mb"):
                    memory = memory or axes.twinx()
                    memory.set(yscale="log", ylabel="MB")
                    memory.plot(record["points"], values, "s--", color="#b45309", label=label, markersize=3)
                else:
                    axes.plot(record["points"], values, "o-", label=label, markersize=3)
            lines = [*axes.get_lines(), *(memory.get_lines() if memory else [])]
            axes.legend(lines, [str(line.get_label()) for line in lines], fontsize=6, frameon=False)
        return svg_text(figure)


GROWS_IN_PROPORTION = 1.1  # the tolerance of a slope
CURVES = (
    Curve(
        name="clip_length",
        what="Frames read in succession from the start of a 720p video, at short side 256.",
        along="frames",
        points=(8, 16, 32, 64, 128, 256),
        prepare=_reading(lambda point, every: every[:point].tolist(), lambda point: 256),
        limits={"seconds": GROWS_IN_PROPORTION},
        needs=("clips",),
    ),
    Curve(
        name="resolution",
        what="16 frames in succession from the start of a 720p video: decoding is the same, scaling grows with the "
        "pixels, the square of the short side.",
        along="short side, pixels",
        points=(64, 128, 256, 512, 720),
        prepare=_reading(lambda point, every: every[:16].tolist(), lambda point: point),
        limits={"seconds": 2 * GROWS_IN_PROPORTION},
        needs=("clips",),
    ),
    Curve(
        name="augmented_batch",
        what="SimCLR's view of clips of 4 frames of 128 x 170 pixels, at 112.",
        along="clips",
        points=(1, 2, 4, 8, 16, 32),
        prepare=_augmenting,
        limits={"seconds": GROWS_IN_PROPORTION},
    ),
    Curve(
        name="step_batch",
        what="A step of SimCLR, ResNet-18 of width 16, pictures of 64 x 64 pixels.",
        along="pictures",
        points=(8, 16, 32, 64, 128, 256),
        prepare=_stepping,
        limits={"seconds": GROWS_IN_PROPORTION},
    ),
    Curve(
        name="corpus",
        what="A folder of tiny videos, links to 50 different ones: looked at for the first time, scanned again with "
        "what is known of it, and a first batch of 8 clips from it.",
        along="files",
        points=(10, 100, 1000, 10_000, 100_000),
        prepare=_scanning,
        limits={
            "first_scan_seconds": GROWS_IN_PROPORTION,
            "later_scan_seconds": GROWS_IN_PROPORTION,
            "later_scan_peak_mb": GROWS_IN_PROPORTION,
            "first_batch_seconds": GROWS_IN_PROPORTION,
        },
        rounds=1,
    ),
    Curve(
        name="context_frames",
        what="Labels of a frame of 30 x 54 cells, 64 channels, window of 12 cells, top-5.",
        along="context frames",
        points=(1, 2, 4, 8, 16, 32),
        prepare=_propagating(lambda point: (point, 30, 54)),
        limits={"seconds": GROWS_IN_PROPORTION, "peak_mb": GROWS_IN_PROPORTION},
    ),
    Curve(
        name="grid",
        what="Labels of a frame whose grid has 9 columns for 5 rows, 64 channels, 4 context frames, window of 12 "
        "cells, top-5. Cells are the square of the columns.",
        along="columns",
        points=(18, 36, 54, 108, 216),
        prepare=_propagating(lambda point: (4, round(point * 5 / 9), point)),
        limits={"seconds": 2 * GROWS_IN_PROPORTION, "peak_mb": 2 * GROWS_IN_PROPORTION},
    ),
)

"""Evaluators of frozen features as Python calls: an encoder and labelled data, and a result.

    result = knn(load_encoder("runs/x"), "UCF101", baselines=True)
    result.figures["top1"], result.baselines["random weights"].figures["top1"]

The same figures as `vidssl evaluate knn`, which prints and keeps them.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ...data.published.labelled import Item, LabelledSet, labelled_set
from ...models import AudioEncoder, Encoder
from ...models.last_stage import load_last_stage
from ...models.load import load_audio_encoder, redrawn, redrawn_audio
from ..results import Result, folder_of
from .features.extract import LogMelStatistics, Thumbnails
from .features.views import SoundViews, Views
from .measure import measure
from .subject import Subject, Task, part_of
from .tasks import cluster_task, knn_task, linear_task, lowshot_task, retrieval_task


@dataclass(frozen=True)
class Extraction:
    """How features are extracted.

    Args:
        views: Of pictures or of sound; None is the middle clip of eight frames, one frame of an image, a second
        of sound. layer: Of the encoder.
        cache: Folder for features; None is ~/.cache/vidssl/features.
        batch_size: Clips encoded at a time.
        num_workers: Decoding processes.
        device: Where to compute.
        bad_file_budget: Share of the samples, in [0, 1], that may be unreadable.
        seed: Of the draws of the evaluation.
    """

    views: Views | SoundViews | None = None
    layer: str = "last"
    cache: Path | None = None
    batch_size: int = 16
    num_workers: int = 0
    device: str = "cpu"
    bad_file_budget: float = 0.01
    seed: int = 0


def knn(
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    extraction: Extraction = Extraction(),
    neighbours: tuple[int, ...] = (1, 5, 10, 20, 100, 200),
    temperatures: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2, math.inf),
) -> Result:
    """Classify test samples by their nearest training samples; see `measured` for the rest.

    Args:
        encoder: In eval mode; or a spec such as "torchvision:resnet18", which is loaded up to its last stage.
        data: Training and test samples, or the folder or list of them.
        out: Folder for result.json and predictions.csv; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, raw data and guessing, too.
        extraction: How features are extracted.
        neighbours: Numbers of neighbours to try.
        temperatures: Of the votes, to try; inf lets all neighbours vote alike.
    """
    task = knn_task(neighbours=neighbours, temperatures=temperatures)
    return measured(task, encoder, data, out=out, baselines=baselines, extraction=extraction)


def linear(
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    extraction: Extraction = Extraction(),
    solver: Literal["grid", "exact"] = "grid",
    steps: int = 12_500,
    step_samples: int = 128,
) -> Result:
    """Train a linear classifier on frozen features; see `measured` for the rest.

    Args:
        encoder: In eval mode; or a spec such as "torchvision:resnet18", which is loaded up to its last stage.
        data: Training and test samples, or the folder or list of them.
        out: Folder for result.json and predictions.csv; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, raw data and guessing, too.
        extraction: How features are extracted.
        solver: "grid" (SGD over learning rates) or "exact" (logistic regression).
        steps: Of the grid's SGD.
        step_samples: Views of samples in a step of the grid.
    """
    task = linear_task(solver=solver, steps=steps, step_samples=step_samples)
    return measured(task, encoder, data, out=out, baselines=baselines, extraction=extraction)


def lowshot(
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    extraction: Extraction = Extraction(),
    classifier: Literal["linear", "knn"] = "linear",
    fractions: tuple[float, ...] = (0.01, 0.1),
    shots: tuple[int, ...] = (1, 2, 4, 8, 16),
    num_draws: int = 5,
) -> Result:
    """Classify with few labelled recordings; see `measured` for the rest.

    Args:
        encoder: In eval mode; or a spec such as "torchvision:resnet18", which is loaded up to its last stage.
        data: Training and test samples, or the folder or list of them.
        out: Folder for result.json and predictions.csv; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, raw data and guessing, too.
        extraction: How features are extracted.
        classifier: "linear" (logistic regression) or "knn".
        fractions: Of the training recordings of each class, in (0, 1].
        shots: Training recordings of each class.
        num_draws: Mean and deviation are over this many draws.
    """
    task = lowshot_task(classifier=classifier, fractions=fractions, shots=shots, num_draws=num_draws)
    return measured(task, encoder, data, out=out, baselines=baselines, extraction=extraction)


def cluster(
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    extraction: Extraction = Extraction(),
    samples: Literal["test", "train", "all"] = "all",
    num_clusters: int | None = None,
    num_restarts: int = 10,
) -> Result:
    """Cluster features by k-means and compare with the classes; see `measured` for the rest.

    Args:
        encoder: In eval mode; or a spec such as "torchvision:resnet18", which is loaded up to its last stage.
        data: Training and test samples, or the folder or list of them.
        out: Folder for result.json and predictions.csv; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, raw data and guessing, too.
        extraction: How features are extracted.
        samples: Which are clustered; no label is learned from, so it may be "all".
        num_clusters: None is the number of classes.
        num_restarts: Draws of initial centres; that of the lowest inertia counts.
    """
    task = cluster_task(samples=samples, num_clusters=num_clusters, num_restarts=num_restarts)
    return measured(task, encoder, data, out=out, baselines=baselines, extraction=extraction)


def retrieval(
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    extraction: Extraction = Extraction(),
    ranks: tuple[int, ...] = (1, 5, 10, 20),
) -> Result:
    """Find training samples of the class of each test sample; see `measured` for the rest.

    Args:
        encoder: In eval mode; or a spec such as "torchvision:resnet18", which is loaded up to its last stage.
        data: Training and test samples, or the folder or list of them.
        out: Folder for result.json, predictions.csv and retrieval.png; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, raw data and guessing, too.
        extraction: How features are extracted.
        ranks: Neighbours looked at.
    """
    return measured(retrieval_task(ranks), encoder, data, out=out, baselines=baselines, extraction=extraction)


def measured(
    task: Task,
    encoder: Encoder | AudioEncoder | str,
    data: LabelledSet | str | Path,
    *,
    out: str | Path | None,
    baselines: bool,
    extraction: Extraction,
) -> Result:
    """Measure an encoder by one task; a finished result of the same request in `out` is taken over.

    Raises:
        ValueError: The data cannot be measured, too many files cannot be read, the encoder does not fit them, or its
            network cannot be built again for the baselines.
    """
    data = data if isinstance(data, LabelledSet) else labelled_set(data)
    is_sound, name = data.media == "audio", encoder if isinstance(encoder, str) else type(encoder).__name__
    if isinstance(encoder, str):
        encoder = load_audio_encoder(encoder) if is_sound else load_last_stage(encoder)
    views = extraction.views
    if views is None:
        views = SoundViews() if is_sound else Views() if data.media == "video" else Views(num_frames=1)
    items = [*data.train, *data.test]
    subject = Subject(
        "model",
        name,
        encoder,
        views,
        (extraction.layer,),
        _every(items),
        bad_file_budget=extraction.bad_file_budget,
        device=torch.device(extraction.device),
        cache=extraction.cache,
        batch_size=extraction.batch_size,
        num_workers=extraction.num_workers,
        seed=extraction.seed,
    )
    subjects = [subject]
    if baselines:
        seed = extraction.seed
        drawn, raw, raw_name = (
            (
                redrawn_audio(encoder, seed=seed),
                LogMelStatistics(sample_rate_hz=int(encoder.sample_rate_hz)),
                "raw sound",
            )
            if isinstance(encoder, AudioEncoder)
            else (redrawn(encoder, seed=seed), Thumbnails(), "raw pixels")
        )
        subjects += [
            dataclasses.replace(subject, name="random weights", model_name=f"random:{name}", encoder=drawn),
            dataclasses.replace(subject, name=raw_name, model_name=raw_name, encoder=raw, layers=("last",)),
        ]
    root = os.path.commonpath([item.path.parent for item in items])
    with folder_of(out) as folder:
        results = measure(task, subjects, {1: data}, name=data.name, out=folder, chance=baselines, root=root)
    first, *others = results
    return dataclasses.replace(results[first], baselines={other: results[other] for other in others})


def _every(items: Sequence[Item]) -> list[Item]:
    """Each part of a file once, in order: what the features are extracted of."""
    return sorted(
        {part_of(item): item for item in items}.values(),
        key=lambda item: (str(item.path), item.start_seconds or 0, item.end_seconds or math.inf),
    )

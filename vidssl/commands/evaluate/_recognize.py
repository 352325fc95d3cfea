"""Measure an encoder on labelled data by its frozen features, beside random weights, raw pixels and chance."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...evaluate.recognition.subject import Subject, Task, part_of
from ._options import DataOptions, EvaluationOptions, FeatureOptions, load_pictures_encoder, load_sound_encoder

if TYPE_CHECKING:
    from torch import device as Device
    from torch import nn

    from ...data.published.labelled import Item, LabelledSet
    from ...data.published.layouts import Media
    from ...evaluate.recognition.features.views import SoundViews, Views
    from ...evaluate.results import Result

logger = logging.getLogger(__name__)


def measure_and_print(
    task: Task,
    data_options: DataOptions,
    options: FeatureOptions,
    evaluation: EvaluationOptions,
    *,
    audio_model: str | None = None,
    command: str | None,
) -> None:
    """Evaluate the model and its baselines on every split wanted; write the results, print them side by side."""
    from ...evaluate.recognition.measure import measure
    from ...evaluate.results import slug
    from .._device import compute_device
    from ._measure import default_folder

    sets = {split: data_options.load(split, seed=options.seed) for split in data_options.splits_wanted()}
    first = next(iter(sets.values()))
    name = first.name if len(sets) == 1 else f"{first.name.rpartition(' split')[0]} splits {data_options.splits}"
    items = sorted(
        {part_of(item): item for data in sets.values() for item in (*data.train, *data.test)}.values(),
        key=lambda item: (str(item.path), item.start_seconds or 0, item.end_seconds or math.inf),
    )
    device = compute_device(options.device)
    rows = subjects(first.media, items, device, data_options, options, evaluation)
    if audio_model is not None:
        rows = [dataclasses.replace(row, partner=_listener(row, audio_model, options)) for row in rows]
    out = evaluation.out or default_folder(
        options.model, what=f"{task.name}-{slug(name)}", weights=options.weights, seed=options.seed
    )
    results = measure(
        task,
        rows,
        sets,
        name=name,
        out=out,
        chance=evaluation.baselines,
        root=str(data_options.root.resolve()),
        command=command,
    )
    print_results(results, title=_title(task, first, rows[0], name=name))
    logger.info("result.json and predictions.csv (what was said of each sample) are in %s", out)


def subjects(
    media: "Media",
    items: "Sequence[Item]",
    device: "Device",
    data_options: DataOptions,
    options: FeatureOptions,
    evaluation: EvaluationOptions,
) -> list[Subject]:
    """The model, and its baselines if they are wanted."""
    from ...evaluate.recognition.features.extract import LogMelStatistics, Thumbnails
    from ._measure import has_random_weights

    common: dict[str, Any] = {
        "items": items,
        "cache": options.cache,
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "seed": options.seed,
        "bad_file_budget": data_options.bad_file_budget,
        "device": device,
    }

    if media == "audio":
        try:
            heard = load_sound_encoder(options.model, seed=options.seed)
        except ValueError as error:
            raise ValueError(
                f"{data_options.root} holds sounds, for which {options.model} does not do: {error}"
            ) from error
        rate = int(heard.sample_rate_hz)
        views = options.views(media, sample_rate_hz=rate)
        own: nn.Module = heard
        raw: nn.Module = LogMelStatistics(sample_rate_hz=rate)
        raw_name = "raw sound"
    else:
        own, views = load_pictures_encoder(options), options.views(media)
        raw, raw_name = Thumbnails(), "raw pixels"
    rows = [Subject("model", options.model_name, own, views, options.layers, **common)]
    if not evaluation.baselines:
        return rows
    if not has_random_weights(options.model, options.weights):
        drawn: nn.Module = (
            load_sound_encoder(options.model, seed=options.seed, random=True)
            if media == "audio"
            else load_pictures_encoder(options, random=True)
        )
        rows.append(Subject("random weights", f"random:{options.model}", drawn, views, options.layers, **common))
    return [*rows, Subject(raw_name, raw_name, raw, views, ("last",), **common)]


def _listener(watcher: Subject, audio_model: str, options: FeatureOptions) -> Subject:
    """Who listens while another watches: with trained weights, random ones or none as the other."""
    from ...evaluate.recognition.features.extract import LogMelStatistics
    from ...evaluate.recognition.features.views import SoundViews

    random = watcher.name == "random weights"
    trained = load_sound_encoder(audio_model, seed=options.seed, random=random)
    views = SoundViews(
        num_clips=options.clips,
        audio_seconds=options.audio_seconds,
        sample_rate_hz=int(trained.sample_rate_hz),
        from_video=True,
    )
    encoder: nn.Module = trained
    model_name = f"random:{audio_model}" if random else audio_model
    if watcher.name == "raw pixels":
        model_name, encoder = "raw sound", LogMelStatistics(sample_rate_hz=views.sample_rate_hz)
    return dataclasses.replace(
        watcher,
        name=f"{watcher.name}, sound",
        model_name=model_name,
        encoder=encoder,
        views=views,
        layers=("last",),
    )


def _title(task: Task, data: "LabelledSet", subject: Subject, *, name: str) -> str:
    from ...evaluate.recognition.subject import spoken_layers

    layers = spoken_layers(subject.description["layers"])
    return (
        f"{task.name} on {name}: {len(data.class_names)} classes, {len(data.train)} training and {len(data.test)} test "
        f"samples; {_spoken(subject.views)}; {layers}; per cent"
    )


def _spoken(views: "Views | SoundViews") -> str:
    from ...evaluate.recognition.features.views import Views

    if isinstance(views, Views):
        frames = f"{views.num_frames} frames every {views.stride_frames}" if views.num_frames > 1 else "1 frame"
        return f"{views.num_clips} clip x {views.num_crops} crop of {frames}, {views.size_px} px"
    return f"{views.num_clips} clip of {views.audio_seconds:g} s"


def print_results(results: "Mapping[str, Result]", *, title: str) -> None:
    """Print results side by side, as wide as the terminal allows."""
    from rich.console import Console

    from ...evaluate.results import side_by_side

    console = Console()
    console.print(side_by_side(results, title=title, width=console.width))

"""Measure an encoder on labelled data by its frozen features, beside random weights, raw pixels and chance."""

import dataclasses
import datetime
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..data.labelled import Layout
from ..json_files import ResultRecord, read_json
from ._classes import look_at_classes
from .pretrain import default_workers

if TYPE_CHECKING:
    from torch import device as Device
    from torch import nn

    from ..data.labelled import Item, LabelledSet, Media
    from ..evaluate.features import Features, SoundViews, Views
    from ..evaluate.recognition import Outcome, Samples
    from ..evaluate.results import Result
    from ..models import AudioEncoder, Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataOptions:
    """Options of every command that reads labelled data."""

    root: Path
    """Folder of a labelled data set as published, or a list (.csv, .txt); datasets/README.md shows the layouts."""
    layout: Layout = "auto"
    """Which of the layouts; auto tells by what lies there."""
    splits: str = "1"
    """Split of UCF101, HMDB51 (1 to 3) or ESC-50 (1 to 5: the fold that is tested); several as 1,3; or all, whose
    figures are averaged."""
    path_column: str | None = None
    """Column of a list that holds the file names; None is path or file."""
    label_column: str | None = None
    """Column of the classes; None is label."""
    split_column: str | None = None
    """Column of the split; None is split."""
    source_column: str | None = None
    """Column of the recordings that samples were cut from; None is source. Samples of one recording are never
    neighbours."""
    test_values: tuple[str, ...] = ()
    """Values of the split column that are tested; all others are learned from. None given: test, else val."""
    source_pattern: str | None = None
    r"""Regular expression whose groups name the recording in a file's path, e.g. "(film\d+)_"."""
    test_share: float = 0.2
    """Share of the recordings of each class that is tested, where no split is published."""
    missing_budget: float = 0.01
    """Share of the listed files, in [0, 1], that may be missing."""
    bad_file_budget: float = 0.01
    """Share of the samples, in [0, 1], that may be unreadable."""

    def splits_wanted(self) -> tuple[int, ...]:
        """Numbers of the splits."""
        from ..data.labelled import split_numbers

        if self.splits == "all":
            return split_numbers(self.root, layout=self.layout)
        try:
            return tuple(sorted({int(number) for number in self.splits.split(",")}))
        except ValueError as error:
            raise ValueError(f"--splits is {self.splits!r}, expected a number, 1,3 or all") from error

    def load(self, split: int, *, seed: int) -> "LabelledSet":
        """Read the lists of a split."""
        from ..data.labelled import Columns, labelled_set

        return labelled_set(
            self.root,
            layout=self.layout,
            split=split,
            columns=Columns(
                path=self.path_column,
                label=self.label_column,
                split=self.split_column,
                source=self.source_column,
                test_values=self.test_values,
            ),
            source_pattern=self.source_pattern,
            test_share=self.test_share,
            seed=seed,
            missing_budget=self.missing_budget,
        )


@dataclass(frozen=True)
class FeatureOptions:
    """Options of every command that extracts features."""

    model: str
    """A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY, hf:FOLDER; random:
    before any of these (random weights). For sounds: a run with an audio encoder, or its .safetensors file."""
    weights: Path | None = None
    """File with the weights of timm:, torchvision: or hub:; without it they are random. Nothing is ever
    downloaded."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--layer"])] = ("last",)
    """Layers whose features are measured, all extracted in one pass: layer3, 9, 11.keys, last.cls, ... Convolutional
    networks of timm and torchvision go to their last stage (layer4 of a ResNet); a run to where it was trained."""
    clips: int = 1
    """Clips of each video or sound, spread evenly; one is the middle."""
    crops: Literal[1, 3] = 1
    """Squares cut from each clip: the middle one, or three along the long side."""
    frames: int = 8
    """Frames of a clip (videos)."""
    stride: int = 4
    """Frames of the file from one frame of a clip to the next (videos)."""
    size_px: int = 224
    """Height and width of the squares."""
    short_side_px: int | None = None
    """Short side that frames are scaled to before squares are cut; None is size-px. DINO's kNN: 256 for 224."""
    audio_seconds: float = 1.0
    """Length of a clip of sound."""
    encoder_options: tuple[str, ...] = ()
    """NAME=VALUE of the encoder, such as stride=8, or layer=layer3: a ResNet that ends there."""
    cache: Path | None = None
    """Folder for features; None is ~/.cache/vidssl/features."""
    batch_size: int = 16
    """Clips encoded at a time."""
    num_workers: int = field(default_factory=default_workers)
    """Decoding processes; 0 decodes between the batches. They change speed only."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu."""
    seed: int = 0
    """Of random weights, of a drawn test split, and of the draws of the evaluation."""

    def views(self, media: "Media", *, sample_rate_hz: int = 16_000) -> "Views | SoundViews":
        """What is looked at of each sample; an image is a clip of one frame."""
        from ..evaluate.features import SoundViews, Views

        if media == "audio":
            return SoundViews(
                num_clips=self.clips, audio_seconds=self.audio_seconds, sample_rate_hz=sample_rate_hz
            )
        still = media == "image"
        return Views(
            num_clips=1 if still else self.clips,
            num_crops=self.crops,
            num_frames=1 if still else self.frames,
            stride_frames=1 if still else self.stride,
            size_px=self.size_px,
            short_side_px=self.short_side_px,
        )

    @property
    def model_name(self) -> str:
        """What results call the model."""
        return f"{self.model} with {self.weights.name}" if self.weights else self.model


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of every evaluation of recognition."""

    out: Path | None = None
    """Folder for the results. None is RUN/evaluate/TASK-DATA for runs, else runs/evaluate/MODEL-TASK-DATA."""
    baselines: bool = True
    """Measure the same network with random weights, raw pixels (raw sound) and chance as well, in OUT/baselines."""


def load_pictures_encoder(options: FeatureOptions, *, random: bool = False) -> "Encoder":
    """Load the encoder of pictures that the options name, or the same with random weights."""
    from ..models import load_last_stage
    from ._model import parsed_options

    return load_last_stage(
        f"random:{options.model}" if random else options.model,
        weights=None if random else options.weights,
        seed=options.seed,
        **parsed_options(options.encoder_options),
    )


def load_sound_encoder(spec: str, *, seed: int, random: bool = False) -> "AudioEncoder":
    """Load an encoder of sound, or the same with random weights."""
    from ..models import load_audio_encoder

    return load_audio_encoder(f"random:{spec}" if random else spec, seed=seed)


@dataclass
class Subject:
    """Something whose features are measured; they are extracted when they are first asked for.

    Args:
        name: Row of the table: "model", "random weights", "raw pixels".
        model_name: What results call it.
        encoder: Of pictures or of sound.
        views: What of each sample it is shown.
        layers: Which of its layers.
        items: Samples of all splits.
        options: How to extract.
        bad_file_budget: Likewise.
        device: Likewise.
        partner: Who listens to the samples while this one watches.
    """

    name: str
    model_name: str
    encoder: "nn.Module"
    views: "Views | SoundViews"
    layers: tuple[str, ...]
    items: "Sequence[Item]"
    options: FeatureOptions
    bad_file_budget: float
    device: "Device"
    partner: "Subject | None" = None

    @cached_property
    def features(self) -> "dict[str, Features]":
        """Layer -> features of all items."""
        from ..evaluate.features import extract

        logger.info("%s", self.name if self.name == self.model_name else f"{self.name}: {self.model_name}")
        return extract(
            self.encoder,
            self.items,
            views=self.views,
            layers=self.layers,
            cache=self.options.cache,
            batch_size=self.options.batch_size,
            num_workers=self.options.num_workers,
            device=self.device,
            bad_file_budget=self.bad_file_budget,
            progress=True,
        )

    @cached_property
    def description(self) -> dict[str, Any]:
        """The "model" of a result."""
        from ..evaluate.features import model_fingerprint
        from ._model import layers_measured

        architecture = self.encoder.architecture
        has_weights = any(True for _ in self.encoder.parameters())
        return {
            "name": self.model_name,
            "architecture": architecture,
            "sha256": model_fingerprint(self.encoder) if has_weights else None,
            "layers": layers_measured(self.encoder, self.layers),
        }

    def samples(self, layer: str, items: "Sequence[Item]") -> "Samples":
        """Features of some of the items, those that could be read, labelled as these items are.

        Recordings are numbered within the call: ask for both splits at once and cut them apart.
        """
        import torch

        from ..evaluate.features import source_numbers
        from ..evaluate.recognition import Samples

        features = self.features[layer]
        rows = {_part(item): row for row, item in enumerate(features.items)}
        kept = [item for item in items if _part(item) in rows]
        if not kept:
            raise ValueError(f"none of {len(items)} samples could be read")
        numbers = [rows[_part(item)] for item in kept]
        whole = numbers == list(range(len(features)))
        return Samples(
            features.values if whole else features.values[torch.tensor(numbers)],
            torch.tensor([item.label for item in kept]),
            torch.tensor(source_numbers(kept)),
        )

    def readable(self, items: "Sequence[Item]") -> "list[Item]":
        """Those of the items that have features."""
        rows = {_part(item) for item in next(iter(self.features.values())).items}
        return [item for item in items if _part(item) in rows]


def _part(item: "Item") -> tuple[Path, float | None, float | None]:
    return item.path, item.start_seconds, item.end_seconds


def split_samples(subject: Subject, layer: str, data: "LabelledSet") -> "tuple[Samples, Samples]":
    """Training and test samples of a layer, numbered together."""
    import torch

    train, test = subject.readable(data.train), subject.readable(data.test)
    for part, items in (("training", train), ("test", test)):
        if not items:
            raise ValueError(f"{data.name}: no {part} sample can be read")
    both = subject.samples(layer, [*train, *test])
    return both.take(torch.arange(len(train))), both.take(torch.arange(len(train), len(both)))


@dataclass(frozen=True)
class Task:
    """What is measured of features.

    Args:
        name: Of the task: "knn".
        settings: Knobs that change its figures, beside those of the features.
        evaluate: (subject, layers, data) -> outcome.
        chance: (data, columns) -> figures of guessing.
        picture: (subject, layer, data, file): draws what was found, if it is something to see.
        joint_layers: Whether all layers are measured together, rather than one after the other.
        look: (data) -> names of its odd classes; refuses data that cannot be measured, before any is read.
        scored: (subject, data) -> the samples that the outcome speaks of, in its order.
    """

    name: str
    settings: dict[str, Any]
    evaluate: "Callable[[Subject, tuple[str, ...], LabelledSet], Outcome]"
    chance: "Callable[[LabelledSet, Sequence[str]], dict[str, float]]"
    picture: "Callable[[Subject, str, LabelledSet, Path], None] | None" = None
    joint_layers: bool = False
    look: "Callable[[LabelledSet], dict[str, list[str]]]" = look_at_classes
    scored: "Callable[[Subject, LabelledSet], list[Item]]" = lambda subject, data: subject.readable(data.test)


def measure(
    task: Task,
    data_options: DataOptions,
    options: FeatureOptions,
    evaluation: EvaluationOptions,
    *,
    audio_model: str | None = None,
    command: str | None,
) -> None:
    """Evaluate the model and its baselines on every split wanted; write the results, print them side by side."""
    from ._device import compute_device
    from ._measure import default_folder
    from ._model import slug

    sets = {split: data_options.load(split, seed=options.seed) for split in data_options.splits_wanted()}
    odd = {split: task.look(data) for split, data in sets.items()}
    first = next(iter(sets.values()))
    name = first.name if len(sets) == 1 else f"{first.name.rpartition(' split')[0]} splits {data_options.splits}"
    items = sorted(
        {_part(item): item for data in sets.values() for item in (*data.train, *data.test)}.values(),
        key=lambda item: (str(item.path), item.start_seconds or 0, item.end_seconds or math.inf),
    )
    device = compute_device(options.device)
    rows = subjects(first.media, items, device, data_options, options, evaluation)
    if audio_model is not None:
        rows = [dataclasses.replace(row, partner=_listener(row, audio_model)) for row in rows]
    out = evaluation.out or default_folder(
        options.model, what=f"{task.name}-{slug(name)}", weights=options.weights, seed=options.seed
    )
    common = {"root": str(data_options.root.resolve()), "command": command}
    results: dict[str, Result] = {}
    for row in rows:
        groups = [row.layers] if task.joint_layers or len(row.layers) == 1 else [(layer,) for layer in row.layers]
        for layers in groups:
            folder = out if row is rows[0] else out / "baselines" / row.name.split()[0]
            title = row.model_name if row is rows[0] else row.name
            if len(groups) > 1:
                folder, title = folder / "layers" / slug(layers[0]), f"{title}, {layers[0]}"
            results[title] = _result(task, row, layers, sets, folder, name=name, common=common, odd=odd)
    if evaluation.baselines:
        columns = list(next(iter(results.values())).figures)
        results["chance"] = _chance(task, sets, columns, common, name=name)
        results["chance"].write(out / "baselines" / "chance")
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
    from ..evaluate.features import LogMelStatistics, Thumbnails
    from ._measure import has_random_weights

    common: dict[str, Any] = {
        "items": items,
        "options": options,
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


def _listener(watcher: Subject, audio_model: str) -> Subject:
    """Who listens while another watches: with trained weights, random ones or none as the other."""
    from ..evaluate.features import LogMelStatistics, SoundViews

    options = watcher.options
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


def _result(
    task: Task,
    subject: Subject,
    layers: tuple[str, ...],
    sets: "Mapping[int, LabelledSet]",
    out: Path,
    *,
    name: str,
    common: dict[str, Any],
    odd: Mapping[int, dict[str, list[str]]],
) -> "Result":
    """Results of every split, and their mean if there are several; finished ones are taken over."""
    from ..evaluate.metrics.interval import mean_uncertainty
    from ..evaluate.results import Result

    by_split = {}
    for split, data in sets.items():
        folder = out if len(sets) == 1 else out / "splits" / str(split)
        own = {**common, "odd_classes": odd[split]}
        by_split[split] = _result_of_split(task, subject, layers, data, folder, common=own)
    first = next(iter(by_split.values()))
    if len(sets) == 1:
        return first
    sure = mean_uncertainty([one.record["uncertainty"] for one in by_split.values()])
    result = Result(
        task.name,
        {
            column: sum(one.figures[column] for one in by_split.values()) / len(by_split)
            for column in first.figures
        },
        {f"split {split}": one.figures for split, one in by_split.items()},
        {
            **first.record,
            "settings": {**first.record["settings"], "data": name, "splits": list(sets)},
            "uncertainty": sure,
        },
    )
    for one in (
        "key",
        "chosen",
        "classes",
        "odd_classes",
    ):  # those of the first split alone; each is in its own folder
        result.record.pop(one, None)
    result.write(out)
    return result


def _result_of_split(
    task: Task,
    subject: Subject,
    layers: tuple[str, ...],
    data: "LabelledSet",
    out: Path,
    *,
    common: dict[str, Any],
) -> "Result":
    from ..evaluate.features import data_fingerprint
    from ..evaluate.predictions import NAME, write_predictions
    from ..evaluate.provenance import device_name, versions
    from ..evaluate.recognition import class_accuracies
    from ..evaluate.results import Result

    settings = {
        "data": data.name,
        "num_classes": len(data.class_names),
        "views": {"of": type(subject.views).__name__, **dataclasses.asdict(subject.views)},
        "layers": list(layers),
        **task.settings,
        "seed": subject.options.seed,
    }
    listener = {}
    if subject.partner is not None:
        settings["audio_views"] = dataclasses.asdict(subject.partner.views)
        listener = {"audio_model": subject.partner.description}
    software = {name: versions()[name] for name in ("vidssl", "torch")}
    asked = {
        "task": task.name,
        "settings": settings,
        "model": subject.description,
        **listener,
        "train": data_fingerprint(data.train),
        "test": data_fingerprint(data.test),
        "versions": software,
        "device": subject.device.type,
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    has_predictions = (out / NAME).is_file()
    finished, picture = taken_over(out, key) if has_predictions else None, out / f"{task.name}.png"
    if finished is None:
        picture.unlink(missing_ok=True)
        outcome = task.evaluate(subject, layers, data)
        classes = {}
        if outcome.predicted is not None and task.name in ("knn", "linear"):
            label = subject.samples(layers[0], data.test).label
            classes = {
                data.class_names[one]: value for one, value in class_accuracies(outcome.predicted, label).items()
            }
        features = next(iter(subject.features.values()))
        write_predictions(
            out / NAME,
            task.scored(subject, data),
            outcome.columns,
            root=Path(common["root"]),
            class_names=data.class_names,
            gallery=subject.readable(data.train),
        )
        finished = Result(
            task.name,
            outcome.figures,
            {_with_class_name(part, data.class_names): values for part, values in outcome.parts.items()},
            {
                "settings": settings,
                "protocol": None,
                "model": subject.description,
                **listener,
                "uncertainty": outcome.uncertainty,
                "chosen": outcome.chosen,
                "classes": classes,
                "unreadable": [list(one) for one in features.bad],
                **common,
                "device": device_name(subject.device),
                "versions": versions(),
                "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "key": key,
            },
        )
        finished.write(out)
    if task.picture is not None and subject.name == "model" and not picture.is_file():
        task.picture(subject, layers[0], data, picture)
    return finished


def taken_over(out: Path, key: str) -> "Result | None":
    """The result in a folder if it is of the same request, by its key."""
    finished = read_result(out / "result.json")
    if finished is None:
        return None
    if finished.record.get("key") == key:
        logger.info("taken over from %s", out)
        return finished
    logger.warning("%s holds the result of something else, which is replaced", out)
    return None


def read_result(path: Path) -> "Result | None":
    """Read a result.json; None if there is none, or it is not ours."""
    from ..evaluate.results import Result

    try:
        document = read_json(path, ResultRecord)
        figures = {name: math.nan if value is None else value for name, value in document.pop("figures").items()}
        parts = {
            part: {name: math.nan if value is None else value for name, value in values.items()}
            for part, values in document.pop("parts").items()
        }
        return Result(document.pop("task"), figures, parts, document)
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _with_class_name(part: str, class_names: Sequence[str]) -> str:
    number = part.removeprefix("class ")
    return class_names[int(number)] if part.startswith("class ") and number.isdecimal() else part


def _chance(
    task: Task, sets: "Mapping[int, LabelledSet]", columns: Sequence[str], common: dict[str, Any], *, name: str
) -> "Result":
    from ..evaluate.results import Result

    guesses = [task.chance(data, columns) for data in sets.values()]
    figures = {column: sum(guess.get(column, math.nan) for guess in guesses) / len(guesses) for column in columns}
    model = {"name": "chance", "architecture": None, "sha256": None}
    settings = {"data": name, **task.settings}
    return Result(task.name, figures, {}, {"model": model, "protocol": None, "settings": settings, **common})


def _title(task: Task, data: "LabelledSet", subject: Subject, *, name: str) -> str:
    from ._model import spoken_layers

    layers = spoken_layers(subject.description["layers"])
    return (
        f"{task.name} on {name}: {len(data.class_names)} classes, {len(data.train)} training and {len(data.test)} test "
        f"samples; {_spoken(subject.views)}; {layers}; per cent"
    )


def _spoken(views: "Views | SoundViews") -> str:
    from ..evaluate.features import Views

    if isinstance(views, Views):
        frames = f"{views.num_frames} frames every {views.stride_frames}" if views.num_frames > 1 else "1 frame"
        return f"{views.num_clips} clip x {views.num_crops} crop of {frames}, {views.size_px} px"
    return f"{views.num_clips} clip of {views.audio_seconds:g} s"


def print_results(results: "Mapping[str, Result]", *, title: str) -> None:
    """Print results side by side, as wide as the terminal allows."""
    from rich.console import Console

    from ..evaluate.results import side_by_side

    console = Console()
    console.print(side_by_side(results, title=title, width=console.width))

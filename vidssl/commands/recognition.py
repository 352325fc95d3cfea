"""vidssl extract; vidssl evaluate knn, linear, lowshot, retrieval, cluster: what frozen features know of classes."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ._recognize import (
    DataOptions,
    EvaluationOptions,
    FeatureOptions,
    Subject,
    Task,
    load_pictures_encoder,
    load_sound_encoder,
    measure,
    split_samples,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.labelled import Item, LabelledSet
    from ..evaluate.recognition import Outcome, Samples

logger = logging.getLogger(__name__)

Data = Annotated[DataOptions, tyro.conf.arg(name="")]
Model = Annotated[FeatureOptions, tyro.conf.arg(name="")]
Evaluation = Annotated[EvaluationOptions, tyro.conf.arg(name="")]

_GRID_QUERIES, _GRID_NEIGHBOURS = 8, 6


def extract(
    data: Data,
    model: Model,
    *,
    level: Literal["pooled", "frames", "patches"] = "pooled",
    labels: bool = True,
    out: Path | None = None,
) -> None:
    """Encode every file of a data set once, and keep the features: what all evaluations read.

    Running the same command again goes on where it stopped, and takes over what is done.

    Args:
        data: What is encoded.
        model: What with.
        level: pooled takes the mean over frames and cells; frames over cells; patches keeps them.
        labels: Whether the data is labelled. Without, --root is any folder or list of videos or images.
        out: Folder for a copy: LAYER.npy and samples.csv, a row per sample. None fills the cache alone.
    """
    import numpy as np

    from ..evaluate import features
    from ..files import replacing
    from ._device import compute_device
    from ._model import layers_measured

    rows, media, class_names = _rows(data, model, labels=labels)
    encoder = (
        load_sound_encoder(model.model, seed=model.seed) if media == "audio" else load_pictures_encoder(model)
    )
    found = features.extract(
        encoder,
        [item for _, item in rows],
        views=model.views(media),  # type: ignore[arg-type]
        layers=model.layers,
        level=level,
        cache=model.cache,
        batch_size=model.batch_size,
        num_workers=model.num_workers,
        device=compute_device(model.device),
        bad_file_budget=data.bad_file_budget,
        progress=True,
    )
    for (layer, one), own in zip(found.items(), layers_measured(encoder, found), strict=True):
        name = layer if layer == own["layer"] else f"{layer} ({own['layer']})"
        logger.info("layer %s: %s", name, " x ".join(map(str, one.values.shape)))
    if out is None:
        logger.info("the features are in %s", model.cache or features.default_feature_cache())
        return
    split_of = {id(item): split for split, item in rows}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "start_s", "end_s", "split", "label", "source"])
    for item in next(iter(found.values())).items:
        class_name = class_names[item.label] if item.label >= 0 else ""
        part = ["" if one is None else one for one in (item.start_seconds, item.end_seconds)]
        table.writerow([item.path, *part, split_of[id(item)], class_name, item.source])
    with replacing(out / "samples.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
    for layer, one in found.items():
        with replacing(out / f"{layer}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, one.values.numpy())
    logger.info("samples.csv and the features, a row per sample in the same order, are in %s", out)


def _rows(
    data: DataOptions, model: FeatureOptions, *, labels: bool
) -> "tuple[list[tuple[str, Item]], str, tuple[str, ...]]":
    """(split, sample) of everything there is, the kind of media, the class names."""
    from ..data.corpus import Corpus
    from ..data.labelled import Item

    if labels:
        splits = data.splits_wanted()
        if len(splits) > 1:
            raise ValueError(
                f"--splits is {data.splits!r}; every file is encoded, whichever split is named: give one"
            )
        found = data.load(splits[0], seed=model.seed)
        rows = [("train", item) for item in found.train] + [("test", item) for item in found.test]
        return rows, found.media, found.class_names
    corpus = Corpus.scan(data.root, media="any")
    if corpus.entries[:1] and corpus.entries[0].member is not None:
        raise ValueError(f"{data.root} is shards, which are for pretraining; give a folder or a list of files")
    media = "video" if any(entry.num_frames > 1 for entry in corpus.entries) else "image"
    return [("", Item(entry.path, -1, entry.source)) for entry in corpus.entries], media, ()


def knn(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    neighbours: tuple[int, ...] = (1, 5, 10, 20, 100, 200),
    temperatures: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2, math.inf),
    command: str | None = None,
) -> None:
    """Classify test samples by their nearest training samples, with frozen features; print accuracies.

    Neighbours and temperature are chosen by leave-one-out on the training samples; the figures of the conventional
    setting (20 neighbours, temperature 0.07) are printed beside them. Random weights, raw pixels and chance are
    measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        neighbours: Numbers of neighbours to try.
        temperatures: Of the votes, to try; inf lets all neighbours vote alike.
        command: Command line that started this, for the record.
    """

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.knn import evaluate_knn

        train, test = split_samples(subject, layers[0], split)
        return evaluate_knn(
            train,
            test,
            num_neighbours=neighbours,
            temperatures=temperatures,
            seed=model.seed,
            device=subject.device,
        )

    settings = {"neighbours": list(neighbours), "temperatures": [str(value) for value in temperatures]}
    measure(Task("knn", settings, evaluate, _class_chance), data, model, evaluation, command=command)


def linear(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    solver: Literal["grid", "exact"] = "grid",
    steps: int = 12_500,
    step_samples: int = 128,
    command: str | None = None,
) -> None:
    """Train a linear classifier on frozen features; print its accuracies on the test samples.

    `grid` trains one classifier for every layer and learning rate at once (DINOv2's protocol), reports all, and
    chooses one on a tenth of the training recordings. `exact` solves logistic regression of each layer to the
    optimum and chooses the penalty likewise. Random weights, raw pixels and chance are measured, too. Running the
    same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        solver: grid or exact.
        steps: Of the grid's SGD.
        step_samples: Views of samples in a step of the grid.
        command: Command line that started this, for the record.
    """

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.linear import evaluate_linear, evaluate_linear_grid
        from ..evaluate.recognition import hold_out

        pairs = {layer: split_samples(subject, layer, split) for layer in layers}
        if solver == "grid":
            train = pairs[layers[0]][0]
            if not len(hold_out(train.label, train.source, seed=model.seed)[1]):
                raise ValueError(
                    f"{split.name}: no class can spare a training recording to choose a learning rate on; take "
                    "--solver exact, which then takes a middling penalty"
                )
        if solver == "exact":
            return evaluate_linear(*pairs[layers[0]], seed=model.seed, device=subject.device)
        return evaluate_linear_grid(
            {layer: train for layer, (train, _) in pairs.items()},
            {layer: test for layer, (_, test) in pairs.items()},
            steps=steps,
            batch_size=step_samples,
            seed=model.seed,
            device=subject.device,
        )

    settings: dict[str, Any] = {"solver": solver}
    if solver == "grid":
        settings |= {"steps": steps, "step_samples": step_samples}
    task = Task("linear", settings, evaluate, _class_chance, joint_layers=solver == "grid")
    measure(task, data, model, evaluation, command=command)


def lowshot(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    classifier: Literal["linear", "knn"] = "linear",
    fractions: tuple[float, ...] = (0.01, 0.1),
    shots: tuple[int, ...] = (1, 2, 4, 8, 16),
    num_draws: int = 5,
    command: str | None = None,
) -> None:
    """Classify with few labelled recordings: shares of the training set, and k of each class, mean over draws.

    Random weights, raw pixels and chance are measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        classifier: linear (logistic regression) or knn.
        fractions: Of the training recordings of each class, in (0, 1].
        shots: Training recordings of each class.
        num_draws: Mean and deviation are over this many draws.
        command: Command line that started this, for the record.
    """

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.knn import evaluate_knn
        from ..evaluate.linear import evaluate_linear
        from ..evaluate.lowshot import evaluate_lowshot

        function = evaluate_linear if classifier == "linear" else evaluate_knn
        return evaluate_lowshot(
            *split_samples(subject, layers[0], split),
            classifier=partial(function, seed=model.seed, device=subject.device),
            fractions=fractions,
            shots=shots,
            num_draws=num_draws,
            seed=model.seed,
        )

    settings = {
        "classifier": classifier,
        "fractions": list(fractions),
        "shots": list(shots),
        "num_draws": num_draws,
    }
    measure(Task("lowshot", settings, evaluate, _class_chance), data, model, evaluation, command=command)


def cluster(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    samples: Literal["test", "train", "all"] = "all",
    num_clusters: int | None = None,
    num_restarts: int = 10,
    command: str | None = None,
) -> None:
    """Cluster frozen features by k-means and compare the clusters with the classes: NMI, ARI, purity.

    Random weights, raw pixels and chance are measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        samples: Which are clustered; no label is learned from, so it may be all.
        num_clusters: None is the number of classes.
        num_restarts: Draws of initial centres; that of the lowest inertia counts.
        command: Command line that started this, for the record.
    """

    def chosen(split: "LabelledSet") -> "tuple[Item, ...]":
        return {"test": split.test, "train": split.train, "all": (*split.train, *split.test)}[samples]

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.cluster import evaluate_clusters

        return evaluate_clusters(
            subject.samples(layers[0], chosen(split)),
            num_clusters=num_clusters,
            num_restarts=num_restarts,
            seed=model.seed,
            device=subject.device,
        )

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from ..evaluate.chance import cluster_chance

        labels = [item.label for item in chosen(split)]
        return cluster_chance(labels, num_clusters=num_clusters or len(set(labels)))

    def look(split: "LabelledSet") -> dict[str, list[str]]:
        from ..evaluate.class_counts import check_classes

        check_classes(
            [item.label for item in chosen(split)], what=f"clustered ({samples})", class_names=split.class_names
        )
        return {}

    settings = {"samples": samples, "num_clusters": num_clusters, "num_restarts": num_restarts}
    task = Task(
        "cluster",
        settings,
        evaluate,
        chance,
        look=look,
        scored=lambda subject, split: subject.readable(chosen(split)),
    )
    measure(task, data, model, evaluation, command=command)


def retrieval(
    data: Data,
    model: Model,
    evaluation: Evaluation,
    *,
    audio_model: str | None = None,
    alignment: Literal["ridge", "none"] = "ridge",
    alignment_penalty: float = 0.1,
    ranks: tuple[int, ...] = (1, 5, 10, 20),
    command: str | None = None,
) -> None:
    """Find training samples of the class of each test sample among its nearest neighbours; print the recall.

    With --audio-model, find the sound of each test video among those of all test videos, and back. Draws test samples
    and what was found for them (retrieval.png, audio-video-retrieval.png). Random weights, raw pixels and chance are
    measured, too. Running the same command again takes over what is done.

    Args:
        data: What is measured on.
        model: What is measured.
        evaluation: Where results go.
        audio_model: Encoder of sound: a run of an audio-visual method, or its audio_encoder.safetensors.
        alignment: How features of pictures come to the space of those of sound: ridge maps them linearly, fitted to
            the training samples; none takes them as they are (encoders of one space).
        alignment_penalty: Of that map, relative to the variance of the features.
        ranks: Neighbours looked at.
        command: Command line that started this, for the record.
    """
    if audio_model is None:
        measure(_by_class(ranks), data, model, evaluation, command=command)
        return
    task = _by_sound(ranks, penalty=alignment_penalty if alignment == "ridge" else None)
    measure(task, data, model, evaluation, audio_model=audio_model, command=command)


def _by_class(ranks: tuple[int, ...]) -> Task:
    """Retrieval of training samples of the same class."""

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.retrieval import evaluate_retrieval

        gallery, queries = split_samples(subject, layers[0], split)
        return evaluate_retrieval(gallery, queries, ranks=ranks, device=subject.device)

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from ..evaluate.chance import retrieval_chance
        from ..evaluate.features import source_numbers

        items = (*split.train, *split.test)
        known = [(item.label, number) for item, number in zip(items, source_numbers(items), strict=True)]
        return retrieval_chance(known[: len(split.train)], known[len(split.train) :], ranks=ranks)

    def picture(subject: Subject, layer: str, split: "LabelledSet", file: Path) -> None:
        from ..evaluate.recognition import nearest

        gallery_items, query_items = subject.readable(split.train), subject.readable(split.test)
        gallery, queries = split_samples(subject, layer, split)
        chosen = _spread(query_items)
        _, index = nearest(gallery, queries.take(_tensor(chosen)), count=_GRID_NEIGHBOURS, device=subject.device)
        found = [[gallery_items[number] for number in row if number >= 0] for row in index.tolist()]
        own = [query_items[number] for number in chosen]
        right = [[one.label == query.label for one in row] for query, row in zip(own, found, strict=True)]
        _draw_grid(own, found, right, split.class_names, media=split.media, path=file)

    return Task("retrieval", {"ranks": list(ranks)}, evaluate, chance, picture)


def _by_sound(ranks: tuple[int, ...], *, penalty: float | None) -> Task:
    """Retrieval of the sound of a video, and back; who watches has a partner who listens."""

    def pair(subject: Subject, layer: str, split: "LabelledSet") -> "tuple[Samples, Samples, list[Item]]":
        """Test samples that can be seen and heard, in the space of sound, and the items they are."""
        from ..evaluate.recognition import Samples
        from ..evaluate.retrieval import align_ridge

        listener = _partner(subject)
        if split.media != "video":
            raise ValueError(
                f"--audio-model needs videos with sound, {split.name} holds files of kind {split.media}"
            )
        train, test = (listener.readable(subject.readable(items)) for items in (split.train, split.test))
        if not train or not test:
            raise ValueError(
                f"{split.name}: {len(train)} training and {len(test)} test videos can be seen and heard"
            )
        seen, heard = subject.samples(layer, test), listener.samples("last", test)
        if penalty is None:
            return seen, heard, test
        seen_train, heard_train = subject.samples(layer, train), listener.samples("last", train)
        map_to_sound = align_ridge(seen_train.values.mean(1), heard_train.values.mean(1), penalty=penalty)
        return Samples(map_to_sound(seen.values), seen.label, seen.source), heard, test

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from ..evaluate.retrieval import evaluate_instance_retrieval

        seen, heard, _ = pair(subject, layers[0], split)
        outcome = evaluate_instance_retrieval(seen, heard, ranks=ranks, device=subject.device)
        shares = {
            name: value for name, value in outcome.figures.items() if "R@" in name
        }  # ranks stay in the parts
        return replace(outcome, figures=shares)

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from ..evaluate.chance import instance_retrieval_chance

        return instance_retrieval_chance(columns, num_samples=len(split.test))

    def picture(subject: Subject, layer: str, split: "LabelledSet", file: Path) -> None:
        from ..evaluate.recognition import nearest

        seen, heard, items = pair(subject, layer, split)
        chosen = _spread(items)
        own = [items[number] for number in chosen]
        # A video is an own recording here, so that its sound may be found.
        apart = type(seen)(seen.values, seen.label, _tensor(range(len(seen), 2 * len(seen))))
        _, index = nearest(heard, apart.take(_tensor(chosen)), count=_GRID_NEIGHBOURS, device=subject.device)
        found = [[items[number] for number in row] for row in index.tolist()]
        right = [[one == query for one in row] for query, row in zip(own, found, strict=True)]
        _draw_grid(own, found, right, split.class_names, media=split.media, path=file)

    settings = {"ranks": list(ranks), "alignment": "none" if penalty is None else f"ridge {penalty:g}"}
    # A video is told from all others, whatever their classes.
    return Task(
        "audio-video-retrieval",
        settings,
        evaluate,
        chance,
        picture,
        look=lambda split: {},
        scored=lambda subject, split: _partner(subject).readable(subject.readable(split.test)),
    )


def _partner(subject: Subject) -> Subject:
    assert subject.partner is not None, "--audio-model gives every subject one"
    return subject.partner


def _class_chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
    from ..evaluate.chance import classification_chance

    return classification_chance(columns, num_classes=len({item.label for item in split.train}))


def _tensor(numbers: Sequence[int]) -> "Tensor":
    import torch

    return torch.tensor(list(numbers))


def _spread(items: "Sequence[Item]") -> list[int]:
    """Numbers of a few items, of as many classes as possible."""
    by_class: dict[int, list[int]] = {}
    for number, item in enumerate(items):
        by_class.setdefault(item.label, []).append(number)
    labels = sorted(by_class)
    step = max(1, len(labels) // _GRID_QUERIES)
    first = [by_class[label][0] for label in labels[::step]]
    rest = [number for number in range(len(items)) if number not in first]
    return [*first, *rest][:_GRID_QUERIES]


def _draw_grid(
    queries: "Sequence[Item]",
    found: "Sequence[Sequence[Item]]",
    right: Sequence[Sequence[bool]],
    class_names: Sequence[str],
    *,
    media: str,
    path: Path,
) -> None:
    """Draw what was found for some queries."""
    from ..evaluate.retrieval import retrieval_grid
    from ..files import replacing

    sheet = retrieval_grid(
        [_look(item, media) for item in queries],
        [[_look(item, media) for item in row] for row in found],
        right=right,
        query_titles=[class_names[item.label] for item in queries],
        neighbour_titles=[[class_names[item.label] for item in row] for row in found],
    )
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _look(item: "Item", media: str) -> "Tensor":
    """A picture of a sample, uint8 (3, H, W): the frame in its middle, or its spectrogram."""
    import torch

    from ..data.video import open_audio, open_video
    from ..models import LogMel

    start = item.start_seconds or 0.0
    if media == "audio":
        with open_audio(item.path) as sound:
            whole = sound.measure_seconds() if item.end_seconds is None else item.end_seconds
            waveform = sound.read(start, max(whole - start, 0.1), sample_rate_hz=16_000)
        energy = LogMel()(waveform[None])[0, 0].flip(0)  # low notes at the bottom
        grey = 255 * (energy - energy.min()) / (energy.max() - energy.min()).clamp(min=1e-6)
        wide = torch.nn.functional.interpolate(grey[None, None], size=(112, 112))[0]
        return wide.expand(3, -1, -1).to(torch.uint8)
    with open_video(item.path) as reader:
        end = min(item.end_seconds or math.inf, reader.info.duration_seconds)
        return reader.frames([(start + end) / 2], short_side=112).video[0]

"""What can be measured of frozen features: neighbours, classifiers, clusters, retrieval."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .subject import Subject, Task, split_samples

if TYPE_CHECKING:
    from torch import Tensor

    from ...data.published.labelled import Item, LabelledSet
    from .outcome import Outcome, Samples

_GRID_QUERIES, _GRID_NEIGHBOURS = 8, 6


def knn_task(
    *,
    neighbours: tuple[int, ...] = (1, 5, 10, 20, 100, 200),
    temperatures: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2, math.inf),
) -> Task:
    """Classification by nearest neighbours; their number and the temperature are chosen by leave-one-out."""

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from .knn import evaluate_knn

        train, test = split_samples(subject, layers[0], split)
        return evaluate_knn(
            train,
            test,
            num_neighbours=neighbours,
            temperatures=temperatures,
            seed=subject.seed,
            device=subject.device,
        )

    settings = {"neighbours": list(neighbours), "temperatures": [str(value) for value in temperatures]}
    return Task("knn", settings, evaluate, _class_chance)


def linear_task(
    *,
    solver: Literal["grid", "exact"] = "grid",
    steps: int = 12_500,
    step_samples: int = 128,
) -> Task:
    """Linear classifiers: a grid trained by SGD (all layers at once), or logistic regression to the optimum."""

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from .heads import evaluate_linear_grid
        from .linear import evaluate_linear
        from .outcome import hold_out

        pairs = {layer: split_samples(subject, layer, split) for layer in layers}
        if solver == "grid":
            train = pairs[layers[0]][0]
            if not len(hold_out(train.label, train.source, seed=subject.seed)[1]):
                raise ValueError(
                    f"{split.name}: no class can spare a training recording to choose a learning rate on; take "
                    "--solver exact, which then takes a middling penalty"
                )
        if solver == "exact":
            return evaluate_linear(*pairs[layers[0]], seed=subject.seed, device=subject.device)
        return evaluate_linear_grid(
            {layer: train for layer, (train, _) in pairs.items()},
            {layer: test for layer, (_, test) in pairs.items()},
            steps=steps,
            batch_size=step_samples,
            seed=subject.seed,
            device=subject.device,
        )

    settings: dict[str, Any] = {"solver": solver}
    if solver == "grid":
        settings |= {"steps": steps, "step_samples": step_samples}
    return Task("linear", settings, evaluate, _class_chance, joint_layers=solver == "grid")


def lowshot_task(
    *,
    classifier: Literal["linear", "knn"] = "linear",
    fractions: tuple[float, ...] = (0.01, 0.1),
    shots: tuple[int, ...] = (1, 2, 4, 8, 16),
    num_draws: int = 5,
) -> Task:
    """Classification with few labelled recordings: shares of the training set, and some of each class."""

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from .knn import evaluate_knn
        from .linear import evaluate_linear
        from .lowshot import evaluate_lowshot

        function = evaluate_linear if classifier == "linear" else evaluate_knn
        return evaluate_lowshot(
            *split_samples(subject, layers[0], split),
            classifier=partial(function, seed=subject.seed, device=subject.device),
            fractions=fractions,
            shots=shots,
            num_draws=num_draws,
            seed=subject.seed,
        )

    settings = {
        "classifier": classifier,
        "fractions": list(fractions),
        "shots": list(shots),
        "num_draws": num_draws,
    }
    return Task("lowshot", settings, evaluate, _class_chance)


def cluster_task(
    *,
    samples: Literal["test", "train", "all"] = "all",
    num_clusters: int | None = None,
    num_restarts: int = 10,
) -> Task:
    """Clusters of k-means against classes: NMI, ARI, purity."""

    def chosen(split: "LabelledSet") -> "tuple[Item, ...]":
        return {"test": split.test, "train": split.train, "all": (*split.train, *split.test)}[samples]

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from .cluster import evaluate_clusters

        return evaluate_clusters(
            subject.samples(layers[0], chosen(split)),
            num_clusters=num_clusters,
            num_restarts=num_restarts,
            seed=subject.seed,
            device=subject.device,
        )

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from .chance import cluster_chance

        labels = [item.label for item in chosen(split)]
        return cluster_chance(labels, num_clusters=num_clusters or len(set(labels)))

    def look(split: "LabelledSet") -> dict[str, list[str]]:
        from .class_counts import check_classes

        check_classes(
            [item.label for item in chosen(split)], what=f"clustered ({samples})", class_names=split.class_names
        )
        return {}

    settings = {"samples": samples, "num_clusters": num_clusters, "num_restarts": num_restarts}
    return Task(
        "cluster",
        settings,
        evaluate,
        chance,
        look=look,
        scored=lambda subject, split: subject.readable(chosen(split)),
    )


def retrieval_task(ranks: tuple[int, ...]) -> Task:
    """Retrieval of training samples of the same class."""

    def evaluate(subject: Subject, layers: tuple[str, ...], split: "LabelledSet") -> "Outcome":
        from .retrieval import evaluate_retrieval

        gallery, queries = split_samples(subject, layers[0], split)
        return evaluate_retrieval(gallery, queries, ranks=ranks, device=subject.device)

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from .chance import retrieval_chance
        from .features.extract import source_numbers

        items = (*split.train, *split.test)
        known = [(item.label, number) for item, number in zip(items, source_numbers(items), strict=True)]
        return retrieval_chance(known[: len(split.train)], known[len(split.train) :], ranks=ranks)

    def picture(subject: Subject, layer: str, split: "LabelledSet", file: Path) -> None:
        from .outcome import nearest

        gallery_items, query_items = subject.readable(split.train), subject.readable(split.test)
        gallery, queries = split_samples(subject, layer, split)
        chosen = _spread(query_items)
        _, index = nearest(gallery, queries.take(_tensor(chosen)), count=_GRID_NEIGHBOURS, device=subject.device)
        found = [[gallery_items[number] for number in row if number >= 0] for row in index.tolist()]
        own = [query_items[number] for number in chosen]
        right = [[one.label == query.label for one in row] for query, row in zip(own, found, strict=True)]
        _draw_grid(own, found, right, split.class_names, media=split.media, path=file)

    return Task("retrieval", {"ranks": list(ranks)}, evaluate, chance, picture)


def sound_retrieval_task(ranks: tuple[int, ...], *, penalty: float | None) -> Task:
    """Retrieval of the sound of a video, and back; who watches has a partner who listens."""

    def pair(subject: Subject, layer: str, split: "LabelledSet") -> "tuple[Samples, Samples, list[Item]]":
        """Test samples that can be seen and heard, in the space of sound, and the items they are."""
        from .outcome import Samples
        from .retrieval import align_ridge

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
        from .retrieval import evaluate_instance_retrieval

        seen, heard, _ = pair(subject, layers[0], split)
        outcome = evaluate_instance_retrieval(seen, heard, ranks=ranks, device=subject.device)
        shares = {
            name: value for name, value in outcome.figures.items() if "R@" in name
        }  # ranks stay in the parts
        return replace(outcome, figures=shares)

    def chance(split: "LabelledSet", columns: Sequence[str]) -> dict[str, float]:
        from .chance import instance_retrieval_chance

        return instance_retrieval_chance(columns, num_samples=len(split.test))

    def picture(subject: Subject, layer: str, split: "LabelledSet", file: Path) -> None:
        from .outcome import nearest

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
    from .chance import classification_chance

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
    from ...files import replacing
    from .retrieval import retrieval_grid

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

    from ...data.media.video import open_audio, open_video
    from ...models import LogMel

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

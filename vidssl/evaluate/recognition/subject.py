"""Whose features are measured, and what is measured of them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .class_counts import look_at_classes

if TYPE_CHECKING:
    from torch import device as Device
    from torch import nn

    from ...data.published.labelled import Item, LabelledSet
    from .features.extract import Features
    from .features.views import SoundViews, Views
    from .outcome import Outcome, Samples


def layers_measured(encoder: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    """Layers of an encoder of pictures or of sound, "last" by its own name, and how many numbers each gives."""
    from ...models import Encoder

    if not isinstance(encoder, Encoder):
        return [{"layer": name, "dim": encoder.dim} for name in names]
    names = list(names)
    encoder.check_layers(names)
    return [
        {"layer": encoder.last_name if name == "last" else name, "dim": encoder.layer_size(name)[0]}
        for name in names
    ]


def spoken_layers(layers: Iterable[dict[str, Any]]) -> str:
    """Say what `layers_measured` found: "layer4 (512 numbers)"."""
    return ", ".join(f"{one['layer']} ({one['dim']} numbers)" for one in layers)


logger = logging.getLogger(__name__)


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
        bad_file_budget: Share of the samples that may be unreadable.
        device: Where to compute.
        cache: Folder for features; None is the user's.
        batch_size: Clips encoded at a time.
        num_workers: Decoding processes.
        seed: Of the draws of the evaluation.
        partner: Who listens to the samples while this one watches.
    """

    name: str
    model_name: str
    encoder: "nn.Module"
    views: "Views | SoundViews"
    layers: tuple[str, ...]
    items: "Sequence[Item]"
    bad_file_budget: float
    device: "Device"
    cache: Path | None = None
    batch_size: int = 16
    num_workers: int = 0
    seed: int = 0
    partner: "Subject | None" = None

    @cached_property
    def features(self) -> "dict[str, Features]":
        """Layer -> features of all items."""
        from .features.extract import extract

        logger.info("%s", self.name if self.name == self.model_name else f"{self.name}: {self.model_name}")
        return extract(
            self.encoder,
            self.items,
            views=self.views,
            layers=self.layers,
            cache=self.cache,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            device=self.device,
            bad_file_budget=self.bad_file_budget,
            progress=True,
        )

    @cached_property
    def description(self) -> dict[str, Any]:
        """The "model" of a result."""
        from .features.extract import model_fingerprint

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

        from .features.extract import source_numbers
        from .outcome import Samples

        features = self.features[layer]
        rows = {part_of(item): row for row, item in enumerate(features.items)}
        kept = [item for item in items if part_of(item) in rows]
        if not kept:
            raise ValueError(f"none of {len(items)} samples could be read")
        numbers = [rows[part_of(item)] for item in kept]
        whole = numbers == list(range(len(features)))
        return Samples(
            features.values if whole else features.values[torch.tensor(numbers)],
            torch.tensor([item.label for item in kept]),
            torch.tensor(source_numbers(kept)),
        )

    def readable(self, items: "Sequence[Item]") -> "list[Item]":
        """Those of the items that have features."""
        rows = {part_of(item) for item in next(iter(self.features.values())).items}
        return [item for item in items if part_of(item) in rows]


def part_of(item: "Item") -> tuple[Path, float | None, float | None]:
    """What tells the part of a file that a sample is: path, start and end."""
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

"""What the recognition evaluators share: samples, outcomes, held-out parts, neighbours, accuracies."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics.interval import Intervals, mean_class_intervals, mean_intervals
from .predictions import Column

# Cosines that are held at once: 64 MB of float32.
_BLOCK = 2**24


@dataclass(frozen=True)
class Samples:
    """Pooled features of labelled samples.

    Args:
        values: Features of V views (clips x crops) of each sample, float (N, V, D).
        label: Class of each sample, int64 (N,), from 0.
        source: Number of the recording each sample was cut from, int64 (N,). Training and test samples are numbered
            together: equal numbers are one recording, in whichever split.

    Raises:
        ValueError: There is no sample, shapes or types differ from the above, or a feature is not finite.
    """

    values: Tensor
    label: Tensor
    source: Tensor

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or not self.values.is_floating_point() or not self.values.numel():
            raise ValueError(
                f"features are {self.values.dtype} of shape {tuple(self.values.shape)}, expected floating point "
                "(samples, views, width), none of them 0"
            )
        for name, numbers in (("labels", self.label), ("sources", self.source)):
            if numbers.dtype != torch.int64 or numbers.shape != self.values.shape[:1]:
                raise ValueError(
                    f"{name} are {numbers.dtype} of shape {tuple(numbers.shape)}, expected int64 "
                    f"({len(self.values)},), one per sample"
                )
        if self.label.min() < 0:
            number = int(self.label.argmin())
            raise ValueError(
                f"sample {number} has label {int(self.label[number])}; labels count from 0: leave unlabelled samples "
                "out"
            )
        start = 0
        for block in self.values.split(max(1, _BLOCK // self.values[0].numel())):
            finite = block.isfinite().flatten(1).all(1)
            if not finite.all():
                number = start + int(finite.logical_not().nonzero()[0])
                raise ValueError(f"features of sample {number} hold NaN or infinity; extract them anew")
            start += len(block)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Tensor) -> "Samples":
        """Return the samples of these numbers, int64 (n,)."""
        return Samples(self.values[index], self.label[index], self.source[index])


@dataclass(frozen=True)
class Outcome:
    """What an evaluator found.

    Args:
        figures: Headline figures by name; shares are in [0, 1].
        parts: The same by setting, draw, class or direction.
        chosen: What was chosen on held-out data, numbers of samples, what was left out: JSON values.
        predicted: Class (or cluster) of each test sample under the chosen setting, int64 (M,); -1 where there was
            nothing to predict from.
        ranked: The same and the next best classes, int64 (M, 5), where there are any.
        uncertainty: How sure the figures are (`vidssl.evaluate.metrics.interval.uncertainty`), JSON values.
        columns: What was said of each test sample.
    """

    figures: dict[str, float]
    parts: dict[str, dict[str, float]]
    chosen: dict[str, Any]
    predicted: Tensor | None = None
    ranked: Tensor | None = field(default=None, compare=False)
    uncertainty: dict[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = field(default=(), compare=False)


def check_widths(train: Samples, test: Samples) -> None:
    """Refuse features of different encoders or layers.

    Raises:
        ValueError: The widths differ.
    """
    if train.values.shape[2] != test.values.shape[2]:
        raise ValueError(
            f"features have width {train.values.shape[2]} in one set and {test.values.shape[2]} in the other; take "
            "both from one layer of one encoder"
        )


def unit_means(values: Tensor) -> Tensor:
    """Unit vector of each sample: views scaled to length 1, averaged, scaled again; (N, V, D) -> (N, D)."""
    blocks = values.split(max(1, _BLOCK // values[0].numel()))
    return torch.cat([F.normalize(F.normalize(block, dim=2).mean(1), dim=1) for block in blocks])


def nearest(
    gallery: Samples, queries: Samples, *, count: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Find the samples of a gallery whose cosine to each query is highest; those of the query's own source are out.

    Args:
        gallery: N samples.
        queries: M samples.
        count: Neighbours wanted.
        device: Where the cosines are computed.

    Returns:
        Cosines (M, min(count, N)), best first, and numbers of gallery samples, int64 of the same shape. Where fewer
        are left beside those of the same source, -inf and -1.
    """
    check_widths(gallery, queries)
    bank, source = unit_means(gallery.values).to(device), gallery.source.to(device)
    count = min(count, len(bank))
    cosines, indices = [], []
    for start in range(0, len(queries), rows := max(1, _BLOCK // len(bank))):
        block = unit_means(queries.values[start : start + rows]).to(device) @ bank.T
        same = queries.source[start : start + rows].to(device)[:, None] == source
        best = block.masked_fill(same, -torch.inf).topk(count, dim=1)
        cosines.append(best.values.cpu())
        indices.append(best.indices.masked_fill(best.values.isneginf(), -1).cpu())
    return torch.cat(cosines), torch.cat(indices)


def top_classes(scores: Tensor, *, count: int = 5) -> Tensor:
    """Classes by falling score, (M, C) -> int64 (M, count); of equal scores the lower number comes first.

    A class of score -inf is no guess: -1.
    """
    best = scores.sort(dim=1, descending=True, stable=True)
    classes = best.indices.masked_fill(best.values.isneginf(), -1)[:, :count]
    return F.pad(classes, (0, count - classes.shape[1]), value=-1)


def accuracies(ranked: Tensor, label: Tensor, *, num_classes: int) -> dict[str, float]:
    """Top-1, top-5 and mean class accuracy (mean over the classes that `label` holds).

    Args:
        ranked: Guesses, best first, int64 (M, 5), from `top_classes`.
        label: int64 (M,).
        num_classes: That are guessed among. Of fewer than six, five guesses leave none to miss: no "top5" then.
    """
    right = ranked == label[:, None]
    by_class = class_accuracies(ranked[:, 0], label)
    return {
        "top1": right[:, 0].double().mean().item(),
        **({"top5": right.any(1).double().mean().item()} if num_classes > 5 else {}),
        "mean_class": sum(by_class.values()) / len(by_class),
    }


def accuracy_intervals(ranked: Tensor, label: Tensor, source: Tensor, *, num_classes: int) -> Intervals:
    """Intervals of what `accuracies` gives, over the recordings `source`, int64 (M,)."""
    right = ranked == label[:, None]
    shares = {"top1": right[:, 0], **({"top5": right.any(1)} if num_classes > 5 else {})}
    return {
        **mean_intervals(shares, source),
        **mean_class_intervals(right[:, 0], label, source),
    }


def class_accuracies(predicted: Tensor, label: Tensor) -> dict[int, float]:
    """Accuracy of each class that `label` holds: int64 (M,), int64 (M,) -> class -> share in [0, 1]."""
    counts = torch.bincount(label)
    right = torch.bincount(label[predicted == label], minlength=len(counts))
    return {number: int(right[number]) / int(counts[number]) for number in counts.nonzero().flatten().tolist()}


def hold_out(label: Tensor, source: Tensor, *, share: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Set a part of the training samples aside, to choose settings on: whole recordings, spread over the classes.

    At least one recording is held out if that leaves every class with another one; where no class can spare a
    recording (one per class), nothing is.

    Args:
        label: int64 (N,).
        source: Number of the recording, int64 (N,).
        share: Of the recordings.
        seed: Decides which ones.

    Returns:
        Numbers of the samples kept and held out, int64, increasing.
    """
    recordings, recording = source.unique(return_inverse=True)
    # Which classes a recording shows; nearly always one.
    pairs = torch.stack([recording, label], dim=1).unique(dim=0)
    classes_of: list[list[int]] = [[] for _ in recordings]
    for number, class_number in pairs.tolist():
        classes_of[number].append(class_number)
    left = torch.bincount(pairs[:, 1]).tolist()  # recordings of each class

    # The i-th of a class's n recordings stands at (i + 1/2) / n: the first tenth of all takes a tenth of each class.
    order = torch.randperm(len(recordings), generator=torch.Generator().manual_seed(seed)).tolist()
    seen = [0] * len(left)
    place = {}
    for number in order:
        main = classes_of[number][0]
        place[number] = (seen[main] + 0.5) / left[main]
        seen[main] += 1
    wanted = max(1, round(share * len(recordings)))
    held: list[int] = []
    for number in sorted(order, key=place.__getitem__):  # stable: equal places stay in random order
        if len(held) < wanted and all(left[one] > 1 for one in classes_of[number]):
            held.append(number)
            for one in classes_of[number]:
                left[one] -= 1
    is_held = torch.zeros(len(recordings), dtype=torch.bool)
    is_held[held] = True
    return (~is_held[recording]).nonzero().flatten(), is_held[recording].nonzero().flatten()

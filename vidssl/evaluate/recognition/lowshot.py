"""Few labels: a classifier trained on a part of the training samples, mean and spread over draws."""

import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..metrics.interval import Intervals, mean_intervals, uncertainty
from .class_counts import check_classes
from .outcome import Outcome, Samples
from .predictions import Column

FRACTIONS = (0.01, 0.1)
SHOTS = (1, 2, 4, 8, 16)

Classifier = Callable[[Samples, Samples], Outcome]
"""`evaluate_knn` or `evaluate_linear`, their options bound by functools.partial."""


def evaluate_lowshot(
    train: Samples,
    test: Samples,
    *,
    classifier: Classifier,
    fractions: Sequence[float] = FRACTIONS,
    shots: Sequence[int] = SHOTS,
    num_draws: int = 5,
    seed: int = 0,
) -> Outcome:
    """Train on few recordings of each class and classify all test samples, several times with other recordings.

    Five draws as Goyal et al. 2019, arXiv:1905.01235. What is counted are recordings: all samples of a class that
    were cut from one recording are in a draw, or none. Draws of one seed are nested: who is in the 1-shot draw is in
    the 2-shot draw of the same number. A fraction is taken of each class, rounded, at least one recording.

    Args:
        train: Samples to draw from.
        test: Samples to classify.
        classifier: Called with the drawn samples and `test`.
        fractions: Parts of the training recordings, in (0, 1].
        shots: Recordings per class. Those that a class has not enough recordings for are left out, and named.
        num_draws: How often.
        seed: Of the draws.

    Returns:
        figures: "1% top1", "1% top1 std", "1-shot top1", ... also for top5: mean and standard deviation (NaN of a
            single draw) over draws. top5 of six classes or more.
        parts: "top1", "top5" and "num_samples" of every draw, named "1% draw 0".
        chosen: "num_draws", "shots_left_out", "fewest_recordings" of a class, and numbers of samples.

    Raises:
        ValueError: A fraction or a number is out of range, no fraction and no shot is left, or the training samples
            are of one class.
    """
    if not all(0 < fraction <= 1 for fraction in fractions) or min([num_draws, *shots]) < 1:
        raise ValueError(
            f"fractions {tuple(fractions)} must be in (0, 1], shots {tuple(shots)} and num_draws {num_draws} above 0"
        )
    check_classes(train.label.tolist())
    fewest = int(recordings_per_class(train).min())
    usable = [shot for shot in shots if shot <= fewest]
    if not usable and not fractions:
        raise ValueError(f"shots {tuple(shots)} are too many: a class has {fewest} recordings; ask for fewer")
    wanted: list[tuple[str, float | int]] = [(f"{100 * fraction:g}%", fraction) for fraction in fractions]
    wanted += [(f"{shot}-shot", shot) for shot in usable]

    figures: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    intervals: Intervals = {}
    columns: list[Column] = []
    for name, amount in wanted:
        draws, ranked = [], []
        for number in range(num_draws):
            index = draw_recordings(train, amount, seed=seed * num_draws + number)
            outcome = classifier(train.take(index), test)
            found = outcome.figures
            ranked += [] if outcome.ranked is None else [outcome.ranked]
            own: dict[str, float] = {key: found[key] for key in ("top1", "top5") if key in found}
            draws.append({**own, "num_samples": float(len(index))})
            parts[f"{name} draw {number}"] = draws[-1]
        for key in own:
            values = [draw[key] for draw in draws]
            figures[f"{name} {key}"] = statistics.mean(values)
            figures[f"{name} {key} std"] = statistics.stdev(values) if num_draws > 1 else float("nan")
        if ranked:  # a classifier of the caller's own may give none
            right = torch.stack(ranked) == test.label[:, None]  # (draws, M, 5)
            shares = {"top1": right[..., 0].double().mean(0), "top5": right.any(2).double().mean(0)}
            bounds = mean_intervals({key: shares[key] for key in own if key in shares}, test.source)
            intervals |= {f"{name} {key}": pair for key, pair in bounds.items()}
            columns += _majority(name, torch.stack(ranked)[..., 0])
    if columns:
        columns.insert(0, Column("prediction", columns[-2].values, "class"))
    return Outcome(
        figures=figures,
        parts=parts,
        chosen={
            "num_draws": num_draws,
            "shots_left_out": [shot for shot in shots if shot > fewest],
            "fewest_recordings": fewest,
            "num_train": len(train),
            "num_test": len(test),
        },
        uncertainty=uncertainty(
            intervals,
            num_units=len(test.source.unique()),
            num_samples=len(test),
            note="of the mean over draws, for other test recordings; std is the spread over draws",
        ),
        columns=tuple(columns),
    )


def _majority(name: str, guesses: Tensor) -> list[Column]:
    """The class that most draws name for each test sample, and how many do: int64 (draws, M)."""
    winner = guesses.mode(0).values
    return [
        Column(f"{name} prediction", winner, "class"),
        Column(f"{name} share of draws", (guesses == winner).double().mean(0)),
    ]


def _recordings(samples: Samples) -> tuple[Tensor, Tensor]:
    """Class of each recording of a class, int64 (R,), and the number of it that each sample is of, int64 (N,).

    A recording that shows two classes is one of each.
    """
    pairs = torch.stack([samples.label, samples.source], dim=1)
    unique, inverse = pairs.unique(dim=0, return_inverse=True)
    return unique[:, 0], inverse


def recordings_per_class(samples: Samples) -> Tensor:
    """Number of recordings of every class that the samples hold, int64 (C',)."""
    counts = torch.bincount(_recordings(samples)[0])
    return counts[counts > 0]


def draw_recordings(samples: Samples, amount: float | int, *, seed: int) -> Tensor:
    """Draw recordings of each class, and return the numbers of their samples, increasing.

    Args:
        samples: Samples to draw from.
        amount: An int is a number of recordings, a float a part of them, rounded, at least one.
        seed: Of the draw.
    """
    classes, recording = _recordings(samples)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    drawn = torch.zeros(len(classes), dtype=torch.bool)
    for number in classes.unique().tolist():
        mine = order[classes[order] == number]
        count = amount if isinstance(amount, int) else max(1, round(amount * len(mine)))
        drawn[mine[:count]] = True
    return drawn[recording].nonzero().flatten()

"""Nearest neighbours vote on the class of a sample: the evaluation without any training.

Wu et al. 2018, arXiv:1805.01978, Sec. 3.4; the settings are those of DINO (eval_knn.py) and around them.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..metrics.interval import uncertainty
from .class_counts import check_classes
from .outcome import Outcome, Samples, accuracies, accuracy_intervals, nearest, top_classes
from .predictions import guess_columns

NUM_NEIGHBOURS = (1, 5, 10, 20, 100, 200)
TEMPERATURES = (0.04, 0.07, 0.1, 0.2, math.inf)
CONVENTIONAL = (20, 0.07)
"""Neighbours and temperature that DINO reports."""

# Training samples that settings are chosen on: enough to tell shares of 1 % apart.
_MAX_HELD_OUT = 10_000
_BLOCK = 2**21


def evaluate_knn(
    train: Samples,
    test: Samples,
    *,
    num_neighbours: Sequence[int] = NUM_NEIGHBOURS,
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Classify test samples by the votes of their nearest training samples, weighted by exp(cosine / temperature).

    Views are scaled to length 1 and averaged. Samples of a query's own recording have no vote. The setting is chosen
    by leave-one-out on the training samples (at most 10,000 of them, drawn): each is classified by the samples of
    all other recordings. Among equals the conventional setting wins, then the one with fewer neighbours.

    Args:
        train: Those who vote.
        test: Those who are classified. A class that no training sample has cannot be found: such samples are wrong.
        num_neighbours: k to try; those above the number of training samples are left out, the conventional 20 is
            always there (or all samples, if they are fewer).
        temperatures: To try; infinity lets all k neighbours vote alike. The conventional 0.07 is always there.
        seed: Draws the training samples that the setting is chosen on.
        device: Where cosines are computed.

    Returns:
        figures: "top1", "top5" (of six classes or more) and "mean_class" of the chosen setting, "conventional_top1"
            and "conventional_top5".
        parts: The same and "held_out_top1" of every setting, named "k=20 t=0.07" or "k=20 uniform".
        chosen: "num_neighbours", "temperature" (None: uniform), "held_out_top1", and numbers of samples.

    Raises:
        ValueError: A number of neighbours or a temperature is not above 0, the training samples are of one class, or
            the features differ in width.
    """
    if not all(count > 0 for count in num_neighbours) or not all(value > 0 for value in temperatures):
        raise ValueError(
            f"neighbours {tuple(num_neighbours)} and temperatures {tuple(temperatures)} must be above 0"
        )
    check_classes(train.label.tolist())
    num_classes = len(train.label.unique())
    conventional = (min(CONVENTIONAL[0], len(train)), CONVENTIONAL[1])
    counts = sorted({conventional[0], *(count for count in num_neighbours if count <= len(train))})
    values = sorted({conventional[1], *temperatures})

    voted = _vote(train, test, counts, values, device)
    ranked = {setting: classes for setting, (classes, _) in voted.items()}
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:_MAX_HELD_OUT]
    held_out = train.take(drawn)
    held_out_top1 = {
        setting: accuracies(guesses, held_out.label, num_classes=num_classes)["top1"]
        for setting, guesses in _classify(train, held_out, counts, values, device).items()
    }
    figures = {
        setting: accuracies(guesses, test.label, num_classes=num_classes) for setting, guesses in ranked.items()
    }
    best = max(figures, key=lambda setting: (held_out_top1[setting], setting == conventional))
    bounds = partial(accuracy_intervals, label=test.label, source=test.source, num_classes=num_classes)
    intervals = {
        **bounds(ranked[best]),
        **{
            f"conventional_{name}": pair
            for name, pair in bounds(ranked[conventional]).items()
            if name != "mean_class"
        },
    }
    return Outcome(
        figures={
            **figures[best],
            **{
                f"conventional_{name}": value
                for name, value in figures[conventional].items()
                if name != "mean_class"
            },
        },
        parts={
            _name(setting): {**figures[setting], "held_out_top1": held_out_top1[setting]} for setting in figures
        },
        chosen={
            "num_neighbours": best[0],
            "temperature": None if math.isinf(best[1]) else best[1],
            "held_out_top1": held_out_top1[best],
            "num_train": len(train),
            "num_held_out": len(held_out),
            "num_test": len(test),
        },
        predicted=ranked[best][:, 0],
        ranked=ranked[best],
        uncertainty=uncertainty(intervals, num_units=len(test.source.unique()), num_samples=len(test)),
        columns=guess_columns(*voted[best]),
    )


def _name(setting: tuple[int, float]) -> str:
    count, temperature = setting
    return f"k={count} " + ("uniform" if math.isinf(temperature) else f"t={temperature:g}")


def _classify(
    train: Samples,
    queries: Samples,
    counts: Sequence[int],
    temperatures: Sequence[float],
    device: torch.device | str,
) -> dict[tuple[int, float], Tensor]:
    """Best five classes of each query, int64 (M, 5), for each number of neighbours (increasing) and temperature."""
    voted = _vote(train, queries, counts, temperatures, device)
    return {setting: classes for setting, (classes, _) in voted.items()}


def _vote(
    train: Samples,
    queries: Samples,
    counts: Sequence[int],
    temperatures: Sequence[float],
    device: torch.device | str,
) -> dict[tuple[int, float], tuple[Tensor, Tensor]]:
    """As `_classify`, and the share of the votes that each class got, float64 (M, 5)."""
    cosine, index = nearest(train, queries, count=max(counts), device=device)
    num_classes = int(train.label.max()) + 1
    blocks: dict[tuple[int, float], list[tuple[Tensor, Tensor]]] = {
        (count, t): [] for count in counts for t in temperatures
    }
    rows = max(1, _BLOCK // num_classes)
    for similar, neighbour in zip(cosine.split(rows), index.split(rows), strict=True):
        # Far below the nearest there is no difference between nothing and little; at -1 there is no neighbour.
        below_best = (similar - similar[:, :1]).double().masked_fill(neighbour < 0, -torch.inf)
        votes_for = train.label[neighbour.clamp(min=0)]
        for temperature in temperatures:
            weight = (below_best / temperature).exp().masked_fill(neighbour < 0, 0)
            votes = weight.new_zeros(len(similar), num_classes)
            start = 0
            for count in counts:
                votes = votes.scatter_add(1, votes_for[:, start:count], weight[:, start:count])
                classes = top_classes(votes.masked_fill(votes == 0, -torch.inf))
                share = votes.gather(1, classes.clamp(min=0)) / votes.sum(1, keepdim=True)
                blocks[count, temperature].append((classes, share))
                start = count
    return {
        setting: (torch.cat([classes for classes, _ in parts]), torch.cat([share for _, share in parts]))
        for setting, parts in blocks.items()
    }

"""What guessing scores: the figures of recognition evaluators for features that know nothing of the classes."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import torch

from .cluster import agreement


def classification_chance(columns: Iterable[str], *, num_classes: int) -> dict[str, float]:
    """Guess among the classes evenly: 1 / C, and 5 / C for the top five.

    Args:
        columns: Figures of kNN, linear or few-shot classification; those that end in "std" have no chance.
        num_classes: C, those of the training samples.
    """
    top5 = min(5, num_classes) / num_classes
    return {
        column: math.nan if column.endswith("std") else top5 if column.endswith("top5") else 1 / num_classes
        for column in columns
    }


def retrieval_chance(
    gallery: Sequence[tuple[int, Hashable]], queries: Sequence[tuple[int, Hashable]], *, ranks: Iterable[int]
) -> dict[str, float]:
    """Draw k gallery samples of other recordings for every query: the probability that one is of its class.

    Args:
        gallery: (class, recording) of each sample.
        queries: Likewise.
        ranks: k.

    Returns:
        "R@1", ...: of G samples that may be drawn, m of them right, 1 - (G - m choose k) / (G choose k), mean over
        queries.
    """
    of_class = Counter(label for label, _ in gallery)
    of_recording = Counter(recording for _, recording in gallery)
    of_both = Counter(gallery)
    chances: dict[str, float] = {}
    for rank in ranks:
        total = 0.0
        for label, recording in queries:
            allowed = len(gallery) - of_recording[recording]
            wrong = allowed - of_class[label] + of_both[label, recording]
            drawn = min(rank, allowed)
            total += 1 - math.comb(wrong, drawn) / math.comb(allowed, drawn)
        chances[f"R@{rank}"] = total / len(queries)
    return chances


def instance_retrieval_chance(columns: Iterable[str], *, num_samples: int) -> dict[str, float]:
    """Rank N samples at random: k / N of the counterparts are among the first k."""
    ranks = {column: int(column.rpartition("@")[2]) for column in columns}
    return {column: min(rank, num_samples) / num_samples for column, rank in ranks.items()}


def cluster_chance(
    labels: Sequence[int], *, num_clusters: int, num_draws: int = 20, seed: int = 0
) -> dict[str, float]:
    """Put every sample into a random cluster: the mean agreement with the classes over several draws."""
    label = torch.tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    draws = [
        agreement(torch.randint(num_clusters, (len(label),), generator=generator), label) for _ in range(num_draws)
    ]
    return {name: sum(draw[name] for draw in draws) / num_draws for name in draws[0]}

"""Agreement of clusters with classes."""

import torch
from torch import Tensor

from ...ops.agreement import normalized_mutual_information

__all__ = ["adjusted_rand_index", "hungarian_accuracy", "normalized_mutual_information", "purity"]


def _counts(cluster: Tensor, label: Tensor) -> Tensor:
    """Number of samples of each cluster (row) and class (column), int64."""
    columns = int(label.max()) + 1
    return torch.bincount(cluster * columns + label, minlength=(int(cluster.max()) + 1) * columns).view(
        -1, columns
    )


def adjusted_rand_index(cluster: Tensor, label: Tensor) -> float:
    """Share of pairs of samples that both partitions treat alike, corrected for chance (Hubert and Arabie 1985).

    scikit-learn's `adjusted_rand_score`: 1 if they agree, 0 in expectation at random, may be negative.

    Args:
        cluster: Cluster of each sample, int64 (N,), from 0.
        label: Class of each sample, int64 (N,), from 0.
    """
    counts = _counts(cluster, label)

    def pairs(numbers: Tensor) -> int:
        return int((numbers * (numbers - 1)).sum()) // 2

    together, in_cluster, in_class = pairs(counts), pairs(counts.sum(1)), pairs(counts.sum(0))
    expected = in_cluster * in_class / max(pairs(counts.sum()), 1)
    largest = (in_cluster + in_class) / 2
    if largest == expected:  # both are one cluster, or both are singletons: they agree
        return 1.0
    return (together - expected) / (largest - expected)


def purity(cluster: Tensor, label: Tensor) -> float:
    """Share of the samples that are of the most frequent class of their cluster: int64 (N,), int64 (N,)."""
    return int(_counts(cluster, label).amax(1).sum()) / len(label)


def hungarian_accuracy(cluster: Tensor, label: Tensor) -> float:
    """Share of the samples that are right when each cluster is given a class of its own, in the best way.

    Clusters beyond the number of classes get none: their samples are wrong. (N,), (N,), int64 from 0.
    """
    from scipy.optimize import linear_sum_assignment

    counts = _counts(cluster, label).numpy()
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum()) / len(label)

"""Agreement of two partitions of the same samples."""

import torch
from torch import Tensor


def normalized_mutual_information(first: Tensor, second: Tensor) -> float:
    """Mutual information over the mean of both entropies (scikit-learn's `normalized_mutual_info_score`), in [0, 1].

    Args:
        first: Cluster of each sample, int64 (N,), from 0.
        second: Class of each sample, int64 (N,), from 0.
    """
    columns = int(second.max()) + 1
    joint = torch.bincount(first * columns + second, minlength=(int(first.max()) + 1) * columns).double()
    joint = joint.view(-1, columns) / len(first)

    def entropy(probabilities: Tensor) -> Tensor:
        return -torch.special.xlogy(probabilities, probabilities).sum()

    entropies = entropy(joint.sum(1)) + entropy(joint.sum(0))
    if entropies == 0:  # both partitions are one cluster: they agree
        return 1.0
    return float(2 * (entropies - entropy(joint)) / entropies)

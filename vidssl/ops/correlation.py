"""Covariance and correlation of embeddings over the samples of all processes, in float32 and with gradient.

Every process holds as many samples as the others. The mean over processes of losses made of these matrices has the
gradients of one process with all samples (vidssl.ops.gather).
"""

import torch
from torch import Tensor

from .gather import sum_over_ranks, world_size


def centered(rows: Tensor) -> Tensor:
    """Subtract the mean over all samples: (n, D) -> float32 (n, D)."""
    rows = rows.float()
    return rows - sum_over_ranks(rows.sum(0)) / (len(rows) * world_size())


def covariance(rows: Tensor) -> Tensor:
    """Unbiased covariance of dimensions: (n, D) -> (D, D)."""
    deviations = centered(rows)
    return _products(deviations, deviations) / (len(rows) * world_size() - 1)


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of each dimension of one view with each of the other: (n, D), (n, D) -> (D, D), in [-1, 1].

    Dimensions are divided by sqrt(variance + 1e-5), as batch norm does, so that one that does not vary gives 0.
    """
    num_samples = len(first) * world_size()
    units = []
    for deviations in (centered(first), centered(second)):
        variance = sum_over_ranks(deviations.square().sum(0)) / num_samples
        units.append(deviations * (variance + 1e-5).rsqrt())
    return _products(*units) / num_samples


def off_diagonal(square: Tensor) -> Tensor:
    """Put zeros on the diagonal: (D, D) -> (D, D)."""
    return square.masked_fill(torch.eye(len(square), dtype=torch.bool, device=square.device), 0.0)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Products of dimensions, added up over all samples: (n, D), (n, E) -> (D, E)."""
    with torch.autocast(first.device.type, enabled=False):
        return sum_over_ranks(first.T @ second)

"""Figures that tell a collapsed representation from a healthy one, without labels."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# Measured with small networks: healthy runs of our methods stay above 0.027 at their lowest, untrained projections
# start at 0.04, and BYOL without its stop-gradient is below 0.02 after 120 steps and goes on towards 0.
COLLAPSED_STD = 0.02


def collapse_monitors(embeddings: Tensor) -> dict[str, Tensor]:
    """Measure how embeddings of different samples differ: (N, D), N > 1 -> scalars.

    "embedding_std": deviation of each dimension of the unit vectors over samples, mean over dimensions, times
    sqrt(D): 1 if they point everywhere, 0 if all are equal (features that are never negative stay below 1).
    "effective_rank": exp of the entropy of the normalised singular values (RankMe, Garrido et al. 2022,
    arXiv:2210.02885, Eq. 4), of the centred embeddings; at most min(N - 1, D).
    "mean_cosine": of all pairs of different samples; 1 if all are equal.

    Embeddings that are not finite give NaN: whether the training ends is for the guard to say.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    num_samples, dim = unit.shape
    centered = unit - unit.mean(0)
    singular = _singular_values(centered)
    # Equal samples leave nothing but rounding: their rank is 1.
    shares = singular / singular.sum().clamp(min=1e-12)
    rank = (-torch.special.xlogy(shares, shares).sum()).exp()
    return {
        "embedding_std": centered.square().sum(0).div(num_samples - 1).sqrt().mean() * dim**0.5,
        "effective_rank": rank,
        "mean_cosine": (unit.sum(0).square().sum() - num_samples) / (num_samples * (num_samples - 1)),
    }


def _singular_values(matrix: Tensor) -> Tensor:
    """Singular values, all NaN where the algorithm does not converge, as with numbers that are not finite."""
    try:
        return torch.linalg.svdvals(matrix)
    except torch.linalg.LinAlgError:
        return matrix.new_full((min(matrix.shape),), torch.nan)


def is_collapsed(figures: Mapping[str, Tensor]) -> bool:
    """Whether what `collapse_monitors` measured is a collapse; waits for the device."""
    return "embedding_std" in figures and float(figures["embedding_std"]) < COLLAPSED_STD

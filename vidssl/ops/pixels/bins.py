"""Pixels as classes: bins, soft encoding, rebalancing, and the way back (Zhang et al. 2016, arXiv:1603.08511).

The 313 bins of Lab colour are data of the paper's authors, Richard Zhang, Phillip Isola and Alexei A. Efros:
`resources/pts_in_hull.npy` of github.com/richzhang/colorization, released under the BSD 2-Clause licence, as it stands
in github.com/nilboy/colorization-tf at d39b8659. They cannot be derived from the gamut of sRGB, inside of which 229
points of their grid lie.
"""

import torch
from torch import Tensor

# For each a, the first and the last b; the bins of a row are 10 apart and so are the rows.
_ROWS = (
    *(
        (-90, 50, 90),
        (-80, 20, 90),
        (-70, 0, 90),
        (-60, -20, 90),
        (-50, -30, 100),
        (-40, -40, 100),
        (-30, -50, 100),
    ),
    *(
        (-20, -50, 100),
        (-10, -60, 100),
        (0, -70, 100),
        (10, -80, 90),
        (20, -80, 90),
        (30, -90, 90),
        (40, -100, 90),
    ),
    *((50, -100, 80), (60, -110, 80), (70, -110, 80), (80, -110, 70), (90, -110, 70), (100, -90, 0)),
)


def color_bins() -> Tensor:
    """Published centres of the 313 classes of colour: a and b of CIE Lab, float32 (313, 2), in the published order."""
    return torch.tensor(
        [(a, b) for a, first, last in _ROWS for b in range(first, last + 1, 10)], dtype=torch.float32
    )


def lightness_bins(*, num_bins: int = 100) -> Tensor:
    """Middles of equal parts of lightness, L of CIE Lab from 0 to 100: float32 (num_bins, 1)."""
    return (torch.arange(num_bins)[:, None] + 0.5) * 100 / num_bins


def soft_encode(values: Tensor, bins: Tensor, *, num_neighbors: int, sigma: float = 5.0) -> tuple[Tensor, Tensor]:
    """Spread each value over its nearest bins, by a Gaussian of the distance (Sec. 2.2).

    Args:
        values: (..., C), in the unit of the bins.
        bins: (Q, C).
        num_neighbors: K: 5 in the paper, 10 in its authors' code; 1 is the nearest bin alone.
        sigma: Of the Gaussian.

    Returns:
        Which bins, int64 (..., K), nearest first, and their weights, float32 (..., K), which sum to 1.
    """
    # By differences, not by products, in which numbers as large as a hundred bins would cancel.
    distance = torch.cdist(
        values.float().flatten(0, -2)[None], bins[None], compute_mode="donot_use_mm_for_euclid_dist"
    )
    square = distance.square().view(*values.shape[:-1], len(bins))
    nearest, index = square.topk(num_neighbors, dim=-1, largest=False)
    return index, (-nearest / (2 * sigma**2)).softmax(-1)


def soft_cross_entropy(logits: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of soft classes (Eq. 2): float (B, Q, h, w), int64 and float (B, h, w, K) -> (B, h, w)."""
    log = logits.float().log_softmax(1).movedim(1, -1)
    return -(weight * log.gather(-1, index)).sum(-1)


def prior_of(values: Tensor, bins: Tensor, *, num_neighbors: int, sigma: float = 5.0) -> Tensor:
    """How often values fall into each bin, softly: (N, C), (Q, C) -> (Q,), which sum to 1.

    The soft encoding smooths what the paper smooths by a Gaussian.
    """
    total = values.new_zeros(len(bins), dtype=torch.float32)
    for part in values.split(2**14):
        index, weight = soft_encode(part, bins, num_neighbors=num_neighbors, sigma=sigma)
        total = total.index_add(0, index.flatten(), weight.flatten())
    return total / total.sum()


def rebalancing(prior: Tensor, *, uniform_share: float = 0.5) -> Tensor:
    """Weights of rare classes over frequent ones (Eq. 4): (Q,) that sum to 1 -> (Q,), of mean 1 under the prior.

    Args:
        prior: How often each class occurs.
        uniform_share: lambda, of a uniform distribution mixed in.
    """
    weight = 1 / ((1 - uniform_share) * prior + uniform_share / len(prior))
    return weight / (prior * weight).sum()


def annealed_mean(logits: Tensor, bins: Tensor, *, temperature: float = 0.38) -> Tensor:
    """Values that a distribution over bins stands for (Eq. 5): (B, Q, h, w), (Q, C) -> (B, C, h, w).

    Args:
        logits: Of the classes.
        bins: Their values.
        temperature: 1 is the mean; towards 0 it goes to the most probable bin. 0.38 keeps the paper's colours vivid.
    """
    sharpened = (logits.float() / temperature).softmax(1)
    return torch.einsum("bqhw, qc -> bchw", sharpened, bins)

"""Soft assignments that use all prototypes equally (Cuturi 2013, arXiv:1306.0895, as SwAV takes it)."""

import math

import torch
from torch import Tensor

from .gather import gather_rows, world_size


@torch.no_grad()
def sinkhorn(scores: Tensor, *, temperature: float = 0.05, num_iterations: int = 3) -> Tensor:
    """Assign samples to prototypes so that every prototype gets an equal share (SwAV, Caron et al. 2020, Sec. 3.1).

    Rows and columns of exp(scores / temperature) are scaled in turn, columns first, in the logarithm: the largest
    score may be any number. Samples of all processes are assigned together.

    Args:
        scores: Of samples and prototypes, (B, K), any float type; computed in float32.
        temperature: Smaller is sharper; 0.05 is SwAV's (App. A).
        num_iterations: 3 is SwAV's.

    Returns:
        Float32 (B, K); every row sums to 1, columns sum to B * processes / K up to what the iterations leave.
    """
    log_shares = scores.float() / temperature
    log_size = math.log(len(scores) * world_size() / scores.shape[1])
    for _ in range(num_iterations):
        columns = gather_rows(log_shares.logsumexp(0, keepdim=True)).logsumexp(0)
        log_shares = log_shares - columns + log_size
        log_shares = log_shares.log_softmax(1)
    return log_shares.exp()

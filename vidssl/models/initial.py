"""Initial weights whose numbers, for a seed, do not depend on the version of PyTorch."""

import math

import torch
from torch import Tensor


@torch.no_grad()
def truncated_normal_(weight: Tensor, *, std: float) -> Tensor:
    """Fill a weight from a normal distribution of mean 0 that is cut at -2 and 2, as `torch.nn.init` did up to 2.11.

    The inverse of the distribution function at uniform draws; later versions of PyTorch draw otherwise.

    Args:
        weight: Of any shape; it is written into, and returned.
        std: Of the distribution before it is cut.
    """
    share = math.erf(2 / std / math.sqrt(2))  # of the distribution between the cuts
    uniform = weight.uniform_(-share, share)
    return uniform.erfinv_().mul_(std * math.sqrt(2)).clamp_(-2, 2)

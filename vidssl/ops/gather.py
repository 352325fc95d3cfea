"""Collective operations that do nothing when there is one process, so that methods hold no `if distributed`."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all ranks, which may hold different numbers: (n, ...) -> (N, ...). No gradient."""
    if world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(torch.cat(counts).max())
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """Concatenate equal numbers of rows of all ranks; the gradient of every rank's copy comes back to its owner."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[dist.get_rank()]


def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows of all ranks, with gradient: (n, ...) -> (world n, ...), the same n on every rank.

    The mean over ranks of losses made of gathered rows then has the gradients (which DistributedDataParallel
    averages) of the same loss on the joined batch.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)


def sum_over_ranks(value: Tensor) -> Tensor:
    """Add up a tensor over all ranks, the same result on each. No gradient."""
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0

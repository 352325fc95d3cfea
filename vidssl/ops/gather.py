"""Collective operations that do nothing when there is one process, so that methods hold no `if distributed`."""

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

"""The processes of one training: joining them, agreeing, taking leave. torchrun starts them."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def random_states(device: torch.device, world_size: int) -> list[dict[str, Tensor]]:
    """Collect the states of the random generators of every process."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    mine = {"cpu": torch.get_rng_state(), **on_gpu}
    states: list[dict[str, Tensor]] = [mine] * world_size
    if world_size > 1:
        dist.all_gather_object(states, mine)
    return states


def agree(received: int | None, device: torch.device, world_size: int) -> int | None:
    """The signal that any rank received: all stop at the same step."""
    if world_size == 1:
        return received
    highest = torch.tensor(received or 0, device=device)
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    return int(highest) or None


def join() -> tuple[int, int]:
    """Join the processes that torchrun started; return (rank, number of processes)."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(minutes=10))
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leave() -> None:
    """Take leave of the others, if there are any."""
    if dist.is_initialized():
        dist.barrier()  # destroying the group while a peer still talks aborts it
        dist.destroy_process_group()

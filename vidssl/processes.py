"""The processes of one training: joining them, agreeing, taking leave. torchrun starts them."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Of one collective operation. The others wait while the first process evaluates or draws (vidssl.train).
TIMEOUT = timedelta(minutes=10)


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
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leave() -> None:
    """Take leave of the others, if there are any."""
    if dist.is_initialized():
        dist.barrier()  # destroying the group while a peer still talks aborts it
        dist.destroy_process_group()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Say what happened when the connection to another process is lost.

    gloo notices at once that a process died. NCCL's watchdog ends the process itself; torchrun, which started them,
    ends all others as soon as one has ended.

    Raises:
        ConnectionAbortedError: Another process ended, or did not answer for as long as `join` allows.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL"))
        if not dist.is_initialized() or not lost:
            raise
        raise ConnectionAbortedError(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost the others: one of them ended, or did not "
            f"answer for {TIMEOUT}. Its own output says why. The same command again continues from the newest "
            f"checkpoint ({str(error).splitlines()[0]})"
        ) from error


def replicated(method: nn.Module, world_size: int, *, accumulate: int = 1) -> nn.Module:
    """Wrap a method so that the gradients of all processes are averaged; one process needs no wrapping.

    Every trainable parameter takes part in every step (the contract of a method), so the graph is static; the
    reducer does not take that together with parts that talk later (`no_sync` before its first reduction).
    """
    if world_size == 1:
        return method
    return nn.parallel.DistributedDataParallel(
        method,
        # Queues, assignments and centres are buffers: re-sending them every step would be slow and wrong.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=accumulate == 1,
    )

"""The processes of one training: joining them, agreeing, taking leave. torchrun starts them."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

# Of one collective operation. The others wait while the first process evaluates or draws (vidssl.train.loop).
TIMEOUT = timedelta(minutes=10)

T = TypeVar("T")


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of the random generators that training draws from: the CPU's, and that of the device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `random_state` gave; a generator that it does not know stays as it is."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def gathered(value: T, world_size: int) -> list[T]:
    """Collect a plain value of every process, by rank."""
    values = [value] * world_size
    if world_size > 1:
        dist.all_gather_object(values, value)
    return values


def of_first(value: T, world_size: int) -> T:
    """The value that the first process has."""
    values = [value]
    if world_size > 1:
        dist.broadcast_object_list(values)
    return values[0]


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


def sharded(method: nn.Module, blocks: Iterable[nn.Module], device: torch.device, world_size: int) -> None:
    """Cut the parameters of a method over all processes, and with them gradients and optimizer state (FSDP2).

    In place, before the optimizer is built. Each process keeps a part of every parameter along its first dimension.
    The forward and the backward pass gather a block at a time, and all that is in no block for the length of both.
    Buffers are not cut. One process keeps all.

    Args:
        method: Of which every process has the same; the parameters of the first process count, as they do in
            `replicated`.
        blocks: Modules of the method that are gathered one by one.
        device: Where the method is.
        world_size: Number of processes.
    """
    if world_size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in method.parameters():
        # FSDP2 cuts no weights that lie in another order (channels last).
        parameter.data = parameter.data.contiguous()
        dist.broadcast(parameter.data, 0)
    mesh = init_device_mesh(device.type, (world_size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(method, mesh=mesh)


def replicated(method: nn.Module, world_size: int, *, accumulate: int = 1) -> nn.Module:
    """Wrap a method so that the gradients of all processes are averaged; one process needs no wrapping.

    Every trainable parameter takes part in every step (the contract of a method), so the graph is static; the
    reducer does not take that together with parts that talk later (`no_sync` before its first reduction).
    """
    if world_size == 1:
        return method
    with warnings.catch_warnings():
        # torch 2.15 advises to keep it where buffers are not to be sent at the start either.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return nn.parallel.DistributedDataParallel(
            method,
            # Queues, assignments and centres are buffers: re-sending them every step would be slow and wrong.
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            static_graph=accumulate == 1,
        )

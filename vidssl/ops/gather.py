"""Collective operations that do nothing when there is one process, so that methods hold no `if distributed`."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def num_launched() -> int:
    """Number of processes that torchrun started, whether or not they have joined yet; 1 without it.

    What is built before the training joins them (a recipe) knows by it how large a step of all processes is.
    """
    if dist.is_initialized() or "RANK" not in os.environ:
        return world_size()
    return int(os.environ.get("WORLD_SIZE", "1"))


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


def own_rows(rows: Tensor) -> Tensor:
    """This rank's part of rows that all ranks hold, consecutive: (N, ...) -> (n, ...); `gather_rows` undoes it."""
    return rows.tensor_split(world_size())[rank()]


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


class _Sum(torch.autograd.Function):
    """Add up a tensor over all ranks; the gradients of every rank's copy of the sum come back to each of them."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


def sum_over_ranks(value: Tensor) -> Tensor:
    """Add up a tensor over all ranks, the same result on each, with gradient.

    The mean over ranks of losses made of sums then has the gradients of one process, as with `gather`.
    """
    return value if world_size() == 1 else _Sum.apply(value)


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars over all ranks, the same result on each, which must give the same names. No gradient."""
    if world_size() == 1 or not values:
        return dict(values)
    total = sum_over_ranks(torch.stack([value.detach().float() for value in values.values()]))
    return dict(zip(values, total / world_size(), strict=True))


def whole(value: Tensor) -> Tensor:
    """Gather a tensor that is cut over the processes; any other is returned as it is. Every process must call it."""
    if world_size() == 1:
        return value
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def is_cut(network: nn.Module) -> bool:
    """Tell whether the parameters of a network are cut over the processes (vidssl.train.processes.sharded)."""
    if world_size() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


@contextmanager
def whole_parameters(network: nn.Module) -> Iterator[None]:
    """Let a network have all of each parameter that is cut over the processes, while the `with` block runs.

    Its modules are then like those of a network that was never cut: one process may compute with them alone, which
    the hooks of `fully_shard` do not allow, and what it does to its parameters is lost. A network whose parameters
    are not cut stays as it is. Every process must enter.
    """
    if not is_cut(network):
        yield
        return
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    kept = [(module, dict(module._parameters)) for module in network.modules()]
    hooked = [module for module in network.modules() if isinstance(module, FSDPModule)]
    hooks = [(module._forward_pre_hooks, module._forward_hooks) for module in hooked]
    gathered: dict[nn.Parameter, nn.Parameter] = {}  # a parameter that two modules share is gathered once
    try:
        for module, parameters in kept:
            for name, parameter in parameters.items():
                if not isinstance(parameter, DTensor):
                    continue
                if parameter not in gathered:
                    gathered[parameter] = nn.Parameter(
                        parameter.detach().full_tensor(), requires_grad=parameter.requires_grad
                    )
                module._parameters[name] = gathered[parameter]
        for module in hooked:
            module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for module, parameters in kept:
            module._parameters.update(parameters)
        for module, (before, after) in zip(hooked, hooks, strict=True):
            module._forward_pre_hooks, module._forward_hooks = before, after


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0

"""Between two passes over the data: what a method may do there, seen from the loop."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..batch import Batch
from ..data.loader import Loader
from ..data.samples import sample_seed
from ..method import Epoch, Method
from ..ops.gather import gather_rows, is_cut, whole_parameters
from ..stop import StopFlag
from . import processes


def look(method: Method, function: Callable[[], Any]) -> Any:
    """Call a function in evaluation mode, without gradient; random state and method stay as they are.

    Parameters that are cut over the processes are whole meanwhile: every process must call this.
    """
    method.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(), whole_parameters(method):
            return function()
    finally:
        method.train()


def before_epoch(
    method: Method,
    optimizer: Optimizer,
    loader: Loader,
    *,
    number: int,
    seed: int,
    device: torch.device,
    save: Callable[[dict[str, Tensor]], None],
    stop: StopFlag,
) -> None:
    """Let a method prepare the pass `number` over the data.

    Args:
        method: What is trained.
        optimizer: Whose state the method may have dropped.
        loader: Of this process.
        number: Of the pass, from 0.
        seed: Of the run.
        device: Where the method is.
        save: Called before data is read: random state of this process -> a checkpoint of the step.
        stop: Looked at after every batch that is read; all processes stop at the same one.

    Raises:
        Stopped: A signal arrived while data was read.
        FloatingPointError: What the method extracts of the data is not finite, or too large to compute with.
    """
    random = processes.random_state(device)

    def extract(function: Callable[[Batch], Tensor], num_samples: int | None = None) -> Tensor:
        # A pass over the data may last for hours: a run that is stopped or killed in it goes on from here.
        save(random)
        num_samples = min(num_samples or len(loader.dataset), len(loader.dataset))
        num_common = math.ceil(num_samples / loader.batch_size) // loader.world_size  # batches that all ranks have

        def rows() -> tuple[Tensor, Tensor]:
            values, index = [], []
            for count, batch in enumerate(loader.in_order(num_samples)):
                values.append(function(batch.to(device)))
                index.append(batch.index)
                if count < num_common:
                    stop.received = processes.agree(stop.received, device, loader.world_size)
                    stop.check()
            return torch.cat(values), torch.cat(index).to(device)

        values, index = look(method, rows)
        found = gather_rows(values)[gather_rows(index).argsort(stable=True)]
        broken = found.isfinite().reshape(len(found), -1).all(1).logical_not().sum().item()
        if broken:  # clusterings of such numbers may give anything
            raise FloatingPointError(diverged(f"not finite for {broken} of {len(found)} samples"))
        return found

    def diverged(what: str) -> str:
        return (
            f"what {type(method).__name__} extracts before pass {number} over the data is {what}: the training has "
            "diverged; lower the learning rate or set max_grad_norm"
        )

    def forget(parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            if is_cut(method):
                raise ValueError(
                    f"{type(method).__name__} draws weights anew between two passes over the data, which --sharded "
                    "cannot do: each process holds a part of them; train without it"
                )
            optimizer.state.pop(parameter, None)

    # One seed for all ranks: a head drawn anew or a clustering must come out equal, or replicas diverge.
    with torch.random.fork_rng():
        torch.manual_seed(sample_seed(seed, -2, number))
        try:
            method.before_epoch(Epoch(number=number, extract=extract, forget=forget))
        except torch.linalg.LinAlgError as error:  # finite, and their squares are not
            raise FloatingPointError(diverged(f"too large to compute with ({error})")) from error

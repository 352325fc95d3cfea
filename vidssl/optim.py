"""Optimizers and schedules. A schedule is a pure function of progress in [0, 1]: nothing to save or resume."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

Schedule = Callable[[float], float]


def constant(value: float) -> Schedule:
    """Return `value` throughout."""
    return lambda progress: value


def linear(start: float, end: float) -> Schedule:
    """Go from `start` to `end` in a straight line."""
    return lambda progress: start + (end - start) * progress


def cosine(start: float, end: float = 0.0) -> Schedule:
    """Go from `start` to `end` along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, Eq. 5)."""
    return lambda progress: end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def steps(start: float, *, factor: float, at: Iterable[float]) -> Schedule:
    """Multiply `start` by `factor` at each progress of `at`."""
    milestones = tuple(at)
    return lambda progress: start * factor ** sum(progress >= milestone for milestone in milestones)


def warmup(schedule: Schedule, *, share: float) -> Schedule:
    """Rise linearly from 0 to the schedule's first value during `share` of the training, then run the schedule.

    Raises:
        ValueError: share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a part of the training in (0, 1)")
    return lambda progress: (
        schedule(0.0) * progress / share if progress < share else schedule((progress - share) / (1 - share))
    )


def fuse(optimizer: Optimizer) -> Optimizer:
    """Let Adam and AdamW take a step in one kernel, unless the recipe said otherwise; returns the optimizer.

    One pass over weights, gradient and moments instead of a dozen. The state is the same, so a run may be continued
    with or without. SGD's kernel fails where some parameters have a momentum and others, drawn anew, have none.
    """
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        for group in optimizer.param_groups:
            devices = {parameter.device.type for parameter in group["params"]}
            unsaid = group["fused"] is None and group["foreach"] is None and not group["differentiable"]
            if unsaid and devices <= {"cpu", "cuda", "mps"}:
                group["fused"] = True
    return optimizer


class LARS(Optimizer):
    """SGD with momentum whose step per matrix is proportional to its norm (You et al. 2017, arXiv:1708.03888).

    Vectors (biases, norms) take plain SGD steps, as the self-supervised literature does (SimCLR, BYOL).

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Decay of the velocity.
        weight_decay: Added to the gradient before the norm is taken.
        trust: eta of Eq. 6.
    """

    def __init__(
        self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step; `closure` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad + group["weight_decay"] * parameter
                if parameter.ndim > 1:
                    weight_norm, update_norm = parameter.norm(), update.norm()
                    # A zero norm leaves the step as it is, or a zero weight could never move.
                    usable = (weight_norm > 0) & (update_norm > 0)
                    update = update * torch.where(usable, group["trust"] * weight_norm / update_norm, 1.0)
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                velocity.mul_(group["momentum"]).add_(update)
                parameter.sub_(group["lr"] * velocity)

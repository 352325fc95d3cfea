"""Optimizers and schedules. A schedule is a pure function of progress in [0, 1]: nothing to save or resume.

Progress is the share of the steps that were taken before: 0 at the first. Differences from the papers: where their code
has a table of steps, or changes by epoch, it is a step or part of an epoch off. The warm-up of DINO's and VideoMAE's is
at its peak one step earlier, V-JEPA's counts steps from 1, MoCo's rate and DINO's temperature change by epoch.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .ops.gather import num_launched

Schedule = Callable[[float], float]
Parts = Callable[[nn.Module], list[list[nn.Parameter]]]
"""Network -> its parameters in parts, the gradient of each of which is clipped by its own norm."""


def scaled_rate(rate: float, *, batch_size: int, per: int) -> float:
    """Scale a rate linearly with the samples of a step over all processes (Goyal et al. 2017, arXiv:1706.02677).

    A recipe that gives its rates this way has the paper's figures on the paper's number of processes, and is itself
    on any other. `accumulate` cuts the batch of a process into parts and leaves the samples of a step as they are.

    Args:
        rate: For a step of `per` samples.
        batch_size: Samples per step and process; torchrun tells how many processes there are.
        per: Samples that `rate` is for: 256 in most papers.
    """
    return rate * batch_size * num_launched() / per


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


def stretched(schedule: Schedule, *, by: float) -> Schedule:
    """Run a schedule `by` times as long as the training, which ends before its end (V-JEPA's ipe_scale, 1.25).

    Raises:
        ValueError: by is below 1, so that the schedule would end before the training.
    """
    if by < 1:
        raise ValueError(f"by is {by}, expected how many times as long as the training, at least 1")
    return lambda progress: schedule(progress / by)


def warmup(schedule: Schedule, *, share: float, start: float = 0.0) -> Schedule:
    """Go linearly from `start` to the schedule's first value during `share` of the training, then run the schedule.

    Raises:
        ValueError: share is not in (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a part of the training in (0, 1)")
    return lambda progress: (
        start + (schedule(0.0) - start) * progress / share
        if progress < share
        else schedule((progress - share) / (1 - share))
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


def plain_sgd(params: Any, *, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """SGD whose weight decay takes all parameters, biases and norms as well, whatever their groups say."""
    groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in params]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)


def as_one(network: nn.Module) -> list[list[nn.Parameter]]:
    """All parameters in one part: the usual clipping."""
    return [list(network.parameters())]


def each_tensor(network: nn.Module) -> list[list[nn.Parameter]]:
    """Every parameter by itself, as DINO clips (utils.py, `clip_gradients`)."""
    return [[parameter] for parameter in network.parameters()]


def each_module(*names: str) -> Parts:
    """Every module named by itself, as V-JEPA clips encoder and predictor: names such as "student" or "student.0".

    Raises:
        ValueError: When the parts are made: a trainable parameter is in none of the modules, or in two.
    """

    def parts(network: nn.Module) -> list[list[nn.Parameter]]:
        found = [list(network.get_submodule(name).parameters()) for name in names]
        counts = Counter(parameter for part in found for parameter in part)
        trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        wrong = [name for name, parameter in trainable.items() if counts[parameter] != 1]
        if wrong:
            raise ValueError(
                f"gradients of {type(network).__name__} are to be clipped in the parts {', '.join(names)}, but "
                f"{len(wrong)} of its parameters belong to none of them, or to two: {', '.join(wrong[:3])}"
                f"{', ...' * (len(wrong) > 3)}; name modules that hold every trainable parameter once"
            )
        return found

    return parts


class LARS(Optimizer):
    """SGD with momentum whose step per matrix is proportional to its norm (You et al. 2017, arXiv:1708.03888).

    Vectors (biases, norms) take plain SGD steps, as the self-supervised literature does (SimCLR, BYOL).

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Decay of the moving sum.
        weight_decay: Added to the gradient before the norm is taken.
        trust: eta of Eq. 6.
        classic_momentum: The rate is part of the moving sum, as in SimCLR's code (lars_optimizer.py): what a step adds
            to it keeps the rate of that step while the rate changes. Else the whole sum takes the rate of the step, as
            in BYOL's code (optimizers.py).
        vectors: Whether vectors, too, take steps in proportion to their norm, as by apex's LARC, which SwAV uses.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        classic_momentum: bool = True,
        vectors: bool = False,
    ) -> None:
        constants = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, {**constants, "classic_momentum": classic_momentum})
        self.vectors = vectors

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step; `closure` is not used."""
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moving:
                continue
            updates = torch._foreach_add(
                [parameter.grad for parameter in moving], moving, alpha=group["weight_decay"]
            )
            matrices = [n for n, parameter in enumerate(moving) if parameter.ndim > 1 or self.vectors]
            if matrices:
                scaled = [updates[number] for number in matrices]
                torch._foreach_mul_(
                    scaled, _ratios([moving[number] for number in matrices], scaled, group["trust"])
                )
            name = "displacement" if group["classic_momentum"] else "velocity"
            for parameter in moving:
                if name not in self.state[parameter]:
                    self.state[parameter][name] = torch.zeros_like(parameter)
            sums = [self.state[parameter][name] for parameter in moving]
            inside, outside = (group["lr"], 1.0) if group["classic_momentum"] else (1.0, group["lr"])
            torch._foreach_mul_(sums, group["momentum"])
            torch._foreach_add_(sums, updates, alpha=inside)
            torch._foreach_sub_(moving, sums, alpha=outside)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back a state, also one of runs of before `classic_momentum`, which kept the sum without rates."""
        default = {"classic_momentum": self.defaults["classic_momentum"]}
        groups = [{**default, **group} for group in state_dict["param_groups"]]
        rates = {
            number: group["lr"] for group in groups if group["classic_momentum"] for number in group["params"]
        }
        state = {
            number: {"displacement": rates[number] * values["velocity"]}
            if "velocity" in values and number in rates
            else values
            for number, values in state_dict["state"].items()
        }
        super().load_state_dict({"state": state, "param_groups": groups})


def _ratios(matrices: list[Tensor], updates: list[Tensor], trust: float) -> list[Tensor]:
    """trust * norm of each matrix / norm of its update."""
    weight_norms, update_norms = (torch.stack(torch._foreach_norm(tensors)) for tensors in (matrices, updates))
    # A zero norm leaves the step as it is, or a zero weight could never move.
    usable = (weight_norms > 0) & (update_norms > 0)
    return list(torch.where(usable, trust * weight_norms / update_norms, 1.0).unbind())

"""Teachers that follow a student as an exponential moving average."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def teacher_of(student: Network) -> Network:
    """Copy a network as its teacher: equal weights, no gradients."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def move_teacher(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """Set teacher parameters to momentum * teacher + (1 - momentum) * student; buffers are the teacher's own."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def cosine_momentum(start: float, progress: float) -> float:
    """Rise from `start` to 1 along a cosine (BYOL, Grill et al. 2020, Sec. 3.3): 1 - (1 - start)(cos(pi p) + 1)/2."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def linear_momentum(start: float, progress: float) -> float:
    """Rise from `start` in a straight line that would reach 1 at 1.25 times the training (V-JEPA's ipe_scale)."""
    return start + (1 - start) * progress / 1.25


def momentum_by_progress(
    momentum: float | Callable[[float], float], *, rise: Callable[[float, float], float]
) -> Callable[[float], float]:
    """A schedule as it is; a number as the start of a method's own `rise`."""
    return momentum if callable(momentum) else partial(rise, momentum)

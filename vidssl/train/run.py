"""Run: everything that decides what is learned, as a recipe returns it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from ..data.samples import Samples
from ..method import Method
from ..optim import Parts, Schedule, as_one


@dataclass(frozen=True)
class Run:
    """What a config's `run` returns: everything that decides what is learned.

    Args:
        method: Networks and loss.
        dataset: What to learn from.
        optimizer: Parameter groups -> optimizer, for example `partial(torch.optim.AdamW, weight_decay=0.05)`.
        learning_rate: Schedule of the learning rate; a group's `lr_scale` multiplies it.
        steps: Number of optimizer steps.
        batch_size: Samples per step and process.
        max_grad_norm: Gradients are scaled down to this norm.
        clip_parts: Parts of the method whose gradients are scaled down each by itself: optim.as_one, each_tensor,
            each_module("student", "predictor").
        weight_decay: Schedule of the weight decay; groups of 0.0 (biases, norms) keep that. None leaves it as the
            optimizer has it.
    """

    method: Method
    dataset: Samples
    optimizer: Callable[[list[dict[str, Any]]], Optimizer]
    learning_rate: Schedule
    steps: int
    batch_size: int
    max_grad_norm: float = float("inf")
    clip_parts: Parts = as_one
    weight_decay: Schedule | None = None

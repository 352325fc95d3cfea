"""Pace: what the schedules of a run say at a step, set in the optimizer and told."""

from typing import Any

from torch.optim import Optimizer

from ..method import Method
from ..optim import Schedule


class Pace:
    """Sets learning rate and weight decay of an optimizer before each step.

    Built before the optimizer, which writes its own weight decay into groups that name none. Nothing is kept between
    two steps: a run that goes on has, at every step, the figures of one that was never stopped.

    Args:
        method: Whose schedules are told along.
        groups: Of the method's parameters. Those with a weight decay of 0.0 (biases, norms) keep it; a group's
            `lr_scale` multiplies the rate; those with `constant_lr` keep the rate of progress 0.
        learning_rate: By progress in [0, 1].
        weight_decay: By progress; None leaves it as the optimizer has it.
    """

    def __init__(
        self,
        method: Method,
        groups: list[dict[str, Any]],
        *,
        learning_rate: Schedule,
        weight_decay: Schedule | None,
    ) -> None:
        self.spared = {
            parameter for group in groups if group.get("weight_decay") == 0.0 for parameter in group["params"]
        }
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.others = method.schedules()

    def set(self, optimizer: Optimizer, progress: float) -> dict[str, float]:
        """Set what holds from now on, at a progress in [0, 1]; return all figures by name.

        Raises:
            ValueError: Weight decay has a schedule, and the optimizer has no weight decay.
        """
        figures = {"learning_rate": self.learning_rate(progress)}
        for group in optimizer.param_groups:
            rate = self.learning_rate(0.0) if group.get("constant_lr") else figures["learning_rate"]
            group["lr"] = rate * group.get("lr_scale", 1.0)
        decaying = [group for group in optimizer.param_groups if self.spared.isdisjoint(group["params"])]
        if self.weight_decay is not None:
            if not all("weight_decay" in group for group in decaying):
                raise ValueError(
                    f"the run has a schedule of weight decay, and its optimizer, {type(optimizer).__name__}, has no "
                    "weight decay; drop the schedule or choose another optimizer"
                )
            for group in decaying:
                group["weight_decay"] = self.weight_decay(progress)
        figures["weight_decay"] = max((group.get("weight_decay", 0.0) for group in decaying), default=0.0)
        return figures | {name: schedule(progress) for name, schedule in self.others.items()}


def told(step: int, figures: dict[str, float]) -> str:
    """The figures of a step in a line for people."""
    return f"step {step}: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in figures.items())

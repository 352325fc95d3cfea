"""Sum: several tasks over one encoder, such as self-supervision beside another task."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..data.clips import ClipSampler
from ..method import Epoch, Method
from ..models import Encoder


def joined_clips(
    duration_seconds: float, fps: float, generator: torch.Generator, *, samplers: Sequence[ClipSampler]
) -> Tensor:
    """Sample for several tasks at once: the times of all their clips in one row, float64 (1, frames), seconds."""
    return torch.cat([sampler(duration_seconds, fps, generator).flatten() for sampler in samplers])[None]


class Sum(Method):
    """The weighted sum of several methods' losses on the same videos.

    Every task draws its own clips of a video. Sound starts with the first frame of the first task's clip, so a task
    that needs sound comes first and takes one clip.

    Args:
        tasks: Name -> (method, weight of its loss); all methods share one encoder.

    Raises:
        ValueError: The methods do not share one encoder.
    """

    def __init__(self, tasks: Mapping[str, tuple[Method, float]]) -> None:
        super().__init__()
        encoders = {id(method.encoder) for method, _ in tasks.values()}
        if len(encoders) != 1:
            raise ValueError(
                f"the {len(tasks)} tasks {', '.join(tasks)} have {len(encoders)} encoders; build all of them over "
                "the same one"
            )
        self.tasks = nn.ModuleDict({name: method for name, (method, _) in tasks.items()})
        self.weights = {name: weight for name, (_, weight) in tasks.items()}
        samplers = [method.clips for method, _ in tasks.values()]
        self.clips = partial(joined_clips, samplers=samplers)
        # How many clips and frames each task asks for; no sampler asks for more of a video as long as this.
        self.shapes = [tuple(sampler(10_000.0, 25.0, torch.Generator()).shape) for sampler in samplers]

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that all tasks share."""
        return next(iter(self._methods().values())).encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Add the losses; what each task logs is named TASK/NAME."""
        losses = {
            name: method(part, progress)
            for (name, method), part in zip(self._methods().items(), self.parts(batch), strict=True)
        }
        weighted = [self.weights[name] * logged["loss"] for name, logged in losses.items()]
        scalars = {f"{task}/{name}": value for task, logged in losses.items() for name, value in logged.items()}
        return {"loss": torch.stack(weighted).sum(), **scalars}

    def parts(self, batch: Batch) -> list[Batch]:
        """Split a batch of all tasks' frames, (B, 1, frames, ...), into each task's own (B, K, T, ...)."""
        assert batch.video is not None and batch.time is not None
        sizes = [clips * frames for clips, frames in self.shapes]
        return [
            batch.with_clips(video.unflatten(1, shape), time.unflatten(1, shape))
            for video, time, shape in zip(
                batch.video[:, 0].split(sizes, dim=1),
                batch.time[:, 0].split(sizes, dim=1),
                self.shapes,
                strict=True,
            )
        ]

    def before_step(self, step: int, progress: float) -> None:
        """Let every task look at the gradients, of which those of the shared encoder are the sum."""
        for method in self._methods().values():
            method.before_step(step, progress)

    def after_step(self, progress: float) -> None:
        """Let every task take its step."""
        for method in self._methods().values():
            method.after_step(progress)

    def before_epoch(self, epoch: Epoch) -> None:
        """Let every task prepare its epoch, on its own clips."""

        def extract_part(
            function: Callable[[Batch], Tensor], num_samples: int | None = None, *, number: int
        ) -> Tensor:
            return epoch.extract(lambda batch: function(self.parts(batch)[number]), num_samples)

        for number, method in enumerate(self._methods().values()):
            method.before_epoch(dataclasses.replace(epoch, extract=partial(extract_part, number=number)))

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Every task's, TASK/NAME."""
        return {
            f"{task}/{name}": schedule
            for task, method in self._methods().items()
            for name, schedule in method.schedules().items()
        }

    def embed(self, batch: Batch) -> Tensor:
        """Encode the first task's first clip."""
        return next(iter(self._methods().values())).embed(self.parts(batch)[0])

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Every task's pictures, TASK_NAME."""
        return {
            f"{task}_{name}": picture
            for (task, method), part in zip(self._methods().items(), self.parts(batch), strict=True)
            for name, picture in method.pictures(part).items()
        }

    def param_groups(self) -> list[dict[str, Any]]:
        """Every task's groups; what tasks share counts for the first that names it."""
        seen: set[int] = set()
        groups = []
        for method in self._methods().values():
            for group in method.param_groups():
                new = [parameter for parameter in group["params"] if id(parameter) not in seen]
                seen |= {id(parameter) for parameter in new}
                groups.append({**group, "params": new})
        return groups

    def _methods(self) -> dict[str, Method]:
        return dict(self.tasks.items())  # type: ignore[arg-type]

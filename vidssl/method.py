"""Method: the one base class a user meets."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .batch import Batch
from .data.clips import ClipSampler
from .models import Encoder
from .ops.monitors import collapse_monitors


@dataclass(frozen=True)
class Epoch:
    """All that a method may see of the run, between two passes over the data.

    Args:
        number: Counted from 0.
        extract: `extract(function, num_samples=None) -> (N, ...)`: apply a function of a Batch (on the training
            device, no gradient, evaluation mode) to the data in dataset order, un-augmented, and stack what it
            returns; the first `num_samples` samples or all, gathered over ranks. A run that is stopped in it begins
            `before_epoch` again from the state at the first call: change nothing before.
        forget: Drop the optimizer's state of the given parameters (heads that were drawn anew).
    """

    number: int
    extract: Callable[..., Tensor]
    forget: Callable[[Iterable[nn.Parameter]], None]


class Method(nn.Module):
    """Networks and loss of one self-supervised task. Subclasses set `encoder` and `clips` and write `forward`.

    `forward` never moves a teacher, reads the clock or touches an optimizer. Randomness comes from torch's
    generator or from `batch.seed`. All state is in parameters and buffers, so that `state_dict()` resumes
    everything; every trainable parameter receives a gradient; each network is registered once.
    """

    encoder: Encoder
    """What pretraining is for: exported and evaluated. Of text or shape it is any module, exported as weights."""

    clips: ClipSampler
    """Which frames of a video the method needs (vidssl.data.clips); none, of methods that look at no video."""

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return {"loss": scalar, and further scalars to log}; `progress` of the training is in [0, 1]."""
        raise NotImplementedError

    def before_step(self, step: int, progress: float) -> None:
        """Called before every optimizer step, number `step` from 0, when gradients are complete and clipped.

        What is to stay as it is loses its gradient here (`parameter.grad = None`): optimizers pass it over, counters
        and moments included.
        """

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, for example to move a teacher."""

    def before_epoch(self, epoch: Epoch) -> None:
        """Called before every pass over the data, for example to re-assign cluster labels.

        Runs under one seed on all ranks.
        """

    def embed(self, batch: Batch) -> Tensor:
        """Encode each sample as one vector, (B, D): what `monitors` looks at; by default the first clip's features.

        Whole frames that are stretched (Batch.aspect) are encoded as they are.

        Raises:
            ValueError: There is no video, and the method says nothing else.
        """
        if batch.video is None:
            raise ValueError(
                f"{batch} has no video, which `Method.embed` encodes for the monitors; write "
                f"{type(self).__name__}.embed(batch) -> (B, D), or have `monitors` return {{}}"
            )
        return self.encoder(batch.video[:, 0].float() / 255)

    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """Figures that reveal a collapse, logged beside the losses (vidssl.ops.monitors); no gradient, no draws."""
        return collapse_monitors(self.embed(batch)) if len(batch) > 1 else {}

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Figures of the method that follow the progress of the training in [0, 1], such as a teacher's momentum.

        They are told at the first step and logged beside the learning rate.
        """
        return {}

    def networks(self) -> dict[str, nn.Module]:
        """Networks that may be exported, by name: `encoder` first, which is, unless `--export` names another."""
        return {"encoder": self.encoder}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures that show what the method does with a batch: name -> RGB in [0, 1], float (3, H, W)."""
        return {}

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer: no weight decay on biases, norms and other vectors."""
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [
            {"params": [parameter for parameter in trainable if parameter.ndim > 1]},
            {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
        ]

"""Temporal views: which frames, and in which direction. Before a crop they are cheapest."""

import torch
from torch import Tensor

from ..ops import draws
from .plan import Change, Operator, Shape, Sometimes, Step


class RandomReverse(Sometimes):
    """Play clips backwards."""

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__(probability)

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which clips."""
        return [Change(rows, ((_reverse, ()),), takes_bytes=True)]


class RandomTemporalCrop(Operator):
    """Take some successive frames of each clip from a random place on, or every second, third, ... of them.

    Args:
        num_frames: So many.
        strides_frames: From one to the next; each of those with which they fit is equally likely.

    Raises:
        ValueError: When clips come: they are too short for all of them.
    """

    def __init__(self, num_frames: int, *, strides_frames: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.strides_frames = strides_frames

    def draw(self, seed: Tensor, num_frames: int) -> Tensor:
        """Draw frames of clips of `num_frames`: int64 (B,) -> int64 (B, self.num_frames)."""
        strides = [stride for stride in self.strides_frames if (self.num_frames - 1) * stride < num_frames]
        if not strides:
            raise ValueError(
                f"clips have {num_frames} frames, {self.num_frames} at a stride of {min(self.strides_frames)} need "
                f"{(self.num_frames - 1) * min(self.strides_frames) + 1}; sample longer clips"
            )
        which, place = draws.uniform(seed, 2).unbind(1)
        stride = torch.tensor(strides)[(which * len(strides)).long()]
        start = (place * (num_frames - (self.num_frames - 1) * stride)).long()
        return start[:, None] + stride[:, None] * torch.arange(self.num_frames)

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which frames, counted through the batch."""
        frames = self.draw(seed, shape[0]) + shape[0] * torch.arange(len(seed))[:, None]
        return [Change(torch.arange(len(seed)), ((_take, (frames,)),), takes_bytes=True)]

    def out_shape(self, shape: Shape) -> Shape:
        """Fewer frames."""
        return self.num_frames, *shape[1:]


def _reverse(clips: Tensor) -> Tensor:
    return clips.flip(1)


def _take(clips: Tensor, frames: Tensor) -> Tensor:
    return clips.flatten(0, 1).index_select(0, frames.flatten()).unflatten(0, frames.shape)

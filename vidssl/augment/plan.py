"""From draws to passes over pixels: what happens to a batch is decided on the CPU and done on the training device.

Seeds are known on the CPU, and so is all that is drawn from them: which clips, which windows, which colours. Operators
say it in steps; neighbouring colour maps become one where that is exact; the parameters of all steps go to the device
in one copy; and nothing that follows waits for the device. The number of passes depends neither on the number of clips
nor on that of frames.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import draws

Shape: TypeAlias = tuple[int, int, int]  # frames, height and width of a clip
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Rows: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Call: TypeAlias = tuple[Callable[..., Tensor], tuple[Tensor, ...]]

# Pixels that are worked on at once on a CPU, 4 bytes each: what its caches hold. Of many more the temporary tensors are
# so large that glibc's allocator maps fresh pages for each (from 32 MiB on), which costs as much as the work.
PIXEL_BYTES_AT_ONCE = 2**24
# Wider than what any pixel is: limits of a value of which nothing is known.
UNKNOWN = 1e30


@dataclass(frozen=True)
class Change:
    """Something done to some clips of a batch.

    Args:
        rows: Which clips, int64 (n,), ascending, on the CPU.
        calls: Done in turn: functions (clips (n, T, 3, H, W), *parameters) -> clips, and their parameters on the
            CPU, with a row for each clip. Clips are float32, and only what changes all of them changes their shape.
        takes_bytes: Clips may be uint8 as well.
    """

    rows: Tensor
    calls: tuple[Call, ...]
    takes_bytes: bool = False


@dataclass(frozen=True)
class ColorMap:
    """A map of the colours x of each pixel, m being the mean colour of its frame: matrix x + of_mean m + offset.

    Args:
        rows: Which clips, int64 (n,), ascending, on the CPU.
        numbers: Matrix, of_mean and offset side by side, float64 (n, 3, 7).
        clamp: Whether the result is cut to [0, 1].
    """

    rows: Tensor
    numbers: Numbers
    clamp: bool


Step: TypeAlias = Change | ColorMap


class Operator(nn.Module):
    """A change of clips of which each is drawn from a seed. Subclasses write `steps`, and `out_shape` if it differs."""

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say what is done to clips of a shape: seeds int64 (B,) on the CPU -> steps."""
        raise NotImplementedError

    def steps_of_stretched(self, seed: Tensor, shape: Shape, aspect: Tensor) -> list[Step] | None:
        """Say what is done to stretched frames so that pixels are square afterwards; None: `steps`, which leave them.

        Pictures are `aspect` (B,) times as wide as high.
        """
        return None

    def out_shape(self, shape: Shape) -> Shape:
        """Shape of the clips afterwards."""
        return shape

    def forward(self, video: Tensor, seed: Tensor, aspect: Tensor | None = None) -> Tensor:
        """Change each clip by its own seed.

        Args:
            video: (B, T, 3, H, W), uint8, or float in [0, 1].
            seed: int64 (B,). On the CPU, or else the device is waited for once (Batch.host_seed is there).
            aspect: Width over height of what frames show, (B,), likewise, where they are stretched (Batch.stretch).

        Returns:
            Float32 (B, T, 3, H, W) of `out_shape`, in [0, 1] unless the operator says otherwise.

        Raises:
            ValueError: Frames are stretched, and would stay so.
        """
        return perform(video, [(self, seed.cpu())], aspect=aspect)


class Sometimes(Operator):
    """Change each clip with a probability. Subclasses write `change`.

    Args:
        probability: Of a clip that is changed.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}, expected a number in [0, 1]")
        super().__init__()
        self.probability = probability

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say what is done to the clips that are drawn."""
        # Draw 0 of every operator: whether.
        rows = (draws.uniform(seed) < self.probability).nonzero()[:, 0]
        return self.change(rows, seed[rows], shape) if len(rows) else []

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say what is done to every one of some clips: int64 (n,), int64 (n,); draws from stream 1 on."""
        raise NotImplementedError


def perform(
    video: Tensor, operators: Sequence[tuple[Operator, Tensor]], *, aspect: Tensor | None = None
) -> Tensor:
    """Apply operators in turn, each with its seeds on the CPU; see `Operator.forward`.

    On a CPU large batches are done in parts, which changes no bit.
    """
    aspect = None if aspect is None else aspect.cpu()
    num_frames, _, height, width = video.shape[1:]
    clips_at_once = max(1, PIXEL_BYTES_AT_ONCE // (4 * math.prod(video.shape[1:])))
    if video.device.type == "cpu" and len(video) > clips_at_once:
        parts = [slice(start, start + clips_at_once) for start in range(0, len(video), clips_at_once)]
        return torch.cat(
            [
                perform(
                    video[part],
                    [(operator, seed[part]) for operator, seed in operators],
                    aspect=None if aspect is None else aspect[part],
                )
                for part in parts
            ]
        )
    shape, steps = (num_frames, height, width), []
    for operator, seed in operators:
        upright = None if aspect is None else operator.steps_of_stretched(seed, shape, aspect)
        steps += operator.steps(seed, shape) if upright is None else upright
        aspect = aspect if upright is None else None
        shape = operator.out_shape(shape)
    if aspect is not None:
        raise ValueError(
            "frames are whole and stretched to one shape (Batch.aspect), and no window of vidssl.augment "
            "(RandomResizedCrop, MultiScaleCrop) looks at them first; begin the view with one, or let the dataset cut "
            "squares: VideoDataset(..., whole_frames=False)"
        )
    return run(video, merge(steps, len(video)))


def run(video: Tensor, changes: Sequence[Change]) -> Tensor:
    """Make the changes: (B, T, 3, H, W), uint8 or float in [0, 1] -> float32."""
    whole = [len(change.rows) == len(video) for change in changes]
    needed = []
    for change, every in zip(changes, whole, strict=True):
        needed += [] if every else [change.rows]
        needed += [parameter for _, parameters in change.calls for parameter in parameters]
    sent = iter(send(needed, video.device))
    view = video if video.dtype == torch.uint8 else video.float()
    for change, every in zip(changes, whole, strict=True):
        if view.dtype == torch.uint8 and not change.takes_bytes:
            view = view.float() / 255
        rows = None if every else next(sent)
        part = view if rows is None else view.index_select(0, rows)
        for function, parameters in change.calls:
            part = function(part, *(next(sent) for _ in parameters))
        if rows is not None:
            # What was given stays as it was; what was made here is written into.
            view = view.index_copy(0, rows, part) if view is video else view.index_copy_(0, rows, part)
        else:
            view = part
    return view.float() / 255 if view.dtype == torch.uint8 else view


def send(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors from the CPU to a device all at once, without waiting; numbers of 64 bits become float32."""
    tensors = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
    if device.type == "cpu" or not tensors:
        return tensors
    table = pack(tensors)
    if device.type == "cuda":
        table = table.pin_memory()  # from page-locked memory the copy runs on its own
    return unpack(table.to(device, non_blocking=True), tensors)


def pack(tensors: Iterable[Tensor]) -> Tensor:
    """Lay the bytes of tensors one after the other, each from a multiple of 8 on: uint8 (bytes,)."""
    pieces = [tensor.numpy().tobytes() for tensor in tensors]
    return torch.frombuffer(
        bytearray(b"".join(piece + bytes(-len(piece) % 8) for piece in pieces)), dtype=torch.uint8
    )


def unpack(table: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """Find the tensors again in what `pack` made of tensors of these types and shapes, wherever it is now."""
    found, start = [], 0
    for tensor in like:
        size = tensor.numel() * tensor.element_size()
        found.append(table[start : start + size].view(tensor.dtype).view(tensor.shape))
        start += size + -size % 8
    return found


def merge(steps: Iterable[Step], num_clips: int) -> list[Change]:
    """Turn colour maps into changes, as few as give what they give one by one."""
    pending, changes = _Pending(num_clips), []
    for step in steps:
        if isinstance(step, ColorMap):
            changes += pending.take(step)
        else:
            changes.append(pending.before(step))
    return changes + pending.flush(pending.waiting.nonzero()[0])


class _Pending:
    """Colour maps that wait, one per clip: matrix x + of_mean m + offset, cut to [low, high] of each channel.

    Another map can follow before they are carried out if nothing is cut, or if it leaves channels apart: a scale
    and an offset do to the limits what they do to the value.
    """

    def __init__(self, num_clips: int) -> None:
        self.numbers = np.tile(_SAME, (num_clips, 1, 1))
        self.low, self.high = np.zeros((num_clips, 3)), np.ones((num_clips, 3))
        self.cut = np.zeros(num_clips, dtype=bool)  # whether the limits matter
        self.waiting = np.zeros(num_clips, dtype=bool)

    def take(self, step: ColorMap) -> list[Change]:
        """Add a map; give what has to be done before."""
        rows, numbers = step.rows.numpy(), step.numbers
        done = self.flush(rows[self.cut[rows] & numbers[:, _MIXING].any(1)])
        changed = (numbers != _SAME).any((1, 2))
        rows, numbers = rows[changed], numbers[changed]
        matrix, of_mean, offset = numbers[..., :3], numbers[..., 3:6], numbers[..., 6]
        before = self.numbers[rows]
        after = matrix @ before
        if of_mean.any():
            mean = before.copy()  # of what waits, as a function of the mean alone
            mean[..., 3:6] += mean[..., :3]
            mean[..., :3] = 0
            after += of_mean @ mean
        after[..., 6] += offset
        more = matrix.clip(min=0) + of_mean.clip(min=0)
        less = matrix.clip(max=0) + of_mean.clip(max=0)
        low, high = self.low[rows, :, None], self.high[rows, :, None]
        low, high = (more @ low + less @ high)[..., 0] + offset, (more @ high + less @ low)[..., 0] + offset
        if step.clamp:
            self.cut[rows] |= ((low < -1e-9) | (high > 1 + 1e-9)).any(1)
            low, high = low.clip(0, 1), high.clip(0, 1)
        self.numbers[rows], self.low[rows], self.high[rows], self.waiting[rows] = after, low, high, True
        return done

    def before(self, step: Change) -> Change:
        """Put the maps that wait for the clips of a change before it."""
        rows = step.rows.numpy()
        first = self.calls(rows) if self.waiting[rows].any() else ()
        self.reset(rows)
        # A change keeps [0, 1]; what it does to other values is not known.
        outside = (self.low[rows] < 0).any(1) | (self.high[rows] > 1).any(1)
        self.low[rows], self.high[rows] = 0, 1
        self.low[rows[outside]], self.high[rows[outside]] = -UNKNOWN, UNKNOWN
        return Change(step.rows, (*first, *step.calls), takes_bytes=step.takes_bytes and not first)

    def flush(self, rows: Rows) -> list[Change]:
        """Carry out the maps of some clips."""
        if len(rows) == 0:
            return []
        calls = self.calls(rows)
        self.reset(rows)
        return [Change(torch.from_numpy(rows), calls)]

    def calls(self, rows: Rows) -> tuple[Call, ...]:
        """What maps these clips' colours."""
        numbers = torch.from_numpy(self.numbers[rows])
        matrix, of_mean, offset = numbers[..., :3], numbers[..., 3:6], numbers[..., 6]
        parameters = (matrix, offset, torch.from_numpy(self.low[rows]), torch.from_numpy(self.high[rows]))
        return ((_map_colors, (*parameters, of_mean) if bool(of_mean.any()) else parameters),)

    def reset(self, rows: Rows) -> None:
        """Nothing waits any more for some clips."""
        self.numbers[rows] = _SAME
        self.cut[rows] = self.waiting[rows] = False


# The map that changes nothing, and what of a map makes a channel depend on others or on the mean.
_SAME = np.eye(3, 7)
_MIXING = np.hstack([~np.eye(3, dtype=bool), np.ones((3, 3), dtype=bool), np.zeros((3, 1), dtype=bool)])


def _map_colors(
    clips: Tensor, matrix: Tensor, offset: Tensor, low: Tensor, high: Tensor, of_mean: Tensor | None = None
) -> Tensor:
    """Map colours, then cut them: (n, T, 3, H, W), (n, 3, 3), three of (n, 3), (n, 3, 3) -> (n, T, 3, H, W).

    In products of elements, not of matrices: those are rounded otherwise under autocast, or with other clips beside.
    """
    added = offset[:, None]  # (n, T or 1, 3)
    if of_mean is not None:
        mean = clips.flatten(3).mean(3)  # (n, T, 3)
        added = added + (of_mean[:, None] * mean[:, :, None]).sum(3)
    red, green, blue = matrix[:, None, :, :, None, None].unbind(3)  # (n, 1, 3, 1, 1)
    mapped = clips[:, :, 0:1] * red
    mapped.addcmul_(clips[:, :, 1:2], green).addcmul_(clips[:, :, 2:3], blue).add_(added[..., None, None])
    torch.maximum(mapped, low[:, None, :, None, None], out=mapped)
    return torch.minimum(mapped, high[:, None, :, None, None], out=mapped)


def resample(
    clips: Tensor, row_index: Tensor, row_weight: Tensor, column_index: Tensor, column_weight: Tensor
) -> Tensor:
    """Make each column of a view a weighted sum of columns, then each row one of rows; all frames of a clip alike.

    Sums of few rows are a lookup with weights, which reads what it needs and is the same for a clip whatever clips
    are beside it; a product with a matrix of weights, mostly zeros, takes six times as long on a CPU.

    Args:
        clips: (n, T, 3, H, W), uint8 or float32.
        row_index: Which rows, int32 (n or 1, S, K).
        row_weight: (n, S or 1, K).
        column_index: int32 (n or 1, R, L).
        column_weight: (n, R or 1, L).

    Returns:
        Float32 (n, T, 3, S, R); bytes are scaled to [0, 1].
    """
    if clips.dtype == torch.uint8:
        column_weight = column_weight / 255
    # (n, 3T, W, H), then (n, 3T, R, H): rows are what can be looked up, so columns are made rows and back.
    planes = clips.flatten(1, 2).mT.to(torch.float32, memory_format=torch.contiguous_format)
    planes = _sum_rows(planes, column_index, column_weight).mT
    return _sum_rows(planes, row_index, row_weight).unflatten(1, clips.shape[1:3])


def _sum_rows(planes: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: (n, P, H, W), int32 (n or 1, S, K), (n, S or 1, K) -> (n, P, S, W)."""
    num_clips, num_planes, height, width = planes.shape
    size = (num_clips, num_planes, *index.shape[1:])
    first = torch.arange(0, num_clips * num_planes * height, height, dtype=torch.int32, device=planes.device)
    which = (first.view(num_clips, num_planes, 1, 1) + index[:, None]).flatten(0, 2)
    summed = F.embedding_bag(
        which,
        planes.reshape(-1, width),
        per_sample_weights=weight[:, None].expand(size).reshape(which.shape),
        mode="sum",
    )
    return summed.view(num_clips, num_planes, -1, width)

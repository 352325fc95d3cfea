"""Batch: the one container that travels from loader to method, and the shape legend of the library.

Letters used in every docstring and shape comment:

    B  batch           K  clips of one video   T  frames of one clip   C  colour channels
    H, W  pixels       h, w  feature cells     D  feature width        N  cells, or samples of a corpus
    S  audio samples   L  label channels (objects, joints, classes)
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples of one step. An image is a clip of one frame (K = T = 1).

    Args:
        index: Number of each sample in its corpus, int64 (B,).
        video: Frames as decoded, uint8 (B, K, T, C, H, W), RGB.
        time: Presentation time of each frame in its source, float64 (B, K, T), seconds.
        audio: Mono waveform in [-1, 1], float32 (B, K, S).
        label: Class of each sample, int64 (B,); -1 where there is none.
        seed: One number per sample, int64 (B,), a function of (run seed, epoch, index) alone: what a random
            view of a sample is drawn from.
        source_id: Number of what each sample was cut from, int64 (B,): equal numbers are parts of one recording,
            and no negatives of each other.

    Raises:
        ValueError: A tensor has another shape or type than given above.
    """

    index: Tensor
    video: Tensor | None = None
    time: Tensor | None = None
    audio: Tensor | None = None
    label: Tensor | None = None
    seed: Tensor | None = None
    source_id: Tensor | None = None

    _seed_before_copy: ClassVar[Tensor | None] = None  # `seed` of the batch that `to` copied

    def __post_init__(self) -> None:
        expected = {
            "index": (torch.int64, 1),
            "video": (torch.uint8, 6),
            "time": (torch.float64, 3),
            "audio": (torch.float32, 3),
            "label": (torch.int64, 1),
            "seed": (torch.int64, 1),
            "source_id": (torch.int64, 1),
        }
        for name, (dtype, num_dims) in expected.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.dtype != dtype or value.ndim != num_dims:
                raise ValueError(
                    f"Batch.{name} is {value.dtype} of shape {tuple(value.shape)}, expected {dtype} with "
                    f"{num_dims} dimensions"
                )
            if len(value) != len(self.index):
                raise ValueError(f"Batch.{name} holds {len(value)} samples, Batch.index {len(self.index)}")

    def __len__(self) -> int:
        return len(self.index)

    def tensors(self) -> dict[str, Tensor]:
        """Give what there is, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __repr__(self) -> str:
        shapes = (f"{name}={tuple(value.shape)}" for name, value in self.tensors().items())
        return f"Batch({', '.join(shapes)})"

    @property
    def host_seed(self) -> Tensor:
        """`seed` on the CPU, where views are drawn: the one from before `to`, so that nothing waits for the device."""
        assert self.seed is not None
        return self.seed.cpu() if self._seed_before_copy is None else self._seed_before_copy

    def to(self, device: torch.device | str) -> "Batch":
        """Copy every tensor to `device`; asynchronous where the source memory is pinned."""
        copy = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        if self.seed is not None:
            object.__setattr__(copy, "_seed_before_copy", self.host_seed)
        return copy

    def split(self, num_parts: int) -> list["Batch"]:
        """Cut the samples into at most `num_parts` batches of equal size, but for the last."""
        size = -(-len(self) // num_parts)
        parts = []
        for start in range(0, len(self), size):
            cut = slice(start, start + size)
            part = self._map(lambda tensor: tensor[cut])  # noqa: B023
            if self.seed is not None:
                object.__setattr__(part, "_seed_before_copy", self.host_seed[cut])
            parts.append(part)
        return parts

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of every tensor, which another stream filled, until `stream` is done with it."""
        for field in dataclasses.fields(self):
            if (tensor := getattr(self, field.name)) is not None:
                tensor.record_stream(stream)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return dataclasses.replace(self, **{name: function(tensor) for name, tensor in self.tensors().items()})

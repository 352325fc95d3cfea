"""Batch: the one container that travels from loader to method, and the shape legend of the library.

Letters used in every docstring and shape comment:

    B  batch           K  clips of one video   T  frames of one clip   C  colour channels
    H, W  pixels       h, w  feature cells     D  feature width        N  cells, or samples of a corpus
    S  audio samples   L  label channels (objects, joints, classes)
    of text:   S  sentences   L  tokens of one sentence
    of shape:  N  points
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

FIELDS = {
    "index": (torch.int64, "B"),
    "video": (torch.uint8, "B K T C H W"),
    "time": (torch.float64, "B K T"),
    "audio": (torch.float32, "B K S"),
    "label": (torch.int64, "B"),
    "seed": (torch.int64, "B"),
    "source_id": (torch.int64, "B"),
    "text": (torch.int64, "B S L"),
    "text_time": (torch.float64, "B S 2"),
    "points": (torch.float32, "B N 3"),
    "part": (torch.int64, "B N"),
    "aspect": (torch.float32, "B"),
}
"""What a batch may hold: type and shape by name."""


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
        text: Token ids of sentences, int64 (B, S, L); 0 is padding.
        text_time: Start and end of each sentence in its source, float64 (B, S, 2), seconds.
        points: Points of a surface, float32 (B, N, 3).
        part: Number of the part that each point lies on, int64 (B, N).
        aspect: Width over height of the pictures that frames show, float32 (B,), where they are stretched: whole
            frames of any shape in one batch (`VideoDataset(whole_frames=True)`). None where pixels are square.

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
    text: Tensor | None = None
    text_time: Tensor | None = None
    points: Tensor | None = None
    part: Tensor | None = None
    aspect: Tensor | None = None

    _on_host: ClassVar[Mapping[str, Tensor]] = {}  # seed and aspect of the batch that `to` copied

    def __post_init__(self) -> None:
        for name, (dtype, shape) in FIELDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not _is(value, dtype, shape):
                raise ValueError(
                    f"Batch.{name} is {value.dtype} of shape {tuple(value.shape)}, expected {dtype} with "
                    f"{len(shape.split())} dimensions ({shape})"
                )
            if len(value) != len(self.index):
                raise ValueError(f"Batch.{name} holds {len(value)} samples, Batch.index {len(self.index)}")
        for whole, of_each in (("text", "text_time"), ("points", "part")):
            first, second = getattr(self, whole), getattr(self, of_each)
            if first is not None and second is not None and first.shape[1] != second.shape[1]:
                raise ValueError(
                    f"Batch.{of_each} has {second.shape[1]} rows for each sample, Batch.{whole} {first.shape[1]}; "
                    "expected equal numbers"
                )

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
        return self._drawn_from()["seed"]

    @property
    def stretch(self) -> tuple[Tensor, ...]:
        """What a view is told beside its seeds: `aspect` on the CPU, or nothing where pixels are square.

        view(video, batch.host_seed, *batch.stretch)
        """
        return () if self.aspect is None else (self._drawn_from()["aspect"],)

    def with_clips(self, video: Tensor, time: Tensor) -> "Batch":
        """Give the same samples with other clips: uint8 (B, K, T, C, H, W), float64 (B, K, T)."""
        return dataclasses.replace(self, video=video, time=time)._with_host(self._drawn_from())

    def to(self, device: torch.device | str) -> "Batch":
        """Copy every tensor to `device`; asynchronous where the source memory is pinned."""
        copy = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        return copy._with_host(self._drawn_from())

    def split(self, num_parts: int) -> list["Batch"]:
        """Cut the samples into at most `num_parts` batches of equal size, but for the last."""
        size = -(-len(self) // num_parts)
        cuts = [slice(start, start + size) for start in range(0, len(self), size)]
        parts = [self._map(lambda tensor: tensor[cut]) for cut in cuts]  # noqa: B023
        whole = self._drawn_from()
        hosts = [{name: value[cut] for name, value in whole.items()} for cut in cuts]
        return [part._with_host(host) for part, host in zip(parts, hosts, strict=True)]

    def _drawn_from(self) -> dict[str, Tensor]:
        """What views are drawn from, on the CPU, by name."""
        there = {name: value for name in ("seed", "aspect") if (value := getattr(self, name)) is not None}
        return {
            name: self._on_host[name] if name in self._on_host else value.cpu() for name, value in there.items()
        }

    def _with_host(self, host: Mapping[str, Tensor]) -> "Batch":
        object.__setattr__(self, "_on_host", host)
        return self

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of every tensor, which another stream filled, until `stream` is done with it."""
        for tensor in self.tensors().values():
            tensor.record_stream(stream)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return dataclasses.replace(self, **{name: function(tensor) for name, tensor in self.tensors().items()})


def _is(value: Tensor, dtype: torch.dtype, shape: str) -> bool:
    """Whether a tensor is of a type and shape as in `FIELDS`: a number is a size, a letter any size."""
    sizes = shape.split()
    return (
        value.dtype == dtype
        and value.ndim == len(sizes)
        and all(not size.isdigit() or value.shape[place] == int(size) for place, size in enumerate(sizes))
    )

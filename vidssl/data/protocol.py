"""Samples: what a dataset is to a loader. Whatever keeps to it, whoever wrote it, fills batches.

class Lines(Samples):
    layout = Layout(text=(1, 16))

    def __init__(self, path):
        self.path, self.lines = path, path.read_text().splitlines()

    def __len__(self):
        return len(self.lines)

    def name(self, index):
        return f"{self.path}, line {index + 1}"

    def sample(self, key, *, out=None, note=None):
        seed, position = key
        index = position % len(self)
        return Sample(index=index, seed=seed or 0, text=self.tokens(self.lines[index]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from .datasets import CONTENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from .datasets import Layout, Sample


@runtime_checkable
class Samples(Protocol):
    """A dataset, as `VideoDataset` and `ArrayDataset` are: what a `Loader` asks of it, and no more.

    Samples are numbered from 0. Each is a pure function of (seed, index): so any process may read it, and a run that
    was stopped goes on with the same bits. A dataset travels to the processes that read: it can be pickled.
    """

    @property
    def layout(self) -> Layout:
        """What every sample holds: the shape of each field, without B. All samples of a dataset have one shape.

        Fields that it does not name are absent from every sample and from the batch. Shorter text is padded with 0,
        and fewer points are drawn again, by the dataset. `index`, `seed`, `label` (-1 is none) and `source_id` are
        in every batch and are not named here, nor is `time`, which comes with `video`.
        """

    def __len__(self) -> int:
        """Number of samples, at least 1."""

    def name(self, index: int) -> str:
        """What people call a sample: its file; for messages."""

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read one sample.

        Args:
            key: (seed, position). `position % len` is the index; a position beyond the samples is one of them again.
                Every draw comes from the seed, an int64 >= 0; None is the sample without any draw.
            out: Memory of the batch in which the video is wanted, uint8 (K, T, C, H, W), whatever its strides; None
                without a video, or outside of a loader. Writing there saves a copy, that is all.
            note: To be told the index before a file is opened, so that one that hangs or crashes is known by name.

        Returns:
            The sample; types and shapes as in `Batch`, without B. Equal `source_id` are parts of one recording.

        Raises:
            ValueError: It cannot be read, nor can others in its place; in words for people, with the file's name.
        """

    def blame(self, index: int, reason: str) -> None:
        """Read another sample in the place of this one from now on: twice, reading it ended the process or hung.

        Raises:
            RuntimeError: No other can stand in for it; so it is where a dataset says nothing else.
        """
        raise RuntimeError(f"{self.name(index)} cannot be read: {reason}")


def store(sample: Sample, memory: Mapping[str, Tensor], place: int, *, dataset: Samples) -> None:
    """Write what a sample holds to its place in a batch.

    Args:
        sample: What `dataset` gave.
        memory: Name -> (B, ...), as the dataset's `layout` says.
        place: In the batch.
        dataset: For its name in messages.

    Raises:
        ValueError: The sample holds something else than its dataset announced.
    """
    for field in CONTENT:
        value, into = getattr(sample, field), memory.get(field)
        if value is into is None:
            continue
        if value is None or into is None or (value.dtype, value.shape) != (into.dtype, into.shape[1:]):
            raise ValueError(
                f"{dataset.name(sample.index)} gives {field}: {_told(value)}, and its dataset announces "
                f"{_told(None if into is None else into[0])} (layout.{field}); all samples of a dataset hold the same, "
                "in one type and shape: pad or cut it"
            )
        if value.data_ptr() != into[place].data_ptr():  # a decoder has written it there
            into[place].copy_(value)
    expected = None if sample.video is None else (torch.float64, sample.video.shape[:2])
    if expected != (None if sample.time is None else (sample.time.dtype, sample.time.shape)):
        wanted = "none, as there is no video" if expected is None else f"{expected[0]} of {tuple(expected[1])}"
        raise ValueError(
            f"{dataset.name(sample.index)} gives time: {_told(sample.time)}, expected {wanted} (layout.video): the "
            "time of each frame in seconds"
        )


def _told(value: Tensor | None) -> str:
    return "none" if value is None else f"{value.dtype} of {tuple(value.shape)}"

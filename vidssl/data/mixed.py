"""Labelled and unlabelled samples in one batch, in a fixed ratio: what semi-supervised methods learn from.

dataset = Mixed(labelled, unlabelled, ratio=(1, 7))   # of 64 samples 8 have a label, `batch.label` of others is -1
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from .datasets import VideoDataset
from .order import Permutation
from .samples import Layout, Sample, Samples, sample_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from .corpus.corpus import Corpus


class Mixed(Samples):
    """Two datasets as one: the labelled samples come first in its numbering, then the unlabelled ones.

    A `Loader` draws both in the ratio: each batch has its share of labelled samples, evenly among the others, so that
    the parts of --accumulate have theirs as well. Each of the two is visited in passes of its own, in another order
    each time, without a rest: the next pass begins where the last one ends, if need be in the middle of a batch. An
    epoch is as many steps as a pass over the unlabelled samples fills. All of it is a function of (seed, step).

    Args:
        labelled: Samples with a label.
        unlabelled: Samples whose label, if they have one, is not told (-1).
        ratio: Labelled to unlabelled samples of every batch.

    Raises:
        ValueError: The two hold samples of different shapes, one is empty, or there is no such ratio.
    """

    def __init__(self, labelled: Samples, unlabelled: Samples, *, ratio: tuple[int, int]) -> None:
        if min(ratio) < 1:
            raise ValueError(
                f"ratio is {ratio}, expected two numbers of at least 1: labelled to unlabelled samples"
            )
        for name, dataset in (("labelled", labelled), ("unlabelled", unlabelled)):
            if len(dataset) == 0:
                raise ValueError(f"there are no {name} samples")
        layouts = [dataclasses.replace(each.layout, pixels_last=False) for each in (labelled, unlabelled)]
        if layouts[0] != layouts[1]:
            raise ValueError(
                f"a labelled sample is {labelled.layout}, an unlabelled one {unlabelled.layout}; samples of one batch "
                "have one shape: read both with the same options"
            )
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.ratio = ratio

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    @property
    def layout(self) -> Layout:
        """Of every sample."""
        return self.labelled.layout

    def name(self, index: int) -> str:
        """Of a sample in its own dataset."""
        dataset, first = self._home(index)
        return dataset.name(index - first)

    def blame(self, index: int, reason: str) -> None:
        """Take a sample for unreadable; another one of its own dataset stands in for it."""
        dataset, first = self._home(index)
        dataset.blame(index - first, reason)

    def _home(self, index: int) -> tuple[Samples, int]:
        """The dataset of a sample, and the index of its first one."""
        is_labelled = index < len(self.labelled)
        return (self.labelled, 0) if is_labelled else (self.unlabelled, len(self.labelled))

    def sample(
        self, key: tuple[int | None, int], *, out: Tensor | None = None, note: Callable[[int], None] | None = None
    ) -> Sample:
        """Read the sample of key = (seed, position) from its dataset.

        Raises:
            ValueError: One of the labelled samples has no label; or its dataset refuses.
        """
        seed, position = key
        index = position % len(self)
        dataset, first = self._home(index)

        def note_here(own: int) -> None:
            if note is not None:
                note(first + own)

        sample = dataset.sample((seed, index - first), out=out, note=note_here)
        is_labelled = index < len(self.labelled)
        if is_labelled and sample.label < 0:
            raise ValueError(f"{dataset.name(sample.index)} is among the labelled samples and has no label (-1)")
        return dataclasses.replace(sample, index=first + sample.index, label=sample.label if is_labelled else -1)

    def steps_per_epoch(self, batch_size: int, *, world_size: int = 1) -> int:
        """Steps in which the unlabelled samples are visited once; those that do not fill one come with the next.

        Raises:
            ValueError: A batch of `batch_size` cannot be shared out in the ratio.
        """
        num_labelled, num_unlabelled = self.ratio
        num_together = num_labelled + num_unlabelled
        if batch_size % num_together:
            raise ValueError(
                f"a batch of {batch_size} samples cannot be shared out {num_labelled} to {num_unlabelled} (labelled "
                f"to unlabelled); take a multiple of {num_together}"
            )
        return max(1, len(self.unlabelled) // (batch_size * world_size // num_together * num_unlabelled))

    def order(self, seed: int, *, first: int) -> MixedOrder:
        """The order of an epoch that begins with the `first`-th sample of the run."""
        return MixedOrder(len(self.labelled), len(self.unlabelled), ratio=self.ratio, seed=seed, first=first)


class MixedOrder:
    """Positions of labelled and unlabelled samples in their ratio, a pure function of the seed without an end.

    Position p stands for sample p % (num_labelled + num_unlabelled), labelled ones first, and its quotient counts the
    passes over that sample's dataset, so that no position comes twice.

    Args:
        num_labelled: Labelled samples.
        num_unlabelled: Unlabelled samples.
        ratio: In which they come: every stretch of their sum that begins at a multiple of it has just so many.
        seed: Of the run.
        first: Place of the whole order at which this one begins.
    """

    def __init__(
        self, num_labelled: int, num_unlabelled: int, *, ratio: tuple[int, int], seed: int, first: int = 0
    ) -> None:
        self.num_labelled = num_labelled
        self.num_unlabelled = num_unlabelled
        self.ratio = ratio
        self.seed = seed
        self.first = first

    def __getitem__(self, stretch: slice) -> NDArray[np.int64]:
        """Positions at the places of a slice (n,)."""
        places = self.first + np.arange(stretch.start or 0, stretch.stop, stretch.step or 1, dtype=np.int64)
        share, whole = self.ratio[0], sum(self.ratio)
        num_before = places * share // whole  # labelled ones
        is_labelled = (places + 1) * share // whole > num_before
        positions = np.empty_like(places)
        # Streams of their own: another number of unlabelled samples leaves the order of the labelled ones alone.
        for stream, first, count, mine, draws in (
            (-3, 0, self.num_labelled, is_labelled, num_before),
            (-4, self.num_labelled, self.num_unlabelled, ~is_labelled, places - num_before),
        ):
            turns, draws_of_turn = np.divmod(draws[mine], count)
            items = np.empty_like(turns)
            for turn in np.unique(turns):
                order = Permutation(count, seed=sample_seed(self.seed, stream, int(turn)))
                items[turns == turn] = order.at(draws_of_turn[turns == turn])
            positions[mine] = turns * (self.num_labelled + self.num_unlabelled) + first + items
        return positions


def corpora(dataset: Samples) -> list[Corpus]:
    """The corpora whose files a dataset reads, if it reads any."""
    if isinstance(dataset, Mixed):
        return [*corpora(dataset.labelled), *corpora(dataset.unlabelled)]
    return [dataset.corpus] if isinstance(dataset, VideoDataset) else []

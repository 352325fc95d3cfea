"""From dataset to batches: the batch of a step is a pure function of (seed, step), whatever reads it."""

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..batch import Batch
from ..stop import leave_to_parent
from .datasets import ArrayDataset, Sample, VideoDataset, sample_seed
from .order import Permutation, WindowedOrder

# Up to here an epoch's order is a list, drawn by torch: 128 MB and half a second. Beyond, it is a function.
MAX_LISTED = 2**24

Order = Tensor | Permutation | WindowedOrder


def collate(samples: list[Sample]) -> tuple[Batch, list[tuple[str, str]]]:
    """Stack samples to a batch; the files they replace come beside it, as (path, reason)."""
    audio = [sample.audio for sample in samples if sample.audio is not None]
    batch = Batch(
        index=torch.tensor([sample.index for sample in samples]),
        video=torch.stack([sample.video for sample in samples]),
        time=torch.stack([sample.time for sample in samples]),
        audio=torch.stack(audio) if audio else None,
        label=torch.tensor([sample.label for sample in samples]),
        seed=torch.tensor([sample.seed for sample in samples]),
        source_id=torch.tensor([sample.source_id for sample in samples]),
    )
    return batch, [bad for sample in samples for bad in sample.bad]


class Loader:
    """Batches of a dataset, step by step, in an order that depends on the seed alone.

    Epoch e visits a permutation of the dataset drawn from (seed, e); a global batch is `batch_size * world_size`
    of its samples, of which rank r takes the r-th part; what does not fill a global batch is dropped. A dataset
    smaller than that is repeated until it does, with other draws at each repetition. Neither the number of workers
    nor stopping and continuing at any step changes a sample.

    Args:
        dataset: What to read.
        batch_size: Samples per step and rank.
        seed: Of the run.
        num_workers: Processes that decode; 0 decodes in this one.
        rank: Of this process.
        world_size: Number of processes.
        bad_file_budget: Share of the dataset that may turn out unreadable (one file always may).
        pin_memory: Copy batches to page-locked memory, for an asynchronous copy to the GPU.
        shard_window: Shuffle within windows of so many shards (see `WindowedOrder`), for stores that read far apart
            slowly; None shuffles everything.
    """

    def __init__(
        self,
        dataset: VideoDataset | ArrayDataset,
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        bad_file_budget: float = 0.01,
        pin_memory: bool = False,
        shard_window: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.rank = rank
        self.world_size = world_size
        self.num_bad_allowed = max(1, math.floor(bad_file_budget * len(dataset)))
        self.pin_memory = pin_memory
        self.shard_window = shard_window
        self.bad: dict[str, str] = {}
        self.steps_per_epoch = max(1, len(dataset) // (batch_size * world_size))

    def keys(self, step: int, order: Order | None = None) -> list[tuple[int, int]]:
        """What this rank reads at `step`: a list of (sample seed, position in the epoch's repetitions)."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        order = self.order(epoch) if order is None else order
        first = step_in_epoch * self.batch_size * self.world_size + self.rank * self.batch_size
        positions = order[first : first + self.batch_size].tolist()
        return [(sample_seed(self.seed, epoch, position), position) for position in positions]

    def order(self, epoch: int) -> Order:
        """Positions of one epoch, int64; position // len(dataset) counts the repetition of a small dataset.

        Of more than `MAX_LISTED` samples, or with a window, a slice of it is computed when it is asked for.
        """
        seed = sample_seed(self.seed, epoch)
        num_samples, global_batch = len(self.dataset), self.batch_size * self.world_size
        if self.shard_window is not None:
            if num_samples < global_batch:
                raise ValueError(
                    f"{num_samples} samples do not fill a batch of {global_batch}: leave out shard_window"
                )
            if isinstance(self.dataset, ArrayDataset):
                raise ValueError("samples in memory are in no shards: leave out shard_window")
            return WindowedOrder(self.dataset.shard_starts(), window_shards=self.shard_window, seed=seed)
        if num_samples > MAX_LISTED:
            return Permutation(num_samples, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        num_repeats = max(1, math.ceil(global_batch / num_samples))
        permutations = [
            torch.randperm(num_samples, generator=generator) + num_samples * repeat
            for repeat in range(num_repeats)
        ]
        return torch.cat(permutations)

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Yield the batches of steps first_step .. last_step - 1.

        Raises:
            ValueError: More files are unreadable than the budget allows; the message lists them.
        """
        for batch, bad in self._read(_Keys(self, first_step, last_step)):
            self._count(bad)
            yield batch

    def in_order(self, num_samples: int) -> Iterator[Batch]:
        """Yield the first `num_samples` of the dataset in its order, un-augmented: this rank's share of batches.

        An unreadable file is represented by its replacement, under its own index.
        """
        positions = [(None, position) for position in range(min(num_samples, len(self.dataset)))]
        parts = [positions[start : start + self.batch_size] for start in range(0, len(positions), self.batch_size)]
        mine = parts[self.rank :: self.world_size]
        for part, (batch, bad) in zip(mine, self._read(mine), strict=True):
            self._count(bad)
            yield dataclasses.replace(batch, index=torch.tensor([position for _, position in part]))

    def _read(self, keys: Iterable[list[Any]]) -> Iterator[tuple[Batch, list[tuple[str, str]]]]:
        yield from DataLoader(
            self.dataset,
            batch_sampler=keys,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.pin_memory,
            # A generator of its own: the loader would else draw from the global one, which shifts every draw of
            # the method by one when a run is continued.
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_init_worker,
        )

    def _count(self, bad: list[tuple[str, str]]) -> None:
        for path, reason in bad:
            if path not in self.bad:
                self.bad[path] = reason
                logging.getLogger(__name__).warning("%s cannot be read and was replaced: %s", path, reason)
        if len(self.bad) > self.num_bad_allowed:
            files = "\n".join(f"  {path}: {reason}" for path, reason in self.bad.items())
            raise ValueError(
                f"{len(self.bad)} of {len(self.dataset)} files cannot be read, {self.num_bad_allowed} are allowed; "
                f"remove them or raise --bad-file-budget:\n{files}"
            )


class _Keys:
    """The keys of consecutive steps, as torch's loader wants its batch sampler: a sized iterable."""

    def __init__(self, loader: Loader, first_step: int, last_step: int) -> None:
        self.loader = loader
        self.first_step = first_step
        self.last_step = last_step

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, None
        for step in range(self.first_step, self.last_step):
            if step // self.loader.steps_per_epoch != epoch:
                epoch = step // self.loader.steps_per_epoch
                order = self.loader.order(epoch)
            yield self.loader.keys(step, order)


def _init_worker(worker: int) -> None:
    leave_to_parent()
    torch.set_num_threads(1)  # a decoding process per core: more threads only fight over them

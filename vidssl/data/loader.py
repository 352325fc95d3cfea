"""From dataset to batches: the batch of a step is a pure function of (seed, step), whatever reads it."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from .bad_samples import BadSamples
from .mixed import Mixed, MixedOrder
from .order import Permutation, WindowedOrder
from .pool import Facts, Pool, read_here
from .samples import Samples, sample_seed
from .slots import Slots, num_slots

# Up to here an epoch's order is a list, drawn by torch: 128 MB and half a second. Beyond, it is a function.
MAX_LISTED = 2**24

# Longest time for one sample: as for a file when a corpus is scanned.
TIMEOUT_SECONDS = 60.0

Order = Tensor | Permutation | WindowedOrder | MixedOrder
Bad = list[tuple[str, str]]  # files that were replaced: (path, reason)


def _batch(facts: Sequence[Facts], content: Mapping[str, Tensor]) -> tuple[Batch, Bad]:
    """Put a batch together; the files that samples of it replace come beside it."""
    times = [one.time for one in facts if one.time is not None]
    aspects: list[float] = []
    if any(one.aspect is not None for one in facts):  # pixels of the others, if there are any, are square
        height, width = content["video"].shape[-2:]
        aspects = [width / height if one.aspect is None else one.aspect for one in facts]
    batch = Batch(
        index=torch.tensor([one.index for one in facts]),
        time=torch.from_numpy(np.stack(times)) if times else None,
        label=torch.tensor([one.label for one in facts]),
        seed=torch.tensor([one.seed for one in facts]),
        source_id=torch.tensor([one.source_id for one in facts]),
        aspect=torch.tensor(aspects) if aspects else None,
        **content,
    )
    return batch, [bad for one in facts for bad in one.bad]


def on_device(batches: Iterable[Batch], device: torch.device | str) -> Iterator[Batch]:
    """Copy batches to where they are needed; to a GPU each while the one before it is computed with.

    The copies run on a stream of their own, at most one batch ahead, and batches of a `Loader` with `pin_memory`
    are copied without the processor's help. To anywhere else, this is `Batch.to`.
    """
    device = torch.device(device)
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    stream = torch.cuda.Stream(device)

    def arrived(host: Batch, copy: Batch, event: torch.cuda.Event) -> Batch:
        # The copy was begun before the last step. From here on the memory it came from may be written to again.
        event.synchronize()
        copy.record_stream(torch.cuda.current_stream(device))
        return copy

    ahead: deque[tuple[Batch, Batch, torch.cuda.Event]] = deque()
    for host in batches:
        with torch.cuda.stream(stream):
            ahead.append((host, host.to(device), stream.record_event()))
        del host
        if len(ahead) > 1:
            yield arrived(*ahead.popleft())
    while ahead:
        yield arrived(*ahead.popleft())


class Loader:
    """Batches of a dataset, step by step, in an order that depends on the seed alone.

    Epoch e visits a permutation of the dataset drawn from (seed, e); a global batch is `batch_size * world_size`
    of its samples, of which rank r takes the r-th part; what does not fill a global batch is dropped. A dataset
    smaller than that is repeated until it does, with other draws at each repetition. Of labelled and unlabelled
    samples (`Mixed`) each batch has its share. Neither the number of workers nor stopping and continuing at any step
    changes a sample.

    Args:
        dataset: What to read (vidssl.data.samples).
        batch_size: Samples per step and rank.
        seed: Of the run.
        num_workers: Processes that decode; 0 decodes in this one.
        workers: "thread" takes threads of this process in their place: they start at once and need no shared memory,
            but one that hangs in a damaged file cannot be ended, and one that crashes ends everything.
        timeout_seconds: Longest time for one sample; where processes decode, a file that takes longer twice is
            unreadable. Not watched with `num_workers` 0.
        rank: Of this process.
        world_size: Number of processes.
        bad_file_budget: Share of the dataset that may turn out unreadable (one file always may).
        bad_samples: File to which `batches` writes what it replaced, see `BadSamples`; ranks after the first write
            to one of their own beside it.
        pin_memory: Read batches into page-locked memory, from which `on_device` copies them asynchronously.
        shard_window: Shuffle within windows of so many shards (see `WindowedOrder`), for stores that read far apart
            slowly; None shuffles everything.
    """

    def __init__(
        self,
        dataset: Samples,
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        workers: Literal["process", "thread"] = "process",
        timeout_seconds: float = TIMEOUT_SECONDS,
        rank: int = 0,
        world_size: int = 1,
        bad_file_budget: float = 0.01,
        bad_samples: Path | None = None,
        pin_memory: bool = False,
        shard_window: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self.rank = rank
        self.world_size = world_size
        self.num_bad_allowed = max(1, math.floor(bad_file_budget * len(dataset)))
        if bad_samples is not None and rank > 0:
            bad_samples = bad_samples.with_stem(f"{bad_samples.stem}_rank{rank}")
        self.bad_samples = bad_samples
        self.pin_memory = pin_memory
        self.shard_window = shard_window
        self.bad: dict[str, str] = {}
        if isinstance(dataset, Mixed):
            self.steps_per_epoch = dataset.steps_per_epoch(batch_size, world_size=world_size)
        else:
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
            if not hasattr(self.dataset, "shard_starts"):
                raise ValueError(
                    f"samples of a {type(self.dataset).__name__} are in no shards: leave out shard_window"
                )
            return WindowedOrder(self.dataset.shard_starts(), window_shards=self.shard_window, seed=seed)
        if isinstance(self.dataset, Mixed):
            return self.dataset.order(self.seed, first=epoch * self.steps_per_epoch * global_batch)
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
        record = BadSamples(self.bad_samples, first_step=first_step) if self.bad_samples else None
        self.bad.update(record.reasons if record else {})
        for step, (batch, bad) in enumerate(self._read(_Keys(self, first_step, last_step)), first_step):
            if record and bad:
                record.add(step, bad)
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

    def _read(self, keys: Sequence[list[Any]] | _Keys) -> Iterator[tuple[Batch, Bad]]:
        layout = self.dataset.layout
        count = num_slots(
            self.batch_size * layout.num_bytes,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            num_batches=len(keys),
        )
        slots = Slots(
            layout,
            batch_size=self.batch_size,
            count=count,
            shared=self.num_workers > 0 and self.workers == "process",
            pin_memory=self.pin_memory,
        )
        if self.num_workers == 0:
            done = read_here(self.dataset, iter(keys), slots=slots)
        else:
            pool = Pool(
                self.dataset,
                slots=slots,
                num_workers=self.num_workers,
                kind=self.workers,
                timeout_seconds=self.timeout_seconds,
            )
            done = pool.read(iter(keys))
        for facts, content in done:
            yield _batch(facts, content)

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
    """The keys of consecutive steps."""

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

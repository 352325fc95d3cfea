"""Reading the samples of batches in several processes or threads at once, straight into the memory of the batch.

The memory belongs to this process. It is given out in slots, one for a batch; those who read write into it and send
back a few numbers for each sample. So the end of one of them costs one sample, which another reads again, and what
is in flight does not grow with their number.

torch's loader cannot do this: batches travel as memory of the process that read them, the death of one is told by
an exception anywhere in the main thread, an exception that cannot be pickled is waited for without end, and every
process holds batches of its own.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..stop import leave_to_parent
from .media.isolation import REMUX
from .samples import store
from .slots import Slots
from .vanished import CorpusGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from .samples import Layout, Sample, Samples


# Processes that died without a file to blame before the reason must be another, such as a lack of memory.
MAX_RESTARTS = 3

_PARENT_CHECK_SECONDS = 5.0
_THREAD_END_SECONDS = 5.0

_log = logging.getLogger(__name__)

Key = tuple[int | None, int]  # see `Samples.sample`


@dataclass(frozen=True)
class Facts:
    """What there is to say of a sample beside what lies in the memory of its batch; plain numbers, to be sent."""

    index: int
    seed: int
    time: NDArray[Any] | None
    label: int
    source_id: int
    bad: tuple[tuple[str, str], ...]
    aspect: float | None = None

    @classmethod
    def of(cls, sample: Sample) -> Facts:
        """Those of a sample."""
        time = None if sample.time is None else sample.time.numpy()
        source_id = sample.index if sample.source_id is None else sample.source_id
        return cls(sample.index, sample.seed, time, sample.label, source_id, sample.bad, sample.aspect)


Read = tuple[list[Facts], dict[str, Tensor]]  # a batch: facts of its samples, and what its memory holds


class _Failure(NamedTuple):
    """An exception, in words: it may be one that cannot be sent, or whose class this process does not know."""

    text: str
    is_refusal: bool  # a ValueError: its text is for people and says what to do
    is_gone: bool = False  # CorpusGone


@dataclass
class _Part:
    """A batch that is being read."""

    slot: int
    keys: Sequence[Key]
    facts: dict[int, Facts] = field(default_factory=dict)


@dataclass
class _Worker:
    """One who reads.

    Args:
        runner: The process or thread.
        connection: To it.
        tasks: What it was asked for and has not answered, in that order: (batch, place in it).
        reading: Index of what it reads.
        heard: When it last said something, or was asked with nothing left to do; seconds of the monotonic clock.
    """

    runner: BaseProcess | threading.Thread
    connection: Connection
    heard: float
    tasks: deque[tuple[_Part, int]] = field(default_factory=deque)
    reading: int | None = None


def read_here(dataset: Samples, keys: Iterator[Sequence[Key]], *, slots: Slots) -> Iterator[Read]:
    """Read batches in this process and thread, each when it is asked for."""
    for part in keys:
        slot = slots.free.popleft()
        memory = slots.layout.split(slots.memory[slot], len(part))
        facts = [_fill(dataset, key, memory, place) for place, key in enumerate(part)]
        yield facts, slots.give_out(slot, num_samples=len(part), num_waiting=0)


def _fill(
    dataset: Samples,
    key: Key,
    memory: Mapping[str, Tensor],
    place: int,
    note: Callable[[int], None] | None = None,
) -> Facts:
    """Read a sample into its place of a batch."""
    out = memory["video"][place] if "video" in memory else None
    sample = dataset.sample(key, out=out, note=note)
    store(sample, memory, place, dataset=dataset)
    return Facts.of(sample)


class Pool:
    """Processes or threads that read the samples of batches, in order.

    A process that dies, or reads one sample for longer than `timeout_seconds`, is replaced and the sample is read
    again; a file that ends two of them is unreadable from there on (`VideoDataset.blame`), and is replaced as every
    unreadable file is. No other sample changes. One that the system killed is not replaced at first: most often
    memory ran short.

    Args:
        dataset: What to read.
        slots: Where to.
        num_workers: Processes or threads.
        kind: Which of them.
        timeout_seconds: Longest time for one sample.
    """

    def __init__(
        self,
        dataset: Samples,
        *,
        slots: Slots,
        num_workers: int,
        kind: Literal["process", "thread"],
        timeout_seconds: float,
    ) -> None:
        self.dataset = dataset
        self.slots = slots
        self.num_workers = num_workers
        self.kind = kind
        self.timeout_seconds = timeout_seconds
        self.num_wanted = num_workers
        self.deaths: collections.Counter[int | None] = collections.Counter()  # by index; None is without blame
        self.blamed: set[int | None] = set()
        self.workers: list[_Worker] = []

    def read(self, keys: Iterator[Sequence[Key]]) -> Iterator[Read]:
        """Yield the batches.

        Raises:
            ValueError: The dataset refuses; the message says why.
            CorpusGone: Most of its files are gone.
            RuntimeError: Something else went wrong while a sample was read, or processes keep dying.
        """
        parts: deque[_Part] = deque()
        try:
            self._fill_up()
            while True:
                while self.slots.free and (wanted := next(keys, None)) is not None:
                    parts.append(_Part(self.slots.free.popleft(), wanted))
                    self._ask([(parts[-1], place) for place in range(len(wanted))])
                if not parts:
                    return
                while len(parts[0].facts) < len(parts[0].keys):
                    self._listen()
                yield self._done(parts.popleft(), num_waiting=len(parts))
        finally:
            self._close()

    def _done(self, part: _Part, *, num_waiting: int) -> Read:
        num_samples = len(part.keys)
        facts = [part.facts[place] for place in range(num_samples)]
        return facts, self.slots.give_out(part.slot, num_samples=num_samples, num_waiting=num_waiting)

    def _fill_up(self) -> None:
        while len(self.workers) < self.num_wanted:
            mine, its = multiprocessing.Pipe()
            options = (self.dataset, self.slots.layout, self.slots.memory, its)
            runner: BaseProcess | threading.Thread
            if self.kind == "process":
                runner = multiprocessing.Process(target=_work, args=(*options, os.getpid()), daemon=True)
                runner.start()
                its.close()  # so that the end of the process is the end of the connection
            else:
                runner = threading.Thread(target=_work, args=(*options, None), daemon=True)
                runner.start()
            self.workers.append(_Worker(runner, mine, time.monotonic()))

    def _ask(self, tasks: Sequence[tuple[_Part, int]]) -> None:
        """Give each of the tasks, of one batch, to who has the fewest."""
        shares: dict[int, list[int]] = {}
        for part, place in tasks:
            number = min(range(len(self.workers)), key=lambda number: len(self.workers[number].tasks))
            if not self.workers[number].tasks:
                self.workers[number].heard = time.monotonic()  # nothing was to be heard before
            self.workers[number].tasks.append((part, place))
            shares.setdefault(number, []).append(place)
        for number, places in shares.items():
            wanted = [(place, part.keys[place]) for place in places]
            _send(self.workers[number], (part.slot, len(part.keys), wanted))

    def _listen(self) -> None:
        """Wait until somebody says something, and note it."""
        busy = [worker for worker in self.workers if worker.tasks]
        ends = [worker.heard + self.timeout_seconds for worker in busy]
        ready = wait([worker.connection for worker in self.workers], max(0.0, min(ends) - time.monotonic()))
        now = time.monotonic()
        late = [worker for worker, end in zip(busy, ends, strict=True) if end <= now]
        for worker in tuple(self.workers):
            if worker.connection in ready:
                self._hear(worker)
            elif worker in late:
                self._lost(worker, late=True)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            return self._lost(worker, late=False)
        worker.heard = time.monotonic()
        if isinstance(said, int):
            worker.reading = said
            return None
        part, place = worker.tasks.popleft()
        if isinstance(said, _Failure):
            if said.is_gone:
                raise CorpusGone(said.text)
            if said.is_refusal:
                raise ValueError(said.text)
            raise RuntimeError(f"reading {self._name(worker.reading)} failed:\n{said.text}")
        worker.reading = None
        part.facts[place] = said
        if said.index in self.deaths:  # so it was not the file
            self.deaths[None] += self.deaths.pop(said.index)
        return None

    def _name(self, index: int | None) -> str:
        return "no sample" if index is None else self.dataset.name(index)

    def _lost(self, worker: _Worker, *, late: bool) -> None:
        """Replace one that has died or hangs; blame the file if it is the second that the file ended."""
        index = worker.reading
        if not isinstance(worker.runner, BaseProcess):
            raise RuntimeError(
                f"{self._name(index)} has been read for more than {self.timeout_seconds:g} s, and a thread cannot be "
                "ended: remove the file, or read with processes"
            )
        worker.runner.kill()
        worker.runner.join()
        code = worker.runner.exitcode or 0
        worker.connection.close()
        self.workers.remove(worker)
        how = _how(code) if not late else f"no frames within {self.timeout_seconds:g} s"
        cure = f"; if every read of it decodes from the start, {REMUX}" if late else ""
        _log.warning("a decoding process was lost (%s) while it read %s%s", how, self._name(index), cure)
        # SIGTERM: somebody wants everything to end. A file that is blamed may still have been asked for.
        if code != -signal.SIGTERM and index not in self.blamed:
            self.deaths[index] += 1
            if index is not None and self.deaths[index] == 2:
                del self.deaths[index]
                self.blamed.add(index)
                self.num_wanted = self.num_workers
                reason = f"reading it ended two processes ({how})"
                self.dataset.blame(index, reason)
                for other in self.workers:
                    _send(other, (index, reason))
            elif sum(self.deaths.values()) > MAX_RESTARTS:
                raise RuntimeError(self._too_many(how, index))
            elif code == -signal.SIGKILL and not late:
                self.num_wanted = max(1, self.num_wanted - 1)
        self._fill_up()
        by_part: dict[int, list[tuple[_Part, int]]] = {}
        for part, place in worker.tasks:
            by_part.setdefault(part.slot, []).append((part, place))
        for tasks in by_part.values():
            self._ask(tasks)

    def _too_many(self, how: str, index: int | None) -> str:
        gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        return (
            f"{sum(self.deaths.values())} decoding processes died, and no file is to blame for all of them; the last "
            f"one ({how}) read {self._name(index)}. SIGKILL is most often a lack of memory: this machine has "
            f"{gibibytes:.0f} GiB, {self.num_workers} processes read, and {len(self.slots.memory)} batches of "
            f"{self.slots.memory[0].nbytes / 2**20:.0f} MiB are in flight. Take fewer workers or smaller batches"
        )

    def _close(self) -> None:
        for worker in self.workers:
            if isinstance(worker.runner, BaseProcess):
                worker.runner.kill()
                worker.runner.join()
            worker.connection.close()
        for worker in self.workers:
            if isinstance(worker.runner, threading.Thread):
                # It ends when it has read what it is at; one that hangs is left behind.
                worker.runner.join(_THREAD_END_SECONDS)


def _send(worker: _Worker, message: tuple[Any, ...]) -> None:
    with contextlib.suppress(OSError):  # it has died, which is found out when it should answer
        worker.connection.send(message)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _work(
    dataset: Samples,
    layout: Layout,
    memory: Tensor,
    connection: Connection,
    parent: int | None,
) -> None:
    """Read what is asked for until the other side goes; `parent` is its process, None in a thread of it."""
    if parent is not None:
        torch.set_num_threads(1)  # a process per core: more threads only fight over them
        gc.freeze()  # a collection would write to, and so copy, every page of the corpus that a fork shares
        leave_to_parent()
    try:
        with connection:
            while True:
                while not connection.poll(_PARENT_CHECK_SECONDS):
                    if parent is not None and os.getppid() != parent:
                        return
                asked = connection.recv()
                if len(asked) == 2:
                    dataset.blame(*asked)
                    continue
                slot, num_samples, wanted = asked
                batch = layout.split(memory[slot], num_samples)
                for place, key in wanted:
                    connection.send(_read(dataset, key, batch, place, connection))
    except (EOFError, OSError):
        pass  # the other side has gone


def _read(
    dataset: Samples,
    key: Key,
    memory: Mapping[str, Tensor],
    place: int,
    connection: Connection,
) -> Facts | _Failure:
    try:
        return _fill(dataset, key, memory, place, note=connection.send)
    except CorpusGone as error:
        return _Failure(str(error), is_refusal=False, is_gone=True)
    except ValueError as error:
        return _Failure(
            str(error) if type(error) is ValueError else traceback.format_exc(), type(error) is ValueError
        )
    except Exception:
        return _Failure(traceback.format_exc(), is_refusal=False)

"""Shared memory that decoding processes write batches into."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .samples import Layout

# Bytes of all batches that are read, ready or in use, however many processes read; three batches there always are:
# one that is computed with, one that is ready, one that is being read.
MAX_BYTES_IN_FLIGHT = 2**30
MIN_BATCHES_IN_FLIGHT = 3
# Enough for each who reads to find the next samples waiting while a step takes longer than the one before.
SAMPLES_AHEAD, BATCHES_AHEAD = 4, 4


class Slots:
    """Memory for some batches. A slot is used again when nobody holds a tensor of its last batch any more.

    Args:
        layout: Of a sample.
        batch_size: Samples of a batch.
        count: Number of slots.
        shared: Whether other processes write into it.
        pin_memory: Lock it in memory, for asynchronous copies to the GPU.
    """

    def __init__(self, layout: Layout, *, batch_size: int, count: int, shared: bool, pin_memory: bool) -> None:
        self.layout = layout
        # Each slot begins where a number of 8 bytes may.
        num_bytes = max(8, -(-batch_size * layout.num_bytes // 8) * 8)
        self.memory = torch.empty(count, num_bytes, dtype=torch.uint8)
        if shared:
            try:
                self.memory.share_memory_()
            except RuntimeError as error:
                raise RuntimeError(
                    f"{count} batches of {self.memory[0].nbytes / 2**20:.0f} MiB do not fit into shared memory "
                    f"({error}); give it more (docker run --shm-size), or take smaller batches or workers='thread'"
                ) from error
        self._array = self.memory.numpy()
        if pin_memory:
            pointer = self.memory.data_ptr()
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(pointer, self.memory.nbytes, 0))
            unlock = weakref.finalize(self._array, torch.cuda.cudart().cudaHostUnregister, pointer)
            unlock.atexit = False  # the end of the process does it
        self.free = deque(range(count))

    def give_out(self, slot: int, *, num_samples: int, num_waiting: int) -> dict[str, Tensor]:
        """What a slot holds that is full, by name; `num_waiting` others are being read.

        Who keeps many batches gets copies, so that there is always a slot to read into.
        """
        num_held = len(self.memory) - len(self.free) - num_waiting  # this one among them
        # Storages of their own: torch saves no two tensors of different types in one.
        parts = self.layout.cut(self._array[slot], num_samples)
        if num_held == len(self.memory):
            parts = {name: part.copy() for name, part in parts.items()}
            self.free.append(slot)
        else:
            held = [slot] * len(parts)

            def let_go() -> None:
                held.pop()
                if not held:
                    self.free.append(slot)

            for part in parts.values():  # objects that the tensors keep alive
                weakref.finalize(part, let_go).atexit = False
        return self.layout.shaped({name: torch.from_numpy(part) for name, part in parts.items()}, num_samples)


def num_slots(batch_bytes: int, *, batch_size: int, num_workers: int, num_batches: int) -> int:
    """Number of batches that are in flight at a time."""
    wanted = MIN_BATCHES_IN_FLIGHT
    if num_workers > 0:
        wanted = 1 + max(BATCHES_AHEAD, math.ceil(SAMPLES_AHEAD * num_workers / batch_size))
    affordable = max(MIN_BATCHES_IN_FLIGHT, MAX_BYTES_IN_FLIGHT // max(1, batch_bytes))
    return min(wanted, affordable, num_batches + 1)

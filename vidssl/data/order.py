"""The order in which an epoch visits its samples: pure functions of a seed that take neither time nor memory to set up.

    order = Permutation(100_000_000, seed=7)
    order[4096:4352]    # 256 samples, int64, found without the 100 million others

Position p of the order is computed from p alone, so any process can read any stretch of it, and a run goes on at any
step at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Five rounds of a Feistel network of random functions are a random permutation to anyone who looks at fewer than
# about sqrt(num_items) of its values (Patarin 2004, "Security of random Feistel schemes with 5 or more rounds"); here
# functions are not random but well mixed, so there are a few more.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: the step of SplitMix64


class Permutation:
    """A permutation of 0 .. num_items - 1, a pure function of the seed, computed value by value.

    A Feistel network (Luby and Rackoff 1988) over pairs of digits of base s = ceil(sqrt(num_items)); values from
    num_items to s * s are permuted again until they fall below (cycle walking, Black and Rogaway 2002), which
    concerns fewer than one value in sqrt(num_items) / 2. Whole numbers of 64 bits alone: the same on every machine.

    Args:
        num_items: At least 1, at most 2**62.
        seed: In [0, 2**64).
    """

    def __init__(self, num_items: int, *, seed: int) -> None:
        if not 1 <= num_items <= 2**62:
            raise ValueError(f"num_items is {num_items}, expected 1 to 2**62")
        self.num_items = num_items
        self._base = np.uint64(math.isqrt(num_items - 1) + 1)
        steps = [(seed + (number + 1) * _GOLDEN) % 2**64 for number in range(_ROUNDS)]
        self._keys = mixed(np.array(steps, dtype=np.uint64))

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, stretch: slice) -> NDArray[np.int64]:
        """Items at the positions of a slice (n,)."""
        return self.at(np.arange(*stretch.indices(self.num_items), dtype=np.int64))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Items at positions in [0, num_items), any shape."""
        items = self._network(positions.astype(np.uint64))
        while (outside := items >= self.num_items).any():
            items[outside] = self._network(items[outside])
        return items.astype(np.int64)

    def _network(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values // self._base, values % self._base
        for key in self._keys:
            left, right = right, (left + mixed(right ^ key) % self._base) % self._base
        return left * self._base + right


class WindowedOrder:
    """Shards in a random order, samples shuffled within windows of neighbouring shards of that order.

    For stores that read far apart slowly: samples that are read soon after one another lie in few shards. The price
    is a weaker shuffle: samples of one shard stay within one window of the epoch.

    Args:
        shard_starts: Number of the first sample of each shard, increasing from 0, and at last the number of samples,
            int64 (num_shards + 1,).
        window_shards: Shards of a window, at least 1. All shards make it as good as a `Permutation`.
        seed: In [0, 2**64).
    """

    def __init__(self, shard_starts: NDArray[np.int64], *, window_shards: int, seed: int) -> None:
        if window_shards < 1:
            raise ValueError(f"window_shards is {window_shards}, expected at least 1")
        num_shards = len(shard_starts) - 1
        shards = Permutation(num_shards, seed=seed)[:]
        sizes = np.diff(shard_starts)[shards]
        self._first_items = shard_starts[shards]  # of the shards in their random order
        self._shard_ends = np.cumsum(sizes)  # positions at which they would end without the shuffle
        self._window_starts = np.append(0, self._shard_ends)[:num_shards:window_shards]
        self._window_ends = np.append(self._window_starts[1:], shard_starts[-1])
        self._seed = seed

    def __len__(self) -> int:
        return int(self._window_ends[-1])

    def __getitem__(self, stretch: slice) -> NDArray[np.int64]:
        """Items at the positions of a slice (n,)."""
        return self.at(np.arange(*stretch.indices(len(self)), dtype=np.int64))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Items at positions in [0, num_items) (n,)."""
        windows = np.searchsorted(self._window_ends, positions, side="right")
        places = np.empty_like(positions)
        for window in np.unique(windows):
            start, end = int(self._window_starts[window]), int(self._window_ends[window])
            own = (self._seed + (int(window) + 1) * _GOLDEN) % 2**64
            seed = int(mixed(np.array([own], dtype=np.uint64))[0])
            here = windows == window
            places[here] = start + Permutation(end - start, seed=seed).at(positions[here] - start)
        shards = np.searchsorted(self._shard_ends, places, side="right")
        starts = np.append(0, self._shard_ends)[shards]
        return self._first_items[shards] + places - starts


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of whole numbers: the output function of SplitMix64 (Steele, Lea and Flood 2014, section 4)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

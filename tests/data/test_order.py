"""Orders are permutations, random ones, the same on every machine, and need only the stretch that is read."""

import numpy as np
import pytest

from vidssl.data.order import Permutation, WindowedOrder, mixed


def test_the_mixing_function_is_that_of_splitmix64():
    # First outputs of SplitMix64 from seed 1234567, as published with it (prng.di.unimi.it, splitmix64.c).
    states = [(1234567 + number * 0x9E3779B97F4A7C15) % 2**64 for number in range(1, 6)]
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert mixed(np.array(states[:4], dtype=np.uint64)).tolist() == expected


@pytest.mark.parametrize("num_items", [*range(1, 70), 99, 100, 101, 1000, 4096, 65_537])
def test_every_item_comes_once(num_items):
    orders = [Permutation(num_items, seed=seed)[:] for seed in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(num_items))
    if num_items > 20:
        assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


def test_values_are_those_of_whole_numbers_without_limit():
    """The network again, number by number in Python's own integers."""

    def mix(value: int) -> int:
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
        return value ^ (value >> 31)

    for num_items, seed in ((10, 3), (100_000_000, 2**63 + 5), (2**62, 2**64 - 1)):
        base = int(np.ceil(np.sqrt(num_items)))
        base += base * base < num_items
        keys = [mix((seed + number * 0x9E3779B97F4A7C15) % 2**64) for number in range(1, 9)]
        positions = [0, 1, num_items // 2, num_items - 1]
        expected = []
        for value in positions:
            while True:
                left, right = divmod(value, base)
                for key in keys:
                    left, right = right, (left + mix(right ^ key) % base) % base
                value = left * base + right
                if value < num_items:
                    break
            expected.append(value)
        assert Permutation(num_items, seed=seed).at(np.array(positions)).tolist() == expected


def test_frozen_values():
    # Written down once: a run that goes on after an update must see the same order.
    assert Permutation(100_000_000, seed=1)[:5].tolist() == [3235483, 12939264, 15701147, 19893185, 76245245]
    starts = np.array([0, 3, 5, 9, 12])
    assert WindowedOrder(starts, window_shards=2, seed=1)[:].tolist() == [9, 11, 10, 4, 3, 1, 8, 5, 6, 7, 0, 2]


def chi_square(counts: np.ndarray) -> float:
    """Distance from equal counts in standard deviations of the chi-square distribution."""
    expected = counts.sum() / counts.size
    degrees = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("num_items", [10, 60, 1000])
def test_every_item_is_equally_likely_at_every_position(num_items):
    orders = np.stack([Permutation(num_items, seed=mix)[:] for mix in range(3000)])
    bins = min(num_items, 10)
    where = np.broadcast_to(np.arange(num_items) * bins // num_items, orders.shape)
    counts = np.zeros((bins, bins))
    np.add.at(counts, (where, orders * bins // num_items), 1)
    # Rows and columns have fixed sums: (bins - 1)**2 degrees of freedom.
    expected = counts.mean()
    degrees = (bins - 1) ** 2
    assert abs((((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees)) < 5


def test_all_orders_of_four_items_are_equally_likely():
    orders = np.stack([Permutation(4, seed=seed)[:] for seed in range(6000)])
    _, counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24 and abs(chi_square(counts)) < 5


def test_a_hundred_million_items_look_shuffled():
    order = Permutation(100_000_000, seed=11)
    first = order[:200_000]
    assert len(np.unique(first)) == 200_000
    assert abs(chi_square(np.bincount(first // 100_000, minlength=1000))) < 5
    assert abs(chi_square(np.bincount(first % 1000, minlength=1000))) < 5
    # Neighbours go far apart: the mean distance of two random items is a third of all.
    assert np.abs(np.diff(first)).mean() == pytest.approx(1e8 / 3, rel=0.01)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.01
    other = Permutation(100_000_000, seed=12)[:200_000]  # the seed beside it
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.01


def test_any_stretch_is_that_of_the_whole():
    starts = np.append(0, np.cumsum(np.random.default_rng(0).integers(1, 30, 40)))
    for order in (Permutation(1000, seed=5), WindowedOrder(starts, window_shards=7, seed=5)):
        whole = order[:]
        assert len(order) == len(whole)
        for first, last in ((0, 1), (13, 200), (len(whole) - 3, len(whole) + 9)):
            assert np.array_equal(order[first:last], whole[first:last])


@pytest.mark.parametrize("window_shards", [1, 4, 40, 99])
def test_windows_hold_whole_shards_in_a_random_order(window_shards):
    sizes = np.random.default_rng(1).integers(1, 30, 40)
    starts = np.append(0, np.cumsum(sizes))
    order = WindowedOrder(starts, window_shards=window_shards, seed=3)[:]
    assert np.array_equal(np.sort(order), np.arange(starts[-1]))
    shard_of = np.searchsorted(starts, order, side="right") - 1
    place, seen = 0, []
    while place < len(order):
        shards, end = set(), place  # a window ends where the shards seen so far are used up
        while end == place or sum(sizes[shard] for shard in shards) > end - place:
            shards.add(shard_of[end])
            end += 1
        place = end
        seen.append(len(shards))
    if window_shards == 1:
        assert seen == [1] * 40
    else:
        assert sum(seen) == 40 and max(seen) <= window_shards
    assert not np.array_equal(order, WindowedOrder(starts, window_shards=window_shards, seed=4)[:])
    assert not (np.diff(order[shard_of == shard_of[0]]) == 1).all() or sizes[shard_of[0]] < 4


def test_what_is_refused():
    with pytest.raises(ValueError, match="num_items is 0, expected 1"):
        Permutation(0, seed=0)
    with pytest.raises(ValueError, match="window_shards is 0, expected at least 1"):
        WindowedOrder(np.array([0, 3]), window_shards=0, seed=0)

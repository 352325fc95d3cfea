"""Random numbers as a pure function of (seed, stream): the same in any batch, on any device, in any order.

SplitMix64 (Steele, Lea and Flood 2014) run as a counter-based generator: number i of a stream is the i-th output of
the generator started at the mixed seed. All of a batch is drawn at once, without a loop or a wait for the device.
"""

import math

import torch
from torch import Tensor

# Increment and multipliers of SplitMix64, as signed 64-bit numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def _shift(bits: Tensor, count: int) -> Tensor:
    """Shift right without copying the sign (torch's shift of int64 is arithmetic)."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _scramble(bits: Tensor) -> Tensor:
    """The output function of SplitMix64; products wrap around at 64 bits."""
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def mix(seed: Tensor, *stream: int) -> Tensor:
    """Turn seeds into seeds of unrelated streams: int64 (B,) -> int64 (B,), at least 0.

    `mix(seed, 0)` and `mix(seed, 1)` are the seeds of a sample's first and second view.
    """
    bits = seed
    for number in stream:
        step = (_GOLDEN * (number + 1) + 2**63) % 2**64 - 2**63  # wrapped around, as tensors wrap
        bits = _scramble(_scramble(bits) + step)
    return _shift(bits, 1)


def uniform(seed: Tensor, *shape: int, stream: int = 0) -> Tensor:
    """Draw from [0, 1): seeds int64 (B,) -> float32 (B, *shape), a function of each sample's own seed alone.

    Args:
        seed: One per sample.
        shape: Of what is drawn for a sample.
        stream: Another number gives unrelated draws of the same seed.
    """
    return (_shift(_bits(seed, shape, stream), 40).float() / 2**24).view(len(seed), *shape)


def _bits(seed: Tensor, shape: tuple[int, ...], stream: int) -> Tensor:
    """64 random bits each: (B,) -> int64 (B, numbers of the shape)."""
    counter = torch.arange(1, math.prod(shape) + 1, device=seed.device)
    return _scramble(mix(seed, stream)[:, None] + _GOLDEN * counter)


def normal(seed: Tensor, *shape: int, stream: int = 0) -> Tensor:
    """Draw from the standard normal distribution (Box and Muller 1958): int64 (B,) -> float32 (B, *shape)."""
    radius, angle = uniform(seed, 2, *shape, stream=stream).unbind(1)
    return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()


def integers(seed: Tensor, high: int, *shape: int, stream: int = 0) -> Tensor:
    """Draw whole numbers from [0, high): int64 (B,) -> int64 (B, *shape)."""
    if high > 2**20:  # 24 bits would give some numbers more often than others
        return (_shift(_bits(seed, shape, stream), 1) % high).view(len(seed), *shape)
    return (uniform(seed, *shape, stream=stream) * high).long()


def permutation(seed: Tensor, num_items: int, *, stream: int = 0) -> Tensor:
    """Draw an order of `num_items` for each sample: int64 (B,) -> int64 (B, num_items)."""
    return uniform(seed, num_items, stream=stream).argsort(dim=1, stable=True)

"""Initial weights against the distribution they are drawn from, and against the numbers of PyTorch 2.11."""

import math

import pytest
import torch

from vidssl.models.initial import truncated_normal_


def test_numbers_of_a_seed_are_those_of_pytorch_2_11():
    """Written by `torch.nn.init.trunc_normal_(torch.empty(2, 3), std=0.02)` of torch 2.11.0 after manual_seed(0)."""
    torch.manual_seed(0)
    weight = truncated_normal_(torch.empty(2, 3), std=0.02)
    expected = [
        [-0.00018766950, 0.014660066, -0.027003810],
        [-0.022336882, -0.010063374, 0.0068535083],
    ]
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-6, atol=0)


def test_cut_at_two():
    """A unit normal between -2 and 2 has variance 1 - 4 p(2) / (1 - 2 q(2)), p its density and q its upper tail."""
    weight = truncated_normal_(torch.empty(200_000, dtype=torch.float64), std=1.0)
    density, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(2 / math.sqrt(2))
    assert weight.abs().max() <= 2
    assert weight.var().item() == pytest.approx(1 - 4 * density / inside, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=0.01)

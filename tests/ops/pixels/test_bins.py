import math

import numpy as np
import pytest
import torch
from kornia.color import rgb_to_lab

from vidssl.ops.pixels.bins import (
    annealed_mean,
    color_bins,
    lightness_bins,
    prior_of,
    rebalancing,
    soft_cross_entropy,
    soft_encode,
)


def test_the_bins_are_those_published():
    """Their number, the first six, the last and the sums are those of the published array."""
    bins = color_bins()
    assert bins.shape == (313, 2)
    assert bins[:6].tolist() == [[-90, 50], [-90, 60], [-90, 70], [-90, 80], [-90, 90], [-80, 20]]
    assert bins[-1].tolist() == [100, 0]
    assert bins.sum(0).tolist() == [4910, 2090]
    assert np.unique(bins.numpy(), axis=0).shape == (313, 2)
    # Every colour of sRGB is near one.
    steps = torch.linspace(0, 1, 12)
    colors = torch.cartesian_prod(steps, steps, steps)[:, :, None, None]
    lab = rgb_to_lab(colors)[:, 1:, 0, 0]
    assert float(torch.cdist(lab, bins).amin(1).max()) < 10 / math.sqrt(2)


def test_soft_encoding_equals_the_gaussian_of_the_nearest_bins_written_out():
    bins, values = color_bins(), torch.randn(7, 3, 2) * 30
    index, weight = soft_encode(values, bins, num_neighbors=5)
    for i in range(7):
        for j in range(3):
            square = [float((values[i, j] - one).square().sum()) for one in bins]
            nearest = sorted(range(313), key=square.__getitem__)[:5]
            raw = [math.exp(-square[q] / 50) for q in nearest]
            assert index[i, j].tolist() == nearest
            assert weight[i, j].tolist() == pytest.approx([one / sum(raw) for one in raw], abs=1e-5)


def test_a_value_far_from_all_bins_has_weights_that_sum_to_one():
    """Where the Gaussian itself is 0 in single precision."""
    _, weight = soft_encode(torch.tensor([[500.0, 500.0]]), color_bins(), num_neighbors=5)
    assert float(weight.sum()) == pytest.approx(1) and float(weight[0, 0]) > 0.5


def test_soft_cross_entropy_and_its_gradient_equal_those_over_all_classes():
    logits = torch.randn(2, 313, 3, 4, dtype=torch.float32, requires_grad=True)
    index, weight = soft_encode(torch.randn(2, 3, 4, 2) * 30, color_bins(), num_neighbors=5)
    found = soft_cross_entropy(logits, index, weight)
    dense = torch.zeros(2, 3, 4, 313)
    for where in np.ndindex(2, 3, 4):
        for q, w in zip(index[where].tolist(), weight[where].tolist(), strict=True):
            dense[where][q] = w
    expected = -(dense.movedim(-1, 1) * logits.softmax(1).log()).sum(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradient = torch.autograd.grad(found.sum(), logits)[0]
    torch.testing.assert_close(gradient, logits.softmax(1).detach() - dense.movedim(-1, 1), atol=1e-5, rtol=1e-5)


def test_rebalancing_is_equation_four_and_of_mean_one_under_the_prior():
    prior = torch.tensor([0.7, 0.2, 0.1, 0.0])
    raw = [1 / (0.5 * p + 0.5 / 4) for p in prior.tolist()]
    scale = sum(p * w for p, w in zip(prior.tolist(), raw, strict=True))
    weights = rebalancing(prior)
    assert weights.tolist() == pytest.approx([w / scale for w in raw], rel=1e-6)
    assert float((prior * weights).sum()) == pytest.approx(1)
    assert rebalancing(prior, uniform_share=1.0).tolist() == pytest.approx([1.0] * 4)


def test_a_prior_is_the_mean_of_soft_encodings():
    bins = color_bins()
    values = torch.tensor([[0.0, 0.0], [0.0, 0.0], [50.0, 50.0], [3.0, 4.0]])
    index, weight = soft_encode(values, bins, num_neighbors=5)
    expected = torch.zeros(313)
    for one, share in zip(index, weight, strict=True):
        for q, w in zip(one.tolist(), share.tolist(), strict=True):
            expected[q] += w / 4
    torch.testing.assert_close(prior_of(values, bins, num_neighbors=5), expected)


def test_the_annealed_mean_goes_from_the_mean_to_the_most_probable_bin():
    bins = color_bins()
    logits = torch.randn(1, 313, 2, 2) * 3
    mean = torch.einsum("bqhw, qc -> bchw", logits.softmax(1), bins)
    torch.testing.assert_close(annealed_mean(logits, bins, temperature=1.0), mean)
    best = bins[logits.argmax(1)].movedim(-1, 1)
    torch.testing.assert_close(annealed_mean(logits, bins, temperature=1e-4), best)
    # Equation 5 with the logarithm written out.
    z = logits.double().softmax(1)
    raw = (z.log() / 0.38).exp()
    expected = torch.einsum("bqhw, qc -> bchw", raw / raw.sum(1, keepdim=True), bins.double())
    torch.testing.assert_close(annealed_mean(logits, bins), expected.float(), atol=1e-4, rtol=1e-5)


def test_a_colour_that_is_encoded_is_read_off_again():
    bins = color_bins()
    colors = torch.tensor([[0.0, 0.0], [23.0, -17.0], [-41.0, 36.0], [60.0, 55.0]])
    index, weight = soft_encode(colors, bins, num_neighbors=5)
    logits = torch.full((4, 313), -1e4).scatter(1, index, weight.log())
    read = annealed_mean(logits[..., None, None], bins, temperature=1.0)[..., 0, 0]
    assert float((read - colors).norm(dim=1).max()) < 5


def test_lightness_bins_are_the_middles_of_a_hundred_parts():
    bins = lightness_bins()
    assert bins.shape == (100, 1) and bins[0, 0] == 0.5 and bins[99, 0] == 99.5
    index, weight = soft_encode(torch.tensor([[49.7]]), bins, num_neighbors=1)
    assert index.item() == 49 and weight.item() == 1

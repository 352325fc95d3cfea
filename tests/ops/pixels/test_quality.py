import math

import numpy as np
import pytest
import torch

from vidssl.ops.pixels.quality import luma, psnr, ssim


def test_luma_is_that_of_studio_range():
    """White is 235, black 16, and the primaries are those of ITU-R BT.601 (MATLAB's rgb2ycbcr)."""
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])[:, :, None, None]
    found = (255 * luma(colors)).flatten().tolist()
    assert found == pytest.approx([235, 16, 81.481, 144.553, 40.966], abs=1e-3)


def test_psnr_equals_its_definition_inside_the_border():
    first, second = torch.rand(2, 2, 3, 20, 24)
    inside = slice(3, 17), slice(3, 21)
    for one, other, found in zip(first, second, psnr(first, second, border_px=3).tolist(), strict=True):
        difference = (luma(one[None]) - luma(other[None]))[0, 0].numpy()[inside]
        assert found == pytest.approx(10 * math.log10(1 / np.mean(difference.astype(float) ** 2)), abs=1e-3)
    # A grey difference of one in ten has its closed form: 219 of 255 of it are seen.
    grey = torch.full((1, 3, 20, 24), 0.5)
    expected = -20 * math.log10(0.1 * 219 / 255)
    assert float(psnr(grey, grey + 0.1, border_px=0)) == pytest.approx(expected, abs=1e-3)


def test_ssim_equals_the_definition_written_out():
    first = torch.rand(2, 3, 16, 18)
    second = (first + 0.2 * torch.randn_like(first)).clamp(0, 1)
    line = np.exp(-(np.arange(-5, 6.0) ** 2) / (2 * 1.5**2))
    weight = np.outer(line, line) / line.sum() ** 2
    for one, other, found in zip(first, second, ssim(first, second, border_px=2).tolist(), strict=True):
        x, y = (luma(part[None])[0, 0, 2:-2, 2:-2].double().numpy() for part in (one, other))
        values = []
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = (part[row : row + 11, column : column + 11] for part in (x, y))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
                both = (weight * (a - mean_a) * (b - mean_b)).sum()
                top = (2 * mean_a * mean_b + 0.01**2) * (2 * both + 0.03**2)
                values.append(top / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)))
        assert found == pytest.approx(np.mean(values), abs=1e-4)


def test_equal_pictures_score_one():
    picture = torch.rand(1, 3, 20, 20)
    assert float(ssim(picture, picture, border_px=0)) == pytest.approx(1, abs=1e-5)
    assert float(psnr(picture, picture, border_px=0)) == pytest.approx(100)

"""Letters in grey of equal contrast, and what is drawn of them without learning: for methods that draw pictures."""

import torch
from torch import Tensor

from . import worlds

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def standardized(images: Tensor) -> Tensor:
    """Grey, mean 128 and deviation 48 in every picture, then cut to bytes: contrast tells nothing. uint8 to uint8."""
    grey = (images.float() * torch.tensor(_LUMINANCE).view(3, 1, 1)).sum(-3, keepdim=True)
    deviation, mean = torch.std_mean(grey, dim=(-3, -2, -1), keepdim=True)
    grey = (128 + 48 * (grey - mean) / deviation).clamp(0, 255)
    return grey.round().to(torch.uint8).expand_as(images)


def grey_letters(num_images: int, *, seed: int, size_px: int = 32) -> Tensor:
    """Letters of worlds.letters, standardised: uint8 (N, 1, 3, S, S)."""
    return standardized(worlds.letters(num_images, seed=seed, size_px=size_px)[0])


def colored_letters(num_images: int, *, seed: int, by_letter: bool = True) -> Tensor:
    """Grey letters with one hue each: uint8 (N, 1, 3, 32, 32).

    Chroma is as strong as the contrast of each pixel, so that lightness tells how much of it there is but not which.

    Args:
        num_images: N.
        seed: Of everything.
        by_letter: The hue is that of the letter, one of ten; else it is drawn, and nobody can know it.
    """
    images, label = worlds.letters(num_images, seed=seed)
    contrast = (standardized(images)[:, 0, 0].float() - 128) / 48  # (N, S, S)
    drawn = torch.rand(num_images, generator=torch.Generator().manual_seed(seed))
    angle = 2 * torch.pi * (label / 10 if by_letter else drawn)[:, None, None]
    u, v = 0.06 * angle.cos() * contrast, 0.06 * angle.sin() * contrast
    y = 0.5 + 0.1 * contrast
    rgb = torch.stack([y + 1.13983 * v, y - 0.39465 * u - 0.5806 * v, y + 2.03211 * u], dim=1)  # ITU-R BT.601
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)[:, None]


def share_of_variance(drawn: Tensor, truth: Tensor) -> float:
    """Mean squared error over the variance of the pictures: (N, 1, 3, S, S) each; their mean colours score 1."""
    return ((drawn - truth).square().mean() / truth.var(dim=(3, 4), correction=0).mean()).item()


def drawn_by_components(train: Tensor, test: Tensor, *, num_components: int) -> Tensor:
    """Draw pictures from their principal components, the best linear code: (M, ...), (N, ...) -> (N, ...)."""
    mean = train.flatten(1).mean(0)
    _, _, basis = torch.linalg.svd(train.flatten(1) - mean, full_matrices=False)
    basis = basis[:num_components]
    return ((test.flatten(1) - mean) @ basis.T @ basis + mean).view_as(test)

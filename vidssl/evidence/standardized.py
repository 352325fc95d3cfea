"""Letters in grey of equal contrast, and what is drawn of them without learning: for methods that draw pictures."""

import torch
from torch import Tensor

from . import worlds

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def standardized(images: Tensor) -> Tensor:
    """Grey of mean 128 and deviation 48, but for what is cut off at 0 and 255: contrast tells nothing. uint8 to uint8."""
    grey = (images.float() * torch.tensor(_LUMINANCE).view(3, 1, 1)).sum(-3, keepdim=True)
    deviation, mean = torch.std_mean(grey, dim=(-3, -2, -1), keepdim=True)
    grey = (128 + 48 * (grey - mean) / deviation).clamp(0, 255)
    return grey.round().to(torch.uint8).expand_as(images)


def grey_letters(num_images: int, *, seed: int, size_px: int = 32) -> Tensor:
    """Letters of worlds.letters, standardised: uint8 (N, 1, 3, S, S)."""
    return standardized(worlds.letters(num_images, seed=seed, size_px=size_px)[0])


def share_of_variance(drawn: Tensor, truth: Tensor) -> float:
    """Mean squared error over the variance of the pictures: (N, 1, 3, S, S) each; their mean colours score 1."""
    return ((drawn - truth).square().mean() / truth.var(dim=(3, 4), correction=0).mean()).item()


def drawn_by_components(train: Tensor, test: Tensor, *, num_components: int) -> Tensor:
    """Draw pictures from their principal components, the best linear code: (M, ...), (N, ...) -> (N, ...)."""
    mean = train.flatten(1).mean(0)
    _, _, basis = torch.linalg.svd(train.flatten(1) - mean, full_matrices=False)
    basis = basis[:num_components]
    return ((test.flatten(1) - mean) @ basis.T @ basis + mean).view_as(test)

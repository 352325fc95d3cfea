"""Features of known structure: clouds around class means, in the form that the recognition evaluators take."""

import torch

from vidssl.evaluate.recognition.outcome import Samples


def clouds(
    num_samples: int,
    *,
    num_classes: int = 5,
    dim: int = 8,
    distance: float = 1.0,
    num_views: int = 1,
    seed: int = 0,
    first_source: int = 0,
    per_source: int = 1,
) -> Samples:
    """Unit normal noise around class means that are `distance` times standard normal, the same for every seed.

    Class and source of sample i are functions of i: classes go round, `per_source` samples of a class share a source.
    """
    generator = torch.Generator().manual_seed(seed)
    means = distance * torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(1234))
    number = torch.arange(num_samples)
    label = number // per_source % num_classes
    noise = torch.randn(num_samples, num_views, dim, generator=generator)
    return Samples(means[label][:, None] + noise, label, first_source + number // per_source)


def perfect(num_samples: int, *, num_classes: int = 5, first_source: int = 0) -> Samples:
    """Features that are the class, one-hot."""
    label = torch.arange(num_samples) % num_classes
    return Samples(torch.eye(num_classes)[label][:, None], label, first_source + torch.arange(num_samples))


def chance_band(num_classes: int, num_samples: int) -> float:
    """Three standard deviations of the accuracy of guessing."""
    share = 1 / num_classes
    return 3 * (share * (1 - share) / num_samples) ** 0.5

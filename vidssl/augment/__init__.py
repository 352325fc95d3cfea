"""Views of a clip, made on the training device: one draw per clip, equal on all its frames."""

from .color import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    Normalize,
    RandomErasing,
    RandomGray,
    RandomInvert,
    Solarize,
)
from .geometry import MultiScaleCrop, RandomResizedCrop
from .pipeline import FromKornia, MultiCrop, Pipeline
from .principal import PowerHSV, PrincipalContrast
from .temporal import RandomReverse, RandomTemporalCrop

__all__ = [
    "ColorJitter",
    "FromKornia",
    "GaussianBlur",
    "GaussianNoise",
    "MultiCrop",
    "MultiScaleCrop",
    "Normalize",
    "Pipeline",
    "PowerHSV",
    "PrincipalContrast",
    "RandomErasing",
    "RandomGray",
    "RandomInvert",
    "RandomResizedCrop",
    "RandomReverse",
    "RandomTemporalCrop",
    "Solarize",
]

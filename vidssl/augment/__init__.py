"""Views of a clip, made on the training device: one draw per clip, equal on all its frames."""

from .color import ColorJitter, GaussianBlur, GaussianNoise, RandomGray, RandomInvert, Solarize
from .geometry import RandomResizedCrop
from .recipes import Pipeline

__all__ = [
    "ColorJitter",
    "GaussianBlur",
    "GaussianNoise",
    "Pipeline",
    "RandomGray",
    "RandomInvert",
    "RandomResizedCrop",
    "Solarize",
]

"""Views of a clip, made on the training device: one draw per clip, equal on all its frames."""

from .geometry import RandomResizedCrop

__all__ = ["RandomResizedCrop"]

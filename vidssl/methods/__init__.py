"""Self-supervised methods, one file each."""

from .image.rotation import Rotation
from .sum import Sum
from .video.colorization import VideoColorization

__all__ = ["Rotation", "Sum", "VideoColorization"]

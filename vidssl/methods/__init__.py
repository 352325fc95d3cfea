"""Self-supervised methods, one file each."""

from .video.colorization import VideoColorization

__all__ = ["VideoColorization"]

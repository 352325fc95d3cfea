"""Reading still images as videos: one image is a video of one frame, a folder of images one of many."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._container import MediaError, check_pixels, describe, regular_file
from ._reader import Reader, VideoInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

# Modes of Pillow that hold more than 8 bits per channel; its conversion to RGB would cut, not scale.
_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts frame2 before frame10; names equal up to leading zeros are ordered as text."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return [(0, int(digits), "") if digits else (1, 0, text.casefold()) for digits, text in parts], name


def image_paths(folder: Path) -> list[Path]:
    """Image files of a folder, hidden ones left out, in natural order."""
    names = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(
        (path for path in names if not path.name.startswith(".")), key=lambda path: natural_key(path.name)
    )


class ImagesReader(Reader):
    """Frames from image files, read with Pillow; EXIF orientation is honoured, transparency dropped.

    Args:
        path: What is read: an image, or the folder of `images`.
        images: Files in order of presentation; all of one size.
        fps: Frames per second.
    """

    def __init__(self, path: Path, images: Sequence[Path], *, fps: float) -> None:
        if not images:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise MediaError(
                path, f"is a folder without images ({suffixes}); give a video, an image or such a folder"
            )
        if not fps > 0:
            raise ValueError(f"fps is {fps}, expected more than 0")
        self._images = images
        width, height = _read(images[0]).size
        times = np.arange(len(images), dtype=np.float64) / fps
        info = VideoInfo(
            path=path.absolute(),
            pts_seconds=times,
            duration_seconds=len(images) / fps,
            fps=fps,
            width=width,
            height=height,
            rotation_degrees=0,
            codec="image",
        )
        super().__init__(info, backend="pillow")

    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        from PIL import Image

        for number in numbers:
            image = _read(self._images[number])
            if image.size != (self.info.width, self.info.height):
                raise MediaError(
                    self._images[number],
                    f"is {image.width} x {image.height} pixels, the first frame of its folder "
                    f"{self.info.width} x {self.info.height}; a folder of frames has one size",
                )
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            yield number, np.asarray(image)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _read(path: Path) -> Image.Image:
    """Read an image upright as 8-bit RGB."""
    from PIL import Image, ImageOps

    try:
        with regular_file(path).open("rb") as file, Image.open(file) as image:
            check_pixels(path, width=image.width, height=image.height)
            if image.mode in _DEEP_MODES:
                raise MediaError(path, f"has more than 8 bits per channel ({image.mode}); convert it to 8 bits")
            if getattr(image, "n_frames", 1) > 1:
                raise MediaError(path, f"is an animation of {image.n_frames} images; convert it to a video")
            return ImageOps.exif_transpose(image).convert("RGB")
    except MediaError:
        raise
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ... on damage
        raise MediaError(path, f"is no readable image ({describe(error)})") from error

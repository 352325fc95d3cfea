"""Reading still images: one is a video of one frame, a folder of them one of many.

Everything that reads a picture from a file of its own goes through `read_image`, what reads labels through
`read_stored`: training, evaluation and propagation see the same pixels, upright and of checked size.
"""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .container import MediaError, check_pixels, describe, regular_file
from .reader import Reader, VideoInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.video.frame import VideoFrame
    from numpy.typing import NDArray
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

# As Pillow calls them; of its other formats some start programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")

# Modes of Pillow that hold more than 8 bits per channel; its conversion to RGB would cut, not scale.
_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}

_EXIF_ORIENTATION = 0x0112


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
    """Frames from image files, as `read_image` reads them.

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
        width, height = read_image(images[0]).size
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
            image = read_image(self._images[number])
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


def read_image(path: str | Path) -> Image.Image:
    """Read a picture upright as 8-bit RGB; transparency is dropped, grey and indexed colours are spelled out.

    EXIF orientation is honoured, a picture of several views (MPO: cameras put a preview or the right eye behind the
    picture) is the first of them.

    Raises:
        MediaError: Absent, damaged, no picture, larger than `MAX_PIXELS`, of more than 8 bits per channel, an
            animation, or of several pages.
    """
    image = read_stored(path)
    if image.mode in _DEEP_MODES:
        raise MediaError(path, _too_deep(image.mode, np.asarray(image)))
    try:
        return image.convert("RGB")
    except ValueError as error:  # colour spaces that Pillow cannot bring to RGB
        raise MediaError(path, f"has pixels that cannot be shown as RGB ({describe(error)})") from error


def read_stored(path: str | Path) -> Image.Image:
    """Read a picture upright with the values that it stores, such as the ids of a mask; see `read_image`."""
    with _opened(path) as image:
        image.load()
        turn = _turn(image)
        return image.copy() if turn is None else image.transpose(turn)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of what `read_image` reads, from the header of a file."""
    from PIL.Image import Transpose

    with _opened(path) as image:
        lies = _turn(image) in {
            Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90
        }  # fmt: skip
        return (image.width, image.height) if lies else (image.height, image.width)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture that may be decoded; whatever goes wrong until the end of the block is a `MediaError`."""
    try:
        with regular_file(path).open("rb") as file, _parsed(file) as image:
            check_pixels(Path(path), width=image.width, height=image.height)
            num_images = getattr(image, "n_frames", 1)
            if num_images > 1 and image.format == "TIFF":
                raise MediaError(path, f"holds {num_images} pages; save each of them as a file of its own")
            if num_images > 1 and image.format != "MPO":
                raise MediaError(path, f"is an animation of {num_images} images; convert it to a video")
            yield image
    except MediaError:
        raise
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ... on damage
        raise MediaError(path, f"is no readable image ({describe(error)})") from error


def _parsed(file: BinaryIO) -> Image.Image:
    """Read the header as `Image.open` does, without its limit of pixels: ours is lower and names the size."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    head = file.read(16)
    file.seek(0)
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(head):
            return factory(file, "")
    raise UnidentifiedImageError(f"none of {', '.join(_FORMATS)}")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn or mirror a stored picture to see it upright; None leaves it."""
    from PIL.Image import Transpose

    if image.format == "TIFF":
        return None  # Pillow turns these itself
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except (SyntaxError, ValueError, struct.error):  # damaged notes beside a sound picture
        return None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(orientation) if isinstance(orientation, int) else None


def refused_depth(frame: VideoFrame) -> str | None:
    """Say why a frame cannot be brought to 8 bits without a guess; None if it can be.

    Colour of any depth, and grey of 8 bits, says which values are black and white.
    """
    shown = [part for part in frame.format.components if not part.is_alpha]
    if len(shown) > 1 or not shown[0].is_luma or shown[0].bits <= 8:
        return None
    scaled: NDArray[Any] = frame.to_ndarray(format="gray16le")  # to all 16 bits
    return _too_deep(frame.format.name, scaled >> max(0, 16 - shown[0].bits))


def _too_deep(kind: str, values: NDArray[Any]) -> str:
    """Say why grey pictures and videos of more than 8 bits are refused.

    A thermal camera stores 12 bits in 16 and uses a hundred values of them: the high byte is the same everywhere, and
    which value is black, one frame, one file or one corpus can tell, with another answer each.
    """
    return (
        f"has more than 8 bits per channel: grey values of {kind}, {values.min():g} to {values.max():g} in its first "
        "picture, of which none is said to be black or white; scale what your data use to 8 bits, all files alike"
    )

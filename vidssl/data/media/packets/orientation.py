"""How stored pictures are brought upright: the display matrix of a video, read as a whole.

FFmpeg and its bindings tell an angle, which is the same for a mirrored picture and another one turned half around.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray


class Orientation(NamedTuple):
    """One of the eight ways in which a picture can lie.

    Args:
        is_mirrored: Whether it is mirrored left to right, first.
        turns: Quarter turns counter-clockwise, then: 0 to 3.
    """

    is_mirrored: bool = False
    turns: int = 0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the upright picture from the stored one, or the other way round."""
        return (width, height) if self.turns % 2 else (height, width)

    def upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a view of stored pixels (H, W, 3) that is upright."""
        return np.rot90(pixels[:, ::-1] if self.is_mirrored else pixels, self.turns)


def display_orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix that a decoded frame carries, from its container or from the stream itself."""
    _name_side_data()
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    # x' = a x + c y, y' = b x + d y, with y downwards (ISO/IEC 14496-12, 6.2.2).
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(bytes(data), dtype=np.int32))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        x_is_turned, y_is_turned = a < 0, d < 0
        return Orientation(is_mirrored=x_is_turned != y_is_turned, turns=2 if y_is_turned else 0)
    # Counter-clockwise, what was right is on top (b < 0) and what was below is right (c > 0).
    return Orientation(is_mirrored=(b > 0) == (c > 0), turns=1 if c > 0 else 3)


@functools.cache
def _name_side_data() -> None:
    """Have PyAV name side data that FFmpeg has learned of since (EXIF, views of spatial video).

    PyAV 18 refuses to tell of any side data of a frame that carries such.
    """
    from av.sidedata.sidedata import Type

    def unnamed(cls: type[Type], value: int) -> Type:
        member = object.__new__(cls)
        member._name_, member._value_ = f"NUMBER_{value}", value  # type: ignore[assignment]
        return member

    Type._missing_ = classmethod(unnamed)  # type: ignore[method-assign, assignment]

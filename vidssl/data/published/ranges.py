"""Whether coordinates lie where they should: pixels where shares belong give figures of 0, and no other sign."""

from pathlib import Path

import numpy as np

_MAX_OUTSIDE = 0.1  # of the visible points; annotators put a few beyond the edge


def check_shares(points: np.ndarray, occluded: np.ndarray, *, what: str) -> int:
    """Refuse points that are no shares of the frame.

    Args:
        points: x and y, (N, T, 2), from 0 to 1 where they are visible.
        occluded: bool (N, T). Where a point is hidden, its place may be anywhere.
        what: They are, for the message: a file, or a video in one.

    Returns:
        How many visible points lie outside the frame.

    Raises:
        ValueError: Visible points that are no numbers, a frame or more away from it, or more than a tenth of them
            outside.
    """
    visible = points[~occluded]
    if not len(visible):
        return 0
    if not np.isfinite(visible).all():
        raise ValueError(f"{what}: visible points have places that are no numbers")
    num_outside = int(((visible < 0) | (visible > 1)).any(axis=1).sum())
    if visible.min() < -1 or visible.max() > 2 or num_outside > _MAX_OUTSIDE * len(visible):
        raise ValueError(
            f"{what}: places of visible points go from {visible.min():g} to {visible.max():g}, and {num_outside} of "
            f"{len(visible)} lie outside the frame; expected shares of it, x / width and y / height from 0 to 1 "
            "(pixels are to be divided by the size of the frame)"
        )
    return num_outside


def check_types(points: np.ndarray, occluded: np.ndarray, *, what: str) -> None:
    """Refuse points that are no real numbers, and what says of each whether it is hidden by anything but yes and no.

    Raises:
        ValueError: That is so.
    """
    if points.dtype.kind not in "fiu":
        raise ValueError(f"{what}: points are of type {points.dtype}, expected numbers from 0 to 1")
    if occluded.dtype.kind not in "biuf" or not np.isin(occluded, (0, 1)).all():
        raise ValueError(
            f"{what}: occluded is {occluded.dtype}{range_of(occluded)}, expected True where a point is hidden and "
            "False where it is seen"
        )


def range_of(values: np.ndarray) -> str:
    """The smallest and the largest of some numbers, for messages; nothing of what is no numbers."""
    if values.dtype.kind not in "fiub" or not values.size:
        return ""
    return f" with values from {values.min():g} to {values.max():g}"


def check_pixels_of(xy: np.ndarray, *, size: tuple[int, int], what: str) -> int:
    """Refuse points that are no pixels of their frames.

    Args:
        xy: x and y, (N, 2), the first pixel at 0.
        size: Height and width of the frame in pixels.
        what: They are, for the message.

    Returns:
        How many lie outside the frame.

    Raises:
        ValueError: All lie outside, or all at the first pixel, as shares of the frame do.
    """
    height, width = size
    (left, top), (right, bottom) = xy.min(axis=0), xy.max(axis=0)
    inside = (xy > -1).all(axis=1) & (xy[:, 0] < width) & (xy[:, 1] < height)
    # Shares of the frame go from 0 or -1 to 1; in files whose first pixel is 1, from that less.
    if not inside.any() or (len(xy) > 1 and xy.min() >= -2 and xy.max() <= 1):
        raise ValueError(
            f"{what}: x goes from {left:g} to {right:g}, y from {top:g} to {bottom:g}; expected pixels of a frame of "
            f"{width}x{height}"
        )
    return int((~inside).sum())


def check_boxes(boxes: np.ndarray, *, size: tuple[int, int], what: str | Path) -> int:
    """Refuse boxes that are no pixels of their frames.

    Args:
        boxes: x, y, width, height, (T, 4), the first pixel at 0; NaN or without area where nothing is known.
        size: Height and width of the frame in pixels.
        what: They are, for the message.

    Returns:
        How many boxes with an area lie outside the frame by more than half of it.

    Raises:
        ValueError: The first box does; or no box reaches over a pixel, as with shares of the frame.
    """
    height, width = size
    known = boxes[np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)]
    x, y, box_width, box_height = known.T
    outside = (x >= width) | (y >= height) | (x + box_width <= 0) | (y + box_height <= 0)
    if outside[0] or known[:, 2:].max() <= 1:
        raise ValueError(
            f"{what}: the first box is x {x[0]:g}, y {y[0]:g}, width {box_width[0]:g}, height {box_height[0]:g}; "
            f"expected pixels of a frame of {width}x{height}"
        )
    shown_width = np.minimum(x + box_width, width) - np.maximum(x, 0)
    shown_height = np.minimum(y + box_height, height) - np.maximum(y, 0)
    return int((outside | (2 * shown_width * shown_height < box_width * box_height)).sum())


def check_name(name: str, *, path: Path) -> str:
    """Return a name of a list that stands for a folder beside it.

    Raises:
        ValueError: It leads elsewhere.
    """
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{path} lists {name!r:.80}, which is no name of a folder beside it")
    return name

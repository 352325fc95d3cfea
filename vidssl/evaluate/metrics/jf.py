"""Region similarity J and contour accuracy F, the figures of DAVIS, equal to davis2017-evaluation.

Perazzi et al. 2016, "A benchmark dataset and evaluation methodology for video object segmentation", and
Pont-Tuset et al. 2017, "The 2017 DAVIS challenge", arXiv:1704.00675. The official code
(davisvideochallenge/davis2017-evaluation: metrics.py, utils.py, evaluation.py, semi-supervised task) is followed
to the last bit of every float, with its oddities. It dilates both contours of the whole frame; here a contour is
one Python integer, a bit per pixel of the object's box, and a dilation is a few shifts of it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.008  # of the frame's diagonal: how far apart two contours may lie and still match
RECALL_THRESHOLD = 0.5


class Statistics(NamedTuple):
    """What is reported of the J or the F of one object over its frames."""

    mean: float
    recall: float
    decay: float


def region_similarity(truth: np.ndarray, result: np.ndarray) -> float:
    """Intersection over union of two masks, bool (H, W); 1 if both are empty."""
    union = np.count_nonzero(truth | result)
    return np.count_nonzero(truth & result) / union if union else 1.0


def contour_accuracy(truth: np.ndarray, result: np.ndarray) -> float:
    """F-measure of the contours of two masks, bool (H, W); 1 if neither has a contour.

    A contour pixel is right if the other contour comes within ceil(0.008 * diagonal) pixels of it (8 pixels at
    854x480). A mask that fills the frame has no contour, so it scores 1 against an empty one.
    """
    return _score(truth, result, radius=_tolerance_px(truth))[1]


def _tolerance_px(frame: np.ndarray) -> int:
    """How far apart the contours of masks of this size may lie."""
    height, width = frame.shape
    return math.ceil(TOLERANCE * math.sqrt(height * height + width * width))


def _score(truth: np.ndarray, result: np.ndarray, *, radius: int) -> tuple[float, float]:
    """J and F of two masks at a tolerance in pixels; of the frame, the part that shows the object will do."""
    box = _box(truth, result)
    if box is None:
        return 1.0, 1.0
    height, width = truth[box].shape
    # A row ends with as many empty bits as a dilation moves bits sideways: rows do not run into each other.
    stride = width + radius
    packed = [_pack(mask[box], stride=stride) for mask in (truth, result)]
    inside = _rectangle(height, width, stride=stride)
    truth_bits, result_bits = (bits & inside for bits in packed)
    similarity = (truth_bits & result_bits).bit_count() / (truth_bits | result_bits).bit_count()
    truth_bits, result_bits = (_contour(bits, stride=stride) & inside for bits in packed)
    num_truth, num_result = truth_bits.bit_count(), result_bits.bit_count()
    if num_truth == 0 and num_result == 0:
        return similarity, 1.0
    if num_truth == 0 or num_result == 0:
        return similarity, 0.0
    precision = (result_bits & _dilate(truth_bits, radius=radius, stride=stride)).bit_count() / num_result
    recall = (truth_bits & _dilate(result_bits, radius=radius, stride=stride)).bit_count() / num_truth
    return similarity, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_frame(truth: np.ndarray, result: np.ndarray, *, ids: Sequence[int]) -> list[tuple[float, float]]:
    """J and F of every object of one frame.

    Args:
        truth: Object ids, uint8 (H, W). Other ids than `ids`, 255 (void) among them, count as background.
        result: Object ids, uint8 (H, W).
        ids: Of the objects. The official code takes all from 1 to the largest of the first frame, those that never
            occur among them, whose J and F are 1.

    Returns:
        (J, F) of each object.
    """
    radius = _tolerance_px(truth)
    box = _box(truth, result)
    if box is None:
        return [(1.0, 1.0)] * len(ids)
    truth, result = truth[box], result[box]
    masks = ((truth == number, result == number) for number in ids)
    return [_score(*pair, radius=radius) for pair in masks]


def statistics(values: np.ndarray) -> Statistics:
    """Mean, recall and decay of one object's J or F over the scored frames, float64 (T,).

    Recall is the share of frames above 0.5; decay is the mean of the first quarter of the frames less that of the
    last. As in the official code (utils.py db_statistics) neighbouring quarters share a frame, and their limits
    are kept in 8 bits: decay means nothing for more than 256 scored frames, and is NaN where a quarter is empty.
    """
    limits = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64) % 256
    first, last = values[limits[0] : limits[1] + 1], values[limits[3] : limits[4] + 1]
    decay = np.mean(first) - np.mean(last) if len(first) and len(last) else np.nan
    return Statistics(float(np.mean(values)), float(np.mean(values > RECALL_THRESHOLD)), float(decay))


def _box(*masks: np.ndarray) -> tuple[slice, slice] | None:
    """Smallest box around all masks, one pixel wider on every side where the frame goes on; None if all are empty."""
    rows, columns = (
        np.flatnonzero(np.logical_or.reduce([mask.any(axis=axis) for mask in masks])) for axis in (1, 0)
    )
    if not len(rows):
        return None
    return tuple(slice(max(edge[0] - 1, 0), edge[-1] + 2) for edge in (rows, columns))  # type: ignore[return-value]


def _pack(mask: np.ndarray, *, stride: int) -> int:
    """A mask as one integer: pixel (y, x) is bit y * stride + x. The last row and column stand there twice."""
    height, width = mask.shape
    rows = np.zeros((height + 1, stride), dtype=bool)
    rows[:-1, :width] = mask
    rows[:-1, width] = mask[:, -1]
    rows[-1] = rows[-2]
    return int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")


def _rectangle(height: int, width: int, *, stride: int) -> int:
    """The bits of `height` rows and `width` columns."""
    bits, num_rows = (1 << width) - 1, 1
    while num_rows < height:
        bits |= bits << num_rows * stride
        num_rows *= 2
    return bits & ((1 << height * stride) - 1)


def _contour(bits: int, *, stride: int) -> int:
    """Pixels that differ from their east, south or south-east neighbour (metrics.py _seg2bmap).

    At the last row and column the official code compares with the neighbours inside the frame alone, which is the
    same as going on with the last value. Bits outside the mask are left undefined.
    """
    return bits ^ bits >> 1 | bits ^ bits >> stride | bits ^ bits >> stride + 1


def _dilate(bits: int, *, radius: int, stride: int) -> int:
    """Every pixel that lies within `radius` of a set one; bits between the rows are left undefined."""
    pair = bits | bits << 1
    runs = [bits]  # runs[k]: 2 k + 1 pixels, from each set one to the right
    for reach in range(1, radius + 1):
        runs.append(runs[-1] | pair << 2 * reach - 1)
    disc = runs[radius] >> radius
    for distance in range(1, radius + 1):
        reach = math.isqrt(radius * radius - distance * distance)
        disc |= runs[reach] << distance * stride - reach | runs[reach] >> distance * stride + reach
    return disc

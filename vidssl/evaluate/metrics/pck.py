"""PCK: the share of joints that were found to within a part of the size of the body.

The size is 0.6 times the diagonal of the box around the joints of the frame; a joint is right if it is off by at
most a threshold times that. PCK is taken per joint, over all frames of all videos, and then averaged over the joints.
Three official codes differ in what counts, and published figures with them:

    "uvc"     Liusifei/UVC, branch jhmdb (f1b6fd9), eval_pck.py; the same in ajabri/videowalk (047f3f4) and CropMAE:
              the first frame does not count; a lost joint does not count, nor does it belong to the box.
    "vfs"     xvjiarui/VFS (7233826), mmaction/datasets/jhmdb_dataset.py: as "uvc", but with the first frame, and a
              prediction in column 0 is lost as well.
    "tapvid"  google-deepmind/tapnet (c2cbab8), training/supervised_point_prediction.py: the first frame counts, and
              so does every joint that is inside the frame in the first one; a lost one is taken to be at (-1, -1),
              so it is wrong.

With the first two, losing the hard joints raises PCK: read it beside the coverage.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
LOST = -1.0  # x and y of a joint that was not found, as in the official files

Variant = Literal["uvc", "vfs", "tapvid"]
VARIANTS: tuple[Variant, ...] = ("uvc", "vfs", "tapvid")


class Counts(NamedTuple):
    """How many joints count, and how many of them are right.

    Args:
        counted: int64 (J,).
        correct: int64 (5, J), at each of `THRESHOLDS`.
    """

    counted: np.ndarray
    correct: np.ndarray


def count_correct(truth: np.ndarray, prediction: np.ndarray, *, variant: Variant, size: tuple[int, int]) -> Counts:
    """Count the right joints of a video.

    Args:
        truth: float64 (T, J, 2), x and y in pixels, the first pixel at 0.
        prediction: The same; lost joints are (-1, -1).
        variant: Which of the official codes is followed.
        size: Height and width of the frames in pixels.

    Raises:
        ValueError: The shapes differ.
    """
    if truth.shape != prediction.shape or truth.ndim != 3 or truth.shape[2] != 2:
        raise ValueError(f"joints are (T, J, 2), got {truth.shape} for the truth, {prediction.shape} predicted")
    if variant == "uvc":
        in_box = prediction[:, :, 0] >= 0
        counted = in_box & (np.arange(len(truth)) > 0)[:, None]
    elif variant == "vfs":
        in_box = counted = prediction[:, :, 0] > 0
    else:
        # tapnet's reader keeps the coordinates of the file, whose first pixel is 1: for joints within a pixel of
        # the border its answer is another.
        in_box = counted = np.broadcast_to(_inside(truth[0], size), truth.shape[:2])
    distance = np.sqrt(((prediction - truth) ** 2).sum(axis=2))
    with np.errstate(divide="ignore", invalid="ignore"):  # a box without area: nothing is right, as in all three
        relative = distance / _body_size(truth, in_box)[:, None]
    correct = [((relative <= threshold) & counted).sum(axis=0) for threshold in THRESHOLDS]
    return Counts(counted.sum(axis=0), np.stack(correct))


def pck_per_joint(counts: Counts) -> np.ndarray:
    """PCK of every joint at every threshold, float64 (5, J); NaN for joints that never count."""
    with np.errstate(invalid="ignore"):
        return counts.correct / counts.counted


def pck(counts: Counts) -> dict[str, float]:
    """PCK at every threshold, in [0, 1]: the mean over the joints that count at all, NaN if none does.

    JHMDB as a whole has no joint that never counts; for one, UVC's code stops, and tapnet's takes 0.
    """
    some = counts.counted > 0
    means = pck_per_joint(counts)[:, some].mean(axis=1) if some.any() else [math.nan] * len(THRESHOLDS)
    return {f"PCK@{threshold}": float(mean) for threshold, mean in zip(THRESHOLDS, means, strict=True)}


def count_found(truth: np.ndarray, prediction: np.ndarray, *, size: tuple[int, int]) -> tuple[int, int]:
    """Count the joints inside the frame that were not lost, and all joints inside the frame; first frame left out.

    Args:
        truth: float64 (T, J, 2), as in `count_correct`.
        prediction: The same.
        size: Height and width of the frames in pixels.
    """
    inside = _inside(truth, size)[1:]
    found = ~(prediction == LOST).all(axis=2)[1:]
    return int((inside & found).sum()), int(inside.sum())


def _inside(joints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether joints (..., 2) lie inside the frame."""
    inside: np.ndarray = (joints >= 0) & (joints < np.array([size[1], size[0]]))
    return np.asarray(inside.all(axis=-1))


def _body_size(truth: np.ndarray, in_box: np.ndarray) -> np.ndarray:
    """0.6 times the diagonal of the box around some joints of every frame, in pixels: (T,)."""
    # The official codes start the box from -1 and 1e6; it shows where no joint has a larger or smaller coordinate.
    high = np.where(in_box[..., None], truth, -1).max(axis=1, initial=-1)
    low = np.where(in_box[..., None], truth, 1e6).min(axis=1, initial=1e6)
    return 0.6 * np.sqrt(((high - low) ** 2).sum(axis=1))

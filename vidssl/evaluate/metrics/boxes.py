"""Figures of box tracking, equal to got-10k/toolkit (commit 956e728: utils/metrics.py, experiments/*.py).

Boxes are x, y, width, height in pixels, float64 (T, 4). Where the truth is NaN nothing is a hit.
"""

import numpy as np

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)  # experiments/otb.py nbins_iou
PRECISION_THRESHOLDS_PX = np.arange(51)  # nbins_ce
PRECISION_PX = 20  # what "precision" means where one number is given


def overlaps(boxes: np.ndarray, truths: np.ndarray, *, frame_size: tuple[int, int] | None = None) -> np.ndarray:
    """Intersection over union of boxes, float64 (T,).

    Args:
        boxes: (T, 4).
        truths: (T, 4).
        frame_size: Height and width in pixels that both are bounded to, as GOT-10k does; None leaves them. The
            official bound moves an edge left of or above the frame to 0 and keeps the width or height.
    """
    if frame_size is not None:
        boxes, truths = _bounded(boxes, frame_size), _bounded(truths, frame_size)
    low = np.maximum(boxes[:, :2], truths[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], truths[:, :2] + truths[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + truths[:, 2:].prod(axis=1) - shared
    return np.clip(shared / (union + np.finfo(float).eps), 0, 1)


def centre_errors(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Distances of the middles of boxes in pixels, float64 (T,)."""
    middles, true_middles = (these[:, :2] + (these[:, 2:] - 1) / 2 for these in (boxes, truths))
    return np.sqrt(((middles - true_middles) ** 2).sum(axis=1))


def success_curve(overlap: np.ndarray) -> np.ndarray:
    """Share of frames (T,) with more overlap than each of `SUCCESS_THRESHOLDS`: (21,).

    Its mean is the success score, "AUC"; it is 20 / 21 for perfect boxes, whose overlap of 1 is not above 1.
    """
    return (overlap[:, None] > SUCCESS_THRESHOLDS).mean(axis=0)


def precision_curve(errors_px: np.ndarray) -> np.ndarray:
    """Share of frames (T,) whose centre is at most `PRECISION_THRESHOLDS_PX` off: (51,)."""
    return (errors_px[:, None] <= PRECISION_THRESHOLDS_PX).mean(axis=0)


def otb_figures(success: np.ndarray, precision: np.ndarray) -> dict[str, float]:
    """Read the figures of OTB off the curves, under the names of the toolkit.

    Returns:
        success_score: mean of the success curve; precision_score: precision at 20 px; success_rate: share of
        frames with an overlap above 0.5.
    """
    return {
        "success_score": float(success.mean()),
        "precision_score": float(precision[PRECISION_PX]),
        "success_rate": float(success[len(SUCCESS_THRESHOLDS) // 2]),
    }


def got10k_figures(overlap: np.ndarray) -> dict[str, float]:
    """Average overlap and success rates of the frames that count, (T,); NaN where there is none."""
    if not len(overlap):
        return dict.fromkeys(("AO", "SR0.5", "SR0.75"), float("nan"))
    return {
        "AO": float(overlap.mean()),
        "SR0.5": float((overlap > 0.5).mean()),
        "SR0.75": float((overlap > 0.75).mean()),
    }


def _bounded(boxes: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    limits = np.array([frame_size[1], frame_size[0]], dtype=np.float64)
    corners = np.clip(boxes[:, :2], 0, limits)
    return np.concatenate([corners, np.clip(boxes[:, 2:], 0, limits - corners)], axis=1)

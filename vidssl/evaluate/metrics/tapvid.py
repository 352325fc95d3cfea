"""Figures of point tracking, equal to google-deepmind/tapnet (commit c2cbab8: tapvid/evaluation_datasets.py).

Doersch et al. 2022, "TAP-Vid: a benchmark for tracking any point in a video", arXiv:2211.03726. Points are (x, y)
in pixels of a frame of 256x256; N tracks or queries, T frames.
"""

from typing import Literal, NamedTuple

import numpy as np

QueryMode = Literal["first", "strided"]
THRESHOLDS_PX = (1, 2, 4, 8, 16)
QUERY_STRIDE_FRAMES = 5
FIGURES = (
    "average_jaccard",
    "average_pts_within_thresh",
    "occlusion_accuracy",
    *(f"jaccard_{threshold}" for threshold in THRESHOLDS_PX),
    *(f"pts_within_{threshold}" for threshold in THRESHOLDS_PX),
)


class Queries(NamedTuple):
    """Points to track: `track` int64 (Q,) is the row of the annotation, `frame` int64 (Q,) where it is given."""

    track: np.ndarray
    frame: np.ndarray


def queries(occluded: np.ndarray, *, mode: QueryMode) -> Queries:
    """Choose what is asked, from bool (N, T), in the order of the official readers.

    Args:
        occluded: Of the annotation.
        mode: "first" asks for every track once, at its first visible frame; "strided" at every fifth frame where
            it is visible.
    """
    if mode == "first":
        tracks = np.flatnonzero(~occluded.all(axis=1))
        return Queries(tracks, (~occluded[tracks]).argmax(axis=1))
    frames, tracks = np.nonzero(~occluded[:, ::QUERY_STRIDE_FRAMES].T)
    return Queries(tracks, frames * QUERY_STRIDE_FRAMES)


def tapvid_figures(
    *,
    query_frames: np.ndarray,
    occluded: np.ndarray,
    points: np.ndarray,
    predicted_occluded: np.ndarray,
    predicted_points: np.ndarray,
    mode: QueryMode,
) -> dict[str, float]:
    """Score the tracks of one video; the figures of a benchmark are means over its videos.

    Args:
        query_frames: int (Q,). With "first" the frames after it count, with "strided" all others.
        occluded: bool (Q, T).
        points: (Q, T, 2) in pixels of a frame of 256x256.
        predicted_occluded: bool (Q, T).
        predicted_points: (Q, T, 2).
        mode: How queries were chosen.

    Returns:
        `FIGURES`. pts_within: share of the visible points that lie strictly closer than so many pixels, whatever
        was said of their visibility. jaccard: true positives over true positives, false negatives and false
        positives; a point called visible that is not, or too far off, is a false positive. NaN where a figure
        divides by none: no frame counts, no point is visible, or none is and none is said to be.
    """
    numbers = np.arange(occluded.shape[1])
    counted = numbers > query_frames[:, None] if mode == "first" else numbers != query_frames[:, None]
    visible, said_visible = ~occluded & counted, ~predicted_occluded & counted
    squared = ((predicted_points - points) ** 2).sum(axis=-1)
    figures = {"occlusion_accuracy": _share((predicted_occluded == occluded) & counted, counted.sum())}
    for threshold in THRESHOLDS_PX:
        within = squared < threshold**2
        false_positives = said_visible & ~(visible & within)
        figures[f"pts_within_{threshold}"] = _share(visible & within, visible.sum())
        figures[f"jaccard_{threshold}"] = _share(
            visible & within & said_visible, visible.sum() + false_positives.sum()
        )
    for average, name in (("average_jaccard", "jaccard"), ("average_pts_within_thresh", "pts_within")):
        figures[average] = float(np.mean([figures[f"{name}_{threshold}"] for threshold in THRESHOLDS_PX]))
    return {name: figures[name] for name in FIGURES}


def _share(hits: np.ndarray, total: int) -> float:
    return float(hits.sum() / total) if total else float("nan")

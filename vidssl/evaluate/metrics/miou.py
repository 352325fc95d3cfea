"""Mean intersection over union of semantic classes, from one confusion matrix over all pixels of all frames.

The figures of UVC's eval_vip.py (Liusifei/UVC 4336938), which TimeCycle, videowalk and CropMAE use for VIP as well.
"""

import math

import numpy as np

COLUMNS = ("mIoU", "overall accuracy", "mean accuracy", "fwavacc")


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Count the pixels of each true class that were given each class.

    Args:
        truth: Class of every pixel, uint8 (H, W); pixels with a value of `num_classes` or more do not count (void).
        prediction: The same, all values below `num_classes`.
        num_classes: With the background, which is class 0.

    Returns:
        int64 (num_classes, num_classes), rows are the true classes.

    Raises:
        ValueError: The sizes differ, or a predicted class is too high.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction are of different sizes: {truth.shape} and {prediction.shape}")
    counted = truth < num_classes
    true, predicted = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if predicted.size and int(predicted.max()) >= num_classes:
        raise ValueError(f"the class {int(predicted.max())} was predicted; there are {num_classes}, from 0")
    pairs = np.bincount(num_classes * true + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of every class, float64 (C,); NaN for a class that is neither true nor predicted."""
    right = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return right / (confusion.sum(axis=1) + confusion.sum(axis=0) - right)


def figures(confusion: np.ndarray) -> dict[str, float]:
    """Figures of eval_vip.py, in [0, 1], by `COLUMNS`; NaN if no pixel counts.

    "mIoU": the mean over the classes that are true or predicted anywhere. "overall accuracy": the share of pixels
    that are right. "mean accuracy": that share, class by class, averaged over the true classes. "fwavacc": the IoU,
    weighted by how many pixels a class has.
    """
    total = int(confusion.sum())
    if total == 0:
        return dict.fromkeys(COLUMNS, math.nan)
    iou, true, right = iou_per_class(confusion), confusion.sum(axis=1), np.diag(confusion)
    some = true > 0
    values = (
        np.nanmean(iou),
        right.sum() / total,
        (right[some] / true[some]).mean(),
        (true[some] / total * iou[some]).sum(),
    )
    return {column: float(value) for column, value in zip(COLUMNS, values, strict=True)}

"""mIoU against an oracle that looks at one pixel at a time, and against the official evaluation."""

import math

import numpy as np
import pytest

from vidssl.evaluate.metrics.miou import COLUMNS, confusion_matrix, figures, iou_per_class


def confusion_of(pairs, *, num_classes=20):
    return sum(confusion_matrix(truth, mask, num_classes=num_classes) for truth, mask in pairs)


def slow_figures(pairs, *, num_classes=20):
    """The definitions, class by class over sets of pixels."""
    pixels = []
    for truth, mask in pairs:
        for true, predicted in zip(truth.ravel().tolist(), mask.ravel().tolist(), strict=True):
            if true < num_classes:
                pixels.append((true, predicted))
    ious, accuracies, weighted = [], [], 0.0
    for label in range(num_classes):
        true = {number for number, (one, _) in enumerate(pixels) if one == label}
        predicted = {number for number, (_, one) in enumerate(pixels) if one == label}
        if true | predicted:
            ious.append(len(true & predicted) / len(true | predicted))
        if true:
            accuracies.append(len(true & predicted) / len(true))
            weighted += len(true) / len(pixels) * ious[-1]
    right = sum(true == predicted for true, predicted in pixels)
    if not pixels:
        return dict.fromkeys(COLUMNS, math.nan)
    values = sum(ious) / len(ious), right / len(pixels), sum(accuracies) / len(accuracies), weighted
    return dict(zip(COLUMNS, values, strict=True))


def random_mask(generator, ids, size=(12, 17)):
    return generator.choice(np.array(ids, dtype=np.uint8), size)


def full(value, size=(6, 9)):
    return np.full(size, value, dtype=np.uint8)


GENERATOR = np.random.default_rng(0)
CASES = {
    "random": [(random_mask(GENERATOR, range(20)), random_mask(GENERATOR, range(20))) for _ in range(3)],
    "ids with gaps": [(random_mask(GENERATOR, [0, 3, 17]), random_mask(GENERATOR, [0, 3, 9, 17]))],
    "void": [(random_mask(GENERATOR, [0, 1, 2, 255]), random_mask(GENERATOR, [0, 1, 2]))],
    "one frame, all right": [(full(4), full(4))],
    "full frame against empty": [(full(0), full(7))],
    "both empty": [(full(0), full(0))],
    "a class is never predicted": [(random_mask(GENERATOR, [0, 5]), full(0, (12, 17)))],
    "a class is never true": [(full(0, (12, 17)), random_mask(GENERATOR, [0, 5]))],
    "nothing but void": [(full(255), full(3))],
    "sizes differ between frames": [(full(1), full(1)), (full(2, (4, 5)), full(0, (4, 5)))],
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_definitions(name):
    assert figures(confusion_of(CASES[name])) == pytest.approx(slow_figures(CASES[name]), abs=1e-12, nan_ok=True)


def test_equal_to_the_official_evaluation():
    """Liusifei/UVC 4336938, eval_vip.py: fast_hist and the formulas of show_result, on these two frames."""
    y, x = np.mgrid[:24, :32]
    truths = [((x // 4 * (y // 6) + t) % 9 * 2).astype(np.uint8) for t in range(2)]
    masks = [((x // 5 * (y // 6) + t) % 10 * 2).astype(np.uint8) for t in range(2)]
    truths[0][:3] = 255
    found = figures(confusion_of(zip(truths, masks, strict=True)))
    official = {
        "mIoU": 0.2036945688792176,
        "overall accuracy": 0.44166666666666665,
        "mean accuracy": 0.32433862433862437,
        "fwavacc": 0.3326969911921877,
    }
    assert found == pytest.approx(official, abs=1e-9)


def test_iou_of_absent_classes_is_unknown():
    iou = iou_per_class(confusion_matrix(full(0), full(7), num_classes=9))
    assert iou[[0, 7]].tolist() == [0, 0]
    assert np.isnan(iou[[1, 2, 3, 4, 5, 6, 8]]).all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"different sizes: \(6, 9\) and \(9, 6\)"):
        confusion_matrix(full(0), full(0, (9, 6)), num_classes=20)
    with pytest.raises(ValueError, match="the class 20 was predicted; there are 20"):
        confusion_matrix(full(0), full(20), num_classes=20)

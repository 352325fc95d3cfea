"""J and F against the official values, a slow restatement, and closed forms."""

import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image

from vidssl.evaluate.metrics.jf import contour_accuracy, region_similarity, score_frame, statistics

SIZE = (480, 854)


def rectangle(top, left, bottom, right, *, size=SIZE):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


EMPTY, FULL, BOX = rectangle(0, 0, 0, 0), rectangle(0, 0, *SIZE), rectangle(100, 300, 200, 400)
CORNER, LAST_CORNER = rectangle(0, 0, 50, 50), rectangle(430, 804, 480, 854)

# (J, F) of "truth/result" as davis2017-evaluation (commit ac7c43f, metrics.py) gives them on 480x854 frames.
OFFICIAL = {
    "empty/empty": (EMPTY, EMPTY, 1.0, 1.0),
    "box/empty": (BOX, EMPTY, 0.0, 0.0),
    "empty/box": (EMPTY, BOX, 0.0, 0.0),
    "full/full": (FULL, FULL, 1.0, 1.0),
    "box/full": (BOX, FULL, 0.024395003903200624, 0.0),
    "full/empty": (FULL, EMPTY, 0.0, 1.0),
    "box shifted 8px": (BOX, np.roll(BOX, 8, axis=1), 0.8518518518518519, 1.0),
    "box shifted 9px": (BOX, np.roll(BOX, 9, axis=1), 0.8348623853211009, 0.54),
    "corner boxes": (CORNER, CORNER, 1.0, 1.0),
    "last corner": (LAST_CORNER, LAST_CORNER, 1.0, 1.0),
}


@pytest.mark.parametrize("case", OFFICIAL)
def test_degenerate_masks_score_as_in_the_official_code(case):
    truth, result, similarity, accuracy = OFFICIAL[case]
    assert (region_similarity(truth, result), contour_accuracy(truth, result)) == (similarity, accuracy)


def ids(path):
    return np.array(Image.open(path))


def test_every_reference_value_is_met_to_the_last_bit(shared):
    folder = shared / "data/reference/metrics"
    degenerate = json.loads((folder / "degenerate_cases.json").read_text())
    assert degenerate == {case: [similarity, accuracy] for case, (_, _, similarity, accuracy) in OFFICIAL.items()}
    reference = json.loads((folder / "davis2017_metric_values.json").read_text())
    assert len(reference) == 7
    for case, expected in reference.items():
        _, name, method = case.split("/")
        sequence, number = name.rsplit("_", 1)
        truths = [ids(path) for path in sorted((shared / "data/davis/Annotations/480p" / sequence).glob("*.png"))]
        if method == "identity":
            results = [truths[0]] * len(truths)
        else:
            results = [ids(path) for path in sorted((folder / "osvos" / sequence).glob("*.png"))]
        scores = [
            score_frame(truth, result, ids=range(1, int(truths[0].max()) + 1))[int(number) - 1]
            for truth, result in zip(truths[1:-1], results[1:-1], strict=True)
        ]
        for letter, values in zip("JF", np.array(scores).T, strict=True):
            assert values.tolist() == expected[letter], case
            assert statistics(values)._asdict() == {
                figure: expected[f"{letter}_{figure}"] for figure in ("mean", "recall", "decay")
            }, case


def slow_contour(mask):
    """Pixels that differ from a neighbour to the east, south or south-east that lies inside the frame.

    At the last row only the east neighbour counts, at the last column only the south one, at the last pixel none.
    """
    height, width = mask.shape
    found = set()
    for y in range(height):
        for x in range(width):
            neighbours = []
            if y < height - 1 and x < width - 1:
                neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            elif x < width - 1:
                neighbours = [(y, x + 1)]
            elif y < height - 1:
                neighbours = [(y + 1, x)]
            if any(mask[y, x] != mask[place] for place in neighbours):
                found.add((y, x))
    return found


def slow_accuracy(truth, result):
    """F by comparing every contour pixel with every other one."""
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    expected, got = slow_contour(truth), slow_contour(result)

    def matched(these, those):
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in those) for y, x in these)

    if not expected and not got:
        return 1.0
    if not expected or not got:
        return 0.0
    precision, recall = matched(got, expected) / len(got), matched(expected, got) / len(expected)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def masks_of_every_kind(size, generator):
    """Noise, blobs, single pixels, whole rows and columns at every edge."""
    height, width = size
    yield from (rectangle(0, 0, 0, 0, size=size), rectangle(0, 0, height, width, size=size))
    yield generator.random(size) < 0.5
    yield generator.random(size) < 0.01
    for y, x in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 3)]:
        yield rectangle(y, x, y + 1, x + 1, size=size)
    yield rectangle(height - 1, 0, height, width, size=size)
    yield rectangle(0, width - 1, height, width, size=size)
    for _ in range(3):
        top, left = generator.integers(height), generator.integers(width)
        yield rectangle(top, left, top + 1 + generator.integers(height), left + 1 + width // 2, size=size)


@pytest.mark.parametrize("size", [(20, 33), (29, 18), (1, 30), (30, 1), (1, 1), (8, 260)])
def test_contour_accuracy_equals_a_brute_force_search(size):
    masks = list(masks_of_every_kind(size, np.random.default_rng(sum(size))))
    for truth in masks:
        for result in masks[:: 1 if len(masks) * truth.size < 20_000 else 3]:
            assert contour_accuracy(truth, result) == slow_accuracy(truth, result)
            intersection, union = int((truth & result).sum()), int((truth | result).sum())
            assert region_similarity(truth, result) == (intersection / union if union else 1.0)


def test_tolerance_is_a_disc_that_grows_with_the_frame():
    """At 300x400 the diagonal is 500, the radius exactly 4. The contour of a point is a square of 2x2 pixels."""
    size = (300, 400)
    point = rectangle(100, 100, 101, 101, size=size)

    def accuracy(down, right):
        return contour_accuracy(point, np.roll(point, (down, right), axis=(0, 1)))

    # Straight down by 4 all four pixels match, by 5 the two nearer ones. Down and right by 3, all but the
    # farthest, at sqrt(9 + 9). Down 4 and right 3, the nearest alone, at sqrt(9 + 4); by 4 and 4 none.
    assert [accuracy(4, 0), accuracy(5, 0), accuracy(6, 0)] == [1, 0.5, 0]
    assert [accuracy(3, 3), accuracy(4, 3), accuracy(4, 4)] == [0.75, 0.25, 0]


def slow_statistics(values):
    """Mean, recall, decay with the limits of the quarters written out as 8-bit numbers."""
    limits = [int(np.round(limit + 1e-10) - 1) & 255 for limit in np.linspace(1, len(values), 5)]
    quarters = [values[low : high + 1] for low, high in itertools.pairwise(limits)]
    means = [sum(quarter) / len(quarter) if len(quarter) else math.nan for quarter in quarters]
    return sum(values) / len(values), sum(value > 0.5 for value in values) / len(values), means[0] - means[3]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 7, 38, 255, 256, 257, 300, 342, 400, 600])
def test_statistics_equal_a_slow_restatement(num_frames):
    values = np.random.default_rng(num_frames).random(num_frames)
    assert statistics(values) == pytest.approx(slow_statistics(values.tolist()), abs=1e-12, nan_ok=True)


def test_decay_of_long_sequences_wraps_like_the_official_code():
    """Values i / N of which every figure can be done by hand; db_statistics of the official code gives the same.

    N = 256: quarters [0, 64] and [191, 255] (there with NumPy 1; with NumPy 2 its 255 + 1 overflows in this case).
    N = 300: the last limit, 299, becomes 43, and the quarter [224, 43] is empty. N = 400: limits 299 and 399
    become 43 and 143.
    """
    ramp = {n: statistics(np.arange(n) / n).decay for n in (256, 300, 400)}
    assert ramp[256] == pytest.approx(32 / 256 - 223 / 256, abs=1e-15)
    assert math.isnan(ramp[300])
    assert ramp[400] == pytest.approx(50 / 400 - 93 / 400, abs=1e-15)


def test_recall_counts_values_above_one_half_only():
    assert statistics(np.array([0.5, 0.5, 0.51, 0.2])).recall == 0.25


def test_objects_are_the_ids_up_to_the_number_given():
    truth = np.array([[1, 1, 0, 3, 255, 255]] * 6, dtype=np.uint8)
    result = np.array([[1, 0, 0, 3, 0, 0]] * 6, dtype=np.uint8)
    # Id 2 occurs nowhere: as in the official code that is a perfect answer. Void counts as background.
    assert [similarity for similarity, _ in score_frame(truth, result, ids=(1, 2, 3))] == [0.5, 1.0, 1.0]
    assert score_frame(truth, result, ids=(1,)) == score_frame(truth, result, ids=(1, 2, 3))[:1]

"""PCK against the three official codes, and against closed forms."""

import itertools
import json
import math

import numpy as np
import pytest

from vidssl.evaluate.metrics.pck import (
    THRESHOLDS,
    VARIANTS,
    count_correct,
    count_found,
    pck,
    pck_per_joint,
)

SIZE = (120, 160)
OFFICIAL_NAMES = {"uvc": "videowalk", "vfs": "vfs", "tapvid": "tapnet"}


def score(truth, prediction, variant="uvc", size=SIZE):
    return list(pck(count_correct(truth, prediction, variant=variant, size=size)).values())


def official_case():
    """3 frames of 15 joints; some predictions are lost, joint 14 is outside, joint 13 is so in the last frame."""
    t, j = np.meshgrid(np.arange(3), np.arange(15), indexing="ij")
    truth = np.stack([20 + 9 * ((7 * j) % 13) + 3 * t, 15 + 6 * ((4 * j) % 15) + 2 * t * (j % 3)], -1).astype(
        float
    )
    off = np.stack([((5 * j + 3 * t) % 11 - 5) * (1 + j % 4), ((2 * j + 7 * t) % 9 - 4) * (1 + j % 3)], -1)
    prediction = truth + off
    truth[:, 14, 0] = 165
    truth[2, 13] = (-1, -1)
    prediction[(t * 5 + j) % 7 == 3] = -1
    prediction[1, 0, 0] = 0
    return truth, prediction


@pytest.mark.parametrize(
    ("variant", "official"),
    [
        # Liusifei/UVC f1b6fd9 (branch jhmdb), eval_pck.py.
        ("uvc", [17 / 30, 5 / 6, 0.9, 0.9, 0.9]),
        # xvjiarui/VFS 7233826, mmaction/datasets/jhmdb_dataset.py: printed 55.55555555555556 and 91.11111111111111.
        ("vfs", [0.5555555555555556] + [0.9111111111111111] * 4),
        # google-deepmind/tapnet c2cbab8, training/supervised_point_prediction.py: printed 33.333333333333336 ...;
        # it counts joint 14, which is never inside, as 0: its mean is 14/15 of ours.
        ("tapvid", [value * 15 / 14 for value in (1 / 3, 11 / 15, 7 / 9, 0.8, 0.8)]),
    ],
)
def test_equal_to_the_official_code(variant, official):
    assert score(*official_case(), variant) == pytest.approx(official, abs=1e-9)


def test_equal_to_the_official_values_on_real_joints(shared):
    folder = shared / "data/reference/metrics"
    values = json.loads((folder / "other_metric_values.json").read_text())
    for variant, (case, name) in itertools.product(
        VARIANTS, (("identity", "identity"), ("noisy", "noisy_10pct_lost"))
    ):
        official = values[f"pck_flies_{name}_{OFFICIAL_NAMES[variant]}"]
        with np.load(folder / "pck_case.npz") as saved:
            truth, prediction = (saved[key].transpose(2, 1, 0) for key in ("gt", f"pred_{case}"))
        found = pck(count_correct(truth, prediction, variant=variant, size=(480, 480)))
        assert {key: 100 * value for key, value in found.items()} == pytest.approx(official, abs=1e-6), (
            variant,
            case,
        )


def line_of_joints(num_frames=4, *, num_joints=15, step_px=10.0):
    """Joints on a horizontal line, equally far apart: the body is 0.6 * 14 steps long."""
    x = np.tile(5 + step_px * np.arange(num_joints), (num_frames, 1))
    return np.stack([x, np.full_like(x, 50)], axis=2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_truth_scores_one(variant):
    truth = line_of_joints()
    assert score(truth, truth, variant) == [1] * 5
    # PCK@0.1 reaches 0.84 steps, PCK@0.2 1.68 steps.
    assert score(truth, truth + np.array([8.3, 0]), variant)[0] == 1
    assert score(truth, truth + np.array([8.5, 0]), variant)[:2] == [0, 1]
    assert score(truth, truth + np.array([0, 16.9]), variant)[:3] == [0, 0, 1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_joint_exactly_at_the_threshold_is_right(variant):
    truth = np.array([[[10.0, 10.0], [40.0, 50.0]]] * 2)  # the body is 0.6 * 50 = 30 px long
    assert score(truth, truth + np.array([3, 0]), variant)[0] == 1
    assert score(truth, truth + np.array([3.0001, 0]), variant)[:2] == [0, 1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_shuffled_joints_score_chance(variant):
    """Joint i is found at k: right at 0.1 if i = k, at 0.2 if they are at most one apart."""
    truth = line_of_joints(3000)
    generator = np.random.default_rng(0)
    order = np.argsort(generator.random((3000, 15)), axis=1)
    found = score(truth, np.take_along_axis(truth, order[..., None], axis=1), variant)
    assert found[0] == pytest.approx(1 / 15, abs=0.005)
    assert found[1] == pytest.approx((13 * 3 + 2 * 2) / 15**2, abs=0.005)
    assert found[4] == pytest.approx((15 + 2 * (14 + 13 + 12 + 11)) / 15**2, abs=0.01)


def test_losing_what_is_wrong_raises_pck_but_not_coverage():
    truth = line_of_joints(3)
    wrong = truth.copy()
    wrong[1:, :5] += 100
    lost = wrong.copy()
    lost[1:, :5] = -1
    assert score(truth, wrong, "uvc")[0] == pytest.approx(10 / 15)
    # The box is now around the other ten joints. In the first frame, which does not count, all are right.
    assert score(truth, lost, "uvc")[0] == score(truth, lost, "vfs")[0] == 1
    assert score(truth, wrong, "tapvid")[0] == pytest.approx((10 + 5 / 3) / 15)
    assert score(truth, lost, "tapvid")[0] == pytest.approx((10 + 5 / 3) / 15)
    assert count_found(truth, wrong, size=SIZE) == (30, 30)
    assert count_found(truth, lost, size=SIZE) == (20, 30)


def test_the_box_leaves_out_lost_joints():
    truth = line_of_joints(2)
    prediction = truth + np.array([6, 0])
    assert score(truth, prediction)[0] == 1
    prediction[:, 8:] = -1  # the body is now 0.6 * 7 steps long: 0.1 of it are 4.2 px, 0.2 are 8.4
    assert score(truth, prediction)[:2] == [0, 1]


def test_only_the_first_frame_decides_who_counts_for_tapvid():
    truth = line_of_joints(3)
    truth[0, 0], truth[1:, 1] = (-20, 50), (-20, 50)  # outside in the first; outside in the others
    counts = count_correct(truth, truth, variant="tapvid", size=SIZE)
    assert counts.counted.tolist() == [0] + [3] * 14
    assert np.isnan(pck_per_joint(counts)[:, 0]).all()
    assert count_found(truth, truth, size=SIZE) == (2 * 14, 2 * 14)


def test_the_first_frame_counts_as_each_code_has_it():
    truth = line_of_joints(4)
    prediction = truth.copy()
    prediction[0] += 100
    assert score(truth, prediction, "uvc")[0] == 1
    assert score(truth, prediction, "vfs")[0] == score(truth, prediction, "tapvid")[0] == 0.75


def test_column_0_is_lost_for_vfs_alone():
    truth = line_of_joints(2)
    truth[:, 0, 0] = 0
    prediction = truth.copy()
    counted = {v: count_correct(truth, prediction, variant=v, size=SIZE).counted.tolist() for v in VARIANTS}
    assert counted == {"uvc": [1] * 15, "vfs": [0] + [2] * 14, "tapvid": [2] * 15}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_body_without_size_has_nothing_right(variant):
    """As in all three codes: 0 / 0 is no number, which is not below a threshold."""
    truth = np.full((3, 15, 2), 40.0)
    assert score(truth, truth, variant) == [0] * 5


def test_nothing_counted_is_no_figure():
    truth = line_of_joints(1)
    assert all(math.isnan(value) for value in score(truth, truth, "uvc"))  # the first frame alone
    assert score(truth, truth, "vfs") == [1] * 5
    assert count_found(truth, truth, size=SIZE) == (0, 0)
    assert list(pck(count_correct(truth, truth, variant="vfs", size=SIZE))) == [f"PCK@{t}" for t in THRESHOLDS]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(4, 15, 2\) for the truth, \(3, 15, 2\) predicted"):
        count_correct(line_of_joints(4), line_of_joints(3), variant="uvc", size=SIZE)

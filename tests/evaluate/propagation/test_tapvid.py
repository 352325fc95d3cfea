"""Points: figures against official values, tracks on clips whose answer is known."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_tracks import Pixels

from vidssl.cli import main
from vidssl.data.published.benchmarks import read_frame
from vidssl.data.published.points import tapvid_sequences
from vidssl.evaluate.metrics.tapvid import FIGURES, THRESHOLDS_PX, queries, tapvid_figures
from vidssl.evaluate.propagation.drawing.draw import draw_tracks
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences
from vidssl.evaluate.propagation.tapvid import (
    point_labels,
    read_points,
    summarise_points,
    tapvid_benchmark,
    track_points,
)

# What google-deepmind/tapnet (commit c2cbab8, tapvid/evaluation_datasets.py: sample_queries_*,
# compute_tapvid_metrics) gives for four tracks of eight frames. Track 2 is seen in the last frame alone, track 3 never.
POINTS = np.array(
    [[[171, 136], [172, 139], [172, 140], [175, 142], [176, 142], [176, 145], [174, 147], [175, 144]],
     [[111, 71], [111, 68], [113, 70], [115, 68], [112, 71], [109, 71], [106, 70], [106, 69]],
     [[74, 24], [71, 21], [68, 22], [68, 23], [66, 24], [68, 23], [68, 26], [70, 29]],
     [[32, 23], [35, 24], [37, 25], [38, 24], [41, 21], [42, 23], [44, 23], [43, 22]]], dtype=float
)  # fmt: skip
OCCLUDED = np.array(
    [[0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1, 0], [1] * 8], dtype=bool
)
ERRORS_PX = np.array(
    [[[-9, -3], [3, -7], [0, 2], [5, 8], [-2, -1], [0, 9], [-6, 0], [-9, -1]],
     [[8, 2], [-3, 9], [2, 9], [-9, -1], [6, 5], [-2, 0], [-2, 1], [-5, 5]],
     [[-8, -2], [-4, 4], [5, 4], [8, 8], [-6, -7], [-7, 4], [9, 8], [3, 9]],
     [[7, -9], [-7, 7], [-8, 9], [6, 9], [-3, -7], [0, 9], [-3, 7], [-2, 6]]]
)  # fmt: skip
SAID_OCCLUDED = np.array(
    [[0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0, 0]],
    dtype=bool,
)
QUERIES = {"first": [(0, 0), (1, 0), (2, 7)], "strided": [(0, 0), (1, 0), (1, 5)]}  # track, frame
OFFICIAL = {  # average_jaccard, average_pts_within_thresh, occlusion_accuracy, jaccard_*, pts_within_*
    "first": [0.13245798319327734, 0.4222222222222222, 0.35714285714285715, 0.0, 0.0, 0.11764705882352941, 0.1875,
              0.35714285714285715, 0.0, 0.0, 0.4444444444444444, 0.6666666666666666, 1.0],
    "strided": [0.12399999999999997, 0.38461538461538464, 0.3333333333333333, 0.0, 0.0, 0.12, 0.16666666666666666,
                0.3333333333333333, 0.0, 0.0, 0.38461538461538464, 0.5384615384615384, 1.0],
}  # fmt: skip
MODES = pytest.mark.parametrize("mode", ["first", "strided"])


def figures(mode, *, errors=ERRORS_PX, said=SAID_OCCLUDED, points=POINTS, occluded=OCCLUDED):
    asked = queries(occluded, mode=mode)
    return tapvid_figures(
        query_frames=asked.frame,
        occluded=occluded[asked.track],
        points=points[asked.track],
        predicted_occluded=said[asked.track],
        predicted_points=(points + errors)[asked.track],
        mode=mode,
    )


@MODES
def test_queries_and_figures_are_those_of_the_official_code(mode):
    assert list(zip(*(column.tolist() for column in queries(OCCLUDED, mode=mode)), strict=True)) == QUERIES[mode]
    expected = dict(zip(FIGURES, OFFICIAL[mode], strict=True))
    assert figures(mode) == pytest.approx(expected, abs=1e-12)


def test_reference_values_are_met(shared):
    folder = shared / "data/reference/metrics"
    references = json.loads((folder / "other_metric_values.json").read_text())
    case = np.load(folder / "tapvid_case.npz")
    for video, mode in itertools.product(range(2), ("first", "strided")):
        reference = references[f"tapvid_{mode}"]
        assert set(reference) == set(FIGURES)
        measured = tapvid_figures(
            query_frames=np.round(case["query_points"][video, :, 0]).astype(int),
            occluded=case["gt_occluded"][video],
            points=case["gt_tracks"][video],
            predicted_occluded=case["pred_occluded"][video],
            predicted_points=case["pred_tracks"][video],
            mode=mode,
        )
        for name, values in reference.items():
            assert measured[name] == pytest.approx(values[video], abs=1e-6), name


@MODES
def test_perfect_tracks_score_1_and_shuffled_ones_chance(mode):
    assert set(figures(mode, errors=0, said=OCCLUDED).values()) == {1.0}
    generator = np.random.default_rng(0)
    points = generator.uniform(0, 256, (400, 1, 2)).repeat(4, axis=1)
    occluded = np.zeros((400, 4), dtype=bool)
    errors = points[generator.permutation(400)] - points
    shuffled = figures(mode, errors=errors, said=occluded, points=points, occluded=occluded)
    # A random place is within r of a point with a chance of pi r^2 / 256^2, less what is lost at the border.
    within = [math.pi * (threshold / 256) ** 2 for threshold in THRESHOLDS_PX]
    assert shuffled["average_pts_within_thresh"] == pytest.approx(np.mean(within), abs=0.003)
    assert shuffled["average_jaccard"] < 0.003 and shuffled["occlusion_accuracy"] == 1


def test_figures_that_divide_by_none_are_nan_and_left_out_of_the_mean():
    one = np.zeros((1, 1, 2))
    alone = figures("first", errors=0, said=np.zeros((1, 1), bool), points=one, occluded=np.zeros((1, 1), bool))
    assert all(math.isnan(value) for value in alone.values())
    nobody = figures("strided", occluded=np.ones((4, 8), bool))
    assert all(math.isnan(value) for value in nobody.values())
    # Seen in the query frame alone, and rightly said so: occlusion is scored, points are not.
    occluded = np.array([[False, True, True]])
    gone = figures("first", errors=0, said=occluded, points=np.zeros((1, 3, 2)), occluded=occluded)
    assert gone["occlusion_accuracy"] == 1 and math.isnan(gone["average_jaccard"])
    # A false positive is one where nothing is visible.
    false = figures("first", errors=0, said=~occluded, points=np.zeros((1, 3, 2)), occluded=occluded)
    assert false["average_jaccard"] == 0 and false["occlusion_accuracy"] == 0
    # Result files have null for NaN.
    records = [
        {"name": name, "num_queries": 1, "figures": {key: None if math.isnan(v) else v for key, v in part.items()}}
        for name, part in (("alone", alone), ("gone", gone))
    ]
    together, parts, _ = summarise_points(records)
    assert together["occlusion_accuracy"] == 1 and math.isnan(together["average_jaccard"])
    assert math.isnan(parts["alone"]["occlusion_accuracy"])


def test_points_are_written_to_labels_and_read_off_again():
    cells = torch.tensor([[3.25, 2.5], [0.0, 0.0], [8.0, 5.0], [-0.5, 5.4]])
    labels = point_labels(cells, grid=(6, 9))
    assert labels[0, 2:4, 3:5].tolist() == [[0.375, 0.125], [0.375, 0.125]]
    np.testing.assert_allclose(labels.sum(dim=(1, 2)), 1)
    labels[0, 0, 8] = 0.3  # far from the maximum: not read
    places, shares = read_points(labels)
    np.testing.assert_allclose(places, [[3.25, 2.5], [0, 0], [8, 5], [0, 5]], atol=1e-6)
    np.testing.assert_allclose(shares, 1, atol=1e-6)


def rolling(num_frames, *, shift_px=(4, 8), size_px=64):
    """Noise that moves by so many pixels to the right and down, uint8 (3, H, W) per frame; it wraps around."""
    noise = torch.randint(0, 256, (3, size_px, size_px), dtype=torch.uint8, generator=torch.manual_seed(1))
    return [torch.roll(noise, (shift_px[1] * n, shift_px[0] * n), dims=(1, 2)) for n in range(num_frames)]


def features_of(frames):
    clip = torch.stack(frames)[None].float() / 255
    return list(F.normalize(Pixels().features(clip)[0], dim=1))


def test_points_are_followed_forward_and_backward_through_moving_noise():
    features = features_of(rolling(6))
    starts, frames = np.array([[17.0, 30], [21.5, 24], [20, 20]]), np.array([2, 2, 5])
    numbers = np.arange(6)
    truth = starts[:, None] + (numbers - frames[:, None])[..., None] * [4.0, 8]
    points, occluded = track_points(features, starts / 64, frames, protocol=CRW, both_ways=True)
    inside = ((truth > 3) & (truth < 61)).all(axis=-1)  # where the four cells around it are in the frame
    assert inside.sum() >= 14
    np.testing.assert_allclose((points * 64)[inside], truth[inside], atol=0.01)
    assert not occluded[inside].any()

    forward, before = track_points(features, starts / 64, frames, protocol=CRW, both_ways=False)
    later = numbers >= frames[:, None]
    np.testing.assert_array_equal(forward[later], points[later])
    np.testing.assert_array_equal(before, np.where(later, occluded, True))
    # Nobody's track depends on what else is asked.
    alone, _ = track_points(features, starts[1:2] / 64, frames[1:2], protocol=CRW, both_ways=True)
    np.testing.assert_allclose(alone[0], points[1], atol=1e-12)


def test_a_covered_point_is_occluded_until_it_is_seen_again():
    frames = rolling(6, shift_px=(4, 0))
    for number in (2, 3):  # by what is further down
        frames[number][:, 16:40] = frames[number][:, 40:64]
    _, occluded = track_points(
        features_of(frames), np.array([[0.3, 0.42]]), np.array([0]), protocol=CRW, both_ways=False
    )
    assert occluded.tolist() == [[False, False, True, True, False, False]]


@pytest.mark.parametrize(("visible_share", "seen"), [(0.9, False), (0.0, True)])
def test_a_point_whose_label_is_scattered_is_visible_or_not_by_its_share(visible_share, seen):
    frames = rolling(4, shift_px=(4, 0))
    frames[2][:, 16:40] = torch.randint(0, 256, (3, 24, 64), dtype=torch.uint8, generator=torch.manual_seed(2))
    _, occluded = track_points(
        features_of(frames),
        np.array([[0.3, 0.42]]),
        np.array([0]),
        protocol=CRW,
        both_ways=False,
        visible_share=visible_share,
    )
    assert occluded.tolist() == [[False, False, not seen, False]]


def write_sequence(root, *, num_frames=6):
    """Noise of 64 px that moves 2 px a frame, with three points on it: 8 px in a frame of 256."""
    video = torch.stack(rolling(num_frames, shift_px=(2, 0))).permute(0, 2, 3, 1).numpy()
    starts = np.array([[15.0, 20], [25, 40], [41, 33]])
    points = (starts[:, None] + np.arange(num_frames)[None, :, None] * [2, 0]) / 64
    root.mkdir(parents=True)
    np.savez(root / "noise.npz", video=video, points=points, occluded=np.zeros((3, num_frames), bool))


@MODES
def test_a_sequence_is_measured_and_taken_over(tmp_path, mode):
    write_sequence(tmp_path / "data")
    benchmark = tapvid_benchmark(tapvid_sequences(tmp_path / "data"), mode=mode)
    carrier = Carrier(Pixels(), dataclasses.replace(CRW, frame_size=(64, 64)), torch.device("cpu"))
    arguments = {"out": tmp_path / "out", "model_name": "pixels", "root": tmp_path / "data"}
    result = evaluate_sequences(benchmark, carrier, overlays=mode == "first", **arguments)
    assert result.record["settings"]["query_mode"] == mode
    assert result.record["num_queries"] == (3 if mode == "first" else 6)
    written = tmp_path / "out/predictions/noise.npz"
    with np.load(written) as file:
        asked, predicted = file["query_frame"], file["points"] * 256
    # The texture moves half a cell a frame: every other frame has the features of the query's, and is exact.
    truth = tapvid_sequences(tmp_path / "data")[0].points[np.arange(len(asked)) % 3] * 256
    same = (np.arange(6) - asked[:, None]) % 2 == 0
    np.testing.assert_allclose(predicted[same], truth[same], atol=0.05)
    assert result.figures["pts_within_1"] >= 0.4
    if mode == "first":
        assert (tmp_path / "out/overlays/noise.mp4").stat().st_size > 1000
        assert read_frame(tmp_path / "out/overlays/noise.png").shape[2] > 5 * 240
    before = written.stat().st_mtime_ns
    assert evaluate_sequences(benchmark, carrier, overlays=False, **arguments).figures == result.figures
    assert written.stat().st_mtime_ns == before
    # Without an encoder points stay: 8 px off after one frame, 16 after two, and both limits are strict.
    still = evaluate_sequences(
        benchmark, Carrier(None, None), **(arguments | {"out": tmp_path / "still", "overlays": False})
    )
    near = {"first": [0, 0, 0, 0, 1 / 5], "strided": [0, 0, 0, 0, 2 / 10]}[mode]
    assert [still.figures[f"pts_within_{t}"] for t in THRESHOLDS_PX] == pytest.approx(near)
    assert still.figures["occlusion_accuracy"] == 1


def test_the_identity_on_the_command_line(tmp_path):
    write_sequence(tmp_path / "data", num_frames=2)
    command = [
        "evaluate",
        "tapvid",
        "--root",
        str(tmp_path / "data"),
        "--model",
        "identity",
        "--query-mode",
        "first",
    ]
    assert main([*command, "--out", str(tmp_path / "out"), "--no-overlays"]) == 0
    measured = json.loads((tmp_path / "out/result.json").read_text())["figures"]
    assert measured["average_pts_within_thresh"] == pytest.approx(1 / 5)  # 8 px off: within 16 alone


def test_tails_end_in_discs_and_crosses():
    frame = torch.full((3, 40, 60), 100, dtype=torch.uint8)
    tails = torch.tensor([[[10.0, 10], [20, 10], [30, 10]], [[10, 30], [10, 30], [10, 30]]])
    colors = torch.tensor([[255, 0, 0], [0, 255, 0]], dtype=torch.uint8)
    drawn = draw_tracks(frame, tails, torch.tensor([True, False]), colors=colors).int()
    assert drawn[0, 10, 15] > 180 and drawn[1, 10, 15] < 60  # the way, in red
    assert drawn[:, 10, 30].tolist() == [255, 0, 0]  # the disc
    assert drawn[:, 30, 10].tolist() == [0, 255, 0] and drawn[:, 30, 12].tolist() == [100] * 3  # a cross
    assert (drawn == frame).all(dim=0).float().mean() > 0.9


def test_a_video_without_a_visible_point_and_one_of_one_frame_are_measured(tmp_path):
    write_sequence(tmp_path / "data")
    for name, num_frames, occluded in (("nobody", 2, True), ("still", 1, False)):
        np.savez(
            tmp_path / f"data/{name}.npz",
            video=np.zeros((num_frames, 64, 64, 3), np.uint8),
            points=np.full((3, num_frames, 2), 0.5),
            occluded=np.full((3, num_frames), occluded),
        )
    benchmark = tapvid_benchmark(tapvid_sequences(tmp_path / "data"), mode="first")
    carrier = Carrier(Pixels(), dataclasses.replace(CRW, frame_size=(64, 64)))
    result = evaluate_sequences(benchmark, carrier, out=tmp_path / "out", model_name="pixels", root=tmp_path)
    assert result.figures == pytest.approx(result.parts["noise"])  # the others have none
    assert all(math.isnan(value) for name in ("nobody", "still") for value in result.parts[name].values())
    assert {path.stem for path in (tmp_path / "out/overlays").glob("*.mp4")} == {"noise", "nobody", "still"}

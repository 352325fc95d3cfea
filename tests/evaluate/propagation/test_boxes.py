"""Boxes: figures against official values and closed forms, trackers on clips whose answer is known."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_tracks import Pixels, square_clip

from vidssl.cli import main
from vidssl.data.published.tracks import got10k_sequences, otb_sequences
from vidssl.evaluate.metrics.boxes import (
    centre_errors,
    got10k_figures,
    otb_figures,
    overlaps,
    precision_curve,
    success_curve,
)
from vidssl.evaluate.propagation.boxes import (
    Correlation,
    _best_place,
    _middle,
    _window,
    box_benchmark,
    box_labels,
    read_box,
    score_boxes,
    summarise_boxes,
    track_correlation,
    track_masks,
)
from vidssl.evaluate.propagation.drawing.draw import draw_boxes
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences

CPU = torch.device("cpu")
NAN = math.nan

# What got-10k/toolkit (commit 956e728: utils/metrics.py, experiments/otb.py and got10k.py) gives for these boxes:
# a hit, near ones, one outside the frame, one that is NaN, one without area, a miss.
TRUTHS = np.array(
    [[10, 20, 30, 40], [12, 21, 30, 40], [-8, 5, 30, 40], [90, 60, 30, 40], [NAN] * 4, [50, 50, 0, 0],
     [20, 30, 30, 40], [60, 10, 12.5, 8.25]]
)  # fmt: skip
BOXES = np.array(
    [[0, 0, 1, 1], [14, 26, 28, 44], [-3, 0, 25, 50], [80, 70, 30, 40], [50, 50, 10, 10], [50.5, 52, 5, 5],
     [200, 90, 30, 40], [61, 11.5, 12, 9]]
)  # fmt: skip
OVERLAPS = [1, 0.6749311294765841, 0.6896551724137931, 0.3333333333333333, NAN, 0, 0, 0.5814606741573034]
ERRORS_PX = [0, 7.0710678118654755, 2.5, 14.142135623730951, NAN, 5.408326913195984, 189.73665961010275,
             2.019436802675439]  # fmt: skip
SUCCESS = [0.625] * 7 + [0.5] * 5 + [0.375] * 2 + [0.125] * 6 + [0]
PRECISION = [0.125] * 3 + [0.375] * 3 + [0.5] * 2 + [0.625] * 7 + [0.75] * 36
COVER = np.array([8, 8, 5, 2, 0, 0, 1, 8])
BOUNDED = [0.6749311294765841, 0.6896551724137931, 0.3333333333333333, 0.0, 0.5814606741573034]  # 100 x 80 pixels


def given(boxes):
    """Boxes with the true first one, as the toolkit scores OTB."""
    return np.concatenate([TRUTHS[:1], boxes[1:]])


def test_otb_figures_are_those_of_the_official_code():
    overlap, errors = overlaps(given(BOXES), TRUTHS), centre_errors(given(BOXES), TRUTHS)
    np.testing.assert_allclose(overlap, OVERLAPS, rtol=0, atol=1e-12)
    np.testing.assert_allclose(errors, ERRORS_PX, rtol=0, atol=1e-12)
    assert success_curve(overlap).tolist() == SUCCESS and precision_curve(errors).tolist() == PRECISION
    assert otb_figures(success_curve(overlap), precision_curve(errors)) == {
        "success_score": pytest.approx(0.39880952380952384, abs=1e-12),
        "precision_score": 0.75,
        "success_rate": 0.5,
    }


def test_got10k_figures_are_those_of_the_official_code():
    overlap = overlaps(BOXES, TRUTHS, frame_size=(80, 100))[1:][COVER[1:] > 0]
    np.testing.assert_allclose(overlap, BOUNDED, rtol=0, atol=1e-12)
    expected = {"AO": pytest.approx(0.4558760618762028, abs=1e-12), "SR0.5": 0.6, "SR0.75": 0.0}
    assert got10k_figures(overlap) == expected


def test_boxes_are_bounded_to_the_frame_as_the_official_code_does_it():
    # 30 px left of the frame: the official bound moves the box in, at full width.
    outside, at_edge = np.array([[-30.0, 0, 20, 10]]), np.array([[0.0, 0, 20, 10]])
    assert overlaps(outside, at_edge, frame_size=(80, 100)) == pytest.approx(1)
    assert overlaps(outside, at_edge) == 0
    # What is right of it is cut off.
    wide = np.array([[80.0, 0, 40, 10]])
    assert overlaps(wide, np.array([[80.0, 0, 20, 10]]), frame_size=(80, 100)) == pytest.approx(1)
    assert overlaps(np.array([[120.0, 0, 20, 10]]), at_edge, frame_size=(80, 100)) == 0


def test_crossing_scores_are_those_of_the_reference_file(shared):
    reference = json.loads((shared / "data/reference/metrics/other_metric_values.json").read_text())
    noisy = np.loadtxt(shared / "data/reference/metrics/crossing_noisy_boxes.txt", delimiter=",")
    (sequence,) = otb_sequences(shared / "data/boxes")
    cases = {
        "gt": sequence.boxes,
        "identity": np.repeat(sequence.boxes[:1], 120, axis=0),
        "noisy_boxes": noisy - [1, 1, 0, 0],
    }
    for name, boxes in cases.items():
        expected = reference[f"otb_crossing_{name}"]
        figures, parts, _ = summarise_boxes([score_boxes(sequence, boxes, task="otb")], task="otb")
        assert figures == parts["Crossing"]
        assert figures["success_score"] == pytest.approx(expected["success_auc"], abs=1e-6)
        assert figures["precision_score"] == pytest.approx(expected["precision20"], abs=1e-6)
        assert figures["success_rate"] == pytest.approx(expected["success50"], abs=1e-6)
        boxes = np.concatenate([sequence.boxes[:1], boxes[1:]])
        assert overlaps(boxes, sequence.boxes).mean() == pytest.approx(expected["mean_iou"], abs=1e-6)


def test_perfect_boxes_score_the_maximum_and_shuffled_ones_chance():
    generator = np.random.default_rng(0)
    truths = np.concatenate([generator.uniform(0, 200, (500, 2)), generator.uniform(20, 60, (500, 2))], axis=1)

    def figures(boxes):
        return otb_figures(success_curve(overlaps(boxes, truths)), precision_curve(centre_errors(boxes, truths)))

    assert figures(truths) == {"success_score": 20 / 21, "precision_score": 1, "success_rate": 1}
    assert got10k_figures(overlaps(truths, truths)) == pytest.approx({"AO": 1, "SR0.5": 1, "SR0.75": 1})
    shuffled = figures(truths[generator.permutation(500)])
    # Two places of a square of 200 px are within 20 px of each other about one time in 34: pi * 20**2 / 200**2.
    assert shuffled["precision_score"] == pytest.approx(math.pi / 100, abs=0.02)
    assert shuffled["success_rate"] < 0.01


def test_otb_is_a_mean_over_sequences_and_got10k_over_frames():
    long, short = {"name": "long", "overlaps": [1.0] * 9}, {"name": "short", "overlaps": [0.0]}
    figures, parts, more = summarise_boxes([long, short, {"name": "none", "overlaps": []}], task="got10k")
    assert figures == {"AO": 0.9, "SR0.5": 0.9, "SR0.75": 0.9} and more == {"num_scored_frames": 10}
    assert parts["short"]["AO"] == 0 and math.isnan(parts["none"]["AO"])
    curves = [
        {"name": str(value), "success_curve": [value] * 21, "precision_curve": [value] * 51} for value in (1, 0, 0)
    ]
    assert summarise_boxes(curves, task="otb")[0]["success_score"] == pytest.approx(1 / 3)


def test_cells_have_the_share_of_the_label_that_the_box_covers():
    labels = box_labels(np.array([4.0, 6, 10, 1]), grid=(3, 4), frame_size=(12, 16))
    row = [0, 0.25, 0.25, 0.125]  # a quarter of the height; all, all and half of the width
    assert labels.tolist() == [[[0, 0, 0, 0], row, [0, 0, 0, 0]]]
    outside = box_labels(np.array([-4.0, -4, 8, 8]), grid=(3, 4), frame_size=(12, 16))
    assert outside[0, 0, 0] == 1 and outside.sum() == 1


def test_a_box_is_read_around_the_pixels_that_hang_together_with_the_strongest():
    label = np.zeros((20, 30))
    label[5:9, 10:16] = 0.6
    label[6, 12] = 1
    label[5:9, 16:18] = 0.4  # too weak
    label[15, 25] = 0.9  # a speck elsewhere
    assert read_box(label).tolist() == [10, 5, 6, 4]
    assert read_box(np.zeros((4, 4))) is None
    assert read_box(np.ones((4, 6))).tolist() == [0, 0, 6, 4]


def test_a_square_is_followed_exactly_as_a_mask(tmp_path):
    frames, boxes = square_clip(shift_px=4, num_frames=8)
    tracked = list(track_masks(Pixels(), frames, boxes[0], protocol=CRW, device=CPU))
    # The interpolated label has half of its strength at the edge of the cells.
    np.testing.assert_array_equal(tracked, boxes)


def test_an_object_that_leaves_keeps_its_last_box_and_is_found_again():
    (first, second, third), boxes = square_clip(shift_px=16, num_frames=3)
    nothing = first.clone()
    nothing[:, 24:40, 8:24] = second[:, 24:40, 8:24]
    frames = [first, second, nothing, nothing, third]
    tracked = list(track_masks(Pixels(), frames, boxes[0], protocol=CRW, device=CPU))
    np.testing.assert_array_equal(tracked, boxes[[0, 1, 1, 1, 2]])


@pytest.mark.parametrize("tracker", ["masks", "correlation"])
def test_one_frame_gives_the_first_box(tracker):
    frames, boxes = square_clip(shift_px=4, num_frames=1)
    track = track_masks if tracker == "masks" else track_correlation
    knobs = {"knobs": Correlation()} if tracker == "correlation" else {}
    assert [box.tolist() for box in track(Pixels(), frames, boxes[0], protocol=CRW, device=CPU, **knobs)] == [
        boxes[0].tolist()
    ]


def test_the_best_place_is_the_peak_and_the_cosine_window_breaks_ties():
    scores = torch.zeros(3, 9, 13)
    scores[2, 6, 3] = 1
    scores[0, 4, 6] = 0.5
    assert _best_place(scores, cosine_weight=0)[0] == 2
    np.testing.assert_allclose(_best_place(scores, cosine_weight=0)[1], [-3, 2])
    two = torch.zeros(1, 9, 13)
    two[0, 4, 2], two[0, 4, 7] = 1, 0.99
    assert _best_place(two, cosine_weight=0)[1].tolist() == [-4, 0]
    assert _best_place(two, cosine_weight=0.3)[1][0] == pytest.approx(1, abs=0.26)


def test_a_window_is_cut_where_it_should_be_and_filled_with_the_mean_colour():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 64, 3))
    image = Image.fromarray(ramp.copy())
    window = _window(image, np.array([32.0, 24]), 16, window_px=32).float()
    # Columns 24 to 40 in 32 steps: window column i shows 24 + (i + 0.5) / 2, the ramp is 4 * (x - 0.5).
    expected = 4 * (24 + (torch.arange(32) + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(window[0, 10, 2:-2], expected[2:-2], atol=1)
    outside = _window(image, np.array([0.0, 24]), 32, window_px=32)
    assert outside[:, :, :15].unique().tolist() == [126]  # the mean of the ramp
    assert outside[0, 10, -1] == 60


def test_the_template_is_cut_from_the_middle():
    cells = torch.arange(8 * 9).view(1, 8, 9)
    middle = _middle(cells, np.array([1 / 3, 0.5]))  # share of the width, of the height
    assert middle[0].tolist() == cells[0, 2:6, 3:6].tolist()
    assert _middle(cells, np.array([0.001, 0.001])).shape == (1, 2, 1)  # never empty, always centred


def test_three_scales_follow_a_square_that_grows():
    (frame, *_), boxes = square_clip(shift_px=0, num_frames=1, smooth=True)
    frames, sizes = [], []
    for number in range(8):
        side = 64 / 1.03**number  # the frame is magnified about the middle of the square
        left, top = 32 * (1 - side / 64), 32 * (1 - side / 64)
        image = Image.fromarray(frame.permute(1, 2, 0).numpy())
        zoomed = image.resize((64, 64), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        frames.append(torch.from_numpy(np.array(zoomed)).permute(2, 0, 1))
        sizes.append(16 * 1.03**number)
    for num_scales, expected in ((1, 16), (3, sizes[-1])):
        knobs = Correlation(window_px=64, num_scales=num_scales, scale_rate=1)
        tracked = list(track_correlation(Pixels(), frames, boxes[0], protocol=CRW, knobs=knobs, device=CPU))
        assert tracked[-1][2] == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("shift_px", [0, 3, -2])
def test_a_square_is_followed_by_correlation(shift_px):
    frames, boxes = square_clip(shift_px=shift_px, num_frames=6, smooth=True)
    knobs = Correlation(window_px=64, num_scales=1)
    tracked = list(track_correlation(Pixels(), frames, boxes[0], protocol=CRW, knobs=knobs, device=CPU))
    assert np.abs(np.array(tracked)[:, :2] - boxes[:, :2]).max() < 1.5
    np.testing.assert_array_equal(np.array(tracked)[:, 2:], boxes[:, 2:])


def carrier():
    return Carrier(Pixels(), CRW, CPU)


def write_square(root, *, name="Square", first_pixel=1, num_frames=6):
    frames, boxes = square_clip(shift_px=4, num_frames=num_frames)
    (root / name / "img").mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(root / name / f"img/{number:04d}.jpg", quality=100)
    np.savetxt(root / name / "groundtruth_rect.txt", boxes + np.array([first_pixel, first_pixel, 0, 0]), fmt="%g")


def test_otb_is_measured_written_as_the_toolkit_reads_it_and_taken_over(tmp_path):
    write_square(tmp_path / "data")
    sequences = otb_sequences(tmp_path / "data")
    benchmark = box_benchmark(sequences, task="otb", tracker="masks")
    arguments = {"out": tmp_path / "out", "model_name": "pixels", "root": tmp_path / "data"}
    result = evaluate_sequences(benchmark, carrier(), **arguments)
    assert result.figures == {"success_score": pytest.approx(20 / 21), "precision_score": 1, "success_rate": 1}
    assert result.record["settings"]["tracker"] == "masks"
    written = np.loadtxt(tmp_path / "out/predictions/Square.txt", delimiter=",")
    np.testing.assert_array_equal(written, np.loadtxt(tmp_path / "data/Square/groundtruth_rect.txt"))
    assert (tmp_path / "out/overlays/Square.mp4").stat().st_size > 1000
    sheet = np.array(Image.open(tmp_path / "out/overlays/Square.png").convert("RGB")).astype(int)
    red = (sheet[..., 0] > 180) & (sheet[..., 1] < 90) & (sheet[..., 2] < 90)
    assert red[len(sheet) // 2 :].sum() > red[: len(sheet) // 2].sum() + 500  # predictions are below

    before = (tmp_path / "out/predictions/Square.txt").stat().st_mtime_ns
    again = evaluate_sequences(benchmark, carrier(), **arguments)
    assert again.figures == result.figures
    assert (tmp_path / "out/predictions/Square.txt").stat().st_mtime_ns == before
    other = box_benchmark(sequences, task="otb", tracker="correlation")
    assert evaluate_sequences(other, carrier(), **arguments).record["settings"]["window_px"] == 256
    assert (tmp_path / "out/predictions/Square.txt").stat().st_mtime_ns > before


@pytest.mark.parametrize("split", ["val", "test"])
def test_got10k_is_measured_and_of_its_test_split_boxes_are_written(tmp_path, split):
    name = f"GOT-10k_{split}_000001"
    write_square(tmp_path / split, name=name)
    folder = tmp_path / split / name
    for number in range(1, 7):
        (folder / f"img/{number:04d}.jpg").rename(folder / f"{number:08d}.jpg")
    boxes = np.loadtxt(folder / "groundtruth_rect.txt") - [1, 1, 0, 0]
    np.savetxt(folder / "groundtruth.txt", boxes if split == "val" else boxes[:1], fmt="%.4f", delimiter=",")
    (tmp_path / split / "list.txt").write_text(f"{name}\n")
    if split == "val":
        (folder / "cover.label").write_text("8\n8\n8\n0\n8\n8\n")
    benchmark = box_benchmark(got10k_sequences(tmp_path, split=split), task="got10k", tracker="masks")
    arguments = {"out": tmp_path / "out", "model_name": "pixels", "root": tmp_path, "overlays": False}
    result = evaluate_sequences(benchmark, carrier(), **arguments)
    written = np.loadtxt(tmp_path / f"out/predictions/{name}/{name}_001.txt", delimiter=",")
    np.testing.assert_array_equal(written, boxes)
    if split == "val":
        assert result.figures == pytest.approx({"AO": 1, "SR0.5": 1, "SR0.75": 1})
        assert result.record["num_scored_frames"] == 4
    else:
        assert all(math.isnan(value) for value in result.figures.values())


def test_the_identity_on_the_command_line_scores_what_it_should(tmp_path, capsys):
    write_square(tmp_path / "data")
    command = ["evaluate", "otb", "--root", str(tmp_path / "data"), "--model", "identity", "--out"]
    assert main([*command, str(tmp_path / "out"), "--no-overlays"]) == 0
    figures = json.loads((tmp_path / "out/result.json").read_text())["figures"]
    # A square of 16 px that moves 4 px a frame overlaps by (16 - 4k) / (16 + 4k) in frame k.
    overlap = [max(0, (16 - 4 * k) / (16 + 4 * k)) for k in range(6)]
    expected = np.mean([[value > t + 1e-9 for t in np.linspace(0, 1, 21)] for value in overlap])
    assert figures == {
        "success_score": pytest.approx(expected, abs=1e-9),
        "precision_score": 1,
        "success_rate": pytest.approx(2 / 6),
    }
    assert main(["evaluate", "otb", "--root", str(tmp_path), "--model", "identity"]) == 2
    assert "holds no folder with a groundtruth_rect.txt" in capsys.readouterr().err


def test_boxes_are_drawn_where_they_are_and_unknown_ones_are_not():
    frame = torch.full((3, 40, 60), 100, dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 5, 20, 10], [NAN] * 4, [30, 30, 0, 0]])
    drawn = draw_boxes(frame, boxes, colors=torch.tensor([[255, 0, 0]] * 3, dtype=torch.uint8))
    rows, columns = torch.where((drawn == torch.tensor([255, 0, 0])[:, None, None]).all(dim=0))
    assert [columns.min(), columns.max(), rows.min(), rows.max()] == [10, 29, 5, 14]
    assert (drawn[:, 7:13, 12:28] == 100).all() and (drawn[:, 20:] == 100).all()


@pytest.mark.parametrize("tracker", ["masks", "correlation"])
def test_a_box_outside_the_frame_is_tracked_without_a_fault(tracker):
    frames, _ = square_clip(shift_px=4, num_frames=3)
    track = track_masks if tracker == "masks" else track_correlation
    knobs = {"knobs": Correlation(window_px=64)} if tracker == "correlation" else {}
    box = np.array([-40.0, 80, 20, 10])
    tracked = np.array(list(track(Pixels(), frames, box, protocol=CRW, device=CPU, **knobs)))
    assert tracked[0].tolist() == box.tolist() and np.isfinite(tracked).all()
    if tracker == "masks":  # nothing of it is in the frame: it stays
        np.testing.assert_array_equal(tracked, [box] * 3)

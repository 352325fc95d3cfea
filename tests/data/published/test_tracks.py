"""Readers of OTB, GOT-10k and TAP-Vid on small trees of the published layouts."""

import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.data.published.points import tapvid_sequences
from vidssl.data.published.tracks import OTB_SUBSETS, got10k_sequences, otb_sequences


def write_frames(folder, numbers, *, digits=4, size=(24, 16)):
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("L", size, number % 256).save(folder / f"{number:0{digits}d}.jpg", quality=100)


def write_otb(root, name, numbers, text, *, file="groundtruth_rect.txt"):
    if not (root / name).exists():
        write_frames(root / name / "img", numbers)
    (root / name / file).write_text(text)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
def test_otb_boxes_are_split_by_commas_tabs_or_spaces_and_count_from_0(tmp_path, separator):
    lines = [[1, 2, 3, 4], [5, 6, 7, 8], ["NaN"] * 4, [0, 0, 0, 0]]
    text = "\r\n".join(separator.join(map(str, line)) for line in lines) + "\n\n"
    write_otb(tmp_path, "Toy", range(1, 5), text)
    (sequence,) = otb_sequences(tmp_path)
    expected = [[0, 1, 3, 4], [4, 5, 7, 8], [np.nan] * 4, [-1, -1, 0, 0]]
    np.testing.assert_array_equal(sequence.boxes, expected)
    assert (sequence.name, len(sequence), sequence.first_pixel) == ("Toy", 4, 1)
    assert [int(frame[0].float().mean().round()) for frame in sequence.frames()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "present", "first", "last"),
    [("David", 770, 300, 770), ("Freeman4", 297, 1, 283), ("Diving", 231, 1, 215), ("Football1", 79, 1, 74)],
)
def test_sequences_that_are_annotated_in_part_start_and_end_where_the_toolkit_says(
    tmp_path, name, present, first, last
):
    write_otb(tmp_path, name, [1], "1 1 5 5\n" * (last - first + 1))
    for number in range(2, present + 1):  # links: hundreds of pictures are not worth the time
        (tmp_path / name / f"img/{number:04d}.jpg").hardlink_to(tmp_path / name / "img/0001.jpg")
    (sequence,) = otb_sequences(tmp_path)
    assert [sequence.frame_paths[0].stem, sequence.frame_paths[-1].stem] == [f"{first:04d}", f"{last:04d}"]


def test_sequences_with_several_objects_are_numbered_and_empty_files_do_not_count(tmp_path):
    for number, text in ((1, "1 1 5 5"), (2, "2 2 5 5")):
        write_otb(tmp_path, "Jogging", [1], text, file=f"groundtruth_rect.{number}.txt")
    for number, text in ((1, " \n"), (2, "3 3 5 5")):
        write_otb(tmp_path, "Human4", [1], text, file=f"groundtruth_rect.{number}.txt")
    assert [one.name for one in otb_sequences(tmp_path)] == ["Human4", "Jogging.1", "Jogging.2"]
    chosen = otb_sequences(tmp_path, names=["Jogging.2", "Human4"])
    assert [one.boxes[0, 0] for one in chosen] == [1, 2]
    assert [one.name for one in otb_sequences(tmp_path, names=["Jogging"])] == ["Jogging.1", "Jogging.2"]


def test_subsets_have_the_published_size_and_must_be_complete(tmp_path):
    assert {name: len(names) for name, names in OTB_SUBSETS.items()} == {"otb2013": 50, "tb50": 49, "tb100": 98}
    assert set(OTB_SUBSETS["otb2013"]) <= set(OTB_SUBSETS["tb100"]) and len(set(OTB_SUBSETS["tb100"])) == 98
    write_otb(tmp_path, "Biker", [1], "1 1 5 5")
    with pytest.raises(ValueError, match=r"lacks 48 of the 49 sequences of tb50: Basketball, Bird1"):
        otb_sequences(tmp_path, subset="tb50")


def test_otb_errors_name_the_file(tmp_path):
    write_otb(tmp_path, "Toy", [1, 2], "1 1 5 5\n")
    with pytest.raises(ValueError, match=r"groundtruth_rect.txt has 1 boxes for 2 frames"):
        otb_sequences(tmp_path)
    write_otb(tmp_path, "Toy", [], "1 1 0 5\n1 1 5 5\n")
    with pytest.raises(ValueError, match="tracking starts from a box with an area"):
        otb_sequences(tmp_path)
    write_otb(tmp_path, "Toy", [], "1 1 x 5\n")
    with pytest.raises(ValueError, match=r"Toy.groundtruth_rect.txt cannot be read as lines of x, y"):
        otb_sequences(tmp_path)
    with pytest.raises(ValueError, match=r"no sequence 'Toi'.*perhaps Toy"):
        otb_sequences(tmp_path, names=["Toi"])
    with pytest.raises(ValueError, match=r"holds no folder with a groundtruth_rect.txt"):
        otb_sequences(tmp_path / "Toy")


def write_got10k(root, *, boxes, cover, split="val", name="GOT-10k_Val_000001", num_frames=4):
    folder = root / split / name
    write_frames(folder, range(1, num_frames + 1), digits=8)
    (folder / "groundtruth.txt").write_text("".join(",".join(f"{v:.4f}" for v in box) + "\n" for box in boxes))
    if cover is not None:
        (folder / "cover.label").write_text("".join(f"{value}\n" for value in cover))
    (root / split / "list.txt").write_text(f"{name}\n")


def test_got10k_counts_frames_after_the_first_where_something_is_seen(tmp_path):
    boxes = [[0, 1, 5, 6]] * 4
    write_got10k(tmp_path, boxes=boxes, cover=[8, 0, 3, 8])
    (sequence,) = got10k_sequences(tmp_path)
    assert sequence.scored.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(sequence.boxes, boxes)
    assert sorted(path.name for path in sequence.files()[-2:]) == ["cover.label", "groundtruth.txt"]


def test_got10k_without_labels_of_cover_counts_frames_whose_box_has_an_area(tmp_path):
    write_got10k(tmp_path, boxes=[[0, 1, 5, 6], [0, 1, 5, 6], [0, 0, 0, 0], [np.nan] * 4], cover=None)
    assert got10k_sequences(tmp_path)[0].scored.tolist() == [False, True, False, False]


def test_of_got10k_test_only_the_first_box_is_known(tmp_path):
    write_got10k(tmp_path, boxes=[[0, 1, 5, 6]], cover=None, split="test", name="GOT-10k_Test_000001")
    (sequence,) = got10k_sequences(tmp_path, split="test")
    assert np.isnan(sequence.boxes[1:]).all() and not sequence.scored.any()


def test_got10k_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"val.list.txt is missing"):
        got10k_sequences(tmp_path)
    write_got10k(tmp_path, boxes=[[0, 1, 5, 6]] * 4, cover=[8, 8, 8])
    with pytest.raises(ValueError, match=r"cover.label has 3 lines for 4 frames"):
        got10k_sequences(tmp_path)
    with pytest.raises(ValueError, match=r"000002 is missing; perhaps GOT-10k_Val_000001"):
        got10k_sequences(tmp_path, names=["GOT-10k_Val_000002"])


def write_points(path, *, num_frames=3, **arrays):
    given = {"points": np.zeros((2, num_frames, 2), np.float32), "occluded": np.zeros((2, num_frames), bool)}
    np.savez(path, **(given | arrays))


def test_points_are_read_with_their_video_from_one_file_or_from_frames_beside_it(tmp_path):
    video = np.arange(3 * 4 * 6 * 3).reshape(3, 4, 6, 3).astype(np.uint8)
    write_points(tmp_path / "a.npz", video=video, points=np.full((2, 3, 2), 0.25, np.float32))
    write_points(tmp_path / "b.npz")
    write_frames(tmp_path / "b", [9, 10, 11], digits=1)
    one, other = tapvid_sequences(tmp_path)
    assert (one.name, len(one), len(one.files()), other.name, len(other.files())) == ("a", 3, 1, "b", 4)
    np.testing.assert_array_equal(torch.stack(list(one.frames())).permute(0, 2, 3, 1).numpy(), video)
    assert one.points.dtype == np.float64 and (one.points == 0.25).all()
    assert [int(frame[0].float().mean().round()) for frame in other.frames()] == [9, 10, 11]
    assert [sequence.name for sequence in tapvid_sequences(tmp_path, names=["b", "a"])] == ["b", "a"]


def test_nothing_in_a_file_of_points_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    write_points(tmp_path / "a.npz", points=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match=r"a.npz cannot be read as an .npz file of plain arrays"):
        tapvid_sequences(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_point_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"holds no .npz file"):
        tapvid_sequences(tmp_path)
    write_points(tmp_path / "a.npz", occluded=np.zeros((2, 4), bool))
    with pytest.raises(ValueError, match=r"a.npz: points \(2, 3, 2\) and occluded \(2, 4\)"):
        tapvid_sequences(tmp_path)
    write_points(tmp_path / "a.npz", video=np.zeros((2, 4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"video is uint8 \(2, 4, 6, 3\), its points are of 3 frames"):
        list(tapvid_sequences(tmp_path)[0].frames())
    write_points(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="has no array 'video"):
        list(tapvid_sequences(tmp_path)[0].frames())
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"a.npz cannot be read"):
        tapvid_sequences(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"points": np.linspace(3, 250, 12).reshape(2, 3, 2)},
            r"a\.npz: places of visible points go from 3 to 250, and 6 of 6 lie outside .* from 0 to 1",
        ),
        (
            {"video": np.linspace(0, 1, 216, dtype=np.float32).reshape(3, 4, 6, 3)},
            r"a\.npz: video is float32 \(3, 4, 6, 3\) with values from 0 to 1, .* values from 0 to 255",
        ),
    ],
)
def test_case_17_pixels_where_shares_belong_and_float_videos_are_refused(tmp_path, arrays, message):
    write_points(tmp_path / "a.npz", **{"video": np.zeros((3, 4, 6, 3), np.uint8), **arrays})
    with pytest.raises(ValueError, match=message):
        tapvid_sequences(tmp_path)


def test_case_17_a_single_visible_point_far_away_is_refused(tmp_path):
    points = np.full((20, 3, 2), 0.5)
    points[4, 1, 0] = 40
    write_points(
        tmp_path / "a.npz", points=points, occluded=np.zeros((20, 3), bool), video=np.zeros((3, 4, 6, 3), np.uint8)
    )
    with pytest.raises(ValueError, match=r"go from 0\.5 to 40, and 1 of 60 lie outside the frame"):
        tapvid_sequences(tmp_path)


def test_a_few_points_outside_the_frame_are_said(tmp_path, caplog):
    points = np.full((4, 3, 2), 0.5)
    points[0, 0, 1] = -0.02
    write_points(
        tmp_path / "a.npz", points=points, occluded=np.zeros((4, 3), bool), video=np.zeros((3, 4, 6, 3), np.uint8)
    )
    assert tapvid_sequences(tmp_path)[0].points[0, 0, 1] == -0.02
    assert "a.npz: 1 of 12 visible points lie outside the frame" in caplog.text


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            [[0.2, 0.3, 0.5, 0.4]] * 4,
            r"the first box is x 0\.2, y 0\.3, width 0\.5, height 0\.4; expected pixels of",
        ),
        (
            [[90, 2, 5, 5]] + [[0, 1, 5, 6]] * 3,
            r"the first box is x 90, y 2, .* expected pixels of a frame of \d+x\d+",
        ),
    ],
)
def test_boxes_that_are_no_pixels_of_their_frames_are_refused(tmp_path, boxes, message):
    write_got10k(tmp_path, boxes=boxes, cover=None)
    with pytest.raises(ValueError, match=message):
        got10k_sequences(tmp_path)


def test_boxes_outside_the_frame_are_said(tmp_path, caplog):
    write_got10k(tmp_path, boxes=[[0, 1, 5, 6], [-9, 1, 5, 6], [0, 1, 5, 6], [0, 900, 5, 6]], cover=None)
    got10k_sequences(tmp_path)
    assert "groundtruth.txt: 2 of 4 boxes lie outside the frame" in caplog.text

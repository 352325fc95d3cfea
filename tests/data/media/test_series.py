"""Folders of images that hold more than one video, or not all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidssl.data import scan
from vidssl.data.lists.sources import find
from vidssl.data.media.audit import audit_file
from vidssl.data.media.video import MediaError, open_video

pytestmark = pytest.mark.usefixtures("looked_at_here")

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))


def fill(folder: Path, *patterns: str, numbers=range(1, 21)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for number in numbers:
            PICTURE.save(folder / pattern.format(number), format="PNG")
    return folder


def num_frames(folder: Path) -> int:
    with open_video(folder) as reader:
        return reader.info.num_frames


def notes(folder: Path) -> list[str]:
    return [f"{one.severity} {one}" for one in audit_file(folder)]


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        (("left_{:03d}.png", "right_{:03d}.png"), r"left_#\.png \(20\), right_#\.png \(20\)"),
        (("{:05d}.jpg", "{:05d}.png"), r"#\.jpg \(20\), #\.png \(20\)"),
        (
            ("{}_rgb.png", "{}_depth.png", "{}_mask.png"),
            r"#_depth\.png \(20\), #_mask\.png \(20\), #_rgb\.png \(20\)",
        ),
        (("cam0_{:04d}.png", "cam1_{:04d}.png"), r"cam0_#\.png \(20\), cam1_#\.png \(20\)"),
        (("{:04d}_c1.png", "{:04d}_c2.png"), r"#_c1\.png \(20\), #_c2\.png \(20\)"),
        (("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"), r"flow_x_#\.jpg \(20\), flow_y_#\.jpg \(20\)"),
        (("l_{}.png", "r_{}.png", "flow_x_{}.png"), r"flow_x_#\.png \(20\), l_#\.png \(20\), r_#\.png \(20\)"),
    ],
)
def test_case_12_several_series_in_a_folder_are_an_error_that_names_them(tmp_path, patterns, named):
    folder = fill(tmp_path / "v", *patterns)
    reason = rf"holds {len(patterns)} series of images, {named}; the frames of a video are one"
    with pytest.raises(MediaError, match=reason):
        open_video(folder)
    assert [one.severity for one in audit_file(folder)] == ["error"]
    corpus = scan(tmp_path, cache=tmp_path / "cache", num_workers=1, progress=False)
    assert len(corpus) == 0 and "series of images" in corpus.bad[0][1]


@pytest.mark.parametrize("num_flow", [20, 19])
def test_case_12_frames_beside_their_flow_are_the_video(tmp_path, num_flow):
    folder = fill(tmp_path / "v", "img_{:05d}.jpg")
    fill(folder, "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg", numbers=range(1, num_flow + 1))
    assert num_frames(folder) == 20
    assert notes(folder) == [
        f"note flow beside the frames: flow_x_#.jpg ({num_flow}), flow_y_#.jpg ({num_flow}); they are passed over"
    ]
    corpus = scan(tmp_path, cache=tmp_path / "cache", num_workers=1, progress=False)
    assert [entry.num_frames for entry in corpus.entries] == [20]


def test_case_12_flow_of_one_direction_alone_is_a_video(tmp_path):
    assert num_frames(fill(tmp_path / "v", "flow_x_{:05d}.jpg")) == 20


@pytest.mark.parametrize(
    "names",
    [
        [f"{n}.jpg" for n in range(1, 9)],
        [f"{n}{suffix}" for n, suffix in enumerate([".jpg", ".JPG", ".jpeg"] * 4)],
        [f"{n}{ {3: '.JPG', 4: '.JPG', 6: '.jpeg'}.get(n, '.jpg') }" for n in range(12)],
        [f"a_{n:03d}.png" for n in range(10)] + [f"b_{n:03d}.png" for n in range(10, 20)],
        [f"a_{n:03d}.png" for n in range(10)] + [f"b_{n:03d}.png" for n in range(8, 18)],
        [f"2026-01-31_12-{m:02d}-{s:02d}.png" for m in range(3) for s in range(0, 60, 20)],
        [f"2026-01-31T{h}-00-{s:02d}.png" for h in (10, 11) for s in range(0, 60, 20)],
        [f"12h{m:02d}m{s:02d}.png" for m in range(3) for s in range(0, 60, 20)],
        [f"frame{n:04d}_t{n / 25:.2f}.png" for n in range(60)],
        [f"img{n:04d}_12x8.png" for n in range(9)],
        ["one.png", "three.png", "two.png"],
        ["a1b2c3.png", "3f2b7.png", "c99d.png", "77.png"],
    ],
)
def test_case_12_one_video_under_many_names_stays_one(tmp_path, names):
    for name in names:
        PICTURE.save(tmp_path / name, format="PNG")
    assert num_frames(tmp_path) == len(names)
    assert notes(tmp_path) == []


@pytest.mark.parametrize(
    ("numbers", "detail"),
    [
        ([*range(1, 6), *range(8, 21)], "2 of img_#.png, first 6, 7; those"),
        ([*range(10), *range(100, 110)], "90 of img_#.png, first 10, 11, 12, 13, 14, ...; those"),
        ([0, 5, 10, 20, 25], "1 of img_#.png, first 15; those"),
    ],
)
def test_case_12_gaps_in_the_numbers_of_frames_are_a_note(tmp_path, numbers, detail):
    folder = fill(tmp_path, "img_{:05d}.png", numbers=numbers)
    assert num_frames(folder) == len(numbers)
    assert notes(folder) == [f"note missing frame numbers: {detail} that are there are taken for neighbours"]


@pytest.mark.parametrize("numbers", [range(0, 100, 5), [17, 1000, 2100, 2950, 4013], [5, 9], [3]])
def test_case_12_numbers_that_count_no_frames_have_no_gaps(tmp_path, numbers):
    assert notes(fill(tmp_path, "{:05d}.png", numbers=numbers)) == []


def test_case_12_gaps_are_noted_beside_flow(tmp_path):
    folder = fill(tmp_path, "img_{}.png", "flow_x_{}.png", "flow_y_{}.png", numbers=[1, 2, 3, 5, 6])
    assert [one.split(":")[0] for one in notes(folder)] == [
        "note flow beside the frames",
        "note missing frame numbers",
    ]


def videos(root: Path) -> dict[str, int]:
    corpus = scan(root, cache=root.parent / "cache", num_workers=1, progress=False)
    assert not corpus.bad
    return {entry.path.relative_to(root).as_posix(): entry.num_frames for entry in corpus.entries}


@pytest.mark.parametrize(
    ("strays", "named"),
    [
        (["thumb.jpg"], "1 of no series, thumb.jpg"),
        (["cover.png", "poster_01.png"], "2 of no series, cover.png, poster_01.png"),
        (["000001_thumb.jpg"], "1 of no series, 000001_thumb.jpg"),
        (["a.jpg", "b.jpg", "c.jpg", "d.png"], "4 of no series, a.jpg, b.jpg, c.jpg, ..."),
    ],
)
@pytest.mark.parametrize("pattern", ["{:06d}.jpg", "img_{}.png"])
def test_covers_and_thumbnails_beside_frames_are_no_frames(tmp_path, pattern, strays, named):
    folder = fill(tmp_path / "all/v", pattern)
    for name in strays:
        PICTURE.resize((99, 77)).save(folder / name, format="PNG")
    for name in ("Thumbs.db", ".DS_Store", "._000001.jpg"):
        (folder / name).write_bytes(b"x")
    assert num_frames(folder) == 20 and videos(tmp_path / "all") == {"v": 20}
    assert notes(folder) == [f"note images beside the frames: {named}; they are passed over"]


@pytest.mark.parametrize("names", [["img.jpg", "img (1).jpg", "img (2).jpg"], ["1.png", "cover.png"]])
def test_few_images_of_no_series_are_frames(tmp_path, names):
    assert num_frames(fill(tmp_path / "v", *names, numbers=[1])) == len(names)
    assert notes(tmp_path / "v") == []


@pytest.mark.parametrize("beside", [("u", "v"), ("flow_x", "flow_y"), ("flow",), ("tvl1_flow/u", "tvl1_flow/v")])
def test_flow_in_folders_beside_the_frames_is_no_video(tmp_path, beside):
    root = tmp_path / "all"
    for name in ("run/a", "walk/b"):
        folder = fill(root / name, "{:06d}.jpg")
        for one in beside:
            fill(folder / one, "{:06d}.jpg", numbers=range(1, 20))
    assert videos(root) == {"run/a": 20, "walk/b": 20}
    found = find(root, labels="folder", media="video")
    assert found.labels == [0, 1] and len(found.others) == 2 * 19 * len(beside)
    named = ", ".join(f"folder {name}" for name in dict.fromkeys(one.split("/")[0] for one in beside))
    assert notes(root / "run/a") == [f"note flow beside the frames: {named}; they are passed over"]


@pytest.mark.parametrize("name", ["u/a", "flow_x/a", "a/v", "a/Flow"])
def test_flow_that_is_taken_for_a_video_is_noted(tmp_path, name):
    for one in {name, "rgb/a", "u/a", "v/a", "a/u", "a/v", "a/rgb"}:
        fill(tmp_path / "all" / one, "{:06d}.jpg")
    said = "note looks like optical flow: by its name, yet it is taken for a video of its own"
    assert notes(tmp_path / "all" / name) == [said]
    assert notes(tmp_path / "all/rgb/a") == notes(tmp_path / "all/a/rgb") == []
    assert notes(fill(tmp_path / "one", "flow_x_{:05d}.jpg")) == [said]
    assert notes(fill(tmp_path / "alone/u", "{:05d}.jpg")) == []  # a class may be called like that

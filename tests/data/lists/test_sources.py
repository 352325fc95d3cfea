"""What a sample of a folder is, the same for every command; what is passed over, left out or closed is named."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import moving_square, write_video
from PIL import Image

from vidssl.cli import main
from vidssl.commands.evaluate._options import DataOptions
from vidssl.commands.extract import _rows
from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.scan import scan
from vidssl.data.lists.recordings import recordings
from vidssl.data.published.labelled import labelled_set


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    logging.getLogger("vidssl").setLevel(logging.INFO)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def frames(folder: Path, count: int = 3, *, name: str = "img_{:05d}.jpg") -> Path:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.fromarray(np.full((16, 24, 3), 20 * number, np.uint8)).save(folder / name.format(number))
    return folder


def samples(root: Path, **options: Any) -> set[str]:
    """Samples of evaluations, relative to the root."""
    data = labelled_set(root, **options)
    return {os.fspath(item.path.relative_to(root)) for item in (*data.train, *data.test)}


def write_raw(source: Path, path: Path, codec: str) -> Path:
    """The elementary stream of a video, without a container."""
    import av

    with av.open(str(source)) as read, av.open(str(path), "w", format=codec) as written:
        options = {} if codec == "h264" else {"x265-params": "log-level=none"}
        out = written.add_stream("libx264" if codec == "h264" else "libx265", rate=24, options=options)
        out.width, out.height, out.pix_fmt = 64, 64, "yuv420p"
        for frame in read.decode(video=0):
            written.mux(out.encode(frame))
        written.mux(out.encode())
    return path


def test_case_5_raw_streams_are_read_and_what_is_passed_over_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "camera"
    source = write_video(tmp_path / "whole.mp4", moving_square(12))
    root.mkdir()
    for suffix, codec in ((".h264", "h264"), (".264", "h264"), (".hevc", "hevc"), (".H265", "hevc")):
        write_raw(source, root / f"one{suffix}", codec)
    touch(root, "a.srt", "b.srt", "deep/c.bin", "notes")
    with caplog.at_level(logging.INFO):
        corpus = scan(root, progress=False, num_workers=1)
    assert sorted((entry.path.name, entry.num_frames) for entry in corpus.entries) == [
        ("one.264", 12), ("one.H265", 12), ("one.h264", 12), ("one.hevc", 12)
    ]  # fmt: skip
    told = "4 files that are not read (2 .srt, 1 without suffix, 1 .bin): a.srt, b.srt, notes, ..."
    assert corpus.num_other == 4 and told in corpus.summary() and told in caplog.text
    assert main(["data", "check", str(root)]) == 0  # there are notes alone: raw streams have no times
    said = " ".join(capsys.readouterr().out.split())
    assert "4 files, 0 with errors note: " in said and f"passed over: {told}" in said


def test_case_11_a_folder_of_frames_is_one_sample_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "frames"
    for number in range(6):
        frames(root / "AB"[number % 2] / f"v{number}")
    videos = {f"{'AB'[number % 2]}/v{number}" for number in range(6)}
    assert samples(root) == videos
    data = labelled_set(root)
    assert data.media == "video" and not {item.path for item in data.train} & {item.path for item in data.test}
    for media in ("video", "any"):
        corpus = scan(root, media=media, progress=False, num_workers=1)
        assert {os.fspath(entry.path.relative_to(root)) for entry in corpus.entries} == videos
    rows, media, _ = _rows(DataOptions(root=root), None, labels=False)  # type: ignore[arg-type]
    assert ({os.fspath(item.path.relative_to(root)) for _, item in rows}, media) == (videos, "video")
    assert {path.name for path, _ in audit(root, progress=False, num_workers=1).files} == {
        f"v{number}" for number in range(6)
    }
    # With a published split, also where the test split has a single video of a class.
    (root / "train").mkdir()
    (root / "A").rename(root / "train/A")
    frames(root / "val/A/v9")
    (root / "B").rename(root / "train/B")
    assert samples(root) == {*(f"train/{name}" for name in videos), "val/A/v9"}


def test_case_11_images_of_classes_stay_images(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for name in "AB":
        frames(flat / name, name="{:04d}.png")
    assert len(samples(flat)) == 6 and labelled_set(flat).media == "image"
    assert len(scan(flat, media="any", progress=False, num_workers=1)) == 6
    nested = tmp_path / "nested"  # Tiny ImageNet: CLASS/images/FILE
    for name in "AB":
        frames(nested / name / "images", name=f"{name}_{{}}.jpg")
    assert len(samples(nested)) == 6 and labelled_set(nested).media == "image"


def test_case_11_classes_below_train_and_val_stay_images(tmp_path: Path) -> None:
    for split in ("train", "val"):  # ImageNet
        for name in "AB":
            frames(tmp_path / split / name, name=f"{split}{name}x{{}}.jpg")
    assert len(scan(tmp_path, media="any", progress=False, num_workers=1)) == len(samples(tmp_path)) == 12


def test_case_11_videos_one_folder_deeper_are_videos(tmp_path: Path) -> None:
    for number in range(4):  # one video a day
        frames(tmp_path / f"{'AB'[number % 2]}/day{number}/v{number}")
    assert len(scan(tmp_path, media="any", progress=False, num_workers=1)) == len(samples(tmp_path)) == 4


def test_case_11_frames_in_a_list_stay_on_one_side_of_a_drawn_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{'AB'[video % 2]}/v{video}/{frame}.jpg" for video in range(10) for frame in range(4)]
    touch(tmp_path, *names)
    (tmp_path / "l.csv").write_text("".join(f"{name},{name[0]}\n" for name in names))
    with caplog.at_level(logging.INFO):
        data = labelled_set(tmp_path / "l.csv")
    assert "40 samples were cut from 10 recordings" in caplog.text
    assert len(data.test) == 8 and not {item.path.parent for item in data.test} & {
        item.path.parent for item in data.train
    }


def test_case_11_clips_of_a_recording_stay_on_one_side_of_a_drawn_split(tmp_path: Path) -> None:
    for name, clips in {
        "ucf": [f"v_Run_g{group:02}_c{clip:02}.avi" for group in range(1, 6) for clip in range(1, 5)],
        "kinetics": [f"-a_{id}EFGHIJK_{start:06}_{start + 10:06}.mp4" for id in range(5) for start in (0, 10, 20, 30)],
        "hmdb": [f"Film{film}_run_f_cm_np1_ba_med_{clip}.avi" for film in range(5) for clip in range(4)],
        "scenes": [f"holiday {film}-Scene-{clip:03}.mp4" for film in range(5) for clip in range(4)],
    }.items():  # fmt: skip
        root = touch(tmp_path / name, *(f"{label}/{clip}" for label in ("run",) for clip in clips))
        found = recordings([root / "run" / clip for clip in clips])
        assert len(set(found)) == 5 and "" not in found
        data = labelled_set(root)
        assert len(data.test) == 4 and not {item.source for item in data.test} & {
            item.source for item in data.train
        }
    assert recordings([Path("x/clip_9.mp4"), Path("x/2020_01_02.mp4"), Path("x/IMG_0001.jpg")]) == ["", "", ""]


def test_case_19_loose_files_beside_folders_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(
        tmp_path / "mixed", *(f"sub/{number}.mp4" for number in range(3)), *(f"{n}.mp4" for n in range(12))
    )
    message = (
        r"12 of 15 video files lie directly in .*mixed, .*: 0\.mp4, .*, 9\.mp4, \.\.\.\. .*extract --no-labels"
    )
    with pytest.raises(ValueError, match=message):
        labelled_set(root)
    assert main(["extract", "--root", str(root), "--model", "identity"]) == 2
    assert "12 of 15 video files lie directly in" in " ".join(capsys.readouterr().err.split())
    touch(root, "train/run/1.mp4", "val/run/2.mp4", "train/3.mp4", "extra/run/4.mp4")
    with pytest.raises(ValueError, match=r"1 of 2 video files lie directly in .*train, .*: 3\.mp4\."):
        labelled_set(root)
    (root / "train/3.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        assert samples(root) == {"train/run/1.mp4", "val/run/2.mp4"}
    assert "what lies in extra, sub is not used: train and val are" in caplog.text
    # What is no sample does not stop an evaluation, but is told.
    root = touch(tmp_path / "notes", "a/1.mp4", "a/2.mp4", "a/readme.md", "poster.jpg")
    with caplog.at_level(logging.INFO):
        assert samples(root) == {"a/1.mp4", "a/2.mp4"}
    assert "passed over: 2 files that are not read (1 .jpg, 1 .md): poster.jpg, a/readme.md" in caplog.text


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a subfolder that may not be entered, also by who may enter everything."""
    root = tmp_path / "corpus"
    for name in ("open/a.mp4", "open/b.mp4", "open/c.mp4", "locked/d.mp4"):
        write_video(root / name, moving_square(4))
    scandir = os.scandir

    def refusing(path: Any = ".") -> Any:
        if os.fspath(path) == os.fspath(root / "locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    yield root


def test_case_20_a_folder_that_may_not_be_entered_is_named(
    closed: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["data", "check", str(closed)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "locked" in said and "cannot be entered (Permission denied)" in said
    assert "4 files, 1 with errors" in said and "error: closed folder (1)" in said
    caplog.clear()
    corpus = scan(closed, progress=False, num_workers=1)
    assert [entry.path.name for entry in corpus.entries] == ["a.mp4", "b.mp4", "c.mp4"]
    assert corpus.bad == ((closed / "locked", "cannot be entered (Permission denied); what it holds is not read"),)
    assert f"{closed / 'locked'} cannot be entered (Permission denied)" in caplog.text  # what pretrain logs
    with pytest.raises(ValueError, match=r"folders that are closed.*\n.*locked cannot be entered"):
        labelled_set(closed)
    assert main(["data", "check", str(closed / "locked")]) == 1  # the root itself


def test_case_20_training_tells_of_it_and_counts_it(closed: Path, tmp_path: Path) -> None:
    from vidssl.commands.pretrain import _report_bad_files

    corpus = scan(closed, progress=False, num_workers=1)
    _report_bad_files(corpus, out=tmp_path / "run", budget=0.01)
    assert "locked: cannot be entered (Permission denied)" in (tmp_path / "run/bad_files.txt").read_text()

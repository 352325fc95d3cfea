"""Folders that hold odd yet harmless things: each is read, or named with what to do about it."""

from pathlib import Path

import numpy as np
import pytest
from conftest import moving_square, write_video
from PIL import Image

from vidssl.cli import main
from vidssl.data.corpus.prepare import prepare
from vidssl.data.corpus.scan import scan
from vidssl.data.media.video import open_video

pytestmark = pytest.mark.usefixtures("looked_at_here")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def frames(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for number, (width, height) in enumerate(sizes):
        Image.fromarray(np.full((height, width, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_links_that_lead_in_circles_are_named_by_prepare(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "a.mp4", moving_square(3))
    (tmp_path / "in" / "self.mp4").symlink_to(tmp_path / "in" / "self.mp4")
    result = prepare(tmp_path / "in", out=tmp_path / "out", num_timed_clips=0, progress=False)
    assert result.num_encoded == 1
    ((path, reason),) = result.bad
    assert path.name == "self.mp4" and reason.startswith("is a link to a file that does not exist")


def test_a_folder_of_frames_itself_is_prepared(tmp_path: Path) -> None:
    folder = frames(tmp_path / "walk", *[(64, 48)] * 4)
    for num_encoded in (1, 0):  # the second time it is there
        result = prepare(folder, out=tmp_path / "out", num_timed_clips=0, progress=False)
        assert (result.num_encoded, result.bad) == (num_encoded, ())
    (entry,) = scan(tmp_path / "out", progress=False).entries
    assert (entry.path.name, entry.num_frames, entry.width) == ("walk", 4, 64)
    with open_video(entry.path) as reader:
        shades = reader.frames([0, 1 / 24, 2 / 24, 3 / 24]).video.float().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(shades, [0, 40, 80, 120], atol=2)
    with pytest.raises(ValueError, match="lie in one another"):
        prepare(folder, out=folder / "out", num_timed_clips=0, progress=False)


def test_a_corpus_of_which_nothing_can_be_read_is_not_prepared(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"nothing" * 20)
    with pytest.raises(ValueError, match="1 of 1 files cannot be read"):
        prepare(tmp_path / "in", out=tmp_path / "out", num_timed_clips=0, progress=False)


def test_the_frame_that_is_to_blame_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = frames(tmp_path / "walk", (64, 48), (64, 48), (48, 64))
    assert main(["data", "check", str(folder)]) == 1
    assert "2.png is 48 x 64 pixels" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"walk: 2\.png is 48 x 64 pixels, the first frame of its folder 64 x 48"):
        prepare(folder, out=tmp_path / "out", num_timed_clips=0, progress=False)


@pytest.mark.parametrize("num_bad", [1, 2])
def test_extract_names_what_it_leaves_out_and_ends_where_that_is_too_much(
    tmp_path: Path, num_bad: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(place / name, moving_square(3))
    for number in range(num_bad):
        (place / f"bad{number}.mp4").touch()
    out = tmp_path / "features"
    words = ["extract", "--root", str(place), "--no-labels", "--model", "random:torchvision:resnet18"]
    code = main([*words, "--out", str(out), "--cache", str(tmp_path / "store"), "--num-workers", "0"])
    said = " ".join(capsys.readouterr().err.split())
    assert "bad0.mp4: is empty (0 bytes); download or copy it again" in said
    if num_bad == 1:
        assert code == 0 and len((out / "samples.csv").read_text().splitlines()) == 3
    else:
        assert code == 2 and "2 of 4 files cannot be read" in said and not out.exists()
        assert "bad1.mp4: is empty" in said

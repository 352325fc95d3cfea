"""Where `propagate` may write: links, folders and records in its folder that it did not make."""

from pathlib import Path

import pytest

from vidssl.evaluate.propagation.video import check_folder


def made(tmp_path: Path) -> Path:
    """What an earlier call for tmp_path/v.mp4 leaves."""
    (tmp_path / "v.mp4").write_bytes(b"video")
    (tmp_path / "out/masks").mkdir(parents=True)
    (tmp_path / "out/masks/00000.png").write_bytes(b"mask")
    record = f'{{"video": "{tmp_path}/v.mp4", "first_mask": "m.png", "ids": [1], "frames": [], "protocol": {{}}}}'
    (tmp_path / "out/labels.json").write_text(record)
    return tmp_path / "out"


def check(out: Path) -> None:
    check_folder(out, video_path=out.parent / "v.mp4", first_mask_path=out.parent / "m.png")


def test_a_folder_of_an_earlier_call_is_taken(tmp_path) -> None:
    check(made(tmp_path))


def test_a_file_is_no_folder(tmp_path) -> None:
    out = made(tmp_path)
    with pytest.raises(ValueError, match=r"labels\.json is a file; give another folder"):
        check_folder(out / "labels.json", video_path=tmp_path / "v.mp4", first_mask_path=tmp_path / "m.png")


def test_masks_that_are_a_link_to_a_folder_of_the_user_are_refused(tmp_path) -> None:
    out = made(tmp_path)
    (out / "masks").rename(tmp_path / "mine")
    (out / "masks").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"out holds masks, which propagate did not make"):
        check(out)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_has_the_name_of_a_mask_but_is_none_is_refused(tmp_path, kind) -> None:
    out = made(tmp_path)
    path = out / "masks/00001.png"
    path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "v.mp4")
    with pytest.raises(ValueError, match=r"out holds masks/00001\.png, which propagate did not make"):
        check(out)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"video": "a\\u0000b"}', ""])
def test_records_of_somebody_else_are_refused_in_one_line(tmp_path, text) -> None:
    out = made(tmp_path)
    (out / "labels.json").write_text(text)
    with pytest.raises(ValueError, match=r"out holds labels\.json and 1 more, which propagate did not make"):
        check(out)

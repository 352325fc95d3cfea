"""Reader of VIP."""

import shutil

import numpy as np
import pytest
from tiny_vip import moving_parts, write_vip

from vidssl.data.published.parts import VIP_CLASSES, vip_sequences

FRAMES, CLASSES = moving_parts(3)
GAPS = [CLASSES[0], None, CLASSES[2]]


@pytest.fixture
def root(tmp_path):
    videos = {"videos1": (FRAMES, GAPS), "videos10": (FRAMES, CLASSES), "videos2": (FRAMES, CLASSES)}
    return write_vip(tmp_path / "VIP", videos, listed=("videos10", "videos1"))


def names(sequences):
    return [sequence.name for sequence in sequences]


def test_the_listed_videos_are_read(root):
    for folder in (root, root / "VIP_Fine"):
        assert names(vip_sequences(folder)) == ["videos10", "videos1"]
    whole, gaps = vip_sequences(root)
    assert (len(whole), whole.annotated, gaps.annotated) == (3, [0, 1, 2], [0, 2])
    np.testing.assert_array_equal(gaps.mask(2).numpy(), CLASSES[2])
    assert [path.name for path in gaps.files()] == [
        "000000000001.jpg", "000000000026.jpg", "000000000051.jpg", "000000000001.png", "000000000051.png"
    ]  # fmt: skip
    assert names(vip_sequences(root, names=["videos2"])) == ["videos2"]


def test_lists_of_paths_are_read(root):
    lines = (
        f"VIP_Fine/Images/{name} VIP_Fine/Annotations/Category_ids/{name}\n" for name in ("videos2", "videos1")
    )
    (root / "VIP_Fine/lists/val_videos.txt").write_text("".join(lines))
    assert names(vip_sequences(root)) == ["videos2", "videos1"]


def test_without_lists_all_videos_are_taken(root):
    shutil.rmtree(root / "VIP_Fine/lists")
    assert names(vip_sequences(root)) == ["videos1", "videos10", "videos2"]


def test_frames_go_by_number(root):
    """Zero-padded or not."""
    folder, names_of = root / "VIP_Fine", {"000000000001": "9", "000000000026": "34", "000000000051": "101"}
    for path in [*(folder / "Images/videos2").iterdir(), *(folder / "Annotations/Category_ids/videos2").iterdir()]:
        path.rename(path.with_stem(names_of[path.stem]))
    (sequence,) = vip_sequences(root, names=["videos2"])
    assert [path.stem for path in sequence.frame_paths] == ["9", "34", "101"]


def test_the_classes_are_those_of_the_official_evaluation():
    """Liusifei/UVC 4336938, eval_vip.py."""
    assert len(VIP_CLASSES) == 20
    assert (VIP_CLASSES[0], VIP_CLASSES[13], VIP_CLASSES[19]) == ("background", "face", "left-shoe")


def test_what_is_wrong_with_the_data_is_said(root, tmp_path):
    fine = root / "VIP_Fine"
    with pytest.raises(ValueError, match=r"there is no video 'videos3' in .*; perhaps videos"):
        vip_sequences(root, names=["videos3"])
    with pytest.raises(ValueError, match=r"train_videos.txt is missing; its folder has val_videos.txt"):
        vip_sequences(root, subset="train")
    with pytest.raises(ValueError, match="no video was asked for"):
        vip_sequences(root, names=[])
    (fine / "Annotations/Category_ids/videos2/000000000001.png").unlink()
    with pytest.raises(ValueError, match=r"000000000001.png is missing; the first frame of a video"):
        vip_sequences(root, names=["videos2"])
    (fine / "Images/videos10/000000000026.jpg").unlink()
    with pytest.raises(ValueError, match=r"videos10/000000000026.png has no frame of that name"):
        vip_sequences(root)
    with pytest.raises(ValueError, match=r"is not a folder; expected .*Category_ids/videos1/000000000001.png"):
        vip_sequences(tmp_path)

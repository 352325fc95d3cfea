"""Readers of JHMDB and of other videos with joints."""

import re

import numpy as np
import pytest
import scipy.io
from tiny_jhmdb import moving_joints, moving_noise, write_frames, write_jhmdb, write_joints

from vidssl.data.published.poses import JHMDB_EDGES, JHMDB_JOINTS, jhmdb_sequences

FIRST = np.stack([10 + 5.25 * np.arange(15), 3 + 4.5 * np.arange(15)], axis=1)
FRAMES, JOINTS = moving_noise(3), moving_joints(FIRST, 3)


@pytest.fixture
def root(tmp_path):
    videos = {name: (FRAMES, JOINTS + number) for number, name in enumerate(["walk/ann", "walk/bob", "wave/cid"])}
    return write_jhmdb(tmp_path / "JHMDB", videos, train=("walk/bob",))


def names(sequences):
    return [sequence.name for sequence in sequences]


def test_the_test_videos_of_the_split_are_listed(root):
    sequences = jhmdb_sequences(root)
    assert names(sequences) == ["ann", "cid"]
    np.testing.assert_allclose(sequences[1].joints, JOINTS + 2, atol=1e-9)  # the file's first pixel is 1
    assert [len(sequence) for sequence in sequences] == [3, 3]
    assert sequences[0].size() == FRAMES.shape[1:3]
    np.testing.assert_array_equal(np.stack([f.numpy().transpose(1, 2, 0) for f in sequences[0].frames()]), FRAMES)
    assert [path.name for path in sequences[0].files()] == [
        "00001.png", "00002.png", "00003.png", "joint_positions.mat"
    ]  # fmt: skip
    assert names(jhmdb_sequences(root, names=["cid"])) == ["cid"]


@pytest.mark.parametrize("mat_first", [True, False])
def test_the_list_of_uvc_goes_before_the_splits(root, mat_first):
    """Its lines are paths of the author's own machine; videowalk has them the other way round."""
    top = "/media/someone/DATA/JHMDB"
    lines = []
    for video in ("wave/cid", "walk/bob"):
        pair = [f"{top}/joint_positions/{video}/joint_positions.mat", f"{top}/Rename_Images/{video}"]
        lines.append(" ".join(pair if mat_first else pair[::-1]))
    (root / "testlist_split1.txt").write_text("\n".join(lines))
    assert names(jhmdb_sequences(root)) == ["cid", "bob"]


def test_without_lists_all_videos_are_taken(root):
    for path in (root / "splits").iterdir():
        path.unlink()
    (root / "splits").rmdir()
    assert names(jhmdb_sequences(root)) == ["ann", "bob", "cid"]


def test_other_videos_lie_in_folders_of_their_own(tmp_path):
    for name in ("flies/a", "flies/b"):
        write_frames(tmp_path / name / "frames", FRAMES, suffix=".jpg")
        write_joints(tmp_path / name / "joint_positions.mat", JOINTS)
    assert names(jhmdb_sequences(tmp_path)) == ["flies-a", "flies-b"]
    assert names(jhmdb_sequences(tmp_path / "flies/a")) == ["a"]


def test_real_joints(shared):
    (flies,) = jhmdb_sequences(shared / "data/keypoints/sleap_flies_a")
    with np.load(shared / "data/keypoints/sleap_flies_a/keypoints.npz") as saved:
        xy, visible = saved["xy"], saved["visible"]
    assert flies.name == "sleap_flies_a"
    np.testing.assert_allclose(flies.joints[visible], xy[visible], atol=1e-9)
    assert (flies.joints[~visible] == -1).all()


def test_frames_without_joints_are_left_out(root, caplog):
    write_joints(root / "joint_positions/walk/ann/joint_positions.mat", JOINTS[:2])
    assert len(jhmdb_sequences(root, names=["ann"])[0]) == 2
    assert "ann: 2 frames of 3 have joints; the others are left out" in caplog.text


def test_a_video_of_one_frame(root):
    path = root / "joint_positions/walk/ann/joint_positions.mat"
    scipy.io.savemat(path, {"pos_img": JOINTS[0].T + 1})  # 2 x 15, as MATLAB writes it
    np.testing.assert_allclose(jhmdb_sequences(root, names=["ann"])[0].joints, JOINTS[:1], atol=1e-9)


def test_the_skeleton_is_a_tree_over_all_joints():
    assert sorted({i for edge in JHMDB_EDGES for i in edge}) == list(range(len(JHMDB_JOINTS)))
    assert len(JHMDB_EDGES) == len(JHMDB_JOINTS) - 1
    sides = [edge for edge in JHMDB_EDGES if "left" in JHMDB_JOINTS[edge[0]]]
    assert len(sides) == 4
    assert all("left" in JHMDB_JOINTS[edge[1]] for edge in sides)


def spoil(path, content):
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root, mat: mat.unlink(), "joint_positions.mat is missing"),
        (lambda root, mat: spoil(mat, b"no matlab"), "ann/joint_positions.mat cannot be read as a MATLAB file"),
        (
            lambda root, mat: spoil(mat, mat.read_bytes()[:300]),
            "joint_positions.mat cannot be read as a MATLAB file",
        ),
        (lambda root, mat: scipy.io.savemat(mat, {"pos": 1}), "has no variable pos_img"),
        (lambda root, mat: write_joints(mat, np.full((3, 15, 2), np.nan)), "has values that are no numbers"),
        (
            lambda root, mat: scipy.io.savemat(mat, {"pos_img": np.ones((3, 15, 2))}),
            "pos_img is (3, 15, 2), expected",
        ),
        (lambda root, mat: write_joints(mat, np.ones((4, 15, 2))), "ann has 3 frames, "),
        (
            lambda root, mat: (root / "splits/walk_test_split1.txt").write_text("ann.avi\n"),
            "has the line 'ann.avi'",
        ),
        (
            lambda root, mat: (root / "splits/wave_test_split1.txt").write_text("ann.avi 2\n"),
            "several videos named 'ann'",
        ),
        (lambda root, mat: (root / "testlist_split1.txt").write_text("a/b\n"), "has the line 'a/b'"),
        (lambda root, mat: (root / "testlist_split1.txt").write_text("\n"), "holds no test videos of split 1"),
    ],
)
def test_what_is_wrong_with_the_data_is_said(root, damage, message):
    damage(root, root / "joint_positions/walk/ann/joint_positions.mat")
    with pytest.raises(ValueError, match=re.escape(message)):
        jhmdb_sequences(root)


def test_what_is_not_there_is_said(root, tmp_path):
    with pytest.raises(ValueError, match=r"there is no video 'dan' in .*; it has ann, cid"):
        jhmdb_sequences(root, names=["dan"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no joints; expected .*Rename_Images/CLASS/VIDEO/00001.png"):
        jhmdb_sequences(tmp_path / "empty")
    with pytest.raises(ValueError, match="holds no test videos of split 2"):
        jhmdb_sequences(root, split=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda joints: joints / 200 - 1,
            r"x goes from -\S+ to \S+, y from \S+ to \S+; expected pixels of a frame of",
        ),
        (lambda joints: joints + 4000, r"x goes from 4\d+ to .* expected pixels of a frame of \d+x\d+"),
    ],
)
def test_joints_that_are_no_pixels_of_their_frames_are_refused(root, change, message):
    (one, *_) = jhmdb_sequences(root)
    write_joints(one.pose_path, change(one.joints))
    with pytest.raises(ValueError, match=rf"joint_positions\.mat: {message}"):
        jhmdb_sequences(root)


def test_joints_outside_the_frame_are_said(root, caplog):
    caplog.set_level("INFO")
    (one, *_) = jhmdb_sequences(root)
    joints = one.joints.copy()
    joints[0, :2] = -30
    write_joints(one.pose_path, joints)
    caplog.clear()
    jhmdb_sequences(root, names=[one.name])
    assert (
        f"2 of {joints.shape[0] * joints.shape[1]} joints lie outside their frames, in 1 of 1 videos"
        in caplog.text
    )

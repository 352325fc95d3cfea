"""Joints carried through videos whose motion is known, and the figures of the whole evaluation."""

import dataclasses
import json
import math

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_jhmdb import moving_joints, moving_noise, write_frames, write_jhmdb, write_joints
from torch import nn

from vidssl.cli import main
from vidssl.data.published.poses import JHMDB_JOINTS, jhmdb_sequences
from vidssl.evaluate.propagation.jhmdb import (
    PROTOCOLS,
    JointMaps,
    carry_joints,
    jhmdb_benchmark,
    joint_maps,
    last_seen,
    read_joints,
)
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences
from vidssl.models.encoder import Encoder

CELLS = JointMaps(grid="cells", sigma=0.5, background=False, topk=3)
CPU = torch.device("cpu")
# Joints of the first frame, (5, 2) px from where their cell begins; no two in one column and row.
FIRST = np.array([[12 * (3 + j % 5) + 5.0, 8 * (3 + j // 3) + 2.0] for j in range(15)])
NUM_FRAMES = 5


class Patches(Encoder):
    """One random linear map of every patch of 8x8 pixels: equal patches are found again, others are far."""

    def __init__(self, seed=0):
        super().__init__(dim=64, stride=8, architecture={"family": "patches", "seed": seed})
        self.map = nn.Conv2d(3, 64, 8, stride=8, bias=False)
        self.map.weight.data.normal_(generator=torch.Generator().manual_seed(seed))
        self.eval().requires_grad_(False)

    def features(self, clip):
        pixels = clip.flatten(0, 1) - 0.5
        return self.map(pixels - pixels.mean(dim=(2, 3), keepdim=True)).unflatten(0, clip.shape[:2])


def small(name):
    """A protocol on frames of 128x128 pixels: 16x16 cells of 12x8 native pixels. Weights are nearly one-hot."""
    protocol, maps, _ = PROTOCOLS[name]
    return dataclasses.replace(protocol, frame_size=(128, 128), temperature=0.01, radius_cells=None), maps


def tensors(frames):
    return [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames]


# -- joints as label maps --


def test_maps_are_those_of_the_official_code():
    """ajabri/videowalk 047f3f4, code/data/jhmdb.py draw_labelmap_np with sigma 0.5 on 40x40 cells: row, column of the
    middle, and the sum of the map. Near the border the middle is off by one, as there."""
    official = {
        (10.3, 4.7): ((5, 10), 1.6154563260114174),
        (0.3, 38.9): ((39, 1), 1.2893670679196245),
        (-0.4, 5.5): ((6, 1), 1.4430179900449716),
        (39.6, -2.6): (None, 0.0),
        (41.6, 3.0): (None, 0.0),
    }
    maps = joint_maps(np.array(list(official)), size=(40, 40), maps=CELLS)
    for drawn, (middle, total) in zip(maps, official.values(), strict=True):
        assert drawn.sum().item() == pytest.approx(total, abs=1e-6)
        if middle is not None:
            assert drawn[middle] == drawn.max() == 1
            row, column = middle
            assert drawn[row - 1, column].item() == pytest.approx(math.exp(-2), abs=1e-7)


def test_maps_in_pixels_are_those_of_the_official_code():
    """xvjiarui/VFS 7233826, pipelines/loading.py draw_label_map with sigma 4 on 120x160 pixels."""
    maps = dataclasses.replace(CELLS, grid="pixels", sigma=4)
    drawn = joint_maps(np.array([[60.3, 4.7], [159.0, 119.2]]), size=(120, 160), maps=maps)
    assert drawn.sum(dim=(1, 2)).tolist() == pytest.approx([91.72817205234631, 30.300470309074672], rel=1e-6)
    assert (drawn > 0).sum(dim=(1, 2)).tolist() == [425, 169]
    assert [divmod(int(one.argmax()), 160) for one in drawn] == [(5, 60), (119, 159)]


def test_the_background_is_where_no_joint_is():
    maps = dataclasses.replace(CELLS, background=True)
    labels = joint_maps(np.array([[10.0, 10.0], [30.0, 10.0]]), size=(40, 40), maps=maps)
    assert labels.shape == (3, 40, 40)
    assert set(labels[0].unique().tolist()) == {0, 1}
    assert labels[0].sum() == 1600 - 2 * 16
    assert (labels[0] * labels[1:].sum(dim=0)).sum() == 0


def test_joints_are_the_weighted_mean_of_the_best_cells():
    labels = torch.zeros(3, 6, 8)
    labels[0, 2, 5], labels[0, 2, 6], labels[0, 4, 5], labels[0, 0, 0] = 0.5, 0.3, 0.2, 0.1
    labels[1, 5, 7] = 0.01
    assert read_joints(labels, topk=1).tolist() == [[5, 2], [7, 5], [-1, -1]]
    assert read_joints(labels, topk=2)[0] == pytest.approx([(5 * 0.5 + 6 * 0.3) / 0.8, 2])
    assert read_joints(labels, topk=3)[0] == pytest.approx([5.3, 2.4])
    assert read_joints(labels, topk=999)[0] == pytest.approx(np.array([5.3, 2.4]) / 1.1)


# -- carrying --


def test_joints_follow_the_video():
    """Joints are known to the cell: they are put to the nearest one, and read from where it begins."""
    protocol, maps = small("crw")
    frames = tensors(moving_noise(NUM_FRAMES))
    expected = moving_joints(np.round(FIRST / [12, 8]) * [12, 8], NUM_FRAMES)
    # The third of three cells is one of four neighbours of equal weight; five cells are symmetric.
    pull = math.exp(-2) / (1 + 2 * math.exp(-2)) * 12
    for topk, tolerance_px in ((5, 1e-3), (3, pull + 1e-3)):
        how = dataclasses.replace(maps, topk=topk)
        found = np.stack(list(carry_joints(Carrier(Patches(), protocol, CPU), frames, FIRST, maps=how)))
        np.testing.assert_allclose(found, expected, atol=tolerance_px)


def test_joints_follow_the_video_through_maps_in_pixels():
    protocol, maps = small("vfs")
    frames = tensors(moving_noise(NUM_FRAMES))
    found = np.stack(list(carry_joints(Carrier(Patches(), protocol, CPU), frames, FIRST, maps=maps)))
    # The first is read from the map itself, drawn at whole pixels.
    np.testing.assert_allclose(found[0], np.floor(FIRST), atol=1e-5)
    steps = found[2:] - found[1:-1]
    np.testing.assert_allclose(steps, np.broadcast_to([12.0, 8.0], steps.shape), atol=1e-3)
    # Then from the middle of its cell, (5.5, 3.5) px from where it begins; it is (5, 2) from there.
    np.testing.assert_allclose(found[1] - moving_joints(FIRST)[1], np.broadcast_to([0.5, 1.5], (15, 2)), atol=0.3)


@pytest.mark.parametrize("name", ["crw", "siammae"])
def test_a_joint_that_starts_outside_stays_lost(name):
    protocol, maps = small(name)
    joints = FIRST.copy()
    joints[4] = (-60, 20)
    carrier = Carrier(Patches(), protocol, CPU)
    for places in carry_joints(carrier, tensors(moving_noise(3)), joints, maps=maps):
        assert places[4].tolist() == [-1, -1]
        assert (np.delete(places, 4, axis=0) >= 0).all()


def test_without_an_encoder_joints_stay():
    found = list(carry_joints(Carrier(None, None, CPU), tensors(moving_noise(3)), FIRST, maps=CELLS))
    np.testing.assert_array_equal(np.stack(found), np.stack([FIRST] * 3))


def test_the_published_protocols():
    """videowalk's issue 10; CropMAE's downstreams/propagation/util.py; VFS' configs; RVM's notebook."""
    knobs = {
        name: (p.frame_size, p.topk, p.num_recent_frames, p.temperature, p.radius_cells, maps.sigma, maps.topk)
        for name, (p, maps, _) in PROTOCOLS.items()
    }
    assert knobs == {
        "crw": ((320, 320), 10, 7, 0.05, 12, 0.5, 3),
        "cropmae": ((320, 320), 7, 20, 0.7, 20, 0.5, 5),
        "vfs": ((320, 320), 10, 20, 0.07, 12, 4, 5),
        "siammae": ((320, 320), 7, 20, 0.7, 20, 0.5, 5),
    }


# -- the whole evaluation --


@pytest.fixture
def root(tmp_path):
    """Two test videos; those of "wave" stand still."""
    walk = (moving_noise(NUM_FRAMES), moving_joints(FIRST, NUM_FRAMES))
    still = (np.stack([moving_noise(1, seed=1)[0]] * 4), np.stack([FIRST + 1] * 4))
    return write_jhmdb(tmp_path / "JHMDB", {"walk/ann": walk, "wave/bob": still})


def evaluate(root, out, encoder, *, variant="uvc", **options):
    protocol, maps = small("crw")
    carrier = Carrier(encoder, protocol if encoder else None, CPU)
    benchmark = jhmdb_benchmark(jhmdb_sequences(root), maps=maps, variant=variant)
    return evaluate_sequences(
        benchmark, carrier, out=out, model_name="patches", root=root, **{"overlays": False, **options}
    )


def test_figures_of_a_network_and_of_the_identity(root, tmp_path):
    result = evaluate(root, tmp_path / "out", Patches())
    # Off by at most half a cell (6, 4) px; the body is 0.6 * |(48, 32)| = 34.6 px long, so 0.3 of it is 10.4 px.
    assert result.record["variants"]["uvc"]["PCK@0.3"] == 1
    assert result.figures["PCK@0.2"] == result.figures["coverage"] == 1
    assert list(result.figures) == ["PCK@0.1", "PCK@0.2", "tapvid PCK@0.1", "tapvid PCK@0.2", "coverage"]

    identity = evaluate(root, tmp_path / "identity", None)
    # The moving video is off by |(12, 8)| = 14.4 px a frame; the still one is right in its 3 frames that count.
    assert identity.record["variants"]["uvc"] == pytest.approx(
        {"PCK@0.1": 3 / 7, "PCK@0.2": 3 / 7, "PCK@0.3": 3 / 7, "PCK@0.4": 3 / 7, "PCK@0.5": 4 / 7}
    )
    assert identity.figures["PCK@0.1"] == identity.record["variants"]["uvc"]["PCK@0.1"]
    assert identity.figures["tapvid PCK@0.1"] == pytest.approx((1 + 4) / 9)
    assert identity.record["variants"]["vfs"]["PCK@0.2"] == pytest.approx((1 + 4) / 9)
    of_vfs = evaluate(root, tmp_path / "vfs", None, variant="vfs")
    assert of_vfs.figures["PCK@0.1"] == pytest.approx((1 + 4) / 9)
    assert of_vfs.parts["joint neck"]["PCK@0.1"] == pytest.approx((1 + 4) / 9)
    assert of_vfs.parts["ann"]["PCK@0.1"] == pytest.approx(1 / 5)
    assert identity.parts["ann"]["PCK@0.1"] == 0
    assert identity.parts["bob"]["PCK@0.1"] == 1
    assert list(identity.parts) == ["ann", "bob", *(f"joint {name}" for name in JHMDB_JOINTS)]
    assert identity.parts["joint left knee"]["PCK@0.5"] == pytest.approx(4 / 7)


def test_what_is_written(root, tmp_path):
    result = evaluate(root, tmp_path, Patches(), overlays=True)
    with np.load(tmp_path / "predictions/ann.npz") as saved:
        xy, lost = saved["xy"], saved["lost"]
    expected = moving_joints(np.round(FIRST / [12, 8]) * [12, 8], NUM_FRAMES)
    np.testing.assert_allclose(xy, expected, atol=1.28)
    assert lost.shape == (NUM_FRAMES, 15)
    assert not lost.any()
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["figures"] == result.figures
    assert document["settings"]["joint_maps"] == dataclasses.asdict(small("crw")[1])
    assert document["protocol"]["frame_size"] == [128, 128]
    record = json.loads((tmp_path / "sequences/ann.json").read_text())
    assert record["uvc"]["counted"] == [NUM_FRAMES - 1] * 15
    assert record["present"] == 15 * (NUM_FRAMES - 1)
    with Image.open(tmp_path / "overlays/ann.png") as sheet:
        assert sheet.size == (5 * 244 - 4, 19 + 2 * (19 + 160 + 4) - 4)
    with av.open(str(tmp_path / "overlays/ann.mp4")) as video:
        assert [(f.width, f.height) for f in video.decode(video=0)] == [(192, 128)] * NUM_FRAMES


def test_lost_joints_are_kept_where_they_were_for_the_drawing():
    xy = np.arange(8.0).reshape(4, 1, 2)
    lost = np.array([[False], [True], [True], [False]])
    assert last_seen(xy, lost)[:, 0].tolist() == [[0, 1], [0, 1], [0, 1], [6, 7]]
    assert np.isnan(last_seen(xy, ~lost)[0]).all()


def test_videos_must_have_the_same_joints(tmp_path):
    for name, num_joints in (("a", 15), ("b", 14)):
        write_frames(tmp_path / name / "frames", moving_noise(2))
        write_joints(tmp_path / name / "joint_positions.mat", moving_joints(FIRST[:num_joints], 2))
    with pytest.raises(ValueError, match="differ in their number of joints: 15 in a, 14 in b"):
        jhmdb_benchmark(jhmdb_sequences(tmp_path), maps=CELLS)


def test_each_protocol_has_the_pck_of_its_own_code(root, tmp_path, capsys):
    assert {name: variant for name, (_, _, variant) in PROTOCOLS.items()} == {
        "crw": "uvc", "cropmae": "uvc", "vfs": "vfs", "siammae": "uvc"
    }  # fmt: skip
    out = tmp_path / "out"
    words = ["evaluate", "jhmdb", "--root", str(root), "--model", "identity", "--out", str(out), "--no-overlays"]
    assert main([*words, "--protocol", "vfs"]) == 0
    assert "55.6" in capsys.readouterr().out  # 5/9
    document = json.loads((out / "result.json").read_text())
    assert document["settings"]["pck"] == "vfs"
    assert document["figures"]["PCK@0.1"] == document["variants"]["vfs"]["PCK@0.1"]


def test_the_command(root, tmp_path, capsys):
    words = ["evaluate", "jhmdb", "--root", str(root), "--model", "identity", "--out", str(tmp_path / "out")]
    assert main([*words, "--no-overlays", "--read-topk", "2"]) == 0
    assert "42.9" in capsys.readouterr().out  # 3/7
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert document["task"] == "jhmdb"
    assert document["settings"] == {
        "split": 1, "pck": "uvc", "joint_maps": {"grid": "cells", "sigma": 0.5, "background": True, "topk": 2}
    }  # fmt: skip
    assert main([*words, "--read-topk", "0"]) == 2
    assert "--read-topk is 0" in capsys.readouterr().err


def test_identity_has_the_official_figures_on_real_joints(shared, tmp_path):
    reference = json.loads((shared / "data/reference/metrics/other_metric_values.json").read_text())
    result = evaluate(shared / "data/keypoints/sleap_flies_a", tmp_path, None)
    for variant, name in (("uvc", "videowalk"), ("vfs", "vfs"), ("tapvid", "tapnet")):
        values = {key: 100 * value for key, value in result.record["variants"][variant].items()}
        assert values == pytest.approx(reference[f"pck_flies_identity_{name}"], abs=1e-6)
    assert result.figures["coverage"] == 1

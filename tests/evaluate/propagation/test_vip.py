"""Parts carried through videos, and the figures of the whole evaluation."""

import dataclasses
import json

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_vip import moving_parts, write_vip
from torch import nn

from vidssl.cli import main
from vidssl.data.published.parts import vip_sequences
from vidssl.evaluate.metrics.miou import figures
from vidssl.evaluate.propagation.masks import read_mask, write_mask
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences
from vidssl.evaluate.propagation.vip import PROTOCOLS, read_classes, score, summary, vip_benchmark
from vidssl.models.encoder import Encoder

NUM_FRAMES = 4
# The body of 64 rows by 32 columns moves by 16 px a frame, so the first mask covers half of it, then nothing.
IOU_OF_STAYING = (4 * 32 * 32 - 32 * (16 + 32 + 32)) / (4 * 32 * 32 + 32 * (16 + 32 + 32))
IMAGE_PIXELS = 96 * 128


class Patches(Encoder):
    """One random linear map of every patch of 8x8 pixels."""

    def __init__(self):
        super().__init__(dim=64, stride=8, architecture={"family": "patches"})
        self.map = nn.Conv2d(3, 64, 8, stride=8, bias=False)
        self.map.weight.data.normal_(generator=torch.Generator().manual_seed(0))
        self.eval().requires_grad_(False)

    def features(self, clip):
        return self.map(clip.flatten(0, 1) - 0.5).unflatten(0, clip.shape[:2])


@pytest.fixture
def root(tmp_path):
    """A video with annotation on all frames, and the same with annotation on the first and the last."""
    frames, classes = moving_parts(NUM_FRAMES)
    gaps = [classes[0], None, None, classes[3]]
    return write_vip(tmp_path / "VIP", {"videos1": (frames, classes), "videos2": (frames, gaps)})


def evaluate(root, out, encoder, *, names=None, **options):
    """By the protocol of CRW, on frames of 96x128 pixels: 12x16 cells."""
    protocol = dataclasses.replace(PROTOCOLS["crw"], frame_size=(96, 128), temperature=0.01)
    carrier = Carrier(encoder, protocol if encoder else None)
    return evaluate_sequences(
        vip_benchmark(vip_sequences(root, names=names)),
        carrier,
        out=out,
        model_name="patches",
        root=root,
        **{"overlays": False, **options},
    )


def test_the_identity_in_closed_form(root, tmp_path):
    result = evaluate(root, tmp_path, None, names=["videos1"])
    body, missed = NUM_FRAMES * 64 * 32, 64 * (16 + 32 + 32)
    background = NUM_FRAMES * IMAGE_PIXELS - body
    iou_of_background = (background - missed) / (background + missed)
    assert result.figures["mIoU"] == pytest.approx((iou_of_background + 2 * IOU_OF_STAYING) / 3)
    assert result.figures["overall accuracy"] == pytest.approx(1 - 2 * missed / (NUM_FRAMES * IMAGE_PIXELS))
    assert result.parts["class upper-clothes"]["IoU"] == pytest.approx(IOU_OF_STAYING)
    assert result.parts["class left-leg"]["IoU"] == pytest.approx(IOU_OF_STAYING)
    assert np.isnan(result.parts["class hat"]["IoU"])
    assert result.parts["videos1"] == result.figures
    assert np.sum(result.record["confusion"]) == NUM_FRAMES * IMAGE_PIXELS


def test_frames_without_annotation_do_not_count(root, tmp_path):
    result = evaluate(root, tmp_path, None, names=["videos2"])
    assert result.parts["class left-leg"]["IoU"] == pytest.approx(1 / 3)  # right on the first, apart on the last
    assert len(list((tmp_path / "masks/videos2").iterdir())) == NUM_FRAMES


def test_all_videos_are_in_one_confusion_matrix(root, tmp_path):
    """Not the mean of two figures."""
    result = evaluate(root, tmp_path, None)
    intersection, missed = (
        4 * 32 * 32 - 32 * 80 + 32 * 32,
        32 * (80 + 32),
    )  # of a part: 16 + 32 + 32 and 32 columns
    assert result.parts["class left-leg"]["IoU"] == pytest.approx(intersection / (intersection + 2 * missed))
    records = [json.loads((tmp_path / f"sequences/videos{i}.json").read_text()) for i in (1, 2)]
    assert result.record["confusion"] == np.sum([record["confusion"] for record in records], axis=0).tolist()


def test_parts_follow_the_video(root, tmp_path):
    result = evaluate(root, tmp_path, Patches(), overlays=True)
    # All is right but the corners of the parts, which the bilinear interpolation of the labels rounds off.
    assert result.figures["mIoU"] > 0.95
    truth = read_mask(root / "VIP_Fine/Annotations/Category_ids/videos1/000000000076.png")
    mask = read_mask(tmp_path / "masks/videos1/000000000076.png")
    assert mask.unique().tolist() == [0, 4, 17]
    assert (mask == truth).float().mean() > 0.97
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["settings"] == {"num_classes": 20}
    assert document["parts"]["class hat"] == {"IoU": None}
    with Image.open(tmp_path / "overlays/videos2.png") as sheet:  # the two frames with annotation, and a legend
        assert sheet.size == (2 * 244 - 4, 19 + 2 * (19 + 180 + 4) - 4 + 21)
    with av.open(str(tmp_path / "overlays/videos1.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == NUM_FRAMES


def test_masks_of_another_size_are_brought_to_the_annotation(root, tmp_path):
    (sequence,) = vip_sequences(root, names=["videos1"])
    paths = []
    for number in range(NUM_FRAMES):
        paths.append(tmp_path / f"{number}.png")
        write_mask(paths[-1], sequence.mask(number)[::4, ::4].contiguous())
    # Parts lie on a grid of 4 px: nothing is lost, if it is nearest neighbour.
    assert figures(score(sequence, paths, num_classes=20))["overall accuracy"] == 1
    write_mask(paths[2], torch.full((96, 128), 33, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"2.png: the class 33 was predicted; there are 20"):
        score(sequence, paths, num_classes=20)


def test_void_counts_nowhere_and_is_not_carried(root, tmp_path):
    path = root / "VIP_Fine/Annotations/Category_ids/videos1/000000000001.png"
    labels = read_mask(path)
    labels[:8] = 255
    write_mask(path, labels)
    result = evaluate(root, tmp_path, None, names=["videos1"])
    assert np.sum(result.record["confusion"]) == NUM_FRAMES * IMAGE_PIXELS - 8 * 128
    assert result.parts["class left-leg"]["IoU"] == pytest.approx(IOU_OF_STAYING)
    assert read_mask(tmp_path / "masks/videos1/000000000026.png").max() == 17


def test_classes_beyond_the_last_are_refused(root, tmp_path):
    path = root / "VIP_Fine/Annotations/Category_ids/videos1/000000000001.png"
    labels = read_mask(path)
    labels[0, 0] = 20
    write_mask(path, labels)
    with pytest.raises(ValueError, match=r"000000000001.png has the class 20; .* --num-classes 21"):
        evaluate(root, tmp_path, None, names=["videos1"])
    (sequence,) = vip_sequences(root, names=["videos1"])
    assert read_classes(sequence, 0, num_classes=21).max() == 20
    _, parts, _ = summary([{"name": "a", "confusion": np.eye(21, dtype=int).tolist()}])
    assert parts["class 20"] == {"IoU": 1}


def test_the_published_protocols():
    knobs = {name: (p.frame_size, p.num_recent_frames, p.topk, p.temperature) for name, p in PROTOCOLS.items()}
    assert knobs == {
        "crw": ((560, 560), 4, 10, 0.05),
        "vfs": ((560, 560), 20, 10, 0.07),
        "siammae": ((448, 880), 20, 10, 0.7),
    }


def test_another_short_side_keeps_the_shape_of_the_protocols_frames(root, tmp_path):
    words = ["evaluate", "vip", "--root", str(root), "--model", "timm:resnet10t", "--out", str(tmp_path / "out")]
    more = ["--no-overlays", "--no-baselines", "--sequences", "videos2", "--device", "cpu"]
    for protocol, frame_size in (("siammae", [56, 110]), ("crw", [56, 56])):
        assert main([*words, *more, "--protocol", protocol, "--short-side", "56"]) == 0
        document = json.loads((tmp_path / "out/result.json").read_text())
        assert (document["protocol"]["name"], document["protocol"]["frame_size"]) == (protocol, frame_size)


def test_the_command(root, tmp_path, capsys):
    words = ["evaluate", "vip", "--root", str(root), "--model", "identity", "--out", str(tmp_path / "out")]
    assert main([*words, "--no-overlays", "--sequences", "videos2"]) == 0
    document = json.loads((tmp_path / "out/result.json").read_text())
    assert (document["task"], document["settings"]) == ("vip", {"num_classes": 20, "subset": "val"})
    assert f"{100 * document['figures']['mIoU']:.1f}" in capsys.readouterr().out
    assert main([*words, "--num-classes", "1"]) == 2
    assert "--num-classes is 1" in capsys.readouterr().err

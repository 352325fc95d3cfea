"""Objects that come in later, as in YouTube-VOS; one object, as in DAVIS-2016."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vidssl.data.published.benchmarks import davis_sequences, youtubevos_sequences
from vidssl.evaluate.propagation.davis import davis_benchmark, evaluate_davis
from vidssl.evaluate.propagation.masks import read_mask, write_mask
from vidssl.evaluate.propagation.propagate import propagate_features, propagate_masks
from vidssl.evaluate.propagation.protocols import CRW, DINO
from vidssl.evaluate.propagation.runner import Carrier, evaluate_sequences
from vidssl.models.encoder import Encoder

HEIGHT, WIDTH = 40, 72
COLORS = {1: (250, 40, 40), 3: (40, 250, 40), 7: (40, 40, 250)}


class Colors(Encoder):
    """Mean colour of every patch of 8x8 pixels, less mid-grey."""

    def __init__(self):
        super().__init__(dim=3, stride=8, mean=(0.5,) * 3, std=(1.0,) * 3, architecture={"family": "colors"})
        self.pool = nn.AvgPool2d(8)

    def features(self, clip):
        return (self.pool(clip.flatten(0, 1)) - self.mean).unflatten(0, clip.shape[:2])


def scene(number):
    """Object 1 moves from the start; 3 and 7 come in with frame 2 and stand still, 7 leaves in frame 4."""
    frame = np.full((HEIGHT, WIDTH, 3), 38, dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[8:24, 8 + 8 * number : 24 + 8 * number] = 1
    if number >= 2:
        mask[24:40, 8:24] = 3
        if number < 4:
            mask[24:40, 40:56] = 7
    for i, color in COLORS.items():
        frame[mask == i] = color
    return frame, mask


def write_videos(root, *, annotated):
    """One video of six frames in the layout of YouTube-VOS, with masks of the frames `annotated`."""
    for number in range(6):
        frame, mask = scene(number)
        path = root / f"JPEGImages/0a/{5 * number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path, quality=95)
        if number in annotated:
            write_mask(root / f"Annotations/0a/{5 * number:05d}.png", torch.from_numpy(mask))
    return root


def carried(video):
    frames = list(video.frames())
    protocol = CRW  # no class_min_max: masks are right but for the corners that interpolation rounds off
    return list(
        propagate_masks(Colors(), frames, video.first_mask(), protocol=protocol, later_masks=video.later_masks())
    )


def overlap(mask, truth, i):
    return ((mask == i) & (truth == i)).sum() / ((mask == i) | (truth == i)).sum()


def test_objects_are_carried_from_where_they_come_in(tmp_path):
    (video,) = youtubevos_sequences(write_videos(tmp_path, annotated=range(6)))
    assert video.first_frames == {1: 0, 3: 2, 7: 2}
    assert {i: video.scored(i) for i in (1, 3, 7)} == {1: [1, 2, 3, 4, 5], 3: [3, 4, 5], 7: [3, 4, 5]}
    assert {n: mask.unique().tolist() for n, mask in video.later_masks().items()} == {2: [0, 3, 7]}
    masks = carried(video)
    for number, mask in enumerate(masks):
        mask, truth = mask.numpy(), scene(number)[1]
        present = [i for i in (1, 3, 7) if (truth == i).any()]
        assert [overlap(mask, truth, i) > 0.85 for i in present] == [True] * len(present)
        assert set(np.unique(mask)) <= {0, *present}  # 7 has left
    assert np.array_equal(masks[2].numpy()[24:40], scene(2)[1][24:40])  # as given, over what was carried there


def test_an_object_cannot_come_in_twice():
    masks = [torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8) for _ in range(2)]
    masks[0][:8, :8], masks[1][8:16, :8] = 4, 4
    carried = propagate_masks(Colors(), [], masks[0], protocol=CRW, later_masks={2: masks[1]})
    with pytest.raises(
        ValueError, match=r"comes in twice: the ids of the masks by frame are \{0: \[0, 4\], 2: \[4\]\}"
    ):
        next(carried)


def test_labels_that_come_in_later_equal_two_propagations(tmp_path):
    """Channels of an object that joins are those of a propagation that starts where it joins."""
    generator = torch.Generator().manual_seed(0)
    features = nn.functional.normalize(torch.rand(5, 8, 6, 6, generator=generator) - 0.5, dim=1)
    first, later = (
        torch.rand(2, 6, 6, generator=generator),
        (torch.rand(1, 6, 6, generator=generator) > 0.7).float(),
    )
    protocol = dataclasses.replace(DINO, num_recent_frames=1)
    joined = list(propagate_features(features, {0: lambda h, w: first, 2: lambda h, w: later}, protocol=protocol))
    alone = list(propagate_features(features, lambda h, w: first, protocol=protocol))
    assert [len(labels) for labels in joined] == [2, 2, 3, 3, 3]
    for number in (0, 1):
        assert torch.equal(joined[number], alone[number])
    torch.testing.assert_close(joined[2], torch.cat((alone[2] * (1 - later), later)), rtol=0, atol=1e-6)
    # By hand: for frame 4 the context is frames 0 and 2, which are kept, and the frame before.
    context = [0, 2, 3]
    padded = [torch.cat((joined[n], torch.zeros(3 - len(joined[n]), 6, 6))).flatten(1) for n in context]
    values = torch.cat(padded, dim=1)
    scores = features[4].flatten(1).T @ torch.cat([features[n].flatten(1) for n in context], dim=1)
    best = scores.topk(DINO.topk, dim=1)
    weights = (best.values / DINO.temperature).softmax(dim=1)
    expected = torch.einsum("qk, lqk -> lq", weights, values[:, best.indices]).view(3, 6, 6)
    torch.testing.assert_close(joined[4], expected, rtol=0, atol=1e-5)


def test_a_video_whose_first_object_comes_later_starts_empty(tmp_path):
    for number in (0, 1):
        frame = np.full((HEIGHT, WIDTH, 3), 38, dtype=np.uint8)
        (tmp_path / "JPEGImages/0a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(tmp_path / f"JPEGImages/0a/{number:05d}.jpg")
    for number in (2, 3):
        Image.fromarray(scene(number)[0]).save(tmp_path / f"JPEGImages/0a/{number:05d}.jpg", quality=95)
        write_mask(tmp_path / f"Annotations/0a/{number:05d}.png", torch.from_numpy(scene(number)[1]))
    (video,) = youtubevos_sequences(tmp_path)
    assert video.first_frames == {1: 2, 3: 2, 7: 2}
    masks = carried(video)
    assert [mask.unique().tolist() for mask in masks] == [[0], [0], [0, 1, 3, 7], [0, 1, 3, 7]]
    assert torch.equal(masks[2], torch.from_numpy(scene(2)[1]))


def evaluate(root, out, encoder=None):
    carrier = Carrier(encoder, None if encoder is None else CRW)
    benchmark = davis_benchmark(youtubevos_sequences(root), task="youtubevos")
    return evaluate_sequences(benchmark, carrier, out=out, model_name="x", root=root)


def test_each_object_is_scored_after_it_came_in(tmp_path):
    root = write_videos(tmp_path / "valid", annotated=range(6))
    result = evaluate(root, tmp_path / "out")  # identity: every mask stays where it was given
    by_object = {name: figures["J-Mean"] for name, figures in result.record["objects"].items()}
    # Object 1 is 16 px wide and moves 8 px a frame; 3 stands still; 7 is there in frame 3, gone in 4 and 5.
    expected = {"0a_1": (8 / 24 + 0 + 0 + 0 + 0) / 5, "0a_3": 1.0, "0a_7": 1 / 3}
    assert by_object == pytest.approx(expected, abs=1e-12)
    assert result.figures["J-Mean"] == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    assert len(list((tmp_path / "out/masks/0a").iterdir())) == 6


def test_seen_and_unseen_categories_weigh_the_same(tmp_path):
    root = write_videos(tmp_path / "valid", annotated=range(6))

    def meta(path, categories):
        objects = {str(i): {"category": name, "frames": []} for i, name in categories.items()}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"videos": {"0a": {"objects": objects}}}))

    meta(root / "meta.json", {1: "dog", 3: "cat", 7: "yak"})
    meta(tmp_path / "train/meta.json", {1: "dog", 2: "cat"})
    result = evaluate(root, tmp_path / "out")
    objects = {name: figures["J&F-Mean"] for name, figures in result.record["objects"].items()}
    expected = ((objects["0a_1"] + objects["0a_3"]) / 2 + objects["0a_7"]) / 2
    assert result.figures["G-Mean"] == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(result.figures["J&F-Mean"], abs=1e-3)
    (root / "meta.json").write_text('{"videos": []}')
    with pytest.raises(ValueError, match=r"valid/meta\.json is no meta\.json of YouTube-VOS"):
        youtubevos_sequences(root)


def test_masks_to_start_from_are_not_scored(tmp_path):
    """The public part of valid and test holds nothing but the masks that objects come in with."""
    root = write_videos(tmp_path / "valid", annotated=[0, 2])
    result = evaluate(root, tmp_path / "out", Colors())
    assert result.record["unscored"] == ["0a"]
    assert np.isnan(result.figures["J&F-Mean"])
    masks = [read_mask(tmp_path / f"out/masks/0a/{5 * n:05d}.png").unique().tolist() for n in range(6)]
    assert masks == [[0, 1], [0, 1], [0, 1, 3, 7], [0, 1, 3, 7], [0, 1, 3], [0, 1, 3]]


def test_davis_2016_is_one_object(tmp_path):
    root = tmp_path / "data"
    for number in range(4):
        frame, mask = scene(2)
        path = root / f"JPEGImages/480p/ant/{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)
        # Published masks are 0 and 255; those of DAVIS-2017 have an id per object.
        mask = np.where(mask > 0, 255, 0) if number % 2 else mask
        mask_path = root / f"Annotations/480p/ant/{number:05d}.png"
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(mask_path)
    lists = root / "ImageSets/480p"
    lists.mkdir(parents=True)
    lines = [f"/JPEGImages/480p/ant/{n:05d}.jpg /Annotations/480p/ant/{n:05d}.png\n" for n in range(4)]
    (lists / "val.txt").write_text("".join(lines))
    (sequence,) = davis_sequences(root, year=2016)
    assert sequence.first_frames == {1: 0} and sequence.scored(1) == [1, 2]
    assert torch.equal(sequence.mask(0), sequence.mask(1))
    result = evaluate_davis(None, root=root, out=tmp_path / "out", model_name="identity", year=2016)
    assert result.task == "davis2016" and result.figures["J&F-Mean"] == 1
    with pytest.raises(ValueError, match="year is 2018, expected 2016 or 2017"):
        davis_sequences(root, year=2018)


def test_davis_2016_has_the_figures_of_the_official_code(shared, tmp_path):
    """The sequences are of DAVIS-2016; J and F were made by davis2017-evaluation, which has the same for one object."""
    reference = json.loads((shared / "data/reference/metrics/davis2017_metric_values.json").read_text())
    result = evaluate_davis(
        None,
        root=shared / "data/davis",
        out=tmp_path,
        model_name="identity",
        year=2016,
        sequences=["car-shadow"],
        overlays=False,
    )
    expected = reference["open/car-shadow_1/identity"]
    assert result.figures["J-Mean"] == pytest.approx(expected["J_mean"], abs=1e-12)
    assert result.figures["F-Decay"] == pytest.approx(expected["F_decay"], abs=1e-12)

"""The evaluation driver: figures against the official ones, resuming, and a user's own video."""

import csv
import dataclasses
import io
import json
import logging
import math
import re

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from torch import nn

from vidssl.data.published.benchmarks import davis_sequences
from vidssl.evaluate.propagation.davis import COLUMNS, evaluate_davis, official_tables, score_masks
from vidssl.evaluate.propagation.masks import read_mask, write_mask
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evaluate.propagation.video import propagate_video
from vidssl.evaluate.provenance import fingerprint, write_json
from vidssl.models.encoder import Encoder

HEIGHT, WIDTH = 40, 72


class Patches(Encoder):
    """One linear map of every patch of 8x8 pixels."""

    def __init__(self, seed):
        super().__init__(dim=8, stride=8, architecture={"family": "patches"})
        self.map = nn.Conv2d(3, 8, 8, stride=8)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.map.parameters():
            parameter.data.normal_(generator=generator)
        self.eval().requires_grad_(False)

    def features(self, clip):
        return self.map((clip.flatten(0, 1) - self.mean) / self.std).unflatten(0, clip.shape[:2])


def square(number):
    """Frame (H, W, 3) and mask (H, W) of two squares, ids 1 and 3; the first moves 8 pixels to the right a frame.

    All lies on the grid of the encoder's patches, so that a cell belongs to one object.
    """
    frame = np.random.default_rng(0).integers(0, 80, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    left = 8 + 8 * number
    mask[8:24, left : left + 16], mask[24:40, 8:24] = 1, 3
    frame[mask == 1], frame[mask == 3] = (250, 40, 40), (40, 250, 40)
    return frame, mask


@pytest.fixture
def root(tmp_path):
    """Sequences "ant" (6 frames) and "bee" (5 frames) in the layout of DAVIS."""
    root = tmp_path / "data"
    for name, num_frames in (("ant", 6), ("bee", 5)):
        for number in range(num_frames):
            frame, mask = square(number)
            path = root / f"JPEGImages/480p/{name}/{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(path, quality=95)
            write_mask(root / f"Annotations/480p/{name}/{number:05d}.png", torch.from_numpy(mask))
    return root


def evaluate(root, out, *, encoder="patches", protocol=CRW, **options):
    if encoder == "patches":
        encoder = Patches(seed=0)
    options = {"overlays": False, **options}
    return evaluate_davis(encoder, root=root, out=out, protocol=protocol, model_name="patches", **options)


def test_official_masks_get_the_official_figures(shared):
    """The whole table of an official run; `davis_eval.txt` prints six significant digits."""
    case = shared / "data/reference/crw_resnet18_davis240"
    result = score_masks(shared / "data/davis240", case / "masks")
    lines = [line.split() for line in (case / "davis_eval.txt").read_text().splitlines()]
    row = lines[lines.index(list(COLUMNS)) + 1]
    assert list(result.figures.values()) == pytest.approx([float(cell) for cell in row], abs=1e-6)
    start = lines.index(["Sequence", "J-Mean", "F-Mean"]) + 1
    official = {name: (float(j), float(f)) for name, j, f in lines[start : start + 5]}
    assert list(result.record["objects"]) == list(official)
    for name, figures in result.record["objects"].items():
        assert (figures["J-Mean"], figures["F-Mean"]) == pytest.approx(official[name], abs=1e-6)
    assert result.record["unscored"] == []


def test_official_tables_are_written_to_the_letter(shared, tmp_path):
    masks = shared / "data/reference/dino_vit_tiny16_davis/masks"
    score_masks(shared / "data/davis", masks, out=tmp_path)
    for name in ("global_results-val.csv", "per-sequence_results-val.csv"):
        assert (tmp_path / name).read_text() == (masks / name).read_text()


def test_identity_has_the_figures_of_the_official_code(shared, tmp_path):
    names = ["car-shadow", "synth2-swan-car"]
    result = evaluate(shared / "data/davis", tmp_path, encoder=None, protocol=None, sequences=names)
    reference = json.loads((shared / "data/reference/metrics/davis2017_metric_values.json").read_text())
    assert list(result.record["objects"]) == ["car-shadow_1", "synth2-swan-car_1", "synth2-swan-car_2"]
    for name, figures in result.record["objects"].items():
        expected = reference[f"open/{name}/identity"]
        for letter in "JF":
            for figure in ("mean", "recall", "decay"):
                assert figures[f"{letter}-{figure.title()}"] == expected[f"{letter}_{figure}"]
            sequence, number = name.rsplit("_", 1)
            record = json.loads((tmp_path / f"sequences/{sequence}.json").read_text())
            assert record["objects"][number][letter] == expected[letter]
    means = [
        np.mean([figures[column] for figures in result.record["objects"].values()])
        for column in ("J-Mean", "F-Mean")
    ]
    assert result.figures["J&F-Mean"] == sum(means) / 2


def test_ground_truth_scores_one(root):
    result = score_masks(root, root / "Annotations/480p")
    expected = dict(zip(COLUMNS, (1, 1, 1, 0, 1, 1, 0), strict=True))
    assert result.figures == expected
    # Id 2 occurs in no annotation: no object, though the official code counts it as one that is always right.
    assert result.record["objects"] == dict.fromkeys(
        [f"{name}_{i}" for name in ("ant", "bee") for i in (1, 3)], expected
    )
    assert result.record["absent_ids"] == {"ant": [2], "bee": [2]}


def test_shuffled_objects_score_nothing(root, tmp_path):
    """Every object under the id of another: no region is right, and of the contours what the two squares share."""
    for name, num_frames in (("ant", 6), ("bee", 5)):
        for number in range(num_frames):
            swapped = np.array([0, 3, 2, 1], dtype=np.uint8)[square(number)[1]]
            write_mask(tmp_path / f"masks/{name}/{number:05d}.png", torch.from_numpy(swapped))
    result = score_masks(root, tmp_path / "masks")
    assert [result.record["objects"][f"ant_{i}"]["J-Mean"] for i in (1, 3)] == [0, 0]
    assert result.record["objects"]["ant_1"]["F-Mean"] < 0.35


def test_masks_and_figures_are_those_of_the_propagator(root, tmp_path):
    result = evaluate(root, tmp_path / "out")
    # All is right but the corners of the squares, which the bilinear interpolation of the labels rounds off.
    assert [result.record["objects"][f"bee_{i}"]["J&F-Mean"] > 0.89 for i in (1, 3)] == [True] * 2
    again = score_masks(root, tmp_path / "out/masks")
    assert again.record["objects"] == result.record["objects"]
    assert sorted(path.name for path in (tmp_path / "out/masks/bee").iterdir()) == [
        f"0000{i}.png" for i in range(5)
    ]
    identity = evaluate(root, tmp_path / "identity", encoder=None, protocol=None)
    # Frames 1 to 3 count. The square has moved half its width in frame 1, away from where it was in the others.
    assert identity.record["objects"]["bee_1"]["J-Mean"] == pytest.approx(np.mean([8 / 24, 0, 0]), abs=1e-12)
    assert identity.record["objects"]["bee_3"]["J&F-Mean"] == 1


def test_the_result_file_holds_every_knob(root, tmp_path):
    protocol = dataclasses.replace(CRW, topk=3)
    encoder = Patches(seed=0)
    result = evaluate(root, tmp_path, encoder=encoder, protocol=protocol, command="vidssl evaluate davis")
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["figures"] == result.figures
    assert list(document["figures"]) == list(COLUMNS)
    assert document["objects"] == result.record["objects"]
    assert document["parts"]["bee"]["J-Mean"] == np.mean(
        [result.record["objects"][f"bee_{i}"]["J-Mean"] for i in (1, 3)]
    )
    assert document["protocol"] == json.loads(json.dumps(dataclasses.asdict(protocol)))
    assert document["protocol"]["topk"] == 3
    assert document["model"] == {
        "name": "patches", "architecture": {"family": "patches"}, "sha256": fingerprint(encoder)
    }  # fmt: skip
    assert document["versions"]["torch"] == torch.__version__
    assert (document["num_frames"], document["device"], document["command"]) == (
        11,
        "cpu",
        "vidssl evaluate davis",
    )
    # End to end includes what is not propagation: writing masks, scoring them.
    assert 0 < document["frames_per_second"] < document["propagation_frames_per_second"]
    rows = list(csv.reader(io.StringIO((tmp_path / "global_results-val.csv").read_text())))
    assert rows == [list(COLUMNS), [f"{value:.3f}" for value in result.figures.values()]]


def mask_times(out):
    """Sequence -> time of the last change of its masks."""
    return {
        folder.name: max(path.stat().st_mtime_ns for path in folder.iterdir())
        for folder in (out / "masks").iterdir()
    }


def done_again(before, after):
    return [name for name in sorted(after) if after[name] != before[name]]


def test_finished_sequences_are_taken_over(root, tmp_path, caplog):
    out = tmp_path / "out"
    first = evaluate(root, out)
    before = mask_times(out)
    caplog.set_level(logging.INFO)
    assert evaluate(root, out).figures == first.figures
    assert mask_times(out) == before
    assert f"2 of 2 sequences are taken over from {out}" in caplog.text

    (out / "sequences/ant.json").unlink()
    assert evaluate(root, out).figures == first.figures
    assert done_again(before, mask_times(out)) == ["ant"]


@pytest.mark.parametrize(
    ("change", "redone", "reason"),
    [
        ("knob", ["ant", "bee"], "bee is done again: protocol topk 10 -> 5"),
        ("weights", ["ant", "bee"], "bee is done again: another model"),
        ("frame", ["bee"], "bee is done again: another data"),
        ("mask", ["ant"], "00002.png is missing"),
    ],
)
def test_what_was_made_differently_is_done_again(root, tmp_path, caplog, change, redone, reason):
    out = tmp_path / "out"
    evaluate(root, out)
    before = mask_times(out)
    options = {}
    if change == "knob":
        options["protocol"] = dataclasses.replace(CRW, topk=5)
    elif change == "weights":
        options["encoder"] = Patches(seed=1)
    elif change == "frame":
        Image.fromarray(square(3)[0]).save(root / "JPEGImages/480p/bee/00003.jpg", quality=50)
    else:
        (out / "masks/ant/00002.png").unlink()
    result = evaluate(root, out, **options)
    assert done_again(before, mask_times(out)) == redone
    assert reason in caplog.text
    fresh = evaluate(root, tmp_path / "fresh", **options)
    assert result.record["objects"] == fresh.record["objects"]


class Interrupted(Patches):
    """Stands for a user who presses Ctrl-C while the second sequence runs."""

    def features(self, clip):
        self.num_frames = getattr(self, "num_frames", 0) + clip.shape[0] * clip.shape[1]
        if self.num_frames > 8:
            raise KeyboardInterrupt
        return super().features(clip)


def test_interruption_keeps_what_is_finished(root, tmp_path):
    out = tmp_path / "out"
    evaluate(root, out, encoder=Patches(seed=1))
    with pytest.raises(KeyboardInterrupt):
        evaluate(root, out, encoder=Interrupted(seed=0))
    assert [path.name for path in (out / "sequences").iterdir()] == ["ant.json"]
    assert not (out / "result.json").exists()  # that of the other weights no longer fits the masks
    before = mask_times(out)["ant"]
    result = evaluate(root, out)
    assert mask_times(out)["ant"] == before
    assert result.record["objects"] == evaluate(root, tmp_path / "whole").record["objects"]


def test_sequences_without_scored_frames_are_named(root, tmp_path, caplog):
    for number in range(1, 6):
        (root / f"Annotations/480p/ant/{number:05d}.png").unlink()
    result = evaluate(root, tmp_path / "both")
    assert result.record["unscored"] == ["ant"]
    assert list(result.record["objects"]) == ["bee_1", "bee_3"]
    assert not math.isnan(result.figures["J&F-Mean"])
    assert len(list((tmp_path / "both/masks/ant").iterdir())) == 6
    assert "not scored, because too few of their frames have annotation: ant" in caplog.text

    for number in range(1, 5):
        (root / f"JPEGImages/480p/bee/{number:05d}.jpg").unlink()
        (root / f"Annotations/480p/bee/{number:05d}.png").unlink()
    alone = evaluate(root, tmp_path / "alone", sequences=["bee"])  # a sequence of one frame
    assert alone.record["unscored"] == ["bee"]
    assert json.loads((tmp_path / "alone/result.json").read_text())["figures"] == dict.fromkeys(COLUMNS)
    assert (tmp_path / "alone/global_results-val.csv").read_text().splitlines()[1] == "," * 6
    assert read_mask(tmp_path / "alone/masks/bee/00000.png").unique().tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "00002.png").unlink(), "00002.png: cannot be found"),
        (
            lambda folder: write_mask(folder / "00002.png", torch.full((HEIGHT, WIDTH), 4, dtype=torch.uint8)),
            "00002.png has the object id 4, but the first frame of ant has 2 object(s), 1, 3",
        ),
        (
            lambda folder: write_mask(folder / "00002.png", torch.zeros(HEIGHT, 30, dtype=torch.uint8)),
            "00002.png is 30x40 pixels, its annotation",
        ),
    ],
)
def test_masks_that_cannot_be_scored_are_named(root, tmp_path, damage, message):
    masks = tmp_path / "masks"
    (root / "Annotations/480p").rename(masks)
    evaluate_to = root / "Annotations/480p"
    evaluate_to.mkdir()
    for folder in masks.iterdir():
        (evaluate_to / folder.name).mkdir()
        for path in folder.iterdir():
            (evaluate_to / folder.name / path.name).write_bytes(path.read_bytes())
    damage(masks / "ant")
    with pytest.raises(ValueError, match=re.escape(message)):
        score_masks(root, masks)


def test_objects_that_the_result_lacks_score_zero(root, tmp_path):
    for name, num_frames in (("ant", 6), ("bee", 5)):
        for number in range(num_frames):
            only_first = np.where(square(number)[1] == 1, 1, 0).astype(np.uint8)
            write_mask(tmp_path / f"masks/{name}/{number:05d}.png", torch.from_numpy(only_first))
    result = score_masks(root, tmp_path / "masks")
    assert [result.record["objects"][f"ant_{i}"]["J&F-Mean"] for i in (1, 3)] == [1, 0]


def write_sequence(root, name, masks):
    """Write a sequence of grey frames with these masks, uint8 (T, H, W)."""
    for number, mask in enumerate(masks):
        path = root / f"JPEGImages/480p/{name}/{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", mask.shape[::-1], (90, 90, 90)).save(path)
        write_mask(root / f"Annotations/480p/{name}/{number:05d}.png", torch.from_numpy(mask))


def moving(ids, num_frames=8):
    """Masks uint8 (T, 40, 72) of one square of 16x16 pixels per id, which move 2 px a frame to the right."""
    masks = np.zeros((num_frames, HEIGHT, WIDTH), dtype=np.uint8)
    for number, mask in enumerate(masks):
        for place, i in enumerate(ids):
            mask[2 + 18 * place : 18 + 18 * place, 4 + 2 * number : 20 + 2 * number] = i
    return masks


@pytest.mark.parametrize("ids", [(1, 9), (3, 7), (4, 2), (200, 254)])
def test_case_13_ids_that_never_occur_are_no_objects(tmp_path, caplog, ids):
    write_sequence(tmp_path / "dense", "ant", moving((1, 2)))
    write_sequence(tmp_path / "sparse", "ant", moving(ids))
    dense, sparse = (
        evaluate(tmp_path / name, tmp_path / f"out_{name}", encoder=None, protocol=None)
        for name in ("dense", "sparse")
    )
    assert sparse.figures == dense.figures and 0 < dense.figures["J&F-Mean"] < 0.7
    assert list(sparse.record["objects"]) == [f"ant_{i}" for i in sorted(ids)]
    assert sparse.record["absent_ids"] == {"ant": sorted(set(range(1, max(ids))) - set(ids))}
    assert "absent_ids" not in dense.record
    assert "ant: no mask has the ids" in caplog.text and "davis2017-evaluation counts each of them" in caplog.text


def test_case_13_void_beside_sparse_ids_is_background(tmp_path):
    masks = moving((3, 7))
    masks[:, :, 60:] = 255
    write_sequence(tmp_path / "data", "ant", masks)
    result = evaluate(tmp_path / "data", tmp_path / "out", encoder=None, protocol=None)
    assert list(result.record["objects"]) == ["ant_3", "ant_7"]


def test_case_13_an_object_that_the_first_frame_lacks_counts_as_officially(tmp_path, caplog):
    masks = moving((1, 3))
    masks[4:, 30:38, 60:68] = 2  # of 6 scored frames, 1 to 6, it is in 3
    write_sequence(tmp_path / "data", "ant", masks)
    result = evaluate(tmp_path / "data", tmp_path / "out", encoder=None, protocol=None)
    assert result.record["objects"]["ant_2"]["J-Mean"] == 0.5 and "absent_ids" not in result.record
    assert "ant: the first frame has no object 2, which later ones have: counted" in caplog.text


def test_case_13_masks_with_ids_that_are_no_objects_are_refused(tmp_path):
    write_sequence(tmp_path / "data", "ant", moving((1, 9)))
    write_sequence(tmp_path / "given", "ant", moving((1, 5)))
    with pytest.raises(
        ValueError, match=r"has the object id 5, but the first frame of ant has 2 object\(s\), 1, 9"
    ):
        score_masks(tmp_path / "data", tmp_path / "given/Annotations/480p")


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
def test_case_14_turned_frames_are_measured_upright(root, tmp_path, orientation, turns):
    upright = evaluate(root, tmp_path / "upright")
    for path in root.glob("JPEGImages/480p/*/*.jpg"):
        frame, _ = square(int(path.stem))
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.rot90(frame, turns)).save(path, quality=95, exif=exif)
    turned = evaluate(root, tmp_path / "turned")
    # JPEG rounds another way in a turned picture.
    assert turned.figures == pytest.approx(upright.figures, abs=0.02)
    assert upright.figures["J&F-Mean"] > 0.9


def test_case_15_soft_masks_of_a_benchmark_are_refused(tmp_path):
    soft = Image.new("L", (WIDTH * 8, HEIGHT * 8))
    ImageDraw.Draw(soft).ellipse((80, 60, 300, 240), fill=255)
    masks = np.stack([np.array(soft.resize((WIDTH, HEIGHT)))] * 4)
    write_sequence(tmp_path, "ant", masks)
    with pytest.raises(ValueError, match=r"ant/00000\.png has \d+ values besides 0, .* a mask with soft"):
        davis_sequences(tmp_path)


def test_overlays_are_written_once(root, tmp_path):
    out = tmp_path / "out"
    evaluate(root, out, overlays=True)
    with av.open(str(out / "overlays/ant.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 6
    # The square (250, 40, 40), half covered by object 1, (171, 0, 0): red grows weaker, green and blue vanish.
    assert pictures[0][12:20, 12:20].reshape(-1, 3).mean(0).tolist() == pytest.approx([210, 20, 20], abs=12)
    with Image.open(out / "overlays/ant.png") as sheet:
        assert sheet.size == (6 * 240 + 5 * 4, 2 * round(240 * HEIGHT / WIDTH) + 4)
    before = (out / "overlays/ant.mp4").stat().st_mtime_ns
    (out / "overlays/bee.mp4").unlink()
    evaluate(root, out, overlays=True)
    assert (out / "overlays/ant.mp4").stat().st_mtime_ns == before
    assert (out / "overlays/bee.mp4").exists()
    evaluate(root, out, overlays=True, encoder=Patches(seed=1))
    assert (out / "overlays/ant.mp4").stat().st_mtime_ns != before


def test_the_table_for_the_terminal_has_the_official_columns(root, tmp_path):
    console = Console(file=io.StringIO(), width=120)
    console.print(official_tables(score_masks(root, root / "Annotations/480p")))
    printed = console.file.getvalue()
    assert all(column in printed for column in COLUMNS)
    assert "ant_1" in printed
    assert "1.0000" in printed


def test_an_encoder_needs_a_protocol(root, tmp_path):
    with pytest.raises(ValueError, match="protocol is None; an encoder needs one"):
        evaluate(root, tmp_path, protocol=None)


def test_fingerprint_follows_every_weight():
    encoder = Patches(seed=0)
    same = fingerprint(Patches(seed=0))
    assert fingerprint(encoder) == same
    encoder.map.bias.data[3] += 1e-6
    assert fingerprint(encoder) != same
    other = Patches(seed=0)
    other.architecture = {"family": "patches", "padding": "reflect"}
    assert fingerprint(other) != same


def own_video(folder):
    """A folder of frames and the mask of the first."""
    for number in range(6):
        frame, mask = square(number)
        path = folder / f"frames/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)
        if number == 0:
            write_mask(folder / "first.png", torch.from_numpy(mask))
    return folder / "frames", folder / "first.png"


def propagate(video, first_mask, out):
    return propagate_video(video, first_mask, Patches(seed=0), protocol=CRW, out=out, model_name="patches")


def test_a_users_own_video_gets_masks_areas_and_an_overlay(root, tmp_path):
    video, first_mask = own_video(tmp_path)
    assert propagate(video, first_mask, tmp_path / "out") == tmp_path / "out/overlay.mp4"
    labels = json.loads((tmp_path / "out/labels.json").read_text())
    masks = [read_mask(tmp_path / "out/masks" / frame["file"]) for frame in labels["frames"]]
    assert len(masks) == 6
    assert labels["ids"] == [1, 3]
    for frame, mask in zip(labels["frames"], masks, strict=True):
        assert frame["areas"] == {"1": int((mask == 1).sum()), "3": int((mask == 3).sum())}
        assert mask.unique().tolist() == [0, 1, 3]
    with av.open(str(tmp_path / "out/overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    # The driver of the benchmark gives the same masks for the same pictures.
    for path in (root / "JPEGImages/480p/ant").iterdir():
        Image.open(video / f"{int(path.stem)}.png").save(path.with_suffix(".png"))
        path.unlink()
        path.with_suffix(".png").rename(path)
    evaluate(root, tmp_path / "davis", sequences=["ant"])
    for number, mask in enumerate(masks):
        assert torch.equal(read_mask(tmp_path / f"davis/masks/ant/{number:05d}.png"), mask)


def test_a_black_and_white_mask_is_one_object(tmp_path):
    video, first_mask = own_video(tmp_path)
    white = (read_mask(first_mask) == 1).numpy()
    Image.fromarray(white.astype(np.uint8) * 255).save(first_mask)
    propagate(video, first_mask, tmp_path / "out")
    assert json.loads((tmp_path / "out/labels.json").read_text())["ids"] == [1]
    assert read_mask(tmp_path / "out/masks/00003.png").unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((HEIGHT, 30), np.uint8), r"first\.png is 30x40 pixels, the frames of .*frames are 72x40"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), r"first\.png holds no object"),
    ],
)
def test_a_first_mask_that_does_not_fit_is_refused(tmp_path, mask, message):
    video, first_mask = own_video(tmp_path)
    Image.fromarray(mask).save(first_mask)
    with pytest.raises(ValueError, match=message):
        propagate(video, first_mask, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "frames",
            r"frames is read, and what goes to .*frames would be written over it; give another folder \(--out\)",
        ),
        (".", r"own holds first\.png and 3 more, which propagate did not make; give another"),
        ("mine", r"mine holds masks/00000\.png and 1 more, which propagate did not make"),
        ("notes", r"notes holds labels\.json, which propagate did not make"),
        ("first.png", r"first\.png is (a file|read)"),
    ],
)
def test_propagate_writes_over_nothing_that_it_did_not_make(tmp_path, place, message):
    video, first_mask = own_video(tmp_path / "own")
    folder = tmp_path / "own/mine/masks"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number:05d}.png").write_bytes(b"drawn by hand")
    (tmp_path / "own/notes").mkdir()
    (tmp_path / "own/notes/labels.json").write_text('{"video": "cats.mp4", "labels": ["cat"]}')
    before = content(tmp_path)
    with pytest.raises(ValueError, match=message):
        propagate(video, first_mask, tmp_path / "own" / place)
    assert content(tmp_path) == before


def test_propagate_reads_nothing_from_where_it_writes(tmp_path):
    video, first_mask = own_video(tmp_path)
    propagate(video, first_mask, tmp_path / "out")
    before = content(tmp_path)
    for read in ((video, tmp_path / "out/masks/00003.png"), (tmp_path / "out/overlay.mp4", first_mask)):
        with pytest.raises(ValueError, match=r"out/\S+ is read, and what goes to .*out would be written over it"):
            propagate(*read, tmp_path / "out")
    other = tmp_path / "other"
    video.rename(other)
    with pytest.raises(ValueError, match=r"out holds what was made of \S+/frames, not of \S+/other; give another"):
        propagate(other, first_mask, tmp_path / "out")
    moved = {tmp_path / "other" / path.name if path.parent == video else path: one for path, one in before.items()}
    assert content(tmp_path) == moved


def test_propagate_writes_its_own_folder_anew_and_leaves_no_mask_of_before(tmp_path, monkeypatch):
    video, first_mask = own_video(tmp_path)
    propagate(video, first_mask, tmp_path / "out")
    (video / "5.png").unlink()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr("vidssl.evaluate.propagation.video.write_json", kill_at_the_end)
        propagate(video, first_mask, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "masks",
        "overlay.mp4",
        "unfinished.json",
    ]
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out holds notes\.txt, which propagate did not make"):
        propagate(video, first_mask, tmp_path / "out")
    (tmp_path / "out/notes.txt").unlink()
    propagate(video, first_mask, tmp_path / "out")
    names = [path.relative_to(tmp_path / "out").as_posix() for path in content(tmp_path / "out")]
    assert sorted(names) == ["labels.json", *(f"masks/0000{i}.png" for i in range(5)), "overlay.mp4"]


def kill_at_the_end(path, document):
    """Write what is written at the start, and fail where labels.json is."""
    if path.name == "labels.json":
        raise RuntimeError("killed")
    write_json(path, document)


def test_case_15_propagate_refuses_a_soft_mask_and_names_the_objects_of_others(tmp_path, caplog):
    video, first_mask = own_video(tmp_path)
    soft = Image.new("L", (WIDTH * 8, HEIGHT * 8))
    ImageDraw.Draw(soft).rectangle((83, 61, 301, 243), fill=255)
    soft.resize((WIDTH, HEIGHT)).save(tmp_path / "soft.png")
    with pytest.raises(
        ValueError, match=r"soft\.png has \d+ values besides 0, .* soft .* or 0 and 255 for a single"
    ):
        propagate(video, tmp_path / "soft.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    mask = read_mask(first_mask).numpy()
    mask[:, 70:] = 255
    Image.fromarray(mask).save(first_mask)
    caplog.set_level("INFO")
    propagate(video, first_mask, tmp_path / "out")
    assert "first.png: 2 objects, 1, 3; 80 pixels of 255 are void, which is background" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_before_anything_is_measured(root, tmp_path, value):
    encoder = Patches(seed=0)
    encoder.map.weight[2, 0, 1, 1] = value
    message = r"the encoder \(Patches\) has weights that are NaN or infinite, in 1 of 2 tensors; the first is map"
    with pytest.raises(ValueError, match=message):
        evaluate(root, tmp_path / "out", encoder=encoder)
    video, first_mask = own_video(tmp_path)
    with pytest.raises(ValueError, match=message):
        propagate_video(video, first_mask, encoder, protocol=CRW, out=tmp_path / "out", model_name="patches")
    assert not (tmp_path / "out").exists()


def test_features_that_are_no_numbers_are_refused(root, tmp_path):
    encoder = Patches(seed=0)
    encoder.map.weight.fill_(1e38)
    with pytest.raises(
        ValueError, match="features of frame 0 are NaN or infinite, so nothing can be carried by them"
    ):
        evaluate(root, tmp_path / "out", encoder=encoder)

"""The demo corpus: the truth it states is checked against the files, and against drawings made another way."""

import hashlib
import importlib.util
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import processes
import pytest
from PIL import Image, ImageDraw

from vidssl.data.published.benchmarks import davis_palette, davis_sequences

SCRIPT = Path(__file__).resolve().parents[1] / "datasets/prepare_moving_shapes.py"
TINY = {
    "num_train_videos": 2,
    "num_val_videos": 2,
    "num_train_frames": 24,
    "num_val_frames": 16,
    "width_px": 160,
    "height_px": 96,
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, loaded from its path as `vidssl demo` does it."""
    spec = importlib.util.spec_from_file_location("moving_shapes_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up the module they are defined in
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def corpus(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moving") / "corpus"
    script.write_corpus(out, **TINY, num_workers=2)
    return out


def sequences(corpus: Path) -> list[tuple[str, dict, np.ndarray, np.ndarray]]:
    """Name, truth, masks (T, H, W) and part masks of every sequence."""
    found = []
    for name in (corpus / "val/ImageSets/2017/val.txt").read_text().split():
        folders = [corpus / f"val/{kind}/480p/{name}" for kind in ("Annotations", "Parts")]
        masks, parts = (
            np.stack([np.array(Image.open(f)) for f in sorted(folder.iterdir())]) for folder in folders
        )
        found.append((name, json.loads((corpus / f"val/Truth/{name}.json").read_text()), masks, parts))
    return found


def scenes(script: ModuleType, world: str = "moving", *, num: int = 4, num_frames: int = 12) -> list:
    options = script.Options(world, 160, 96, 24, num_frames)
    return [script.draw_scene(np.random.default_rng([7, number]), options) for number in range(num)]


def clean(scene):
    """The same scene in full, steady light."""
    ones = np.ones_like(scene.brightness)
    return replace(scene, brightness=ones, gamma=ones, shade_phase=0 * ones)


def grey(rgb: np.ndarray) -> np.ndarray:
    return rgb @ [0.299, 0.587, 0.114]


def test_same_seed_gives_the_same_bytes_in_another_process_with_another_number_of_workers(corpus, tmp_path):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    words = [f"--out={tmp_path / 'again'}", *options, "--num-workers=1"]
    process = processes.script(SCRIPT, *words, said=tmp_path / "said")
    assert process.wait() == 0, process.said.read_text()
    stated = json.loads((corpus / "corpus.json").read_text())["sha256"]
    for root in (corpus, tmp_path / "again"):
        files = [path for path in root.rglob("*") if path.is_file() and path.name != "corpus.json"]
        found = {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }
        assert found == stated
    assert len(stated) == 2 + 2 * (3 * 16 + 2) + 1
    assert len(set(stated.values())) == len(stated)  # no two videos, pictures or masks alike


def test_another_seed_gives_other_videos(corpus, script, tmp_path):
    script.write_corpus(tmp_path / "other", **{**TINY, "num_train_videos": 1, "num_val_videos": 0}, seed=1)
    name = "train/moving-000.mp4"
    assert (tmp_path / "other" / name).read_bytes() != (corpus / name).read_bytes()


def test_masks_equal_polygons_of_the_outlines(script):
    angles = np.linspace(-np.pi, np.pi, 2000)
    for scene in scenes(script):
        for frame in (0, 7):
            _, ids, _ = script.render(scene, frame, np.random.default_rng(0))
            # Back to front, four times as large, where coordinates count from the corner of the picture.
            canvas = Image.new("L", (640, 384))
            for number, layer in enumerate(scene.layers[1:], 1):
                distance = np.interp(angles, script.ANGLES, layer.outline_px)
                q = distance[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
                corners = [tuple(xy) for xy in 4 * (layer.to_frame(q, frame) + 0.5)]
                ImageDraw.Draw(canvas).polygon(corners, fill=number)
            expected = np.array(canvas)[2::4, 2::4]
            assert set(np.unique(ids)) == set(range(len(scene.layers)))
            assert np.mean(ids != expected) < 0.004  # a few pixels on the outlines


def test_bending_is_undone(script):
    layer = scenes(script)[0].layers[1]
    xy = layer.centre_px[3] + np.random.default_rng(0).uniform(-20, 20, (50, 2))
    assert np.abs(layer.to_surface(xy, 3) - layer.to_surface(layer.centre_px[3:4], 3)).max() > 10
    np.testing.assert_allclose(layer.to_frame(layer.to_surface(xy, 3), 3), xy, atol=1e-9)


def test_tracks_stay_on_the_surface(script, monkeypatch):
    """The grey seen at a visible point does not change; at the place where the point was, it does."""
    monkeypatch.setattr(script, "NOISE", 0.0)
    at_point, at_place = [], []
    for scene in map(clean, scenes(script)):
        scene = replace(scene, shade_wave=0 * scene.shade_wave)
        frames = [script.render(scene, t, np.random.default_rng(0)) for t in range(scene.options.num_frames)]
        luminance, masks = np.stack([grey(f[0]) for f in frames]), np.stack([f[1] for f in frames])
        tracks = script.ground_truth(scene, masks, np.random.default_rng(1))["tracks"]
        xy, visible, owner = (np.array(tracks[key]) for key in ("xy", "visible", "object"))
        assert set(owner) == set(range(len(scene.layers))) and visible[0].all()
        for t in range(4, len(frames)):
            for point in np.flatnonzero(visible[t]):
                (x0, y0), (x, y) = xy[0, point].astype(int), xy[t, point]
                left, top = min(int(x), 158), min(int(y), 94)
                weights = np.outer([1 - (y - top), y - top], [1 - (x - left), x - left])
                if (masks[t, top : top + 2, left : left + 2] == owner[point]).all():
                    at_point.append(
                        (weights * luminance[t, top : top + 2, left : left + 2]).sum() - luminance[0, y0, x0]
                    )
                    at_place.append(luminance[t, y0, x0] - luminance[0, y0, x0])
    assert len(at_point) > 500
    assert np.median(np.abs(at_point)) < 4 and np.median(np.abs(at_place)) > 15  # of 255


def test_boxes_parts_and_points_agree_with_the_masks(corpus):
    for _, truth, masks, parts in sequences(corpus):
        ids = [item["id"] for item in truth["objects"]]
        assert set(np.unique(masks[0])) == {0, *ids} and ids == [*range(1, len(ids) + 1)]
        owner = np.array([0, *(truth["parts"][str(i)]["object"] for i in range(1, parts.max() + 1))])
        np.testing.assert_array_equal(owner[parts], masks)
        for item in truth["objects"]:
            assert len(set(np.unique(parts[0][masks[0] == item["id"]]))) == 4
            for mask, box in zip(masks == item["id"], item["boxes"], strict=True):
                left, top, right, bottom = Image.fromarray(mask).getbbox()
                assert box == [left, top, right - left, bottom - top]
            for name, point in item["keypoints"].items():
                shown = [seen(mask, xy) == item["id"] for mask, xy in zip(masks, point["xy"], strict=True)]
                assert shown == point["visible"]
                for part, xy, visible in zip(parts, point["xy"], shown, strict=True):
                    # The point on the right lies between two parts of the right side, and so on.
                    assert not visible or name == "centre" or name in truth["parts"][str(seen(part, xy))]["name"]
        num_visible = 0
        for t, mask in enumerate(masks):
            for i, number in enumerate(truth["tracks"]["object"]):
                assert (seen(mask, truth["tracks"]["xy"][t][i]) == number) == truth["tracks"]["visible"][t][i]
                num_visible += truth["tracks"]["visible"][t][i]
        assert 0.6 * masks.shape[0] * 32 < num_visible < masks.shape[0] * 32


def seen(mask: np.ndarray, xy: list[float]) -> int:
    """Id of the pixel that holds a point, -1 outside the picture."""
    column, row = (round(v) for v in xy)
    inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
    return int(mask[row, column]) if inside else -1


def test_grey_pictures_do_not_know_the_colours(script, monkeypatch):
    """A scene without chroma looks the same in grey, so light, clipping and rounding let no colour through."""
    monkeypatch.setattr(script, "NOISE", 0.0)
    for scene in scenes(script):
        pale = [
            replace(layer, texture=layer.texture * np.float32([[[1]], [[0]], [[0]]])) for layer in scene.layers
        ]
        for t in (0, 9):
            colourful, _, _ = script.render(scene, t, np.random.default_rng(0))
            colourless, _, _ = script.render(replace(scene, layers=pale), t, np.random.default_rng(0))
            assert np.ptp(colourful.astype(int), axis=2).mean() > 40
            assert np.abs(grey(colourful) - grey(colourless)).max() < 1.6  # rounding of three channels


def test_luminance_and_chroma_of_surfaces_are_independent(script):
    textures = [layer.texture for scene in scenes(script, num=20, num_frames=2) for layer in scene.layers]
    means = [texture[0].mean() for texture in textures]
    assert np.ptp(means) < 1e-3  # one histogram for all
    # Two opposite hues may agree in U or in V: nothing to correlate then.
    pairs = [(t[0].ravel(), t[c].ravel()) for t in textures for c in (1, 2) if t[c].std() > 1e-3]
    correlations = [np.corrcoef(grey, colour)[0, 1] for grey, colour in pairs]
    assert len(pairs) > 100 and abs(np.mean(correlations)) < 0.03
    assert np.std(correlations) < 0.2  # single surfaces do correlate, by chance: they have few regions


@pytest.mark.parametrize("world", ["static", "fall", "gravity"])
def test_plain_worlds_move_as_their_names_say(script, monkeypatch, world):
    monkeypatch.setattr(script, "NOISE", 0.0)
    for scene in scenes(script, world, num=2):
        frames = [script.render(scene, t, np.random.default_rng(0)) for t in range(scene.options.num_frames)]
        pictures, masks = np.stack([f[0] for f in frames]), np.stack([f[1] for f in frames])
        truth = script.ground_truth(scene, masks, np.random.default_rng(0))
        xy, owner = np.array(truth["tracks"]["xy"]), np.array(truth["tracks"]["object"])
        np.testing.assert_allclose(xy[:, owner == 0], xy[:1, owner == 0].repeat(len(xy), 0))
        touched = np.pad(masks.any(0), 1)  # edges are soft: one pixel around objects is mixed with their colour
        rows, columns = masks.shape[1:]
        still = ~np.any([touched[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)
        assert still.mean() > 0.2
        assert (pictures[:, still] == pictures[:1, still]).all()
        down, steps = xy[:, owner > 0, 1], np.diff(xy[:, owner > 0], axis=0)
        if world == "static":
            assert (pictures == pictures[0]).all() and (steps == 0).all()
        elif world == "fall":
            assert (np.diff(down, axis=0) > 1).all() and len(truth["objects"]) == 1
            np.testing.assert_allclose(np.diff(steps, axis=0), 0, atol=2e-3)
        else:
            assert (np.diff(down, 2, axis=0) > 0.1).all()
            np.testing.assert_allclose(np.diff(down, 3, axis=0), 0, atol=5e-3)
            np.testing.assert_allclose(np.diff(steps[..., 0], axis=0), 0, atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "pitch_hz"), [("disc", 220), ("square", 350), ("triangle", 560), ("cross", None)]
)
def test_pitch_belongs_to_the_shape_and_loudness_to_speed_and_side(script, shape, pitch_hz):
    scene = scenes(script, "static", num=1, num_frames=48)[0]
    palette = np.zeros((2, 2))
    drawn = (script.draw_object(np.random.default_rng(i), palette, "static", scene.options) for i in range(50))
    layer = next(layer for layer in drawn if layer.shape == shape)
    still = np.tile([120.0, 48.0], (24, 1))
    moving = still[-1] + [[0, 3.0 * t] for t in range(1, 25)]
    layer = replace(layer, centre_px=np.concatenate([still, moving]))
    left, right = script.sound(replace(scene, layers=[scene.layers[0], layer]), np.random.default_rng(0))
    assert len(left) == 2 * script.SAMPLE_RATE_HZ
    spectrum = np.abs(np.fft.rfft(left))
    peak_hz = spectrum.argmax() / 2
    if pitch_hz is None:
        assert layer.pitch_hz is None and spectrum.max() < 8 * np.median(spectrum)
    else:
        assert abs(peak_hz / layer.pitch_hz - 1) < 0.01 and abs(peak_hz / pitch_hz - 1) < 0.065
    assert np.std(right) / np.std(left) == pytest.approx(np.sqrt(120 / 40), rel=0.01)
    first, second = np.std(left[:15_000]), np.std(left[17_000:])
    # 3 px per frame are 6 units per frame at this height, the speed from which on loudness is full.
    assert second / first == pytest.approx(1 / 0.2, rel=0.1)


def test_videos_have_the_frames_rate_key_frames_and_sound_they_should(corpus):
    name = "moving-001"
    with av.open(str(corpus / f"val/Videos/{name}.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.average_rate, video.codec_context.name, video.pix_fmt) == (24, "h264", "yuv420p")
        assert (audio.rate, audio.channels, audio.codec_context.name) == (16_000, 2, "aac")
        frames = list(container.decode(video))
        container.seek(0)
        num_samples = sum(frame.samples for frame in container.decode(audio))
    assert [frame.key_frame for frame in frames] == [t % 12 == 0 for t in range(16)]
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(t, 24) for t in range(16)]
    assert abs(num_samples - 16 * 16_000 / 24) < 3 * 1024  # aac comes in blocks of 1024
    for t, frame in enumerate(frames):
        picture = np.array(Image.open(corpus / f"val/JPEGImages/480p/{name}/{t:05d}.jpg")).astype(float)
        assert np.abs(grey(frame.to_ndarray(format="rgb24")) - grey(picture)).mean() < 6
    with av.open(str(corpus / "train/moving-001.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_validation_part_reads_as_davis(corpus):
    listed = davis_sequences(corpus / "val")
    assert [sequence.name for sequence in listed] == ["moving-000", "moving-001"]
    for sequence, (_, truth, masks, _) in zip(listed, sequences(corpus), strict=True):
        assert len(sequence) == 16 and sequence.num_objects == len(truth["objects"])
        np.testing.assert_array_equal(sequence.mask(5).numpy(), masks[5])
        assert Image.open(sequence.annotation_paths[0]).getpalette() == davis_palette().ravel().tolist()


def test_a_folder_with_files_is_refused(corpus, script):
    with pytest.raises(ValueError, match="already holds files"):
        script.write_corpus(corpus)


def test_odd_or_upright_frames_are_refused(script, tmp_path):
    with pytest.raises(ValueError, match="161x96"):
        script.write_corpus(tmp_path / "new", width_px=161, height_px=96)
    assert not (tmp_path / "new").exists()

"""Pictures as cameras and programs store them: one reader for training, evaluation and propagation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidssl.data.media.images import image_size, read_image
from vidssl.data.media.video import MediaError, open_video
from vidssl.data.published.benchmarks import davis_palette, read_frame, read_mask

# How an upright picture is stored for each value of the EXIF orientation (Exif 2.3, table 6).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def picture(height: int = 12, width: int = 20, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exif(orientation: object) -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


def both(path: Path) -> np.ndarray:
    """Read with the reader of training and with that of evaluations, which have to agree: (H, W, 3)."""
    frame = read_frame(path)
    with open_video(path) as reader:
        assert (reader.info.height, reader.info.width) == tuple(frame.shape[1:]) == image_size(path)
        assert reader.frames([0.0]).video[0].tolist() == frame.tolist()
    return frame.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_case_14_every_reader_turns_pictures_and_masks_upright(tmp_path, suffix, orientation):
    upright = picture()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(
        tmp_path / f"a.{suffix}", exif=exif(orientation), **({"lossless": True} if suffix == "webp" else {})
    )
    assert both(tmp_path / f"a.{suffix}").tolist() == upright.tolist()

    ids = upright[..., 0] % 5
    for name, palette in (("indexed", davis_palette().tobytes()), ("grey", None)):
        mask = Image.fromarray(np.ascontiguousarray(STORED[orientation](ids)))
        if palette:
            mask.putpalette(palette)
        mask.save(tmp_path / f"{name}.png", exif=exif(orientation))
        assert read_mask(tmp_path / f"{name}.png").tolist() == ids.tolist()


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_leaves_the_picture(tmp_path, value):
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif(value))
    assert both(tmp_path / "a.png").tolist() == picture().tolist()


def test_damaged_notes_beside_a_sound_picture_leave_it(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    Image.fromarray(picture()).save(tmp_path / "b.png", exif=b"no EXIF at all")
    assert both(tmp_path / "b.png").tolist() == both(tmp_path / "a.png").tolist()


def test_case_10_a_picture_of_several_views_is_its_main_picture(tmp_path):
    main = Image.fromarray(picture(64, 96))
    main.save(tmp_path / "alone.jpg", quality=90)
    for name, views in (("DJI_0001.JPG", [main.resize((48, 32))]), ("right_eye.mpo.jpg", [main, main])):
        main.save(tmp_path / name, format="MPO", save_all=True, append_images=views, quality=90)
        with Image.open(tmp_path / name) as stored:
            assert stored.format == "MPO" and stored.n_frames == 1 + len(views)
        assert both(tmp_path / name).tolist() == both(tmp_path / "alone.jpg").tolist()
    main.rotate(90, expand=True).save(
        tmp_path / "turned.jpg", format="MPO", save_all=True, append_images=[main], exif=exif(6)
    )
    assert image_size(tmp_path / "turned.jpg") == (64, 96)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.png", "is an animation of 3 images; convert it to a video"),
        ("a.webp", "is an animation of 3 images; convert it to a video"),
        ("a.tif", "holds 3 pages; save each of them as a file of its own"),
    ],
)
def test_case_10_animations_and_pages_are_refused_by_name(tmp_path, name, reason):
    first, *others = (Image.fromarray(picture(seed=seed)) for seed in range(3))
    first.save(tmp_path / name, save_all=True, append_images=others)
    for read in (open_video, read_frame, read_mask):
        with pytest.raises(MediaError, match=rf"{name}: {reason}"):
            read(tmp_path / name)


def test_colours_of_every_kind_are_rgb(tmp_path):
    colours = Image.fromarray(picture()).quantize(7)
    rgb = np.asarray(colours.convert("RGB"))
    alpha = Image.fromarray(picture()[..., 0])
    see_through = colours.convert("RGB")
    see_through.putalpha(alpha)
    cases = {
        "indexed.png": (colours, rgb),
        "indexed_see_through.png": (colours, rgb),
        "alpha.png": (see_through, rgb),
        "grey.png": (alpha, np.stack([alpha] * 3, axis=-1)),
        "grey_alpha.png": (Image.merge("LA", [alpha, alpha]), np.stack([alpha] * 3, axis=-1)),
        "bits.png": (alpha.point(lambda v: v > 99).convert("1"), None),
        "cmyk.tif": (Image.fromarray(picture()).convert("CMYK"), picture()),
    }
    cases["bits.png"] = (
        cases["bits.png"][0],
        np.stack([np.asarray(cases["bits.png"][0]) * np.uint8(255)] * 3, -1),
    )
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name, **({"transparency": 2} if "indexed_see" in name else {}))
        assert both(tmp_path / name).tolist() == expected.tolist(), name
    Image.fromarray(picture(64, 64)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert both(tmp_path / "cmyk.jpg").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", np.full((4, 4), 925, np.uint16)),
        ("b.tif", np.full((4, 4), 925, np.uint16)),
        ("c.tif", np.full((4, 4), 0.5, np.float32)),
        ("d.tif", np.full((4, 4), -3, np.int32)),
    ],
)
def test_deep_grey_pictures_are_refused_by_every_reader(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    reason = rf"{name}: has more than 8 bits per channel: .* {values.min()} to {values.max()} .* to 8 bits"
    for read in (open_video, read_frame):
        with pytest.raises(MediaError, match=reason):
            read(tmp_path / name)
    with pytest.raises(ValueError, match=r"pixels \(PIL\); expected 8-bit object ids"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("size", [(8193, 4320), (10_000, 10_000), (16_000, 16_000)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_oversized_pictures_are_refused_by_size_before_they_are_decoded(tmp_path, size, suffix):
    """The last two are beyond what Pillow itself warns of and refuses, with its own words and no size."""
    Image.new("1", size).save(tmp_path / f"a.{suffix}", **({"compression": "group4"} if suffix == "tif" else {}))
    for read in (open_video, read_frame, read_mask, image_size, read_image):
        with pytest.raises(MediaError, match=rf"claims {size[0]} x {size[1]} pixels; at most 8192 x 4320"):
            read(tmp_path / f"a.{suffix}")


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(MediaError, match=r"a\.png: is no readable image"):
        read_frame(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"b\.png: cannot be found"):
        read_frame(tmp_path / "b.png")

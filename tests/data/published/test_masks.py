"""Masks whose values are ids are read, others are refused with the reason: case 15."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vidssl.data.published.masks import check_object_ids, read_mask


def ellipse(fill=255, *, size=(768, 512), box=(160, 120, 360, 280)):
    image = Image.new("L", size)
    ImageDraw.Draw(image).ellipse(box, fill=fill)
    return image


HARD = ellipse().resize((96, 64), Image.Resampling.NEAREST)
SOFT = ellipse().resize((96, 64))
INSIDE = np.array(HARD) > 0


def saved(folder, image, suffix=".png"):
    path = folder / f"mask{suffix}"
    image.save(path)
    return path


def two_greys():
    image = ellipse(100)
    ImageDraw.Draw(image).ellipse((400, 200, 600, 400), fill=200)
    return image.resize((96, 64))


@pytest.mark.parametrize(
    "image",
    [
        *(ellipse().resize((96, 64), filter_) for filter_ in (Image.Resampling.BOX, Image.Resampling.LANCZOS)),
        ellipse()
        .resize((192, 128), Image.Resampling.NEAREST)
        .resize((96, 64), Image.Resampling.BOX),  # 64, 128, 192
        ellipse(200).resize((96, 64)),
        two_greys(),
        *(ellipse().filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 5, 20)),
        SOFT.convert("RGB"),
        SOFT.convert("RGB").quantize(16),
    ],
)
def test_case_15_soft_edges_are_refused(tmp_path, image):
    path = saved(tmp_path, image)
    with pytest.raises(ValueError, match=r"mask\.png has \d+ values besides 0, and \d+ of them .* soft .* 1, 2, "):
        check_object_ids(read_mask(path), path=path)


def test_masks_of_ids_are_not_taken_for_soft_ones(tmp_path):
    generator = np.random.default_rng(0)
    crowd = np.zeros((128, 192), dtype=np.uint8)
    for i in generator.permutation(60) + 1:
        top, left = generator.integers(0, 118), generator.integers(0, 182)
        crowd[top : top + 10, left : left + 10] = i
    surrounded = np.zeros((64, 96), dtype=np.uint8)  # void around objects, one of them a single pixel
    surrounded[8:32, 8:42], surrounded[50:53, 50:53] = 255, 255
    surrounded[10:30, 10:40], surrounded[51, 51] = 1, 2
    rim = np.zeros((64, 96), dtype=np.uint8)
    rim[10:30, 10:30], rim[11:29, 11:29] = 1, 2
    stripes = np.repeat(np.arange(8, dtype=np.uint8) * 30, 12)[None].repeat(64, axis=0)
    thin = np.zeros((64, 96), dtype=np.uint8)
    for i in range(1, 6):
        thin[10 * i : 10 * i + 2, 5:80] = i
    for mask in (crowd, surrounded, rim, stripes, thin):
        path = saved(tmp_path, Image.fromarray(mask))
        read = read_mask(path)
        check_object_ids(read, path=path)
        assert (read.numpy() == mask).all()


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (HARD, 255),
        (HARD.convert("RGB"), 255),
        (HARD.convert("1"), 1),
        (Image.merge("LA", [HARD, HARD]), 255),
        (Image.merge("RGBA", [Image.new("L", HARD.size, 255)] * 3 + [HARD]), 255),
        # White, but transparent, outside, as GIMP leaves it; object 2 of DAVIS inside.
        (
            Image.fromarray(np.where(INSIDE[..., None], [0, 128, 0, 255], [255, 255, 255, 0]).astype(np.uint8)),
            2,
        ),
        (Image.fromarray(INSIDE.astype(np.uint16) * 65535), 255),
        (Image.fromarray(INSIDE.astype(np.uint16) * 5), 5),
    ],
)
def test_case_15_one_object_however_it_is_stored(tmp_path, image, value):
    mask = read_mask(saved(tmp_path, image)).numpy()
    assert mask.dtype == np.uint8 and (mask == INSIDE * value).all()


@pytest.mark.parametrize(
    ("image", "suffix", "message"),
    [
        (HARD, ".jpg", r"mask\.jpg is a JPEG, which does not keep values"),
        (
            Image.merge("RGB", [SOFT, Image.new("L", SOFT.size), Image.new("L", SOFT.size)]),
            ".png",
            r"mask\.png is an RGB image with the colour #\w{6} and \d+ others like it",
        ),
        (
            Image.merge("RGBA", [Image.new("L", SOFT.size, 255)] * 3 + [SOFT]),
            ".png",
            r"mask\.png has \d+ half-transparent pixels",
        ),
        (
            Image.fromarray(INSIDE.astype(np.uint16) * 26001),
            ".png",
            r"mask\.png has I;16 pixels \(PIL\); expected 8-bit object ids, 0 to 254, but values go from 0 to 26001",
        ),
    ],
)
def test_case_15_what_holds_no_ids_is_refused_with_the_reason(tmp_path, image, suffix, message):
    with pytest.raises(ValueError, match=message):
        read_mask(saved(tmp_path, image, suffix))

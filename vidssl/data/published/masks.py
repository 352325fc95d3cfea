"""Masks: pictures whose values are object ids, as DAVIS and what follows it publish them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ..media.images import read_stored

# Id of pixels that belong to nothing (davis2017-evaluation davis.py VOID_LABEL).
VOID = 255

_MAX_LISTED = 8


def davis_palette() -> np.ndarray:
    """Colours of the DAVIS masks, uint8 (256, 3): 22 object colours, then the greys (i, i, i).

    These are the colours inside the published annotation files. The three low bits of an id switch 128 on in red,
    green and blue, the next three 64, as in PASCAL VOC, but where both are on the files have 191.
    """
    ids = np.arange(256)[:, None]
    colours = np.minimum((ids >> np.arange(3) & 1) * 128 + (ids >> np.arange(3, 6) & 1) * 64, 191)
    return np.where(ids < 22, colours, ids).astype(np.uint8)


def read_mask(path: str | Path) -> Tensor:
    """Read an annotation upright as object ids, uint8 (H, W).

    The values of an indexed or greyscale PNG are the ids, as in the official code. The colours of an RGB PNG are
    looked up in `davis_palette`, not numbered in the order in which they occur; black and white alone, or greys that
    are no colours of objects, are read as greyscale. Transparent pixels are background. Greys of 16 bits that hold
    nothing but 0 and 65535 are read as 0 and 255.

    Raises:
        ValueError: The file is missing, no image, one whose compression changes values (JPEG, lossy WebP), of another
            pixel type, has half-transparent pixels, ids above 255, or a colour that is no object's.
    """
    image = read_stored(path)
    if kind := _lossy_kind(Path(path), image):
        raise ValueError(
            f"{path} is a {kind}, which does not keep values: near edges they are others than were saved. Save "
            "masks as PNG"
        )
    if image.mode in ("P", "L", "1"):
        return torch.from_numpy(np.array(image).astype(np.uint8))
    if image.mode.startswith("I"):
        return torch.from_numpy(_from_deep(np.array(image), path=path, mode=image.mode))
    if image.mode not in ("RGB", "RGBA", "LA"):
        raise ValueError(f"{path} has {image.mode} pixels (PIL); expected 8-bit object ids, indexed or greyscale")
    colours = np.array(image.convert("RGB"))
    if image.mode != "RGB":
        colours = np.where(_opaque(np.array(image)[..., -1], path=path)[..., None], colours, 0)
    return torch.from_numpy(_from_colours(colours, path=path))


def check_object_ids(mask: Tensor, *, path: str | Path) -> None:
    """Refuse a mask of soft edges or of shades: what lies along an edge between darker and lighter is no object.

    A value counts as a shade where half of its pixels or more have both a lower and a higher value among their eight
    neighbours. A mask is soft if there are as many shades as other values and, lest thin objects are refused, three
    shades at least, or 255 fills an area, which void does not where it surrounds objects.

    Args:
        mask: uint8 (H, W).
        path: Where it is from, for the message.

    Raises:
        ValueError: It is soft.
    """
    pixels = mask.numpy()
    num_pixels = np.bincount(pixels.ravel(), minlength=256)
    values = np.flatnonzero(num_pixels[1:]) + 1
    if len(values) < 2:
        return
    lowest, highest = ndimage.minimum_filter(pixels, 3), ndimage.maximum_filter(pixels, 3)
    num_between = np.bincount(pixels[(lowest < pixels) & (pixels < highest)], minlength=256)
    shades = [int(value) for value in values if 2 * num_between[value] >= num_pixels[value]]
    is_filled = bool((lowest == VOID).any())
    if 2 * len(shades) >= len(values) and (len(shades) >= 3 or (shades and is_filled)):
        raise ValueError(
            f"{path} has {len(values)} values besides 0, and {len(shades)} of them ({listed_ids(shades)}) lie along "
            "edges between darker and lighter pixels: a mask with soft (anti-aliased) edges or shades, whose values "
            "are no object ids. Save it with hard edges as PNG: 0 for the background and 1, 2, ... for objects, or "
            "0 and 255 for a single object"
        )


def listed_ids(ids: list[int]) -> str:
    """Write ids for people: "1, 2, 9"; long lists are cut."""
    return ", ".join(map(str, ids[:_MAX_LISTED])) + (", ..." if len(ids) > _MAX_LISTED else "")


def _lossy_kind(path: Path, image: Image.Image) -> str | None:
    """What a file is whose compression changes values; None if it keeps them."""
    content = path.read_bytes()
    if content.startswith(b"\xff\xd8"):
        return "JPEG"
    if image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):  # of a TIFF
        return f"TIFF in {image.info['compression']} compression"
    place = 12
    while content[:4] == b"RIFF" and content[8:12] == b"WEBP" and place + 8 <= len(content):
        if content[place : place + 4] == b"VP8 ":  # VP8L is the one that keeps them
            return "lossy WebP"
        place += 8 + (int.from_bytes(content[place + 4 : place + 8], "little") + 1) // 2 * 2
    return None


def _from_deep(values: np.ndarray, *, path: str | Path, mode: str) -> np.ndarray:
    """Object ids of a greyscale of more than 8 bits."""
    if np.isin(values, (0, 65535)).all():
        return np.where(values == 0, 0, VOID).astype(np.uint8)
    if values.min() < 0 or values.max() > VOID:
        raise ValueError(
            f"{path} has {mode} pixels (PIL); expected 8-bit object ids, 0 to {VOID - 1}, but values go from "
            f"{values.min()} to {values.max()}: number the objects 1, 2, ... and save them as 8-bit PNG"
        )
    return values.astype(np.uint8)


def _opaque(alpha: np.ndarray, *, path: str | Path) -> np.ndarray:
    """Which pixels are there, bool (H, W), from the transparency of an image."""
    num_half = int(((alpha > 0) & (alpha < 255)).sum())
    if num_half:
        raise ValueError(
            f"{path} has {num_half} half-transparent pixels, as soft (anti-aliased) edges do: they belong to no one "
            "object. Save the mask with hard edges, as indexed or greyscale PNG with the values 0, 1, 2, ..."
        )
    return alpha == 255


def _from_colours(colours: np.ndarray, *, path: str | Path) -> np.ndarray:
    """Object ids of RGB pixels, uint8 (H, W, 3)."""
    ids = {code: number for number, code in enumerate(_codes(davis_palette()[:22]).tolist())}
    present, inverse = np.unique(_codes(colours), return_inverse=True)
    unknown = [code for code in present.tolist() if code not in ids]
    if unknown and (colours == colours[..., :1]).all():
        return colours[..., 0]
    if unknown:
        more = f" and {len(unknown) - 1} others like it" if len(unknown) > 1 else ""
        raise ValueError(
            f"{path} is an RGB image with the colour #{unknown[0]:06x}{more}, none of the 22 object colours of DAVIS; "
            "save the mask with hard edges as indexed or greyscale PNG with the values 0, 1, 2, ..."
        )
    return np.array([ids[code] for code in present.tolist()], dtype=np.uint8)[inverse].reshape(colours.shape[:2])


def _codes(colours: np.ndarray) -> np.ndarray:
    """Colours as whole numbers 0xRRGGBB: uint8 (..., 3) -> int64 (...)."""
    # The official code itself (utils.py color_map) writes VOC's 192 where the published files have 191.
    return np.where(colours == 192, 191, colours.astype(np.int64)) @ np.array([1 << 16, 1 << 8, 1])

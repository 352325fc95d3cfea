"""A data set in the layout of DAVIS, small enough for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_davis(root: Path, shifts_px: dict[str, int], *, num_frames: int = 5, size_px: int = 64) -> Path:
    """Write sequences of one textured square that moves right by so many pixels per frame.

    The square is 16 px wide, on rows 24 to 39, from column 8; object id 1.
    """
    for seed, (name, shift_px) in enumerate(shifts_px.items()):
        generator = np.random.default_rng(seed)
        background = generator.integers(0, 100, (size_px, size_px, 3), dtype=np.uint8)
        square = generator.integers(150, 255, (16, 16, 3), dtype=np.uint8)
        for number in range(num_frames):
            left = 8 + shift_px * number
            picture, mask = background.copy(), np.zeros((size_px, size_px), np.uint8)
            picture[24:40, left : left + 16] = square
            mask[24:40, left : left + 16] = 1
            for top, image, suffix in (("JPEGImages", picture, "jpg"), ("Annotations", mask, "png")):
                path = root / top / "480p" / name / f"{number:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    return root

"""Data sets in the layout of VIP, small enough for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_vip(
    root: Path,
    videos: dict[str, tuple[np.ndarray, list[np.ndarray | None]]],
    *,
    listed: tuple[str, ...] | None = None,
) -> Path:
    """Write VIP_Fine under `root`: by video, frames uint8 (T, H, W, 3) and classes uint8 (H, W), None for none.

    Args:
        root: New folder.
        videos: By name.
        listed: Names in lists/val_videos.txt; None for all.
    """
    fine = root / "VIP_Fine"
    for name, (frames, classes) in videos.items():
        for number, (frame, labels) in enumerate(zip(frames, classes, strict=True)):
            for top, image, suffix in (("Images", frame, "jpg"), ("Annotations/Category_ids", labels, "png")):
                if image is not None:
                    path = fine / top / name / f"{25 * number + 1:012d}.{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(path)
    (fine / "lists").mkdir()
    (fine / "lists/val_videos.txt").write_text("".join(f"{name}\n" for name in listed or videos))
    return root


def moving_parts(num_frames: int = 4, *, shift_px: int = 16) -> tuple[np.ndarray, list[np.ndarray]]:
    """A body of two parts, 32x32 px each, on 96x128 px, that moves right: frames and classes.

    The upper part has class 4 (upper-clothes), the lower one 17 (left-leg).
    """
    generator = np.random.default_rng(0)

    def noise(low, high, height, width):
        """Specks of 4x4 pixels."""
        return generator.integers(low, high, (height // 4, width // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)

    background, parts = noise(0, 90, 96, 128), {4: noise(120, 255, 32, 32), 17: noise(120, 255, 32, 32)}
    frames, masks = [], []
    for number in range(num_frames):
        frame, mask, left = background.copy(), np.zeros((96, 128), np.uint8), 16 + shift_px * number
        for top, (label, texture) in zip((16, 48), parts.items(), strict=True):
            frame[top : top + 32, left : left + 32] = texture
            mask[top : top + 32, left : left + 32] = label
        frames.append(frame)
        masks.append(mask)
    return np.stack(frames), masks

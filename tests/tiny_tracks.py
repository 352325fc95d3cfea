"""The ground truth of the demo corpus in the layouts of OTB and of TAP-Vid, and clips whose answer is known."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from vidssl.models import Encoder


def write_otb(root: Path, corpus: Path, *, sequences: int | None = None) -> Path:
    """Write every object of the demo corpus that is seen in the first frame as a sequence of OTB.

    Frames are links; a frame where the object is hidden has the box NaN.
    """
    for truth_path in sorted((corpus / "val/Truth").glob("*.json"))[:sequences]:
        frames = sorted((corpus / "val/JPEGImages/480p" / truth_path.stem).iterdir())
        for item in json.loads(truth_path.read_text())["objects"]:
            boxes = [[np.nan] * 4 if box is None else [box[0] + 1, box[1] + 1, *box[2:]] for box in item["boxes"]]
            if item["boxes"][0] is None:
                continue
            folder = root / f"{truth_path.stem}_{item['id']}"
            (folder / "img").mkdir(parents=True)
            for number, frame in enumerate(frames, 1):
                (folder / "img" / f"{number:04d}.jpg").symlink_to(frame.resolve())
            np.savetxt(folder / "groundtruth_rect.txt", boxes, fmt="%g", delimiter=",")
    return root


def write_tapvid(root: Path, corpus: Path, *, sequences: int | None = None) -> Path:
    """Write the point tracks of the demo corpus as prepare_tapvid.py writes those of TAP-Vid."""
    root.mkdir(parents=True, exist_ok=True)
    for truth_path in sorted((corpus / "val/Truth").glob("*.json"))[:sequences]:
        truth = json.loads(truth_path.read_text())
        frames = sorted((corpus / "val/JPEGImages/480p" / truth_path.stem).iterdir())
        size = np.array([truth["width_px"], truth["height_px"]])
        xy, visible = np.array(truth["tracks"]["xy"]), np.array(truth["tracks"]["visible"])
        np.savez(
            root / f"{truth_path.stem}.npz",
            points=((xy + 0.5) / size).transpose(1, 0, 2),
            occluded=~visible.T,
            video=np.stack([np.array(Image.open(frame)) for frame in frames]),
        )
    return root


def square_clip(
    *, shift_px: int, num_frames: int, size_px: int = 64, smooth: bool = False
) -> tuple[list[torch.Tensor], np.ndarray]:
    """A textured square of 16 px that moves right by so many pixels a frame over a still texture.

    Args:
        shift_px: Pixels per frame; negative moves left.
        num_frames: Number of frames.
        size_px: Height and width of the frame.
        smooth: Blobs of 4 px instead of noise, which interpolation would wash out.

    Returns:
        Frames uint8 (3, H, W), and the boxes of the square (T, 4).
    """
    generator = np.random.default_rng(0)
    grain = 4 if smooth else 1

    def texture(side: int) -> np.ndarray:
        noise = generator.integers(0, 256, (side // grain, side // grain, 3), dtype=np.uint8)
        return noise.repeat(grain, axis=0).repeat(grain, axis=1)

    background, square = texture(size_px), texture(16)
    frames, boxes = [], []
    for number in range(num_frames):
        left = 8 + shift_px * number if shift_px > 0 else 24 + shift_px * number
        picture = background.copy()
        picture[24:40, left : left + 16] = square
        frames.append(torch.from_numpy(picture).permute(2, 0, 1).contiguous())
        boxes.append([left, 24, 16, 16])
    return frames, np.array(boxes, dtype=np.float64)


class Pixels(Encoder):
    """Cells are their own pixels, normalised: nothing learned, nothing blurred."""

    def __init__(self, stride: int = 4) -> None:
        super().__init__(dim=3 * stride**2, stride=stride, multiple=stride, architecture={"family": "pixels"})

    def features(self, clip: Tensor) -> Tensor:
        pixels = rearrange((clip - self.mean) / self.std, "b t c h w -> (b t) c h w")
        return rearrange(F.pixel_unshuffle(pixels, self.stride), "(b t) d h w -> b t d h w", b=len(clip))

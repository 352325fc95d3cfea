"""Data sets in the layout of JHMDB, small enough for tests."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


def write_joints(path: Path, joints: np.ndarray) -> None:
    """Write joints (T, J, 2), the first pixel at 0, as a joint_positions.mat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"pos_img": joints.transpose(2, 1, 0) + 1})


def write_frames(folder: Path, frames: np.ndarray, *, suffix: str = ".png") -> None:
    """Write uint8 frames (T, H, W, 3) as 00001, 00002, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number + 1:05d}{suffix}")


def write_jhmdb(
    root: Path, videos: dict[str, tuple[np.ndarray, np.ndarray]], *, train: tuple[str, ...] = ()
) -> Path:
    """Write videos by "CLASS/VIDEO": frames (T, H, W, 3) and joints (T, J, 2). All but `train` are test videos."""
    for name, (frames, joints) in videos.items():
        write_frames(root / "Rename_Images" / name, frames)
        write_joints(root / "joint_positions" / name / "joint_positions.mat", joints)
        kind, video = name.split("/")
        (root / "splits").mkdir(exist_ok=True)
        with (root / "splits" / f"{kind}_test_split1.txt").open("a") as file:
            file.write(f"{video}.avi {1 if name in train else 2} \n")
    return root


def moving_noise(
    num_frames: int = 5,
    *,
    step_px: tuple[int, int] = (8, 12),
    size_px: tuple[int, int] = (128, 192),
    seed: int = 0,
) -> np.ndarray:
    """Noise that moves down and right; what leaves comes in again at the other side: uint8 (T, H, W, 3).

    Args:
        num_frames: Frames.
        step_px: Down and right, a frame.
        size_px: Height and width.
        seed: Of the noise.
    """
    generator = np.random.default_rng(seed)
    # Specks of 2x2 pixels outlive the resizing of frames.
    noise = generator.integers(0, 255, (size_px[0] // 2, size_px[1] // 2, 3), dtype=np.uint8)
    world = noise.repeat(2, 0).repeat(2, 1)
    return np.stack([np.roll(world, (i * step_px[0], i * step_px[1]), axis=(0, 1)) for i in range(num_frames)])


def moving_joints(first: np.ndarray, num_frames: int = 5, *, step_px: tuple[int, int] = (8, 12)) -> np.ndarray:
    """Joints (T, J, 2) that move with `moving_noise`."""
    steps = np.arange(num_frames)[:, None, None] * np.array([step_px[1], step_px[0]], dtype=float)
    return first[None] + steps

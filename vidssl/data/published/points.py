"""Videos with tracked points: TAP-Vid (Doersch et al. 2022, arXiv:2211.03726), which datasets/prepare_tapvid.py writes
from the published pickles.
"""

import difflib
import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .benchmarks import read_frame
from .ranges import check_shares, check_types, range_of

# What reading a damaged file of arrays raises.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    zlib.error,
    zipfile.BadZipFile,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PointSequence:
    """A video with tracked points.

    Args:
        name: Of the sequence.
        path: The .npz file.
        frame_paths: One image per frame; empty where the file holds the video.
        points: float64 (N, T, 2), x and y from 0 to 1 over the frame, edge to edge.
        occluded: bool (N, T).
    """

    name: str
    path: Path
    frame_paths: tuple[Path, ...]
    points: np.ndarray = field(repr=False)
    occluded: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return int(self.points.shape[1])

    def files(self) -> list[Path]:
        """All files the sequence consists of."""
        return [self.path, *self.frame_paths]

    def frames(self) -> Iterator[Tensor]:
        """Read the frames one by one, uint8 (3, H, W) RGB.

        Raises:
            ValueError: The video cannot be read.
        """
        if self.frame_paths:
            yield from _frames(self.frame_paths)
            return
        for frame in _arrays(self.path, ["video"])["video"]:
            yield rearrange(torch.from_numpy(frame), "h w c -> c h w")


def tapvid_sequences(root: str | Path, *, names: Iterable[str] | None = None) -> list[PointSequence]:
    """List the sequences of a folder of TAP-Vid tracks (top of this file).

    Args:
        root: Folder of the .npz files.
        names: Sequences wanted, in this order; None for all.

    Raises:
        ValueError: There is none, one is missing, or its arrays are not as they should be.
    """
    root = Path(root)
    present = sorted(path.stem for path in root.glob("*.npz"))
    if not present:
        raise ValueError(
            f"{root} holds no .npz file; expected {root}/SEQUENCE.npz with points, occluded and video, as "
            "datasets/prepare_tapvid.py writes them from the published pickles"
        )
    sequences = []
    for name in present if names is None else names:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=3) or present[:10]
            raise ValueError(f"there is no sequence {name!r} in {root}; perhaps {', '.join(near)}")
        sequences.append(_point_sequence(root / f"{name}.npz"))
    return sequences


def _point_sequence(path: Path) -> PointSequence:
    arrays = _arrays(path, ["points", "occluded"])
    check_types(arrays["points"], arrays["occluded"], what=str(path))
    points, occluded = arrays["points"].astype(np.float64), arrays["occluded"].astype(bool)
    if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2] or points.shape[1] == 0:
        raise ValueError(
            f"{path}: points {points.shape} and occluded {occluded.shape}; expected (N, T, 2) and (N, T)"
        )
    frames: list[Path] = []
    if path.with_suffix("").is_dir():
        frames = _images(path.with_suffix(""))
        if len(frames) != points.shape[1]:
            raise ValueError(f"{path.with_suffix('')} has {len(frames)} frames, {path.name} {points.shape[1]}")
    else:
        _check_video(path, num_frames=points.shape[1])
    num_outside = check_shares(points, occluded, what=str(path))
    if num_outside:
        logger.warning(
            "%s: %d of %d visible points lie outside the frame; they count as officially",
            path,
            num_outside,
            (~occluded).sum(),
        )
    return PointSequence(path.stem, path, tuple(frames), points, occluded)


def _check_video(path: Path, *, num_frames: int) -> None:
    """Refuse the array `video` of a file where it is no video, by its header."""
    with zipfile.ZipFile(path) as archive:
        if "video.npy" not in archive.namelist():
            raise ValueError(
                f"{path} has no array 'video', and there is no folder {path.with_suffix('')} of frames"
            )
        try:
            with archive.open("video.npy") as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
        except _DAMAGE as error:
            raise ValueError(f"{path}: video cannot be read as an array: {error}") from error
    if dtype == np.uint8 and len(shape) == 4 and shape[3] == 3 and shape[0] == num_frames and min(shape) > 0:
        return
    values = "" if dtype == np.uint8 else range_of(_arrays(path, ["video"])["video"])
    raise ValueError(
        f"{path}: video is {dtype} {shape}{values}, its points are of {num_frames} frames; expected uint8 "
        f"({num_frames}, H, W, 3), values from 0 to 255"
    )


def _arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file; nothing in it is unpickled."""
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            with file:
                if absent := [name for name in names if name not in file.files]:
                    raise ValueError(
                        f"it has no array {', '.join(absent)}; datasets/prepare_tapvid.py says what it holds"
                    )
                return {name: file[name] for name in names}
    except _DAMAGE as error:
        raise ValueError(f"{path} cannot be read as an .npz file of plain arrays: {error}") from error


def _images(folder: Path) -> list[Path]:
    """Images of a folder in order of their numbers, zero-padded or not; hidden ones (macOS "._x") left out."""
    found = [path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    frames = sorted((path for path in found if path.name[0] != "."), key=lambda path: (len(path.stem), path.stem))
    if not frames:
        raise ValueError(f"{folder} holds no .jpg frames")
    return frames


def _frames(paths: Iterable[Path]) -> Iterator[Tensor]:
    """Read images of one size."""
    first = None
    for path in paths:
        frame = read_frame(path)
        first = frame.shape if first is None else first
        if frame.shape != first:
            raise ValueError(
                f"{path} is {frame.shape[2]}x{frame.shape[1]} pixels, the first frame {first[2]}x{first[1]}; "
                "all frames of a sequence must have one size"
            )
        yield frame

"""Videos with the joints of a body on every frame, as JHMDB publishes them.

JHMDB (Jhuang et al. 2013, "Towards understanding action recognition"):

    ROOT/Rename_Images/CLASS/VIDEO/00001.png ...
    ROOT/joint_positions/CLASS/VIDEO/joint_positions.mat    pos_img: 2 x 15 x T, x and y in pixels, the first is 1
    ROOT/splits/CLASS_test_split1.txt                       VIDEO.avi and 1 (train), 2 (test) or 0 (neither) a line
    ROOT/testlist_split1.txt                                instead of splits/: paths of the 268 test videos a line

The list of 268 videos is that of UVC (Liusifei/UVC, branch jhmdb), which published figures are made with. Any other
videos with joints:

    ROOT/VIDEO/frames/00000.jpg ...
    ROOT/VIDEO/joint_positions.mat
"""

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError
from torch import Tensor

from ..lists.text import read_text
from ..media.images import image_size
from .benchmarks import MaskSequence, read_frame
from .ranges import check_name, check_pixels_of

logger = logging.getLogger(__name__)

# The joints of JHMDB in the order of pos_img, and what each hangs on (drawn so by UVC, vis of test_jhmdb.py).
JHMDB_JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
JHMDB_EDGES = (
    (0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (3, 7), (4, 8), (5, 9), (6, 10), (7, 11), (8, 12), (9, 13),
    (10, 14),
)  # fmt: skip

_IMAGES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """A video with joints.

    Args:
        name: Of the video.
        frame_paths: One image per frame.
        pose_path: The joint_positions.mat.
        joints: float64 (T, J, 2), x and y in pixels of every joint on every frame; (0, 0) is the centre of the first
            pixel, and joints may lie outside the frame.
    """

    name: str
    frame_paths: tuple[Path, ...]
    pose_path: Path
    joints: np.ndarray

    def __len__(self) -> int:
        return len(self.frame_paths)

    def files(self) -> list[Path]:
        """List all frames and the annotation."""
        return [*self.frame_paths, self.pose_path]

    def size(self) -> tuple[int, int]:
        """Height and width of the first frame in pixels."""
        height, width = read_frame(self.frame_paths[0]).shape[1:]
        return height, width

    def frames(self) -> Iterator[Tensor]:
        """Read the frames one by one, uint8 (3, H, W) RGB.

        Raises:
            ValueError: A frame cannot be read, or has another size than the first.
        """
        return MaskSequence(self.name, self.frame_paths, ()).frames()


def jhmdb_sequences(root: str | Path, *, names: Iterable[str] | None = None, split: int = 1) -> list[PoseSequence]:
    """List the test videos of a data set in the layout of JHMDB, or all of any other videos with joints.

    Args:
        root: Folder in one of the layouts at the top of this file.
        names: Videos wanted, in this order; None for those of the list.
        split: Of JHMDB: 1 (published figures), 2 or 3.

    Raises:
        ValueError: A folder, list, video or annotation is missing, or an annotation does not fit its frames.
    """
    root = Path(root)
    folders = _jhmdb_folders(root, split) if (root / "joint_positions").is_dir() else _other_folders(root)
    repeated = [name for name, count in Counter(name for name, _, _ in folders).items() if count > 1]
    if repeated:
        raise ValueError(f"{root} has several videos named {repeated[0]!r}; give each a name of its own")
    present = {name: (frames, pose) for name, frames, pose in folders}
    wanted = list(present) if names is None else list(dict.fromkeys(names))
    for name in wanted:
        if name not in present:
            raise ValueError(f"there is no video {name!r} in {root}; it has {', '.join(sorted(present)[:10])} ...")
    sequences = [_sequence(name, *present[name]) for name in wanted]
    outside = {
        one.name: check_pixels_of(
            one.joints.reshape(-1, 2), size=image_size(one.frame_paths[0]), what=str(one.pose_path)
        )
        for one in sequences
    }
    names = [name for name, count in outside.items() if count]
    if names:
        logger.info(
            "%d of %d joints lie outside their frames, in %d of %d videos (%s first); they count as officially",
            sum(outside.values()),
            sum(one.joints.shape[0] * one.joints.shape[1] for one in sequences),
            len(names),
            len(sequences),
            names[0],
        )
    return sequences


def _jhmdb_folders(root: Path, split: int) -> list[tuple[str, Path, Path]]:
    """Name, folder of frames and annotation of every test video of a split."""
    listed = _listed(root, split)
    if listed is None:
        logger.info("%s has neither testlist_split%d.txt nor splits: all videos are taken", root, split)
        poses = sorted((root / "joint_positions").glob("*/*/joint_positions.mat"))
        listed = [(path.parents[1].name, path.parent.name) for path in poses]
    if not listed:
        raise ValueError(f"{root} holds no test videos of split {split}")
    return [
        (
            video,
            root / "Rename_Images" / kind / video,
            root / "joint_positions" / kind / video / "joint_positions.mat",
        )
        for kind, video in listed
    ]


def _listed(root: Path, split: int) -> list[tuple[str, str]] | None:
    """Class and name of every test video; None where the data has no lists."""
    whole = root / f"testlist_split{split}.txt"
    if whole.is_file():
        return [_of_paths(line, whole) for line in read_text(whole).splitlines() if line.strip()]
    if not (root / "splits").is_dir():
        return None
    listed = []
    for file in sorted((root / "splits").glob(f"*_test_split{split}.txt")):
        kind = file.name.removesuffix(f"_test_split{split}.txt")
        for line in filter(None, map(str.strip, read_text(file).splitlines())):
            video, _, part = line.rpartition(" ")
            if part not in ("0", "1", "2") or not video:
                raise ValueError(f"{file} has the line {line!r}; expected VIDEO.avi, and 1 (train) or 2 (test)")
            if part == "2":
                listed.append((kind, check_name(video.strip().removesuffix(".avi"), path=file)))
    return listed


def _of_paths(line: str, file: Path) -> tuple[str, str]:
    """Class and name of a video from a line of UVC's list, with the author's own paths, in either order."""
    for word in line.split():
        path = Path(word)
        if path.name == "joint_positions.mat" and len(path.parts) >= 3:
            return path.parents[1].name, path.parent.name
    raise ValueError(f"{file} has the line {line!r}; expected the path .../CLASS/VIDEO/joint_positions.mat in it")


def _other_folders(root: Path) -> list[tuple[str, Path, Path]]:
    """The same for videos in folders of their own."""
    poses = sorted(root.rglob("joint_positions.mat")) if root.is_dir() else []
    if not poses:
        raise ValueError(
            f"{root} holds no joints; expected {root}/joint_positions/CLASS/VIDEO/joint_positions.mat and "
            f"{root}/Rename_Images/CLASS/VIDEO/00001.png ..., as JHMDB is published, or "
            f"{root}/VIDEO/joint_positions.mat and {root}/VIDEO/frames/00000.jpg ..."
        )
    return [
        ("-".join(path.parent.relative_to(root).parts) or root.resolve().name, path.parent / "frames", path)
        for path in poses
    ]


def _sequence(name: str, frames: Path, pose_path: Path) -> PoseSequence:
    """Pair the frames of one video with their joints."""
    for path in (frames, pose_path):
        if not path.exists():
            raise ValueError(f"{path} is missing; the video {name!r} is listed, or has the other half")
    files = (path for path in frames.iterdir() if path.suffix.lower() in _IMAGES and path.name[0] != ".")
    frame_paths = sorted(files, key=lambda path: (len(path.stem), path.stem))
    joints = _read_joints(pose_path)
    if not frame_paths or len(frame_paths) < len(joints):
        raise ValueError(f"{frames} has {len(frame_paths)} frames, {pose_path} joints of {len(joints)}")
    if len(frame_paths) > len(joints):
        logger.warning(
            "%s: %d frames of %d have joints; the others are left out", name, len(joints), len(frame_paths)
        )
    return PoseSequence(name, tuple(frame_paths[: len(joints)]), pose_path, joints)


def _read_joints(path: Path) -> np.ndarray:
    """Read pos_img of a joint_positions.mat as float64 (T, J, 2), the first pixel at 0."""
    try:
        content = scipy.io.loadmat(path, variable_names=["pos_img"])
    except (OSError, ValueError, TypeError, IndexError, NotImplementedError, MatReadError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}") from error
    if "pos_img" not in content:
        raise ValueError(f"{path} has no variable pos_img")
    positions = np.asarray(content["pos_img"])
    if positions.ndim == 2:  # MATLAB drops the last axis of a video of one frame
        positions = positions[..., None]
    if positions.ndim != 3 or positions.shape[0] != 2 or 0 in positions.shape:
        raise ValueError(f"{path}: pos_img is {positions.shape}, expected (2, joints, frames)")
    if positions.dtype.kind not in "fiu":
        raise ValueError(f"{path}: pos_img is of type {positions.dtype}, expected numbers")
    positions = positions.astype(np.float64)
    if not np.isfinite(positions).all():
        raise ValueError(f"{path}: pos_img has values that are no numbers")
    return np.ascontiguousarray(positions.transpose(2, 1, 0)) - 1

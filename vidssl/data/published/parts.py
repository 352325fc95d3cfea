"""Videos with the parts of bodies on some of their frames, as VIP publishes them.

VIP (Zhou et al. 2018, "Adaptive temporal encoding network for video instance-level human parsing", arXiv:1808.00661):

    ROOT/VIP_Fine/Images/videos1/000000000001.jpg ...
    ROOT/VIP_Fine/Annotations/Category_ids/videos1/000000000001.png ...    class of every pixel, 0 is the background
    ROOT/VIP_Fine/lists/val_videos.txt                                     a video a line; without it, all videos

ROOT may be VIP_Fine itself. Classes belong to no person: two people's hats are one class.
"""

import difflib
import logging
from collections.abc import Iterable
from pathlib import Path

from ..lists.text import read_text
from .benchmarks import MaskSequence

logger = logging.getLogger(__name__)

VIP_CLASSES = (
    "background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants", "gloves", "scarf",
    "skirt", "torso-skin", "face", "right-arm", "left-arm", "right-leg", "left-leg", "right-shoe", "left-shoe",
)  # fmt: skip


def vip_sequences(
    root: str | Path, *, names: Iterable[str] | None = None, subset: str = "val"
) -> list[MaskSequence]:
    """List the videos of a data set in the layout of VIP.

    Args:
        root: Folder in the layout at the top of this file.
        names: Videos wanted, in this order; None for those of lists/SUBSET_videos.txt.
        subset: Of the list of videos: "val" (published figures) or "train".

    Raises:
        ValueError: A folder, list, video, or the annotation of a first frame is missing.
    """
    root = Path(root) / "VIP_Fine" if (Path(root) / "VIP_Fine").is_dir() else Path(root)
    images, annotations = root / "Images", root / "Annotations/Category_ids"
    for folder in (images, annotations):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder; expected {root}/Images/videos1/000000000001.jpg ... and "
                f"{root}/Annotations/Category_ids/videos1/000000000001.png ..., as VIP is published"
            )
    present = sorted(path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    wanted = list(dict.fromkeys(_listed(root, subset, present) if names is None else names))
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=3) or present[:10]
            raise ValueError(f"there is no video {name!r} in {images}; perhaps {', '.join(near) or 'none'}")
    if not wanted:
        raise ValueError(f"no video was asked for, or {images} holds none")
    return [_sequence(name, images / name, annotations / name) for name in wanted]


def _listed(root: Path, subset: str, present: list[str]) -> list[str]:
    """Names in lists/SUBSET_videos.txt, or all that are present where the data has no lists."""
    file = root / "lists" / f"{subset}_videos.txt"
    if not file.parent.is_dir():
        logger.info("%s is absent: all %d videos are taken", file.parent, len(present))
        return present
    if not file.is_file():
        raise ValueError(
            f"{file} is missing; its folder has {', '.join(sorted(path.name for path in file.parent.iterdir()))}"
        )
    # Some copies list paths, with or without the annotation's behind them: the video is the last part of the first.
    return [Path(line.split()[0]).name for line in read_text(file).splitlines() if line.strip()]


def _sequence(name: str, images: Path, annotations: Path) -> MaskSequence:
    """Pair the frames of one video with their annotation by file name."""
    frames = _in_order(images, {".jpg", ".jpeg", ".png"})
    if not frames:
        raise ValueError(f"{images} holds no frames")
    masks = {path.stem: path for path in _in_order(annotations, {".png"})} if annotations.is_dir() else {}
    orphans = sorted(masks.keys() - {path.stem for path in frames})
    if orphans:
        raise ValueError(f"{annotations / orphans[0]}.png has no frame of that name in {images}")
    if frames[0].stem not in masks:
        raise ValueError(
            f"{annotations / frames[0].stem}.png is missing; the first frame of a video must have annotation"
        )
    return MaskSequence(name, tuple(frames), tuple(masks.get(path.stem) for path in frames))


def _in_order(folder: Path, suffixes: set[str]) -> list[Path]:
    """Images of a folder in the order of their numbers, zero-padded or not; hidden ones (macOS "._x") left out."""
    files = (
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted(files, key=lambda path: (len(path.stem), path.stem))

"""Videos with tracked boxes or points, as their authors publish them: OTB, GOT-10k, TAP-Vid.

OTB (Wu, Lim and Yang 2015, "Object tracking benchmark"):

    ROOT/SEQUENCE/img/0001.jpg ...
    ROOT/SEQUENCE/groundtruth_rect.txt       x y w h a line, split by commas, tabs or spaces, first pixel 1
    ROOT/SEQUENCE/groundtruth_rect.1.txt     of sequences with several objects, which count as "SEQUENCE.1", ...

GOT-10k (Huang, Zhao and Huang 2019, arXiv:1810.11981):

    ROOT/val/list.txt                                  a sequence a line
    ROOT/val/GOT-10k_Val_000001/00000001.jpg ...
    ROOT/val/GOT-10k_Val_000001/groundtruth.txt        x,y,w,h a line
    ROOT/val/GOT-10k_Val_000001/cover.label            a line a frame: how much is seen, from 0 to 8

TAP-Vid (Doersch et al. 2022, arXiv:2211.03726), written by datasets/prepare_tapvid.py from the published pickles:

    ROOT/SEQUENCE.npz        points (N, T, 2), occluded (N, T), video (T, H, W, 3)
    ROOT/SEQUENCE/00000.jpg  ... instead of `video`

Boxes are x, y, width, height in pixels with the first pixel at 0: a box covers x <= column < x + width. Facts of
the layouts follow got-10k/toolkit (commit 956e728) and google-deepmind/tapnet (commit c2cbab8).
"""

import difflib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..lists.text import read_text
from ..media.images import image_size
from .points import _frames, _images
from .ranges import check_boxes, check_name, range_of

logger = logging.getLogger(__name__)

# Frames that the annotation of an OTB sequence is of, where its folder holds more (toolkit datasets/otb.py).
OTB_FRAMES = {
    "david": (300, 770),
    "football1": (1, 74),
    "freeman3": (1, 460),
    "freeman4": (1, 283),
    "diving": (1, 215),
}

_TB50 = (
    "Basketball Biker Bird1 BlurBody BlurCar2 BlurFace BlurOwl Bolt Box Car1 Car4 CarDark CarScale ClifBar Couple "
    "Crowds David Deer Diving DragonBaby Dudek Football Freeman4 Girl Human3 Human4 Human6 Human9 Ironman Jump "
    "Jumping Liquor Matrix MotorRolling Panda RedTeam Shaking Singer2 Skating1 Skating2 Skiing Soccer Surfer "
    "Sylvester Tiger2 Trellis Walking Walking2 Woman"
).split()
_TB100_ONLY = (
    "Bird2 BlurCar1 BlurCar3 BlurCar4 Board Bolt2 Boy Car2 Car24 Coke Coupon Crossing Dancer Dancer2 David2 David3 "
    "Dog Dog1 Doll FaceOcc1 FaceOcc2 Fish FleetFace Football1 Freeman1 Freeman3 Girl2 Gym Human2 Human5 Human7 "
    "Human8 Jogging KiteSurf Lemming Man Mhyang MountainBike Rubik Singer1 Skater Skater2 Subway Suv Tiger1 Toy "
    "Trans Twinnings Vase"
).split()
_OTB2013 = (
    "Basketball Bolt Boy Car4 CarDark CarScale Coke Couple Crossing David David2 David3 Deer Dog1 Doll Dudek "
    "FaceOcc1 FaceOcc2 Fish FleetFace Football Football1 Freeman1 Freeman3 Freeman4 Girl Ironman Jogging Jumping "
    "Lemming Liquor Matrix Mhyang MotorRolling MountainBike Shaking Singer1 Singer2 Skating1 Skiing Soccer Subway "
    "Suv Sylvester Tiger1 Tiger2 Trellis Walking Walking2 Woman"
).split()
OTB_SUBSETS = {"otb2013": _OTB2013, "tb50": _TB50, "tb100": sorted(_TB50 + _TB100_ONLY)}


@dataclass(frozen=True, eq=False)
class BoxSequence:
    """A video with the box of one object in its frames.

    Args:
        name: As the toolkit names it.
        frame_paths: One image per frame.
        boxes: float64 (T, 4), as published: NaN or without area where the object is not there or nothing is known.
        scored: Frames that count, bool (T,).
        annotation_paths: Files that `boxes` and `scored` were read from.
        first_pixel: Number of the first pixel in the published files: 1 for OTB, 0 for GOT-10k.
    """

    name: str
    frame_paths: tuple[Path, ...]
    boxes: np.ndarray
    scored: np.ndarray
    annotation_paths: tuple[Path, ...]
    first_pixel: int

    def __len__(self) -> int:
        return len(self.frame_paths)

    def files(self) -> list[Path]:
        """All files the sequence consists of."""
        return [*self.frame_paths, *self.annotation_paths]

    def frames(self) -> Iterator[Tensor]:
        """Read the frames one by one, uint8 (3, H, W) RGB.

        Raises:
            ValueError: A frame cannot be read, or has another size than the first.
        """
        return _frames(self.frame_paths)


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Tell which boxes (T, 4) are finite and not empty: bool (T,)."""
    return np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)


def otb_sequences(
    root: str | Path, *, names: Iterable[str] | None = None, subset: str | None = None
) -> list[BoxSequence]:
    """List the sequences of a folder in the layout of OTB (top of this file).

    All frames count, as in the toolkit; on a frame whose box is NaN every prediction is wrong.

    Args:
        root: Folder of the sequences.
        names: Sequences wanted, in this order; "Jogging" is all objects of it, "Jogging.2" one of them.
        subset: A key of `OTB_SUBSETS`: all of its sequences must be there. None is what the folder holds.

    Raises:
        ValueError: A sequence is missing, or its annotation cannot be read or does not fit the frames.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected {root}/SEQUENCE/img/0001.jpg ... and "
                         f"{root}/SEQUENCE/groundtruth_rect.txt, as OTB is published")  # fmt: skip
    present = sorted(folder.name for folder in root.iterdir() if any(folder.glob("groundtruth*.txt")))
    if not present:
        raise ValueError(f"{root} holds no folder with a groundtruth_rect.txt; give the folder of the sequences")
    wanted = present
    if subset is not None:
        wanted = OTB_SUBSETS[subset]
        missing = sorted(set(wanted) - set(present))
        if missing:
            raise ValueError(
                f"{root} lacks {len(missing)} of the {len(wanted)} sequences of {subset}: {', '.join(missing)}"
            )
    if names is None:
        return [sequence for folder in wanted for sequence in _otb_objects(root / folder)]
    chosen = []
    for name in names:
        folder = name if name in present else name.rpartition(".")[0]
        objects = _otb_objects(root / folder) if folder in present else []
        matches = [sequence for sequence in objects if name in (folder, sequence.name)]
        if not matches:
            near = difflib.get_close_matches(name, present, n=3) or present[:10]
            raise ValueError(f"there is no sequence {name!r} in {root}; perhaps {', '.join(near)}")
        chosen += matches
    return chosen


def _otb_objects(folder: Path) -> list[BoxSequence]:
    """One sequence for every annotation file of a folder; empty files (Human4 has one) do not count."""
    files = [path for path in sorted(folder.glob("groundtruth*.txt")) if read_text(path).strip()]
    frame_paths = _images(folder / "img")
    if folder.name.lower() in OTB_FRAMES:
        first, last = OTB_FRAMES[folder.name.lower()]
        frame_paths = [path for path in frame_paths if path.stem.isdecimal() and first <= int(path.stem) <= last]
        if not frame_paths:
            raise ValueError(
                f"{folder / 'img'} holds no frame from {first:04d}.jpg to {last:04d}.jpg, which the boxes of "
                f"{folder.name} are of in OTB"
            )
    objects = []
    for number, path in enumerate(files, 1):
        boxes = _read_boxes(path, num_frames=len(frame_paths))
        name = folder.name if len(files) == 1 else f"{folder.name}.{number}"
        boxes = boxes - np.array([1, 1, 0, 0])
        _check_boxes(boxes, path=path, frame_path=frame_paths[0])
        objects.append(
            BoxSequence(
                name,
                tuple(frame_paths),
                boxes,
                np.ones(len(boxes), dtype=bool),
                (path,),
                first_pixel=1,
            )
        )
    return objects


def got10k_sequences(
    root: str | Path, *, names: Iterable[str] | None = None, split: str = "val"
) -> list[BoxSequence]:
    """List the sequences of a split in the layout of GOT-10k (top of this file).

    The first frame does not count, nor do frames where nothing of the object is seen (cover.label is 0). Of the
    test split only the first box is published: nothing of it counts.

    Args:
        root: Folder that holds `split`.
        names: Sequences wanted, in this order; None for those of SPLIT/list.txt.
        split: "val", "train" or "test".

    Raises:
        ValueError: The list or a sequence is missing, or its annotation cannot be read or does not fit the frames.
    """
    folder = Path(root) / split
    listing = folder / "list.txt"
    if not listing.is_file():
        raise ValueError(f"{listing} is missing; expected {folder}/list.txt and "
                         f"{folder}/SEQUENCE/00000001.jpg ..., as GOT-10k is published")  # fmt: skip
    listed = list(dict.fromkeys(check_name(name, path=listing) for name in read_text(listing).split()))
    if not listed:
        raise ValueError(f"{listing} is empty; expected the name of a sequence a line")
    sequences = []
    for name in listed if names is None else names:
        if not (folder / name).is_dir():
            near = difflib.get_close_matches(name, listed, n=3)
            raise ValueError(f"{folder / name} is missing" + (f"; perhaps {', '.join(near)}" if near else ""))
        sequences.append(_got10k_sequence(folder / name))
    return sequences


def _got10k_sequence(folder: Path) -> BoxSequence:
    frame_paths, truth, cover_path = _images(folder), folder / "groundtruth.txt", folder / "cover.label"
    boxes = _read_boxes(truth, num_frames=len(frame_paths), first_alone=True)
    _check_boxes(boxes, path=truth, frame_path=frame_paths[0])
    scored, paths = has_area(boxes), [truth]
    if cover_path.is_file():
        cover = _read_cover(cover_path)
        if len(cover) != len(boxes):
            raise ValueError(f"{cover_path} has {len(cover)} lines for {len(boxes)} frames")
        scored, paths = (cover > 0) & np.isfinite(boxes).all(axis=1), [truth, cover_path]
    scored[0] = False
    return BoxSequence(folder.name, tuple(frame_paths), boxes, scored, tuple(paths), first_pixel=0)


def _read_cover(path: Path) -> np.ndarray:
    """Read how much is seen of the object, 0 to 8 a frame."""
    try:
        cover = np.array([float(word) for word in read_text(path).split()])
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as numbers: {error}") from error
    if not ((cover >= 0) & (cover <= 8)).all():
        raise ValueError(f"{path} goes{range_of(cover).removeprefix(' with values')}; expected 0 to 8")
    return cover


def _check_boxes(boxes: np.ndarray, *, path: Path, frame_path: Path) -> None:
    """Refuse boxes that are no pixels of their frames; say how many lie outside."""
    num_outside = check_boxes(boxes, size=image_size(frame_path), what=path)
    if num_outside:
        logger.warning(
            "%s: %d of %d boxes lie outside the frame, wholly or by more than half of their area; they count as "
            "officially (x, y, width and height are expected, not two corners)",
            path,
            num_outside,
            len(boxes),
        )


def _read_boxes(path: Path, *, num_frames: int, first_alone: bool = False) -> np.ndarray:
    """Read lines of x, y, w, h as float64 (T, 4).

    Args:
        path: Text file, numbers split by commas or white space.
        num_frames: Lines expected.
        first_alone: Whether one line, for the first frame, will do; the others are NaN then.
    """
    try:
        rows = [[float(word) for word in line.split()] for line in read_text(path).replace(",", " ").splitlines()]
        boxes = np.array([row for row in rows if row], dtype=np.float64).reshape(-1, 4)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as lines of x, y, width, height: {error}") from error
    if first_alone and len(boxes) == 1:
        boxes = np.concatenate([boxes, np.full((num_frames - 1, 4), np.nan)])
    if len(boxes) != num_frames:
        raise ValueError(f"{path} has {len(boxes)} boxes for {num_frames} frames")
    if not has_area(boxes[:1]).all():
        raise ValueError(f"{path}: the first box is {boxes[0].tolist()}; tracking starts from a box with an area")
    return boxes

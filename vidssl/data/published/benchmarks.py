"""Video benchmarks as their authors publish them: frames plus annotation.

DAVIS 2017 (Pont-Tuset et al. 2017, arXiv:1704.00675), semi-supervised task, and any data laid out like it:

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg ...
    ROOT/Annotations/480p/SEQUENCE/00000.png ...    indexed PNG: 0 background, objects 1, 2, ...
    ROOT/ImageSets/2017/val.txt                     a sequence a line; without ImageSets/2017, all sequences

DAVIS 2016 (Perazzi et al. 2016) has the same folders, ImageSets/2016 or ImageSets/480p, and one object: whatever is
not background.

YouTube-VOS (Xu et al. 2018, arXiv:1809.03327), a split of it:

    ROOT/JPEGImages/VIDEO/00000.jpg ...
    ROOT/Annotations/VIDEO/00000.png ...            objects may come in after the first frame
    ROOT/meta.json                                  optional: category of each object, frames it is seen in
"""

import difflib
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...json_files import read_json
from ..lists.text import read_text
from ..media.images import image_size, read_image
from .masks import VOID, check_object_ids, davis_palette, listed_ids, read_mask

__all__ = [
    "VOID",
    "MaskSequence",
    "Objects",
    "davis_palette",
    "davis_sequences",
    "read_frame",
    "read_mask",
    "youtubevos_sequences",
]

logger = logging.getLogger(__name__)

Objects = Literal["fixed", "one", "joining"]


@dataclass(frozen=True)
class MaskSequence:
    """A video with masks of its objects.

    Args:
        name: Of the sequence, as in the list of the benchmark.
        frame_paths: One image per frame, in order.
        annotation_paths: One mask per frame, None where there is none; the first frame always has one, unless
            objects join.
        objects: "fixed", the ids up to the largest of the first frame that occur in any annotation (DAVIS-2017; as
            in the official code, ids above it in later frames do not count, and one that comes in later does,
            though nothing was given of it; the official code also counts ids that never occur); "one", everything
            that is not background (DAVIS-2016); "joining", each from the first annotation that shows it
            (YouTube-VOS).
        groups: Group of objects (seen, unseen) by id; objects without one are missing.
    """

    name: str
    frame_paths: tuple[Path, ...]
    annotation_paths: tuple[Path | None, ...]
    objects: Objects = "fixed"
    groups: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame_paths)

    def files(self) -> list[Path]:
        """List all frames and masks."""
        return [*self.frame_paths, *(path for path in self.annotation_paths if path is not None)]

    @property
    def annotated(self) -> list[int]:
        """Numbers of the frames with annotation."""
        return [number for number, path in enumerate(self.annotation_paths) if path is not None]

    def first_mask(self) -> Tensor:
        """Read the objects to start from, uint8 (H, W); nothing where the first object comes in later."""
        if self.annotation_paths[0] is None:
            return torch.zeros(image_size(self.frame_paths[0]), dtype=torch.uint8)
        return self.mask(0)

    @functools.cached_property
    def first_frames(self) -> dict[int, int]:
        """Number of the frame that each object is given with, by object id."""
        if self.objects != "joining":
            present = set(self.mask(0).unique().tolist()) - {0}
            gaps = set(range(1, max(present, default=0))) - present
            for number in self.annotated if gaps else ():
                present |= gaps & set(self.mask(number).unique().tolist())
            return dict.fromkeys(sorted(present), 0)
        first: dict[int, int] = {}
        for number in self.annotated:
            first |= {i: number for i in np.unique(self.mask(number).numpy()).tolist() if i and i not in first}
        return dict(sorted(first.items()))

    @property
    def num_objects(self) -> int:
        """Largest object id."""
        return max(self.first_frames)

    @property
    def absent_ids(self) -> list[int]:
        """Ids below the largest of the first frame that never occur; davis2017-evaluation counts them as objects."""
        if self.objects != "fixed":
            return []
        return [i for i in range(1, max(self.first_frames)) if i not in self.first_frames]

    def later_masks(self) -> dict[int, Tensor]:
        """Objects that come in after the first frame: number of the frame -> their ids, uint8 (H, W), 0 elsewhere."""
        masks = {}
        for number in sorted(set(self.first_frames.values()) - {0}):
            ids = [i for i, first in self.first_frames.items() if first == number]
            mask = self.mask(number)
            masks[number] = torch.where(torch.isin(mask, torch.tensor(ids, dtype=torch.uint8)), mask, 0)
        return masks

    def scored(self, object_id: int) -> list[int]:
        """Numbers of the frames that count for an object.

        Those with annotation, less the first and the last of them (DAVIS); for "joining" objects those after the
        one they come in with, and none in a video whose annotation is nothing but the masks to start from (the
        public part of YouTube-VOS valid and test).
        """
        if self.objects != "joining":
            return self.annotated[1:-1]
        starts = set(self.first_frames.values())
        if starts >= set(self.annotated):
            return []
        return [number for number in self.annotated if number > self.first_frames[object_id]]

    def frames(self) -> Iterator[Tensor]:
        """Read the frames one by one, uint8 (3, H, W) RGB.

        Raises:
            ValueError: A frame cannot be read, or has another size than the first.
        """
        size = image_size(self.frame_paths[0])
        for path in self.frame_paths:
            frame = read_frame(path)
            if tuple(frame.shape[1:]) != size:
                raise ValueError(f"{path} is {_text(frame)} pixels, the first frame {self.frame_paths[0].name} "
                                 f"{size[1]}x{size[0]}; all frames of a sequence must have one size")  # fmt: skip
            yield frame

    def mask(self, number: int) -> Tensor:
        """Read the objects of frame `number`, uint8 (H, W); void pixels are background.

        Raises:
            ValueError: There is no annotation, it cannot be read, or its size is not that of the frame.
        """
        path, frame_path = self.annotation_paths[number], self.frame_paths[number]
        if path is None:
            raise ValueError(f"{self.name}: frame {frame_path.name} has no annotation")
        mask = read_mask(path).numpy()
        height, width = image_size(frame_path)
        if mask.shape != (height, width):
            raise ValueError(f"{path} is {_text(mask)} pixels, its frame {frame_path} {width}x{height}; "
                             "frames and annotation must be of the same resolution")  # fmt: skip
        if self.objects == "one":  # the published masks are 0 and 255
            return torch.from_numpy((mask > 0).astype(np.uint8))
        return torch.from_numpy(np.where(mask == VOID, 0, mask))


def davis_sequences(
    root: str | Path,
    *,
    names: Iterable[str] | None = None,
    year: int = 2017,
    subset: str = "val",
    resolution: str = "480p",
) -> list[MaskSequence]:
    """List the sequences of a data set in the layout of DAVIS (top of this file).

    Args:
        root: Folder that holds JPEGImages and Annotations.
        names: Sequences wanted, in this order; None for those of ImageSets/YEAR/SUBSET.txt.
        year: 2017; or 2016, whose sequences have one object.
        subset: Of the list of sequences: "train", "val", "test-dev", ...
        resolution: Folder inside JPEGImages and Annotations: "480p" or "Full-Resolution".

    Raises:
        ValueError: A folder, list, sequence, or the annotation of a first frame is missing, or the first frame and
            its annotation differ in size.
    """
    if year not in (2016, 2017):
        raise ValueError(f"year is {year}, expected 2016 or 2017")
    frames, annotations = (Path(root) / top / resolution for top in ("JPEGImages", "Annotations"))
    for folder in (frames, annotations):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder; expected {root}/JPEGImages/{resolution}/SEQUENCE/00000.jpg ... and "
                f"{root}/Annotations/{resolution}/SEQUENCE/00000.png ..., as DAVIS is published"
            )
    present = _subfolders(frames)
    lists = Path(root) / "ImageSets"
    # DAVIS-2016 itself has its lists, of pairs of files, in ImageSets/480p.
    folder = lists / resolution if year == 2016 and not (lists / "2016").is_dir() else lists / str(year)
    wanted = _listed(folder, subset, present) if names is None else names
    return [
        _sequence(name, frames / name, annotations / name, objects="one" if year == 2016 else "fixed")
        for name in _chosen(wanted, present, frames)
    ]


def youtubevos_sequences(root: str | Path, *, names: Iterable[str] | None = None) -> list[MaskSequence]:
    """List the videos of a split in the layout of YouTube-VOS (top of this file).

    Objects are grouped as "seen" and "unseen" where ROOT/meta.json names their categories and ROOT/../train/meta.json
    those of the training set.

    Args:
        root: Folder that holds JPEGImages and Annotations, such as YouTubeVOS/valid.
        names: Videos wanted, in this order; None for all.

    Raises:
        ValueError: A folder, video, or the annotation of a first frame is missing, or a meta.json is malformed.
    """
    frames, annotations = (Path(root) / top for top in ("JPEGImages", "Annotations"))
    for folder in (frames, annotations):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder; expected {root}/JPEGImages/VIDEO/00000.jpg ... and "
                f"{root}/Annotations/VIDEO/00000.png ..., as YouTube-VOS is published"
            )
    present = _subfolders(frames)
    categories, training = (
        _categories(Path(root) / "meta.json"),
        _categories(Path(root).parent / "train/meta.json"),
    )
    known = {name for objects in training.values() for name in objects.values()}
    sequences = []
    for name in _chosen(present if names is None else names, present, frames):
        own = categories.get(name, {}) if known else {}
        groups = {number: "seen" if category in known else "unseen" for number, category in own.items()}
        sequences.append(_sequence(name, frames / name, annotations / name, objects="joining", groups=groups))
    return sequences


def _categories(path: Path) -> dict[str, dict[int, str]]:
    """Category of each object of each video of a meta.json of YouTube-VOS; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        videos = read_json(path)["videos"]
        found = {
            name: {int(number): one["category"] for number, one in video["objects"].items()}
            for name, video in videos.items()
        }
        if odd := [one for objects in found.values() for one in objects.values() if not isinstance(one, str)]:
            raise TypeError(f"a category is {odd[0]!r:.40}, expected a text")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no meta.json of YouTube-VOS: {error!r}") from error


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _chosen(wanted: Iterable[str], present: list[str], folder: Path) -> list[str]:
    """Drop repetitions; refuse what is not there."""
    wanted = list(dict.fromkeys(wanted))
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=3) or present[:10]
            raise ValueError(f"there is no sequence {name!r} in {folder}; perhaps {', '.join(near) or 'none'}")
    if not wanted:
        raise ValueError(f"no sequence was asked for, or {folder} holds none")
    return wanted


def _listed(folder: Path, subset: str, present: list[str]) -> list[str]:
    """Names in FOLDER/SUBSET.txt, or all that are present where the data has no lists."""
    if not folder.is_dir():
        logger.info("%s is absent: all %d sequences are taken", folder, len(present))
        return present
    file = folder / f"{subset}.txt"
    if not file.is_file():
        raise ValueError(
            f"{file} is missing; its folder has {', '.join(sorted(p.name for p in folder.iterdir()))}"
        )
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    # DAVIS-2016 lists "/JPEGImages/480p/SEQUENCE/00000.jpg /Annotations/480p/SEQUENCE/00000.png".
    return [Path(line.split()[0]).parent.name if "/" in line else line for line in lines]


def _sequence(
    name: str, frames: Path, annotations: Path, *, objects: Objects, groups: Mapping[int, str] | None = None
) -> MaskSequence:
    """Pair the frames of one sequence with their annotation by file name."""
    frame_paths = _files(frames, {".jpg", ".jpeg"})
    if not frame_paths:
        raise ValueError(f"{frames} holds no .jpg frames")
    masks = {path.stem: path for path in _files(annotations, {".png"})} if annotations.is_dir() else {}
    orphans = sorted(masks.keys() - {path.stem for path in frame_paths})
    if orphans:
        raise ValueError(f"{annotations / orphans[0]}.png has no frame of that name in {frames}")
    if frame_paths[0].stem not in masks and (objects != "joining" or not masks):
        raise ValueError(
            f"{annotations / frame_paths[0].stem}.png is missing; the first frame of a sequence must have a mask"
        )
    annotation_paths = tuple(masks.get(path.stem) for path in frame_paths)
    sequence = MaskSequence(name, tuple(frame_paths), annotation_paths, objects, groups or {})
    if not sequence.first_frames:  # reading them compares the sizes as well, before any work is done
        raise ValueError(
            f"{sequence.annotation_paths[0] or annotations} holds no object: give objects the values 1, 2, ... "
            f"({VOID} is void)"
            + ("" if objects == "one" else "; of 0 and 255 alone, --layout davis2016 makes one")
        )
    _check_ids(sequence)
    return sequence


def _check_ids(sequence: MaskSequence) -> None:
    """Refuse masks to start from that hold no ids; say which ids are counted otherwise than one may think."""
    for number in {0, *sequence.first_frames.values()}:
        path = sequence.annotation_paths[number]
        if path is None:
            continue
        try:
            check_object_ids(read_mask(path), path=path)
        except ValueError as error:
            if sequence.objects != "one":
                raise
            logger.warning("%s. Here all values above 0 count as the object", error)
    if sequence.absent_ids:
        logger.warning(
            "%s: no mask has the ids %s, so these are no objects; davis2017-evaluation counts each of them as right "
            "(J and F of 1)",
            sequence.name,
            listed_ids(sequence.absent_ids),
        )
    if sequence.objects == "fixed":
        late = sorted(sequence.first_frames.keys() - set(sequence.mask(0).unique().tolist()))
        if late:
            logger.warning(
                "%s: the first frame has no object %s, which later ones have: counted, as in davis2017-evaluation, "
                "though there is nothing to start from",
                sequence.name,
                listed_ids(late),
            )


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files of a kind in order of their numbers, zero-padded or not; hidden ones (macOS "._x") left out."""
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(
        (path for path in paths if path.suffix.lower() in suffixes), key=lambda path: (len(path.stem), path.stem)
    )


def read_frame(path: str | Path) -> Tensor:
    """Read an image upright as RGB, uint8 (3, H, W), as `vidssl.data.open_video` does; MediaError if it cannot be."""
    return rearrange(torch.from_numpy(np.array(read_image(path))), "h w c -> c h w")


def _text(pixels: Tensor | np.ndarray) -> str:
    """Size of an image as people write it."""
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"

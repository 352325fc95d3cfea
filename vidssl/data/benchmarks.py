"""Video benchmarks as their authors publish them: frames plus annotation.

DAVIS 2017 (Pont-Tuset et al. 2017, arXiv:1704.00675), semi-supervised task, and any data laid out like it:

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg ...
    ROOT/Annotations/480p/SEQUENCE/00000.png ...    indexed PNG: 0 background, objects 1, 2, ...
    ROOT/ImageSets/2017/val.txt                     a sequence a line; without ImageSets/2017, all sequences
"""

import contextlib
import difflib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

logger = logging.getLogger(__name__)

# Id of pixels that belong to nothing (davis2017-evaluation davis.py VOID_LABEL).
VOID = 255


@dataclass(frozen=True)
class MaskSequence:
    """A video with masks of its objects.

    Args:
        name: Of the sequence, as in the list of the benchmark.
        frame_paths: One image per frame, in order.
        annotation_paths: One mask per frame, None where there is none; the first frame always has one.
    """

    name: str
    frame_paths: tuple[Path, ...]
    annotation_paths: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.frame_paths)

    @property
    def num_objects(self) -> int:
        """Largest id in the first frame; as in the official code, ids above it in later frames do not count."""
        return int(self.mask(0).numpy().max())

    @property
    def scored(self) -> list[int]:
        """Numbers of the frames that count: those with annotation, less the first and the last of them."""
        return [number for number, path in enumerate(self.annotation_paths) if path is not None][1:-1]

    def frames(self) -> Iterator[Tensor]:
        """Read the frames one by one, uint8 (3, H, W) RGB.

        Raises:
            ValueError: A frame cannot be read, or has another size than the first.
        """
        size = _size(self.frame_paths[0])
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
        height, width = _size(frame_path)
        if mask.shape != (height, width):
            raise ValueError(f"{path} is {_text(mask)} pixels, its frame {frame_path} {width}x{height}; "
                             "frames and annotation must be of the same resolution")  # fmt: skip
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
        year: Of the list of sequences.
        subset: Of the list of sequences: "train", "val", "test-dev", ...
        resolution: Folder inside JPEGImages and Annotations: "480p" or "Full-Resolution".

    Raises:
        ValueError: A folder, list, sequence, or the annotation of a first frame is missing, or the first frame and
            its annotation differ in size.
    """
    frames, annotations = (Path(root) / top / resolution for top in ("JPEGImages", "Annotations"))
    for folder in (frames, annotations):
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder; expected {root}/JPEGImages/{resolution}/SEQUENCE/00000.jpg ... and "
                f"{root}/Annotations/{resolution}/SEQUENCE/00000.png ..., as DAVIS is published"
            )
    present = sorted(path.name for path in frames.iterdir() if path.is_dir() and not path.name.startswith("."))
    wanted = _listed(Path(root) / "ImageSets" / str(year), subset, present) if names is None else names
    wanted = list(dict.fromkeys(wanted))
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=3) or present[:10]
            raise ValueError(f"there is no sequence {name!r} in {frames}; perhaps {', '.join(near) or 'none'}")
    if not wanted:
        raise ValueError(f"no sequence was asked for, or {frames} holds none")
    return [_sequence(name, frames / name, annotations / name) for name in wanted]


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
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]


def _sequence(name: str, frames: Path, annotations: Path) -> MaskSequence:
    """Pair the frames of one sequence with their annotation by file name."""
    frame_paths = _files(frames, {".jpg", ".jpeg"})
    if not frame_paths:
        raise ValueError(f"{frames} holds no .jpg frames")
    masks = {path.stem: path for path in _files(annotations, {".png"})} if annotations.is_dir() else {}
    orphans = sorted(masks.keys() - {path.stem for path in frame_paths})
    if orphans:
        raise ValueError(f"{annotations / orphans[0]}.png has no frame of that name in {frames}")
    if frame_paths[0].stem not in masks:
        raise ValueError(
            f"{annotations / frame_paths[0].stem}.png is missing; the first frame of a sequence must have a mask"
        )
    sequence = MaskSequence(name, tuple(frame_paths), tuple(masks.get(path.stem) for path in frame_paths))
    if sequence.num_objects == 0:  # reading it compares the sizes as well, before any work is done
        raise ValueError(
            f"{sequence.annotation_paths[0]} holds no object: give objects the values 1, 2, ... ({VOID} is void)"
        )
    return sequence


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files of a kind in order of their numbers, zero-padded or not; hidden ones (macOS "._x") left out."""
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(
        (path for path in paths if path.suffix.lower() in suffixes), key=lambda path: (len(path.stem), path.stem)
    )


def read_frame(path: str | Path) -> Tensor:
    """Read an image as RGB, uint8 (3, H, W); ValueError if it cannot be read."""
    with _open(path) as image:
        return rearrange(torch.from_numpy(np.array(image.convert("RGB"))), "h w c -> c h w")


def read_mask(path: str | Path) -> Tensor:
    """Read an annotation as object ids, uint8 (H, W).

    The values of an indexed or greyscale PNG are the ids, as in the official code; the colours of an RGB PNG are
    looked up in `davis_palette`, not numbered in the order in which they occur.

    Raises:
        ValueError: The file is missing, no image, of another pixel type, or has a colour that is no object's.
    """
    with _open(path) as image:
        if image.mode in ("P", "L", "1"):
            return torch.from_numpy(np.array(image).astype(np.uint8))
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(
                f"{path} has {image.mode} pixels (PIL); expected 8-bit object ids, indexed or greyscale"
            )
        colours = _codes(np.array(image.convert("RGB")))
    ids = {code: number for number, code in enumerate(_codes(davis_palette()[:22]).tolist())}
    present, inverse = np.unique(colours, return_inverse=True)
    for code in present.tolist():
        if code not in ids:
            raise ValueError(
                f"{path} is an RGB image with the colour #{code:06x}, none of the 22 object colours of DAVIS; "
                "save the mask as indexed or greyscale PNG with the values 0, 1, 2, ..."
            )
    return torch.from_numpy(np.array([ids[code] for code in present.tolist()], dtype=np.uint8)[inverse])


def _codes(colours: np.ndarray) -> np.ndarray:
    """Colours as whole numbers 0xRRGGBB: uint8 (..., 3) -> int64 (...)."""
    # The official code itself (utils.py color_map) writes VOC's 192 where the published files have 191.
    return np.where(colours == 192, 191, colours.astype(np.int64)) @ np.array([1 << 16, 1 << 8, 1])


def davis_palette() -> np.ndarray:
    """Colours of the DAVIS masks, uint8 (256, 3): 22 object colours, then the greys (i, i, i).

    These are the colours inside the published annotation files. The three low bits of an id switch 128 on in red,
    green and blue, the next three 64, as in PASCAL VOC, but where both are on the files have 191.
    """
    ids = np.arange(256)[:, None]
    colours = np.minimum((ids >> np.arange(3) & 1) * 128 + (ids >> np.arange(3, 6) & 1) * 64, 191)
    return np.where(ids < 22, colours, ids).astype(np.uint8)


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[Image.Image]:
    """Open an image; whatever is wrong with the file is a ValueError that names it."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError) as error:  # PIL raises SyntaxError for some broken PNG files
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _size(path: Path) -> tuple[int, int]:
    """Height and width of an image, from its header."""
    with _open(path) as image:
        return image.height, image.width


def _text(pixels: Tensor | np.ndarray) -> str:
    """Size of an image as people write it."""
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"

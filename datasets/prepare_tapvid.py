"""Turn the published pickles of TAP-Vid into files that hold nothing but arrays.

    unzip tapvid_davis.zip        # from github.com/google-deepmind/tapnet, "Downloading TAP-Vid-DAVIS"
    python datasets/prepare_tapvid.py --pickle tapvid_davis/tapvid_davis.pkl --out data/tapvid_davis
    vidssl evaluate tapvid --root data/tapvid_davis --model runs/x

Works for TAP-Vid-DAVIS, TAP-Vid-RGB-stacking, RoboTAP and the shards of TAP-Vid-Kinetics.

    OUT/NAME.npz            points (N, T, 2) from 0 to 1, occluded (N, T), video uint8 (T, H, W, 3)
    OUT/NAME/00000.jpg ...  instead of `video`, where the pickle holds JPEG files

A pickle is a program, and whoever opens one with `pickle.load` runs it. Here every name in it is looked up among the
six that build NumPy arrays, which stand for code of this file; any other name stops the reading before it is called.
"""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import track

from vidssl.data.published.ranges import check_shares, check_types, range_of


class PlainDtype:
    """Stands in for `numpy.dtype`; numbers, booleans and byte strings alone."""

    def __init__(self, name: str, *_: Any) -> None:
        if not re.fullmatch(r"[biuf][1248]|S[1-9][0-9]*", name):
            raise pickle.UnpicklingError(f"an array of type {name!r}; expected numbers, booleans or bytes")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, the second entry, from the state of a dtype."""
        self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray:
    """Stands in for an empty `numpy.ndarray` that is filled by its state."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Build the array from version, shape, dtype, whether it is in Fortran's order, and bytes."""
        _, shape, kind, is_fortran, content = state
        self.array = as_array(content, kind, shape, "F" if is_fortran else "C")


class ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, text and NumPy arrays; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up among those that NumPy's pickles use."""
        allowed = {
            "ndarray": PlainArray,  # only ever an argument of _reconstruct
            "dtype": PlainDtype,
            "_reconstruct": lambda *_: PlainArray(),
            "_frombuffer": as_array,
            "scalar": lambda kind, content: as_array(content, kind, ())[()],
            "encode": to_bytes,
        }
        modules = r"numpy|numpy\._?core\.(multiarray|numeric)|_codecs"
        if name not in allowed or not re.fullmatch(modules, module):
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no array needs; nothing was run")
        return allowed[name]


def as_array(content: bytes, kind: PlainDtype, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    """Read bytes as an array."""
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def to_bytes(text: str, encoding: str) -> bytes:
    """Do what old pickles ask of `_codecs.encode`: they spell bytes as Latin-1 text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes spelled as {encoding}; expected latin1")
    return text.encode("latin1")


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays.

    Raises:
        ValueError: It holds something else, or is broken.
    """
    try:
        with path.open("rb") as file:
            return plain(ArrayUnpickler(file).load())
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ) as error:
        raise ValueError(f"{path} is not read: {error}") from error


def plain(value: Any) -> Any:
    """Take the arrays out of what stood in for them."""
    if isinstance(value, PlainArray):
        return value.array
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def examples(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every video: a dictionary has names, a list has numbers."""
    for key, example in content.items() if isinstance(content, dict) else enumerate(content):
        yield f"{key:05d}" if isinstance(key, int) else str(key), example


def is_pixels(video: Any) -> bool:
    """Whether a video is an array of numbers, not one JPEG file per frame."""
    return isinstance(video, np.ndarray) and video.dtype.kind != "S"


def check_example(example: Any, *, what: str) -> None:
    """Refuse what is no video with tracks: points that are no shares of the frame, frames that are none.

    Raises:
        ValueError: Something is missing, or of another shape, type or range.
    """
    missing = {"points", "occluded", "video"} - set(example)
    if missing:
        raise ValueError(f"{what} has no {', '.join(sorted(missing))}")
    points, occluded, video = np.asarray(example["points"]), np.asarray(example["occluded"]), example["video"]
    if points.ndim != 3 or points.shape[2] != 2 or occluded.shape != points.shape[:2]:
        raise ValueError(
            f"{what} has points {points.shape} and occluded {occluded.shape}; expected (N, T, 2) and (N, T)"
        )
    check_types(points, occluded, what=what)
    num_outside = check_shares(points.astype(np.float64), occluded.astype(bool), what=what)
    if num_outside:
        print(f"{what}: {num_outside} visible points lie outside the frame; they are kept")
    num_frames = points.shape[1]
    if is_pixels(video):
        if (
            video.dtype != np.uint8
            or video.ndim != 4
            or video.shape[3] != 3
            or len(video) != num_frames
            or not video.size
        ):
            raise ValueError(
                f"{what} is {video.dtype} {video.shape}{range_of(video)}; expected uint8 ({num_frames}, H, W, 3), "
                "values from 0 to 255, or a JPEG file per frame"
            )
        return
    if len(video) != num_frames:
        raise ValueError(f"{what} has {len(video)} frames, points of {num_frames}")
    for number, content in enumerate(video):
        if not isinstance(content, bytes) or not content.startswith(b"\xff\xd8"):
            kind = (
                f"bytes that start with {content[:4]!r}" if isinstance(content, bytes) else type(content).__name__
            )
            raise ValueError(
                f"{what}: frame {number} is {kind}; expected a JPEG file, or the video as uint8 "
                f"({num_frames}, H, W, 3)"
            )


def write_tracks(source: Path, out: Path) -> int:
    """Write every video of a pickle; return how many there were."""
    found = list(examples(read_pickle(source)))
    for name, example in found:
        if not re.fullmatch(r"[\w-][\w.-]*", name):
            raise ValueError(f"{source}: the video {name!r} cannot give a file its name")
        check_example(example, what=f"{source}: the video {name}")
    out.mkdir(parents=True, exist_ok=True)
    for name, example in track(found, "TAP-Vid"):
        arrays = {key: np.asarray(example[key]) for key in ("points", "occluded")}
        if is_pixels(example["video"]):
            arrays["video"] = example["video"]
        else:
            (out / name).mkdir(exist_ok=True)
            for number, content in enumerate(example["video"]):
                (out / name / f"{number:05d}.jpg").write_bytes(content)
        np.savez_compressed(out / f"{name}.npz", **arrays)
    return len(found)


def main(pickle: Path, out: Path) -> None:
    """Read a pickle of TAP-Vid, write one .npz file per video.

    Args:
        pickle: A published .pkl file.
        out: Folder to write.
    """
    write_tracks(pickle, out)


if __name__ == "__main__":
    tyro.cli(main)

"""What all readers share: frames are asked for by presentation time, in seconds after the first frame."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .container import MediaError, check_clip
from .packets.times import length_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from torch import Tensor

    from .audio import AudioReader


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its pictures are wanted.

    Args:
        path: Absolute path.
        pts_seconds: Presentation time of each frame, float64 (N,), strictly increasing, the first is 0.
        duration_seconds: From the first frame to the end of the last, which is shown for the mean frame interval or,
            where frames are not shown equally long, for as long as the container says.
        fps: Mean frame rate, frames / duration; gaps in which nothing was recorded (`gaps` of `_times.py`) do not
            count.
        width: Of the upright picture as stored (pixels are not stretched to be square).
        height: Likewise.
        rotation_degrees: 0, 90, 180 or 270; how far the stored picture is turned counter-clockwise to be upright.
        codec: Name of the video codec, e.g. "h264"; "image" for still images.
        audio_sample_rate_hz: Of the best audio stream; None without audio.
        audio_channels: Likewise.
        distrust: Why frames cannot be reached by seeking and each read decodes from the start; None if they can.
        is_mirrored: Whether the stored picture is mirrored left to right before it is turned.
    """

    path: Path
    pts_seconds: NDArray[np.float64]
    duration_seconds: float
    fps: float
    width: int
    height: int
    rotation_degrees: int
    codec: str
    audio_sample_rate_hz: int | None = None
    audio_channels: int | None = None
    distrust: str | None = None
    is_mirrored: bool = False

    @property
    def num_frames(self) -> int:
        """Frames that can be shown."""
        return len(self.pts_seconds)

    def length(self, *, start_seconds: float = 0.0, end_seconds: float = math.inf) -> float:
        """Seconds between two times, for samplers of clips: a `Length` if the video has gaps there."""
        return length_of(
            self.pts_seconds,
            fps=self.fps,
            start_seconds=start_seconds,
            end_seconds=min(end_seconds, self.duration_seconds),
        )


@dataclass(frozen=True)
class Frames:
    """Frames of a video in the order in which they were asked for.

    Args:
        video: RGB, uint8 (T, 3, H, W). Its memory is laid out (T, H, W, 3), as decoders write it.
        time: Presentation time of each frame, float64 (T,), seconds after the first frame of the file.
    """

    video: Tensor
    time: Tensor

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        return f"Frames(video={tuple(self.video.shape)}, time={tuple(self.time.shape)})"


class Reader(ABC):
    """An open video: one process, one thread, closed by `with` or `close()`; get one with `open_video`.

    Args:
        info: Of the video.
        backend: The decoder that delivers the frames.
    """

    def __init__(self, info: VideoInfo, *, backend: str) -> None:
        self.info = info
        self.backend = backend

    def frames(
        self,
        times_seconds: Sequence[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        window: tuple[int, int, int, int] | None = None,
        out: Tensor | None = None,
    ) -> Frames:
        """Read the frames shown nearest to some times; several wanted at once cost one pass over the file.

        Args:
            times_seconds: Any order, repetition allowed. A time halfway between two frames is answered by the
                earlier one; times before the first or after the last frame by those.
            short_side: Height or width, whichever is smaller, of the frames returned; None for the stored size.
                The aspect ratio is kept, scaling is bilinear and done by the decoder's colour conversion.
            size: Instead of it (height, width) of the frames returned, whatever the aspect ratio.
            window: (top, left, height, width) of the part of the scaled picture that is wanted, pixels; None is the
                whole picture.
            out: Where to write the frames, uint8 (T, 3, H, W), whatever its strides; None is new memory.

        Raises:
            MediaError: A frame that the file promises cannot be decoded.
            ValueError: No times, a time that is no number, a short side or size below 1 pixel, both of them, a window
                that is not inside the picture, or an `out` of another shape.
        """
        import torch
        from einops import rearrange

        times = np.asarray(times_seconds, dtype=np.float64)
        if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
            raise ValueError(f"times_seconds is {times_seconds}, expected at least one finite number of seconds")
        if short_side is not None and short_side < 1:
            raise ValueError(f"short_side is {short_side}, expected at least 1 pixel")
        if size is not None and (short_side is not None or min(size) < 1):
            raise ValueError(f"size is {size}, short_side {short_side}; expected one of them, of at least 1 pixel")
        numbers = nearest(self.info.pts_seconds, times)
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers.tolist()):
            places.setdefault(number, []).append(place)
        height, width = size or scaled_size(self.info.height, self.info.width, short_side=short_side)
        check_clip(self.info.path, num_frames=len(numbers), height=height, width=width)
        top, left, rows, columns = window or (0, 0, height, width)
        if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
            raise ValueError(f"window is {window}, expected a part of a picture of {height} rows, {width} columns")
        if out is None:
            out = rearrange(torch.empty(len(numbers), rows, columns, 3, dtype=torch.uint8), "t h w c -> t c h w")
        if out.shape != (len(numbers), 3, rows, columns) or out.dtype != torch.uint8:
            expected = (len(numbers), 3, rows, columns)
            raise ValueError(f"out is {out.dtype} of shape {tuple(out.shape)}, expected torch.uint8 of {expected}")
        pixels = rearrange(out, "t c h w -> t h w c").numpy()
        for number, picture in self._pictures(sorted(places), height=height, width=width):
            for place in places[number]:
                pixels[place] = picture[top : top + rows, left : left + columns]
        return Frames(video=out, time=torch.from_numpy(self.info.pts_seconds[numbers]))

    def audio(self, start_seconds: float, duration_seconds: float, *, sample_rate_hz: int) -> Tensor:
        """Read mono sound that belongs to the pictures from `start_seconds` on (time 0 is the first frame).

        Args:
            start_seconds: May lie before the first frame or after the last.
            duration_seconds: Longer than 0.
            sample_rate_hz: Of the result; the track is resampled to it.

        Returns:
            The mean of all channels in [-1, 1], float32 (S,), S = round(duration_seconds * sample_rate_hz); zeros
            where the track has no sound. In quarters of a second in which the channels cancel (less than a
            twentieth of the power that the mean of unrelated ones has) it is the loudest channel.

        Raises:
            MediaError: No audio stream, or it cannot be decoded there.
        """
        return self._audio_reader().read(start_seconds, duration_seconds, sample_rate_hz=sample_rate_hz)

    @abstractmethod
    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (number, upright RGB picture (height, width, 3)) of each frame number, in any order.

        Raises:
            MediaError: One of them cannot be delivered.
        """

    def packed_index(self) -> bytes:
        """Return what was found out about the file, for `open_video(..., index=)`; empty where nothing is costly."""
        return b""

    def _audio_reader(self) -> AudioReader:
        raise MediaError(self.info.path, "has no audio stream")

    @abstractmethod
    def close(self) -> None:
        """Close the file; may be called again."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def nearest(pts_seconds: NDArray[np.float64], times_seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the nearest of increasing `pts_seconds` (N,) for each time (T,), ties to the earlier."""
    after = np.searchsorted(pts_seconds, times_seconds).clip(0, len(pts_seconds) - 1)
    before = (after - 1).clip(0)
    is_after = pts_seconds[after] - times_seconds < times_seconds - pts_seconds[before]
    return np.where(is_after, after, before)


def scaled_size(height: int, width: int, *, short_side: int | None) -> tuple[int, int]:
    """Return (height, width) scaled so that the smaller one is `short_side`; None leaves them."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return (short_side, round(width * scale)) if height <= width else (round(height * scale), short_side)

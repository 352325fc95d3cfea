"""Which clips and squares, or windows of sound, of a sample are looked at, and how they are read."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ....data.clips import padded, uniform_clips
from ....data.media.video import MediaError, open_audio, open_video
from ....data.published.labelled import Item


@dataclass(frozen=True)
class Views:
    """Which pixels of a sample are looked at: clips x crops views, clip by clip.

    Clips divide the sample evenly, first and last included; a single one is the middle one. A sample that is shorter
    than a clip repeats its last frame. Frames are scaled (bilinear, aspect kept) and cut to a square.

    Args:
        num_clips: Of every sample.
        num_crops: 1, the middle square; or 3, that and both ends of the long side.
        num_frames: Of a clip; 1 for images.
        stride_frames: Frames of the file from one frame of a clip to the next.
        size_px: Height and width of the square.
        short_side_px: Height or width, whichever is smaller, that frames are scaled to; None is `size_px`.

    Raises:
        ValueError: A number is not positive, or the square does not fit.
    """

    num_clips: int = 1
    num_crops: int = 1
    num_frames: int = 8
    stride_frames: int = 4
    size_px: int = 224
    short_side_px: int | None = None

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops is {self.num_crops}, expected 1 (middle) or 3 (along the long side)")
        if self.scaled_px < self.size_px:
            raise ValueError(
                f"short_side_px is {self.short_side_px}, smaller than the square of {self.size_px} px cut from it"
            )

    @property
    def scaled_px(self) -> int:
        """Short side that frames are scaled to."""
        return self.size_px if self.short_side_px is None else self.short_side_px

    def __len__(self) -> int:
        return self.num_clips * self.num_crops


@dataclass(frozen=True)
class SoundViews:
    """Which sound of a sample is listened to. Shorter samples are followed by silence.

    Args:
        num_clips: Windows, which divide the sample evenly; a single one is the middle one.
        audio_seconds: Length of a window.
        sample_rate_hz: That sound is resampled to.
        from_video: The files are videos: time 0 is the first frame, not the first sample of sound.

    Raises:
        ValueError: A number is not positive.
    """

    num_clips: int = 1
    audio_seconds: float = 1.0
    sample_rate_hz: int = 16_000
    from_video: bool = False

    def __post_init__(self) -> None:
        _check_positive(self)

    def __len__(self) -> int:
        return self.num_clips


def _check_positive(views: Views | SoundViews) -> None:
    for name, value in dataclasses.asdict(views).items():
        if value is not None and not isinstance(value, bool) and not value > 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


@dataclass(frozen=True, order=True)
class Part:
    """A file, or a part of it: what features depend on. Labels do not matter."""

    path: str
    start: float  # seconds
    end: float  # seconds; infinity for the end of the file

    @classmethod
    def of(cls, item: Item) -> "Part":
        """The part of a file that a sample is."""
        end = math.inf if item.end_seconds is None else item.end_seconds
        return cls(os.fspath(item.path), item.start_seconds or 0.0, end)


def clip_times(
    duration_seconds: float, fps: float, *, num_clips: int, num_frames: int, stride_frames: int
) -> tuple[Tensor, bool]:
    """Times of clips that divide a video evenly; frames past its end are its last frame.

    Returns:
        float64 (num_clips, num_frames), seconds; and whether the video is shorter than a clip.
    """
    sampler = functools.partial(
        uniform_clips, num_clips=num_clips, num_frames=num_frames, stride_frames=stride_frames
    )
    span = (num_frames - 1) * stride_frames + 1
    return padded(sampler, duration_seconds, fps, torch.Generator(), span_frames=span)


@dataclass(frozen=True)
class Read:
    """What was read of a part.

    Args:
        number: Of the part.
        views: uint8 (V, T, 3, H, W) or float32 (V, S); None if it cannot be read.
        reason: Why not.
        is_short: Whether it is shorter than a clip.
    """

    number: int
    views: Tensor | None
    reason: str = ""
    is_short: bool = False


class Reading(Dataset[Read]):
    """Parts of files by number, decoded when they are asked for, in whichever process asks."""

    def __init__(self, parts: list[Part], views: Views | SoundViews) -> None:
        self.parts = parts
        self.views = views

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Read:
        part = self.parts[number]
        try:
            if isinstance(self.views, Views):
                tensor, is_short = _pictures(part, self.views)
            else:
                tensor, is_short = _sound(part, self.views)
        except MediaError as error:
            return Read(number, None, error.reason)
        return Read(number, tensor, is_short=is_short)


def _pictures(part: Part, views: Views) -> tuple[Tensor, bool]:
    """Decode the views of a part, uint8 (V, T, 3, H, W)."""
    with open_video(part.path) as reader:
        _duration(part, reader.info.duration_seconds)  # raises where nothing is left
        times, is_short = clip_times(
            reader.info.length(start_seconds=part.start, end_seconds=part.end),
            reader.info.fps,
            num_clips=views.num_clips,
            num_frames=views.num_frames,
            stride_frames=views.stride_frames,
        )
        wanted = (times + part.start).flatten().tolist()
        frames = reader.frames(wanted, short_side=views.scaled_px).video.unflatten(0, times.shape)
    height, width = frames.shape[-2:]
    free = (height - views.size_px, width - views.size_px)  # px
    middle = (free[0] // 2, free[1] // 2)
    places = [middle]
    if views.num_crops == 3:
        ends = [(0, middle[1]), (free[0], middle[1])] if height > width else [(middle[0], 0), (middle[0], free[1])]
        places = [ends[0], middle, ends[1]]
    size = views.size_px
    crops = [frames[..., top : top + size, left : left + size] for top, left in places]
    return torch.stack(crops, dim=1).flatten(0, 1), is_short  # clip by clip


def _sound(part: Part, views: SoundViews) -> tuple[Tensor, bool]:
    """Decode the windows of a part, float32 (V, S)."""
    rate = views.sample_rate_hz
    if views.from_video:
        with open_video(part.path) as reader:
            duration = _duration(part, reader.info.duration_seconds)
            read = functools.partial(reader.audio, sample_rate_hz=rate)
            return _windows(part.start, duration, read, views=views)
    with open_audio(part.path) as sound:
        whole = sound.measure_seconds() if math.isinf(part.end) else part.end
        duration = _duration(part, whole)
        return _windows(part.start, duration, functools.partial(sound.read, sample_rate_hz=rate), views=views)


def _windows(
    start_seconds: float, duration: float, read: Callable[[float, float], Tensor], *, views: SoundViews
) -> tuple[Tensor, bool]:
    free = max(0.0, duration - views.audio_seconds)
    offsets = [free / 2] if views.num_clips == 1 else np.linspace(0, free, views.num_clips).tolist()
    # What comes after the part belongs to something else.
    length = min(duration, views.audio_seconds)
    windows = torch.stack([read(start_seconds + offset, length) for offset in offsets])
    num_samples = round(views.audio_seconds * views.sample_rate_hz)
    return F.pad(windows, (0, num_samples - windows.shape[1])), duration < views.audio_seconds


def _duration(part: Part, whole_seconds: float) -> float:
    """Length of a part of a file that lasts `whole_seconds`."""
    duration = min(part.end, whole_seconds) - part.start
    if duration <= 0:
        raise MediaError(part.path, f"lasts {whole_seconds:.3f} s, so nothing is left from {part.start:g} s on")
    return duration

"""Which frames a clip is made of: pure functions of (duration, frame rate, generator).

Every sampler is called as `sampler(duration_seconds, fps, generator)` and returns the wanted presentation times in
seconds, float64 (K, T): K clips of T frames. Options are bound with `functools.partial`:

    clips = partial(random_clips, num_frames=16, stride_frames=4)

`fps` is the mean frame rate: steps are given in frames of the source and turned into seconds, so that a file with a
variable frame rate is sampled evenly in time. A video that is too short raises ValueError; datasets leave such
videos out when they are built, and say so.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ClipSampler = Callable[[float, float, torch.Generator], Tensor]


def _num_starts(duration_seconds: float, fps: float, span_frames: int) -> int:
    """Number of frames at which a clip of `span_frames` can start; first and last frame included in the span."""
    num_frames = round(duration_seconds * fps)
    if num_frames < span_frames:
        raise ValueError(
            f"the video has {num_frames} frames ({duration_seconds:.2f} s at {fps:.2f} frames/s) but the clip spans "
            f"{span_frames}; lower the number of frames or the stride"
        )
    return num_frames - span_frames + 1


def frame_tuple(
    duration_seconds: float, fps: float, generator: torch.Generator, *, offsets_frames: Sequence[int]
) -> Tensor:
    """One clip whose frames lie at fixed offsets from a random start.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Source of the random start.
        offsets_frames: Offset of each frame from the first, increasing from 0; (0, 4, 8, 16) is three references
            and the frame to predict.

    Returns:
        Times, float64 (1, T), seconds.

    Raises:
        ValueError: The video is shorter than the tuple, or the offsets do not increase from 0.
    """
    offsets = torch.as_tensor(offsets_frames, dtype=torch.float64)
    if offsets[0] != 0 or (offsets.diff() <= 0).any():
        raise ValueError(f"offsets_frames must increase from 0, got {tuple(offsets_frames)}")
    num_starts = _num_starts(duration_seconds, fps, int(offsets[-1]) + 1)
    start = torch.randint(num_starts, (), generator=generator)
    return ((start + offsets) / fps)[None]


def random_clips(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_frames: int,
    stride_frames: int = 1,
    num_clips: int = 1,
) -> Tensor:
    """Clips of evenly spaced frames at independent random starts.

    With num_frames = 3 and stride_frames = 2 a clip is `f.f.f`: it spans 5 frames.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Source of the random starts.
        num_frames: T.
        stride_frames: Frames from one to the next.
        num_clips: K.

    Returns:
        Times, float64 (K, T), seconds.

    Raises:
        ValueError: The video is shorter than one clip.
    """
    num_starts = _num_starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    starts = torch.randint(num_starts, (num_clips, 1), generator=generator)
    return (starts + stride_frames * torch.arange(num_frames, dtype=torch.float64)) / fps


def uniform_clips(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_clips: int,
    num_frames: int,
    stride_frames: int = 1,
) -> Tensor:
    """Clips whose starts divide the video evenly, first and last possible start included; for testing.

    A single clip is the middle one. Nothing is random; the generator is not touched.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Unused.
        num_clips: K.
        num_frames: T.
        stride_frames: Frames from one to the next.

    Returns:
        Times, float64 (K, T), seconds.

    Raises:
        ValueError: The video is shorter than one clip.
    """
    last_start = _num_starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1) - 1
    if num_clips == 1:
        starts = torch.tensor([last_start // 2], dtype=torch.float64)
    else:
        starts = torch.linspace(0, last_start, num_clips, dtype=torch.float64).round()
    return (starts[:, None] + stride_frames * torch.arange(num_frames, dtype=torch.float64)) / fps


def dense_clips(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_frames: int,
    stride_frames: int = 1,
    step_frames: int,
) -> Tensor:
    """Every clip that starts at a multiple of `step_frames`; K depends on the video.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Unused.
        num_frames: T.
        stride_frames: Frames from one to the next.
        step_frames: Frames from the start of one clip to the start of the next.

    Returns:
        Times, float64 (K, T), seconds.

    Raises:
        ValueError: The video is shorter than one clip.
    """
    num_starts = _num_starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    starts = torch.arange(0, num_starts, step_frames, dtype=torch.float64)
    return (starts[:, None] + stride_frames * torch.arange(num_frames, dtype=torch.float64)) / fps


def nearby_clips(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_clips: int,
    num_frames: int,
    stride_frames: int = 1,
    max_distance_seconds: float,
) -> Tensor:
    """Clips at random starts that lie at most `max_distance_seconds` apart, in random order.

    A window of that length is placed at random (a shorter video is one window) and every start is drawn inside it.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Source of window and starts.
        num_clips: K.
        num_frames: T.
        stride_frames: Frames from one to the next.
        max_distance_seconds: Largest distance between two starts.

    Returns:
        Times, float64 (K, T), seconds.

    Raises:
        ValueError: The video is shorter than one clip.
    """
    num_starts = _num_starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    window = min(num_starts, int(max_distance_seconds * fps) + 1)
    first = torch.randint(num_starts - window + 1, (), generator=generator)
    starts = first + torch.randint(window, (num_clips, 1), generator=generator)
    return (starts + stride_frames * torch.arange(num_frames, dtype=torch.float64)) / fps


def still(duration_seconds: float, fps: float, generator: torch.Generator) -> Tensor:
    """The first frame: an image as a clip of one frame. Returns times, float64 (1, 1), seconds."""
    return torch.zeros(1, 1, dtype=torch.float64)


def clip_with_sound(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_frames: int,
    stride_frames: int = 1,
    audio_seconds: float,
) -> Tensor:
    """One clip of evenly spaced frames at a random start after which the video lasts for `audio_seconds`, too.

    Sound starts with the clip; past the end of a video there is none, and silence would mark the last clips.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Source of the random start.
        num_frames: T.
        stride_frames: Frames from one to the next.
        audio_seconds: Length of the sound, as given to the dataset.

    Returns:
        Times, float64 (1, T), seconds.

    Raises:
        ValueError: The video is shorter than the clip or its sound.
    """
    span_frames = max((num_frames - 1) * stride_frames + 1, math.ceil(audio_seconds * fps))
    start = torch.randint(_num_starts(duration_seconds, fps, span_frames), (), generator=generator)
    return (start + stride_frames * torch.arange(num_frames, dtype=torch.float64))[None] / fps

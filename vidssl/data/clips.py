"""Which frames a clip is made of: pure functions of (duration, frame rate, generator).

Every sampler is called as `sampler(duration_seconds, fps, generator)` and returns the wanted presentation times in
seconds, float64 (K, T): K clips of T frames. Options are bound with `functools.partial`:

    clips = partial(random_clips, num_frames=16, stride_frames=4)

`fps` is the mean frame rate: steps are given in frames of the source and turned into seconds, so that a file with a
variable frame rate is sampled evenly in time. A video that is too short raises ValueError; datasets leave such
videos out when they are built, and say so.

Where nothing was recorded for a while (a camera that starts when something moves), `duration_seconds` is a `Length`,
which knows of the gaps: no clip crosses one, every start that is left is as likely as the others, and steps are those
of the part that a clip lies in.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .media.packets.times import Length, Part

ClipSampler = Callable[[float, float, torch.Generator], Tensor]


class _Starts:
    """The frames at which a clip can start, numbered through all parts of a video.

    Args:
        duration_seconds: Of the video; a `Length` where it has gaps.
        fps: Mean frame rate of a video without.
        span_frames: From the first frame of a clip to its last, both included.
        min_seconds: How long a part must go on after each start, at least.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, duration_seconds: float, fps: float, span_frames: int, *, min_seconds: float = 0.0) -> None:
        self.parts = parts_of(duration_seconds, fps)
        spans = [max(span_frames, math.ceil(min_seconds * part.fps)) for part in self.parts]
        self.counts = [max(0, part.num_frames - span + 1) for part, span in zip(self.parts, spans, strict=True)]
        if not any(self.counts):
            longest, span = max(zip(self.parts, spans, strict=True), key=lambda pair: pair[0].num_frames)
            seconds = longest.num_frames / longest.fps if len(self.parts) > 1 else duration_seconds
            what = "the longest part of the video between gaps" if len(self.parts) > 1 else "the video"
            raise ValueError(
                f"{what} has {longest.num_frames} frames ({seconds:.2f} s at {longest.fps:.2f} frames/s) but the "
                f"clip spans {span}; lower the number of frames or the stride"
            )

    def __len__(self) -> int:
        return sum(self.counts)

    def times(self, starts: Tensor, offsets_frames: Tensor) -> Tensor:
        """Times, float64 (K, T), seconds, of clips that begin at `starts` (K,); frames lie at `offsets_frames` (T,)."""
        if len(self.parts) == 1:
            return (starts[:, None] + offsets_frames) / self.parts[0].fps + self.parts[0].start_seconds
        ends = torch.tensor(self.counts).cumsum(0)
        part = torch.bucketize(starts.long(), ends, right=True)
        firsts = torch.cat([ends.new_zeros(1), ends[:-1]])
        columns = torch.tensor([[one.start_seconds, one.fps] for one in self.parts], dtype=torch.float64)
        start_seconds, fps = columns[part].unsqueeze(-1).unbind(-2)
        return ((starts - firsts[part])[:, None] + offsets_frames) / fps + start_seconds


def parts_of(duration_seconds: float, fps: float) -> tuple[Part, ...]:
    """The parts of a video between its gaps; one without gaps is one part."""
    if isinstance(duration_seconds, Length):
        return duration_seconds.parts
    return (Part(0.0, round(duration_seconds * fps), fps),)


def padded(
    sampler: ClipSampler, duration_seconds: float, fps: float, generator: torch.Generator, *, span_frames: int
) -> tuple[Tensor, bool]:
    """Clips of a video that may be shorter than one: frames past the end are its last frame.

    Args:
        sampler: Which clips.
        duration_seconds: Of the video; where it has gaps and no part is long enough, the longest part is taken.
        fps: Mean frame rate of the video.
        generator: Given to the sampler.
        span_frames: From the first frame of a clip to its last, both included.

    Returns:
        Times, float64 (K, T), seconds; and whether the video is shorter than a clip.
    """
    longest = max(parts_of(duration_seconds, fps), key=lambda part: part.num_frames)
    num_there = max(1, longest.num_frames)
    if isinstance(duration_seconds, Length) and num_there >= span_frames:
        return sampler(duration_seconds, fps, generator), False
    times = sampler(max(num_there, span_frames) / longest.fps, longest.fps, generator)
    return longest.start_seconds + times.clamp(max=(num_there - 1) / longest.fps), num_there < span_frames


def _offsets(num_frames: int, stride_frames: int) -> Tensor:
    return stride_frames * torch.arange(num_frames, dtype=torch.float64)


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
    starts = _Starts(duration_seconds, fps, int(offsets[-1]) + 1)
    start = torch.randint(len(starts), (), generator=generator)
    return starts.times(start[None], offsets)


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
    starts = _Starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    drawn = torch.randint(len(starts), (num_clips,), generator=generator)
    return starts.times(drawn, _offsets(num_frames, stride_frames))


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
    starts = _Starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    last_start = len(starts) - 1
    if num_clips == 1:
        chosen = torch.tensor([last_start // 2], dtype=torch.float64)
    else:
        chosen = torch.linspace(0, last_start, num_clips, dtype=torch.float64).round()
    return starts.times(chosen, _offsets(num_frames, stride_frames))


def dense_clips(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    num_frames: int,
    stride_frames: int = 1,
    step_frames: int,
) -> Tensor:
    """Every clip that starts at a multiple of `step_frames`, counted from the last gap; K depends on the video.

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
    starts = _Starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    firsts = [sum(starts.counts[:number]) for number in range(len(starts.counts))]
    chosen = [
        first + torch.arange(0, count, step_frames, dtype=torch.float64)
        for first, count in zip(firsts, starts.counts, strict=True)
    ]
    return starts.times(torch.cat(chosen), _offsets(num_frames, stride_frames))


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

    A window of that length is placed at random (a shorter video is one window) and every start is drawn inside it;
    no window crosses a gap.

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
    starts = _Starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1)
    windows = [
        min(count, int(max_distance_seconds * part.fps) + 1)
        for part, count in zip(starts.parts, starts.counts, strict=True)
    ]
    places = [count - window + 1 if count else 0 for count, window in zip(starts.counts, windows, strict=True)]
    drawn = int(torch.randint(sum(places), (), generator=generator))
    number = 0  # of the part in which the window lies
    while drawn >= places[number]:
        drawn, number = drawn - places[number], number + 1
    chosen = (
        sum(starts.counts[:number]) + drawn + torch.randint(windows[number], (num_clips,), generator=generator)
    )
    return starts.times(chosen, _offsets(num_frames, stride_frames))


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
    starts = _Starts(duration_seconds, fps, (num_frames - 1) * stride_frames + 1, min_seconds=audio_seconds)
    start = torch.randint(len(starts), (), generator=generator)
    return starts.times(start[None], _offsets(num_frames, stride_frames))

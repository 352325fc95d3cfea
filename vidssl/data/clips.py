"""Which frames a clip is made of: pure functions of (duration, frame rate, generator).

Every sampler is called as `sampler(duration_seconds, fps, generator)` and returns the wanted presentation times in
seconds, float64 (K, T): K clips of T frames. Options are bound with `functools.partial`:

    clips = partial(random_clips, num_frames=16, stride_frames=4)

`fps` is the mean frame rate: steps are given in frames of the source and turned into seconds, so that a file with a
variable frame rate is sampled evenly in time. `at_rate` has them counted at a rate of one's own instead, so that a
clip lasts as long whatever the source: `at_rate(clips, frame_rate_hz=30)`. A video that is too short raises
ValueError; datasets leave such videos out when they are built, and say so.

Where nothing was recorded for a while (a camera that starts when something moves), `duration_seconds` is a `Length`,
which knows of the gaps: no clip crosses one, every start that is left is as likely as the others, and steps are those
of the part that a clip lies in.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial

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


# Times lie this close to the end of a video, in frames, where arithmetic of floats puts them behind it.
_ROUNDING = 1e-6

_rate: ContextVar[tuple[float | None, float | None]] = ContextVar("rate", default=(None, None))


def at_rate(
    sampler: ClipSampler, *, frame_rate_hz: float | None = None, clip_seconds: float | None = None
) -> ClipSampler:
    """Let a sampler count frames at a rate of one's own, whatever the rate of a video.

    The sampler sees every video as if it had `frame_rate_hz` frames per second; readers answer each time with the
    frame nearest to it. So recordings of 25 and of 240 frames per second give the same clips, and one with a variable
    rate is sampled evenly. Of a video with fewer frames than that some come twice.

    Args:
        sampler: Which clips.
        frame_rate_hz: Frames per second that it counts.
        clip_seconds: Instead of it: from the first frame of a clip to its last, which are so many of its frames apart
            as the sampler says. (Of a sampler of several clips that differ in length, the longest.)

    Returns:
        The sampler; without a rate it is as it was given.

    Raises:
        ValueError: Both are given; one is not a positive number; or a length is given to clips that have none.
    """
    for name, value in (("frame_rate_hz", frame_rate_hz), ("clip_seconds", clip_seconds)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected a number above 0")
    if frame_rate_hz is not None and clip_seconds is not None:
        raise ValueError(f"frame_rate_hz is {frame_rate_hz}, clip_seconds {clip_seconds}; expected one of them")
    if clip_seconds is not None:
        # Of a video longer than any, in which a frame is a second.
        draws = [sampler(1e5, 1.0, torch.Generator().manual_seed(seed)) for seed in range(2)]
        spans = {round(float((times.amax(1) - times.amin(1)).max()), 6) for times in draws}
        if len(spans) > 1 or spans == {0.0}:
            why = "a clip is one frame" if spans == {0.0} else "clips differ in length from draw to draw"
            raise ValueError(f"clip_seconds is {clip_seconds}, but {why}; give frame_rate_hz, or neither")
        frame_rate_hz = spans.pop() / clip_seconds
    return sampler if frame_rate_hz is None else partial(_at_rate, sampler=sampler, frame_rate_hz=frame_rate_hz)


def _at_rate(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    sampler: ClipSampler,
    frame_rate_hz: float,
) -> Tensor:
    parts = [
        Part(
            part.start_seconds,
            math.floor((part.num_frames - 1) / part.fps * frame_rate_hz + _ROUNDING) + 1,  # up to the last frame
            frame_rate_hz,
        )
        for part in parts_of(duration_seconds, fps)
    ]
    try:
        return sampler(Length(duration_seconds, parts), frame_rate_hz, generator)
    except ValueError as error:
        raise ValueError(f"{error}; frames are counted at {frame_rate_hz:g} Hz") from error


@contextlib.contextmanager
def sampled_at(*, frame_rate_hz: float | None = None, clip_seconds: float | None = None) -> Iterator[None]:
    """Let datasets that are built in this block sample `at_rate`: so a command sets it for every recipe.

    Raises:
        ValueError: See `at_rate`, when a dataset is built.
    """
    token = _rate.set((frame_rate_hz, clip_seconds))
    try:
        yield
    finally:
        _rate.reset(token)


def as_asked(sampler: ClipSampler) -> ClipSampler:
    """The sampler at the rate of the block of `sampled_at` around, if there is one."""
    frame_rate_hz, clip_seconds = _rate.get()
    return at_rate(sampler, frame_rate_hz=frame_rate_hz, clip_seconds=clip_seconds)


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

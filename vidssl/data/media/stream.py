"""The stream of pictures of a container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .audio import audio_stream
from .container import MAX_PIXELS, MediaError, check_pixels

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Used where a file says nothing about its frame rate.
DEFAULT_FPS = 24.0


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return FFmpeg's best video stream, set up for one decoding thread; a cover picture is no video.

    Raises:
        MediaError: There is none, or its pictures are too large.
    """
    from av.codec.context import Flags
    from av.stream import Disposition

    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    stream = best if best in videos else next(iter(videos), None)
    if stream is None:
        cure = "it holds sound alone, read it with open_audio" if container.streams.audio else "it holds no media"
        if container.streams.audio and audio_stream(container) is None:
            cure = "it holds sound alone, of a codec that is not known"
        raise MediaError(path, f"has no video stream: {cure}")
    context = stream.codec_context
    if context is None:
        raise MediaError(path, "has a video stream of a codec that is not known")
    check_pixels(path, width=context.width, height=context.height)
    # Frame threads cost more than they give in a pool of workers, and can deadlock with logging.
    context.thread_count, context.thread_type = 1, "NONE"
    # Without it a left edge that is to be cut off stays where it would spoil the alignment of rows in memory.
    context.flags |= Flags.unaligned
    context.options = {"max_pixels": str(MAX_PIXELS)}  # a picture may claim another size than its container
    return stream

"""What is found in a file, in words, and the notes on what a stream is that change a result without being wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .packets.orientation import display_orientation
from .packets.times import gaps, pauses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

# Transfer functions of high dynamic range (ITU-T H.273, table 3).
_HDR = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}


@dataclass(frozen=True)
class Finding:
    """One thing found in a file.

    Args:
        severity: "error": pictures or sound are wrong or missing. "note": everything reads right, but mind this.
        kind: A few words, the same for all files with the same trouble.
        detail: How much and where.
    """

    severity: Literal["error", "note"]
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def stream_notes(container: InputContainer, stream: VideoStream, first: VideoFrame) -> Iterator[Finding]:
    """Note what changes how pictures look: mirrors, pixels that are not square, high dynamic range, other streams.

    Args:
        container: Open.
        stream: Whose pictures are read.
        first: Its first frame, decoded.
    """
    from av.stream import Disposition

    videos = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if len(videos) > 1:
        sizes = ", ".join(f"{one.codec_context.width}x{one.codec_context.height}" for one in videos)
        yield Finding(
            "note", "several video streams", f"number {videos.index(stream)} of {len(videos)} is read ({sizes})"
        )
    if display_orientation(first).is_mirrored:
        yield Finding(
            "note", "mirrored", "its display matrix mirrors the stored pictures; they are read as it says"
        )
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        yield Finding(
            "note",
            "pixels are not square",
            f"each is {aspect.numerator}:{aspect.denominator} wide; pictures are read as stored, not stretched",
        )
    transfer = int(first.color_trc)
    if transfer in _HDR:
        yield Finding(
            "note", "high dynamic range", f"{_HDR[transfer]}; colours are read without tone mapping and look pale"
        )


def gap_notes(times_seconds: NDArray[np.float64]) -> Iterator[Finding]:
    """Note where nothing was recorded, or frames are missing, between frames at increasing times (N,)."""
    after = gaps(times_seconds)
    if len(after):
        steps = np.diff(times_seconds)[after]
        longest = int(steps.argmax())
        start = times_seconds[after[longest]] - times_seconds[0]
        yield Finding(
            "note",
            "gap between frames",
            f"{steps[longest]:.2f} s without a frame, from {start:.2f} s"
            + (f", the longest of {len(after)}" if len(after) > 1 else ""),
        )
    after, usual = pauses(times_seconds)
    if len(after):
        steps = np.diff(times_seconds)[after]
        longest = int(steps.argmax())
        start = times_seconds[after[longest]] - times_seconds[0]
        yield Finding(
            "note",
            "frames are missing",
            f"{steps[longest]:.2f} s between two, from {start:.2f} s, where {usual:.3f} s is usual"
            + (f", the longest of {len(after)}" if len(after) > 1 else ""),
        )

"""A look at one file, in a child process: several at a time, so that one that crashes or hangs is alone."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from ..media.audit import packet_findings
from ..media.container import MediaError, complaints
from ..media.pyav import PyAVReader

if TYPE_CHECKING:
    from collections.abc import Iterator


def probe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Look at one file: fields of its `Entry`, the index in base64, or {"reason": why it cannot be read}.

    Runs in a child process.
    """
    from ..media.video import open_video

    try:
        with complaints() as said, open_video(path) as reader:
            info = reader.info
            has_audio = info.audio_sample_rate_hz is not None
            found = {
                "duration_seconds": info.duration_seconds,
                "fps": info.fps,
                "num_frames": info.num_frames,
                "width": info.width,
                "height": info.height,
                "has_audio": has_audio,
                "audio_silent": _is_silent(path) if has_audio else None,
                "index": base64.b64encode(reader.packed_index()).decode(),
                "parts": getattr(info.length(), "parts", ()),
            }
            findings = (
                packet_findings(reader.packet_index, num_promised=reader.num_promised)
                if isinstance(reader, PyAVReader)
                else []
            )
    except MediaError as error:
        return {"reason": error.reason_for(path)}
    errors = [str(one) for one in findings if one.severity == "error"]
    return found | {"damage": "; ".join(errors or said[:1])}


def _is_silent(path: str | os.PathLike[str]) -> bool | None:
    """Whether the sound of a file is silent; None if it cannot be decoded, which is no fault of the pictures."""
    from ..media.video import open_audio

    try:
        with open_audio(path) as sound:
            return sound.is_silent()
    except MediaError:
        return None


def default_workers() -> int:
    """Number of files that are looked at a time by default."""
    return min(16, os.cpu_count() or 1)


def with_progress(
    answers: Iterator[tuple[int, dict[str, Any]]], total: int, title: str, *, show: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Go through answers behind a progress bar."""
    from rich.markup import escape
    from rich.progress import track

    yield from track(answers, description=escape(title), total=total, disable=not show or total == 0)

"""What was found out about a video, in a few hundred bytes: opening the file again need not look through it.

Looking through a file costs as much as decoding a clip of it: every packet is read, and the first picture decoded.
What was found holds as long as the file's size and time of change stay the same. It is not trusted more than what
was found just now: packets and frames are compared with the index whenever clips are read.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ._index import PacketIndex
from ._reader import VideoInfo

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_VERSION = 2  # raise it when the reader finds out other things
_INFO = ("duration_seconds", "fps", "width", "height", "rotation_degrees", "codec", "audio_sample_rate_hz",
         "audio_channels", "distrust")  # fmt: skip
_INDEX = ("trap", "num_packets", "num_corrupt", "num_gaps", "states_reordering", "distrust")


def pack(info: VideoInfo, index: PacketIndex, *, zero_seconds: float, unit_seconds: float) -> bytes:
    """Put in bytes what a reader knows; see `Reader.packed_index`.

    Args:
        info: Of the video.
        index: Of its packets.
        zero_seconds: Time in the file of the first frame.
        unit_seconds: Time base of the stream.
    """
    head = {
        "version": _VERSION,
        "stamp": _stamp(info.path),
        "info": {name: getattr(info, name) for name in _INFO},
        "index": {name: getattr(index, name) for name in _INDEX},
        "zero_seconds": zero_seconds,
        "unit_seconds": unit_seconds,
        "num_frames": info.num_frames,
        "num_listed": len(index.frame_packet),
    }
    parts = [
        np.diff(index.pts, prepend=0),
        np.packbits(index.is_entry),
        np.packbits(index.is_disposable),
        index.frame_packet - np.arange(len(index.frame_packet)),
        info.pts_seconds if info.distrust else np.empty(0),  # else they follow from the index
    ]
    return json.dumps(head).encode() + b"\n" + zlib.compress(b"".join(part.tobytes() for part in parts))


def unpack(known: bytes, path: Path) -> tuple[VideoInfo, PacketIndex, float] | None:
    """Return (info, index, zero_seconds); None if they are of another version, or the file has changed since."""
    line, _, body = known.partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    if head["version"] != _VERSION or head["stamp"] != _stamp(path):
        return None
    rest = zlib.decompress(body)

    def take(count: int, kind: type) -> NDArray[Any]:
        nonlocal rest
        size = count * np.dtype(kind).itemsize
        part: NDArray[Any] = np.frombuffer(rest[:size], kind)
        rest = rest[size:]
        return part

    num_packets, num_listed = head["index"]["num_packets"], head["num_listed"]
    pts = np.cumsum(take(num_packets, np.int64))
    flags = [np.unpackbits(take(-(-num_packets // 8), np.uint8), count=num_packets).astype(bool) for _ in range(2)]
    frame_packet = take(num_listed, np.int64) + np.arange(num_listed)
    index = PacketIndex(
        pts=pts, is_entry=flags[0], is_disposable=flags[1], frame_packet=frame_packet, **head["index"]
    )
    if head["info"]["distrust"]:
        times = take(head["num_frames"], np.float64)
    else:
        times = (index.frame_pts - index.frame_pts[0]) * head["unit_seconds"]
    return VideoInfo(path=path, pts_seconds=times, **head["info"]), index, head["zero_seconds"]


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]

"""What was found out about a video, in a few hundred bytes: opening the file again need not look through it.

Looking through a file costs as much as decoding a clip of it: every packet is read, and the first picture decoded.
What was found holds as long as the file's size and time of change stay the same. It is not trusted more than what
was found just now: packets and frames are compared with the index whenever clips are read.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...json_files import parse_json
from .container import MediaError, check_pixels, describe
from .member import Member
from .packets.index import PacketIndex
from .reader import VideoInfo

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_VERSION = 4  # raise it when the reader finds out other things
_INFO = ("duration_seconds", "fps", "width", "height", "rotation_degrees", "codec", "audio_sample_rate_hz",
         "audio_channels", "distrust", "is_mirrored")  # fmt: skip
_INDEX = ("trap", "num_packets", "num_corrupt", "num_gaps", "states_reordering", "distrust", "last_ticks")


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
    """Return (info, index, zero_seconds); None if they are of another version, or the file has changed since.

    Raises:
        MediaError: They are damaged, or no such thing.
    """
    try:
        return _unpack(known, path)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, zlib.error) as error:
        raise MediaError(path, f"what is known of it is damaged ({describe(error)}); index it again") from error


def restamp(known: bytes, *, num_bytes: int) -> bytes:
    """Return what is known of a file for the same file as a member of a shard."""
    line, _, body = known.partition(b"\n")
    head = parse_json(line, where="what is known of the file")
    return json.dumps({**head, "stamp": _member_stamp(num_bytes)}).encode() + b"\n" + body


def _unpack(known: bytes, path: Path) -> tuple[VideoInfo, PacketIndex, float] | None:
    line, _, body = known.partition(b"\n")
    head: dict[str, Any] = parse_json(line, where="its description")
    if head["version"] != _VERSION or head["stamp"] != _stamp(path):
        return None
    num_packets, num_listed = head["index"]["num_packets"], head["num_listed"]
    distrust, num_frames = head["info"]["distrust"], head["num_frames"]
    num_flags = -(-num_packets // 8)
    size = 8 * (num_packets + num_listed) + 2 * num_flags + (8 * num_frames if distrust else 0)
    rest = zlib.decompressobj().decompress(body, max(1, size))  # shards come from strangers: no more than that

    def take(count: int, kind: type) -> NDArray[Any]:
        nonlocal rest
        size = count * np.dtype(kind).itemsize
        part: NDArray[Any] = np.frombuffer(rest[:size], kind, count)
        rest = rest[size:]
        return part

    pts = np.cumsum(take(num_packets, np.int64))
    flags = [np.unpackbits(take(num_flags, np.uint8), count=num_packets).astype(bool) for _ in range(2)]
    frame_packet = take(num_listed, np.int64) + np.arange(num_listed)
    index = PacketIndex(
        pts=pts, is_entry=flags[0], is_disposable=flags[1], frame_packet=frame_packet, **head["index"]
    )
    if distrust:
        times = take(num_frames, np.float64)
    else:
        times = (index.frame_pts - index.frame_pts[0]) * head["unit_seconds"]
        if not (index.is_entry[0] and pts[0] <= index.frame_pts[0] and frame_packet.min() >= 0):
            raise ValueError("its frames are in no group of pictures")
    if len(times) != num_frames or times[0] != 0 or not (np.diff(times) > 0).all() or not np.isfinite(times[-1]):
        raise ValueError("its times do not increase from 0")
    info = VideoInfo(path=path, pts_seconds=times, **head["info"])
    check_pixels(path, width=info.width, height=info.height)
    if min(info.width, info.height) < 1 or info.rotation_degrees % 90:
        raise ValueError(f"it is {info.width} x {info.height} pixels, turned by {info.rotation_degrees} degrees")
    return info, index, float(head["zero_seconds"])


def _stamp(path: Path) -> list[int]:
    if isinstance(path, Member):
        return _member_stamp(path.num_bytes)
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _member_stamp(num_bytes: int) -> list[int]:
    return [num_bytes, 0]  # shards are moved from store to store: their times mean nothing


def index_of(known: bytes, member: Member) -> bytes:
    """What `open_video(..., index=)` wants, of what a shard says of a sample.

    Raises:
        MediaError: The shard says nothing that can be understood.
    """
    if not known:
        return b""
    try:
        return base64.b64decode(parse_json(known, where="its description")["index"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise MediaError(
            member, f"what its shard says of it is damaged ({describe(error)}); copy it again"
        ) from error

"""The packet index of a video stream: which frames there are, and from where each can be decoded rightly.

The truth is what a decoder shows when it is fed every packet from the first. Jumping gives the same pictures
only if the jump lands on a packet after which nothing older is needed. Neither the container's key-frame flags
nor its timestamps are believed for that: flags lie, open groups of pictures lead with pictures of the group
before, intra refresh has no clean start at all. So packets are looked into:

* H.264 and HEVC: their units say what may be an entry point, see `_nal.py`.
* VP8, VP9, AV1, Motion JPEG: the container's key flag; a decoder of these refuses to start anywhere else.

A frame is decoded from the last entry point that comes before it in the file and not after it on the screen,
which leaves out the leading pictures of open groups. Where all of this cannot be established (`distrust`), the
stream is decoded from its start, always.

Files that `vidssl data prepare` wrote say in their comment how they are built, and were compared with what they say
when they were written; as long as the container's own table still agrees with it, the packets are not read again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..container import is_encrypted, packets_of
from .avi import num_empty_chunks
from .nal import (
    Picture,
    contradicts_order,
    num_gaps,
    picture_parser,
)
from .parameter_sets import cuts_corner, states_reordering

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_SEEKABLE_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # packets carry pts, positions are exact
_KEY_FLAG = 1  # AVINDEX_KEYFRAME; the others mark packets that are not shown
_STATEMENT = "vidssl data prepare: {num_frames} frames, a key frame every {gop_frames}, nothing reordered"
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg"}


@dataclass(frozen=True)
class PacketIndex:
    """Packets of a stream in file order.

    Args:
        pts: Presentation time stamps, int64 (P,), in the stream's time base.
        is_entry: Whether decoding may start at a packet, bool (P,).
        is_disposable: Whether no other picture refers to that of a packet, bool (P,).
        frame_packet: Packet number of each presented frame, int64 (N,), in order of presentation.
        trap: What makes other decoders fail on a stream that can be trusted here, None if nothing does.
        num_packets: Packets of the stream, empty ones left out.
        num_corrupt: Packets that are marked as damaged by the demuxer, or whose units do not add up.
        num_gaps: Places where reference pictures are missing (H.264 alone).
        states_reordering: Whether the stream says how many pictures it puts in another order (H.264 alone).
        distrust: Why frames cannot be reached by seeking, or None if they can.
        last_ticks: How long the container shows the last frame, in the stream's time base; 0 where it does not say.
        num_encrypted: Packets that the container says to be encrypted.
    """

    pts: NDArray[np.int64]
    is_entry: NDArray[np.bool_]
    is_disposable: NDArray[np.bool_]
    frame_packet: NDArray[np.int64]
    trap: str | None
    num_packets: int
    num_corrupt: int
    num_gaps: int
    states_reordering: bool
    distrust: str | None
    last_ticks: int = 0
    num_encrypted: int = 0

    @property
    def frame_pts(self) -> NDArray[np.int64]:
        """Presentation time stamps of the presented frames, increasing, int64 (N,)."""
        return self.pts[self.frame_packet]

    def entry_of(self, frame: int) -> int:
        """Return the number of the packet from which `frame` is decoded rightly."""
        packet = int(self.frame_packet[frame])
        entries = np.flatnonzero(self.is_entry[: packet + 1])
        return int(entries[self.pts[entries] <= self.pts[packet]][-1])


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    is_key: bool
    is_shown: bool
    is_corrupt: bool
    picture: Picture
    ticks: int
    is_encrypted: bool


def read_index(container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Read every packet of `stream` once, decoding nothing.

    Leaves the container at its end.
    """
    codec = stream.codec_context.codec.canonical_name
    look = picture_parser(codec, stream.codec_context.extradata)
    packets = [_look_into(packet, codec, look) for packet in packets_of(container, stream) if packet.size]
    pictures = [packet.picture for packet in packets]
    top_layer = max((picture.temporal_layer for picture in pictures), default=0)
    pts = np.array([-1 if packet.pts is None else packet.pts for packet in packets], dtype=np.int64)
    shown = [number for number, packet in enumerate(packets) if packet.is_shown and packet.pts is not None]
    frame_packet = np.array(sorted(shown, key=lambda number: pts[number]), dtype=np.int64)
    is_entry = np.array([picture.is_entry for picture in pictures], dtype=bool)
    return PacketIndex(
        pts=pts,
        is_entry=is_entry,
        is_disposable=np.array(
            [picture.is_disposable and picture.temporal_layer == top_layer for picture in pictures], dtype=bool
        ),
        frame_packet=frame_packet,
        trap=_trap(packets, pts, is_entry, [entry.is_keyframe for entry in stream.index_entries])
        or _deep_colour(stream)
        or _corner_cut(stream),
        num_packets=len(packets),
        num_corrupt=sum(packet.is_corrupt for packet in packets),
        num_gaps=num_gaps(pictures),
        states_reordering=states_reordering(codec, stream.codec_context.extradata),
        distrust=_distrust(container.format.name, codec, look is not None, packets, pts[frame_packet])
        or _disorder(packets),
        last_ticks=_last_ticks(container.format.name, packets, frame_packet),
        num_encrypted=sum(packet.is_encrypted for packet in packets),
    )


def _last_ticks(container_format: str, packets: list[_Packet], frame_packet: NDArray[np.int64]) -> int:
    """How long the last frame is shown. mp4 keeps steps of decoding times: only its last packet has its own."""
    if len(frame_packet) == 0:
        return 0
    return packets[-1 if container_format.startswith("mov") else frame_packet[-1]].ticks


def num_dropped(container: InputContainer, stream: VideoStream, path: Path, *, num_packets: int) -> int:
    """Count the pictures of which a header states that a camera left them out, where fewer packets came than stated."""
    if num_packets >= stream.frames:
        return 0
    if container.format.name == "avi":
        return num_empty_chunks(path, stream=stream.index)
    return sum(entry.size == 0 for entry in stream.index_entries)


def statement(num_frames: int, *, gop_frames: int) -> str:
    """Return the comment of a file whose index `stated_index` may take from its container."""
    return _STATEMENT.format(num_frames=num_frames, gop_frames=gop_frames)


def stated_index(container: InputContainer, stream: VideoStream) -> PacketIndex | None:
    """The index of a prepared file, None of any other, and of one that does not agree with what it states."""
    pattern = _STATEMENT.format(num_frames=r"(\d+)", gop_frames=r"(\d+)")
    stated = re.fullmatch(pattern, container.metadata.get("comment", ""))
    context = stream.codec_context
    if not stated or context.codec.canonical_name != "h264" or context.has_b_frames:
        return None
    num_frames, gop_frames = int(stated[1]), int(stated[2])
    entries = [(entry.timestamp, entry.flags, entry.pos + entry.size) for entry in stream.index_entries]
    if len(entries) != num_frames or num_frames == 0:
        return None
    pts, flags, ends = np.array(entries, dtype=np.int64).T
    is_entry = np.arange(num_frames) % gop_frames == 0
    agrees = (
        pts[0] == 0
        and bool(np.all(np.diff(pts) > 0))
        and np.array_equal(flags, np.where(is_entry, _KEY_FLAG, 0))
        and ends.max() <= container.size
    )
    if not agrees:
        return None
    return PacketIndex(
        pts=np.ascontiguousarray(pts),
        is_entry=is_entry,
        is_disposable=np.zeros(num_frames, dtype=bool),
        frame_packet=np.arange(num_frames, dtype=np.int64),
        trap=None,
        num_packets=num_frames,
        num_corrupt=0,
        num_gaps=0,
        states_reordering=states_reordering("h264", context.extradata),
        distrust=None,
        last_ticks=max(0, (stream.duration or 0) - int(pts[-1])),
    )


def _look_into(packet: Packet, codec: str, look: Callable[[memoryview], Picture] | None) -> _Packet:
    is_shown, is_corrupt = not packet.is_discard, packet.is_corrupt
    picture = Picture(is_entry=packet.is_keyframe)
    if codec == "vp8":
        is_shown = is_shown and bool(memoryview(packet)[0] & 0x10)  # show_frame, RFC 6386 section 9.1
    elif codec == "vp9":
        is_shown = is_shown and _is_vp9_shown(memoryview(packet))
    elif look is not None:
        try:
            picture = look(memoryview(packet))
        except (IndexError, ValueError):
            picture, is_corrupt = Picture(is_entry=False), True
    ticks = packet.duration or 0
    return _Packet(
        packet.pts, packet.dts, packet.is_keyframe, is_shown, is_corrupt, picture, ticks, is_encrypted(packet)
    )


def _is_vp9_shown(packet: memoryview) -> bool:
    """Whether a packet shows a picture; streams that were split (Android) have packets that hold a reference alone.

    VP9 bitstream specification, 6.2 (uncompressed header) and annex B (superframes, the last of which is shown).
    """
    marker = packet[-1]
    num_index_bytes = 2 + ((marker >> 3 & 3) + 1) * ((marker & 7) + 1)
    if marker & 0xE0 == 0xC0 and packet[-num_index_bytes:][0] == marker:
        return True
    has_fourth_profile = packet[0] & 0x30 == 0x30  # after it comes a reserved bit
    shows_existing, show_frame = (0x04, 0x01) if has_fourth_profile else (0x08, 0x02)
    return bool(packet[0] & (shows_existing | show_frame))


def _distrust(
    container_format: str,
    codec: str,
    is_parsed: bool,
    packets: list[_Packet],
    frame_pts: NDArray[np.int64],
) -> str | None:
    dts = np.array([packet.dts for packet in packets if packet.dts is not None], dtype=np.int64)
    if container_format not in _SEEKABLE_FORMATS:
        return f"container {container_format} has no exact index"
    if codec not in _SEEKABLE_CODECS:
        return f"entry points of codec {codec} are not known"
    if codec in {"h264", "hevc"} and not is_parsed:
        return "packets carry no length-prefixed units"
    if any(packet.is_corrupt for packet in packets):
        return "packets are damaged"
    if num_gaps([packet.picture for packet in packets]):
        return "packets are missing"
    if any(packet.pts is None for packet in packets):
        return "packets lack a presentation time"
    if np.any(np.diff(frame_pts) <= 0):
        return "several frames have one presentation time"
    if len(frame_pts) == 0:
        return "no frame is meant to be shown"
    if np.any(np.diff(dts) <= 0):
        return "decoding times do not increase"
    if not packets or not packets[0].picture.is_entry:
        return "the stream does not begin with a key frame"
    if packets[0].pts > frame_pts[0]:
        return "frames are shown before the first key frame"
    return None


def _disorder(packets: list[_Packet]) -> str | None:
    if contradicts_order([packet.picture for packet in packets], [packet.pts for packet in packets]):
        return "times contradict the order of the pictures"
    return None


def _trap(
    packets: list[_Packet], pts: NDArray[np.int64], is_entry: NDArray[np.bool_], is_listed_key: list[bool]
) -> str | None:
    last_entry_pts = np.maximum.accumulate(np.where(is_entry, pts, np.iinfo(np.int64).min))
    if np.any(pts < last_entry_pts):
        return "groups of pictures are open"
    is_key = np.array([packet.is_key for packet in packets], dtype=bool)
    if len(is_listed_key) == len(
        packets
    ):  # mp4 lists every packet; its list may differ from the packets' own flags
        is_key |= np.array(is_listed_key, dtype=bool)
    if np.any(is_key & ~is_entry):
        return "key flags lie"
    if not all(packet.is_shown for packet in packets):
        return "some packets are not shown"
    return None


def _deep_colour(stream: VideoStream) -> str | None:
    """Each decoder brings more than 8 bits per channel to 8 in its own way, up to 173 steps apart."""
    pixels = stream.codec_context.format
    is_deep = pixels is not None and any(component.bits > 8 for component in pixels.components)
    return "colour is deeper than 8 bits" if is_deep else None


def _corner_cut(stream: VideoStream) -> str | None:
    """Other decoders show what is to be cut off there, or squeeze it into the picture."""
    context = stream.codec_context
    is_cut = cuts_corner(context.codec.canonical_name, context.extradata)
    return "pictures are cut at the left or the top" if is_cut else None

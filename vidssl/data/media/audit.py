"""The thorough look at a file: every packet read, every picture and sound decoded, what is wrong put in words."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...files import file_sha256
from .audio import AudioReader, audio_stream
from .channels import BLOCK_SECONDS, SILENCE, cancels, in_blocks
from .container import ENCRYPTED, MediaError, complaints, describe, open_container, packets_of, regular_file, sniff
from .findings import Finding, gap_notes, stream_notes
from .images import ImagesReader, refused_depth
from .member import Member
from .packets.index import PacketIndex, num_dropped, read_index
from .packets.times import in_order, longest_increasing, stamped_seconds
from .series import frame_paths, series_notes
from .stream import DEFAULT_FPS, video_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Less than this share of what the header promises counts as cut off. Cameras that drop frames promise more than
# there are; less than all is a note.
WHOLE = 0.95

# The kind of finding that is none any more when a file is written anew.
SLOW = "slow: every read decodes from the start"

_ENCRYPTED = Finding("error", "cannot be read", ENCRYPTED)

# Decoders of the WebM project. They notice when a packet ends before its picture does, or the picture before it.
_STRICT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def audit_file(path: str | Path | Member) -> list[Finding]:
    """Decode everything in a file or folder of frames and return what is wrong with it; nothing if all is well."""
    try:
        folder = Path(path)
        path = folder if folder.is_dir() else regular_file(path)
        if path is folder or sniff(path) == "image":
            images = frame_paths(folder) if path is folder else [path]
            reader = ImagesReader(path.absolute(), images, fps=DEFAULT_FPS)
            for number in range(len(images)):
                reader.frames([number / DEFAULT_FPS])
            notes = series_notes(folder) if path is folder else []
            return [Finding("note", kind, detail) for kind, detail in notes]
        found = list(_audit_video(path))
        return found if found == [_ENCRYPTED] else [*found, *_audit_sound(path)]
    except MediaError as error:
        return [Finding("error", "cannot be read", error.reason_for(path))]


def examine(path: str) -> dict[str, Any]:
    """Run `audit_file` in a child process."""
    return {"findings": [asdict(finding) for finding in audit_file(path)]}


def examine_member(request: str) -> dict[str, Any]:
    """Run `audit_file` on a member of a shard in a child process."""
    return {"findings": [asdict(finding) for finding in audit_file(Member.parsed(request))]}


def examine_shard(request: str) -> dict[str, Any]:
    """Compare a shard with the checksum in its index, in a child process."""
    shard, expected = json.loads(request)
    found = file_sha256(Path(shard))
    wrong = Finding(
        "error", "checksum differs", f"its SHA-256 is {found}, its index says {expected}; copy it again"
    )
    return {"findings": [] if found == expected else [asdict(wrong)]}


@dataclass
class _Decoded:
    """What came out of decoding all packets, going on after those that fail."""

    pts: list[int | None] = field(default_factory=list)
    first: VideoFrame | None = None
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    num_damaged: int = 0
    num_interlaced: int = 0
    num_refused: int = 0
    num_failed: int = 0
    first_failure: str = ""
    end_seconds: float = 0.0
    refused: str | None = None
    notes: list[Finding] = field(default_factory=list)

    def add(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            if not self.pts:
                self.refused = refused_depth(frame)
            self.first = self.first or frame
            self.sizes.setdefault((frame.width, frame.height), len(self.pts))
            self.pts.append(frame.pts)
            self.num_damaged += frame.is_corrupt
            self.num_interlaced += frame.interlaced_frame


def _audit_video(path: Path) -> Iterator[Finding]:
    with open_container(path) as container:
        stream = video_stream(container, path)
        try:
            index = read_index(container, stream)
        except Exception as error:
            yield Finding("error", "packets cannot be read", describe(error))
            return
        if index.num_encrypted:
            yield _ENCRYPTED
            return
        num_promised, time_base = stream.frames, float(stream.time_base or 0)
        dropped = num_dropped(container, stream, path, num_packets=index.num_packets)
    yield from packet_findings(index, num_promised=num_promised - dropped)
    if dropped:
        yield Finding("note", "pictures were dropped", f"{dropped} of {num_promised} chunks are empty")
    with complaints() as said, open_container(path) as container:
        promised_seconds = (container.duration or 0) / 1e6 if container.format.name == "matroska,webm" else 0.0
        decoded = _decode(container, path)
    if not decoded.pts:
        why = decoded.first_failure or ("no key frame" if index.num_packets else "no packets")
        yield Finding("error", "no picture can be decoded", why)
        return
    if decoded.refused:
        yield Finding("error", "cannot be read", decoded.refused)
    yield from _picture_findings(decoded, index)
    if said:
        yield Finding("error", "damaged data", f"{len(said)} complaints of FFmpeg, first {said[0]}")
    frame_seconds = decoded.end_seconds / len(decoded.pts)
    if decoded.end_seconds < promised_seconds - frame_seconds / 2:
        yield _shorter(
            f"ends at {decoded.end_seconds:.2f} s, the header says {promised_seconds:.2f} s",
            is_whole=decoded.end_seconds >= WHOLE * promised_seconds,
        )
    yield from _time_findings(decoded, time_base, is_trusted=index.distrust is None)
    yield from decoded.notes
    if index.distrust is not None:
        yield Finding("note", SLOW, index.distrust)


def _decode(container: InputContainer, path: Path) -> _Decoded:
    import av

    stream, decoded = video_stream(container, path), _Decoded()
    strict = _strict_decoder(stream)
    packets = packets_of(container)
    packet: Packet | None = None
    while True:
        try:
            packet = next(packets, None)
            if packet is not None and packet.size == 0:
                continue  # the demuxer's end; each stream has one
            if packet is not None and packet.pts is not None and packet.time_base is not None:
                end = (packet.pts + (packet.duration or 0)) * float(packet.time_base)
                decoded.end_seconds = max(decoded.end_seconds, end)
            if packet is None or packet.stream_index == stream.index:
                decoded.num_refused += strict is not None and _is_refused(strict, packet)
                decoded.add(stream.codec_context.decode(packet))
        except av.FFmpegError as error:
            decoded.num_failed += 1
            decoded.first_failure = decoded.first_failure or f"after {len(decoded.pts)} frames: {describe(error)}"
        if packet is None:
            if decoded.first is not None:
                decoded.notes += stream_notes(container, stream, decoded.first)
            return decoded


def _strict_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """A second decoder, of codecs whose own one shows whatever damaged packets hold; None of the others."""
    import av

    context = stream.codec_context
    name = _STRICT.get(context.codec.canonical_name)
    if name not in av.codecs_available or context.format is None or context.format.components[0].bits > 8:
        return None  # libvpx is usually built without deeper colour, and would refuse every packet of it
    strict = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    strict.extradata, strict.thread_count = context.extradata, 1
    return strict


def _is_refused(strict: VideoCodecContext, packet: Packet | None) -> bool:
    import av

    try:
        strict.decode(packet)
    except av.FFmpegError:
        return True
    return False


def packet_findings(index: PacketIndex, *, num_promised: int) -> list[Finding]:
    """Say what is wrong with the packets of a stream; nothing has to be decoded for it.

    Args:
        index: Of the packets that are there.
        num_promised: Pictures that the header states, 0 where it states none.
    """
    found = []
    if index.num_packets < num_promised - 1:  # some writers count one too many
        found.append(
            _shorter(
                f"holds {index.num_packets} pictures, the header says {num_promised}",
                is_whole=index.num_packets >= WHOLE * num_promised,
            )
        )
    if index.num_corrupt:
        found.append(Finding("error", "damaged packets", f"{index.num_corrupt} of {index.num_packets}"))
    if index.num_gaps:
        found.append(
            Finding("error", "missing packets", f"reference pictures are missing in {index.num_gaps} places")
        )
    if index.num_packets and not index.is_entry[0]:
        found.append(Finding("error", "does not begin with a key frame", "the first pictures cannot be shown"))
    return found


def _shorter(detail: str, *, is_whole: bool) -> Finding:
    return (
        Finding("note", "shorter than its header says", detail)
        if is_whole
        else Finding("error", "cut off", detail)
    )


def _picture_findings(decoded: _Decoded, index: PacketIndex) -> Iterator[Finding]:
    num_frames, num_shown = len(decoded.pts), len(index.frame_packet)
    if decoded.num_failed:
        yield Finding("error", "decoding fails", f"{decoded.num_failed} times, first {decoded.first_failure}")
    if decoded.num_refused:
        yield Finding("error", "damaged packets", f"libvpx refuses {decoded.num_refused} of {index.num_packets}")
    if decoded.num_damaged:
        yield Finding("error", "damaged pictures", f"{decoded.num_damaged} of {num_frames}")
    # Where frames are reached by seeking, the index promises each of them; elsewhere they are counted as they come.
    num_missing = 0 if index.distrust else len(set(index.frame_pts.tolist()) - set(decoded.pts))
    is_short = num_missing or num_frames < WHOLE * num_shown
    if is_short and not decoded.num_interlaced:  # two fields may make one frame
        yield Finding("error", "missing pictures", f"{num_shown} packets give {num_frames} pictures")
    if decoded.num_interlaced:
        yield Finding(
            "note",
            "interlaced",
            f"{decoded.num_interlaced} of {num_frames} pictures hold two fields, taken one after the other",
        )
    if len(decoded.sizes) > 1:
        changes = ", ".join(
            f"{width}x{height} from frame {first}" for (width, height), first in decoded.sizes.items()
        )
        yield Finding("error", "picture size changes", f"{changes}; all are scaled to the first")


def _time_findings(decoded: _Decoded, time_base: float, *, is_trusted: bool) -> Iterator[Finding]:
    stamps = [(number, pts) for number, pts in enumerate(decoded.pts) if pts is not None]
    num_odd = len(decoded.pts) - len(longest_increasing(stamps))
    if num_odd and is_trusted:
        yield Finding("error", "times contradict the order of the pictures", f"{num_odd} of {len(decoded.pts)}")
        return
    in_turn = in_order(stamps)
    num_sorted = sum(before != after for before, after in zip(stamps, in_turn, strict=True))
    if num_sorted:
        yield Finding(
            "note", "times are put in order", f"{num_sorted} of {len(decoded.pts)} came in another order"
        )
    num_odd = len(decoded.pts) - len(longest_increasing(in_turn))
    if num_odd:
        yield Finding(
            "note", "times are interpolated", f"{num_odd} of {len(decoded.pts)} are missing or do not increase"
        )
    yield from gap_notes(stamped_seconds(decoded.pts, time_base=time_base, fps=DEFAULT_FPS))


def _audit_sound(path: Path) -> Iterator[Finding]:
    with open_container(path) as container:
        if audio_stream(container) is None:
            return
    try:
        with contextlib.closing(AudioReader(path)) as sound:
            peak, cancelled_seconds = 0.0, 0.0
            num_samples = round(BLOCK_SECONDS * sound.sample_rate_hz)
            for seconds, samples in in_blocks(sound.pieces(), num_samples=num_samples):
                if not np.isfinite(samples).all():
                    yield Finding("error", "sound is not a number", f"near {seconds:.2f} s")
                    return
                peak = max(peak, float(np.abs(samples).max(initial=0.0)))
                if cancels(samples.mean(axis=0), samples):
                    cancelled_seconds += samples.shape[1] / sound.sample_rate_hz
    except MediaError as error:
        yield Finding("error", "sound cannot be decoded", error.reason)
        return
    if sound.num_refused_first:
        detail = f"{sound.num_refused_first} packets at its start do not decode; it is read from there on"
        yield Finding("note" if sound.num_refused_first == 1 else "error", "sound begins late", detail)
    if sound.num_refused:
        detail = f"{sound.num_refused} packets at its end do not decode; it is read up to there"
        yield Finding("note" if sound.num_refused == 1 else "error", "sound ends early", detail)
    if peak <= SILENCE:
        yield Finding("note", "silent sound track")
    if cancelled_seconds:
        detail = f"the mean of them is all but silent for {cancelled_seconds:.2f} s; the loudest is read there"
        yield Finding("note", "channels of the sound cancel", detail)

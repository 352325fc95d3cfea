"""Encoding one video for training, and looking at the result; what is kept is written in `prepare.py`."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..media.audio import AudioReader, audio_stream
from ..media.audit import SLOW, audit_file
from ..media.channels import without_cancelling
from ..media.container import MediaError, describe, open_container, packets_of, printable, sniff
from ..media.packets.index import read_index, stated_index, statement
from ..media.pyav import PyAVReader
from ..media.stream import video_stream
from ..media.video import open_video

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from numpy.typing import NDArray

    from ..media.video import Reader

# Sound of these codecs is copied; all are read back sample for sample, at the same place. mp3 below 16 kHz is not.
COPIED_SOUND = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})

_MP3_MIN_HZ = 16_000
_AAC_RATES_HZ = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # other numbers of channels are mixed to their mean
_AAC_BITS_PER_SECOND_AND_CHANNEL = 64_000
_SOUND_GAP_SECONDS = 0.03  # as `AudioReader`: smaller steps between packets are rounding

# mp4 counts time in 32 bits: units finer than this leave no room for long pauses between frames.
_FINEST_UNIT = Fraction(1, 1_000_000)
_MAX_TIME_ERROR_SECONDS = 1e-6

# Errors that are no fault of the source.
_OUTPUT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def encode(request: str) -> dict[str, Any]:
    """Encode one file and put it in its place.

    Returns:
        What the ledger records; {"reason": why} if the file cannot be read, {"unwritable": why} if the fault lies
        with the output.
    """
    wanted = json.loads(request)
    source, temporary, target = (Path(wanted.pop(key)) for key in ("source", "temporary", "target"))
    warnings = _Warnings()
    logging.getLogger("vidssl").addHandler(warnings)
    try:
        answer = encode_file(source, temporary, **wanted)
        answer["note"] = "; ".join(note for note in (*warnings.texts, answer["note"]) if note)
        answer["num_bytes"] = temporary.stat().st_size
        _publish(temporary, target)
        return answer
    except MediaError as error:
        return {"reason": error.reason_for(source)}
    except Exception as error:  # damaged files make decoders raise nearly anything
        if getattr(error, "errno", None) in _OUTPUT_ERRNOS:
            return {"unwritable": f"{printable(target)} cannot be written ({describe(error)})"}
        return {"reason": f"cannot be encoded ({describe(error)})"}
    finally:
        logging.getLogger("vidssl").removeHandler(warnings)
        temporary.unlink(missing_ok=True)


class _Warnings(logging.Handler):
    """What readers warn of, such as pictures that break off: this process has no other way to tell."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        blamed = record.args[0] if isinstance(record.args, tuple) and record.args else None
        text = blamed.reason if isinstance(blamed, MediaError) else record.getMessage()
        if text not in self.texts:
            self.texts.append(text)


def _publish(temporary: Path, target: Path) -> None:
    """Give a finished file its name; flushed before and after, so that a power cut leaves all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, move in ((temporary, True), (target.parent, False)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if move:
            temporary.replace(target)


def encode_file(
    source: Path, target: Path, *, short_side_px: int = 256, gop_frames: int = 8, crf: int = 25
) -> dict[str, Any]:
    """Encode one video to mp4 and look at the result; see `prepare`.

    Returns:
        {"num_frames": frames, "note": what `audit_file` finds in the source and what is missing, empty if nothing}.

    Raises:
        MediaError: The source cannot be read, or was not encoded right.
    """
    import av
    from av.codec.context import Flags

    with open_video(source) as reader:
        info = reader.info
        ticks, unit = exact_ticks(info.pts_seconds, _unit_of(source, fps=info.fps))
        height, width = even_size(info.height, info.width, short_side_px=short_side_px)
        sound = _sound_of(reader)
        with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(info.fps).limit_denominator(1_000_000))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {
                "crf": str(crf),
                "preset": "medium",
                "tune": "fastdecode",
                "bf": "0",
                "g": str(gop_frames),
                "keyint_min": str(gop_frames),
                "sc_threshold": "0",  # no key frames in between
            }
            stream.codec_context.time_base = unit
            stream.codec_context.thread_count = 1
            # Else the last frame is shown for the mean interval.
            stream.codec_context.flags |= Flags.frame_duration
            container.metadata["comment"] = statement(info.num_frames, gop_frames=gop_frames)
            packets = sound.packets(container)
            following = next(packets, None)
            last_seconds = info.duration_seconds - info.pts_seconds[-1]
            durations = np.append(np.diff(ticks), max(1, round(last_seconds / float(unit))))
            pictures = reader._pictures(range(info.num_frames), height=height, width=width)
            for number, picture in _in_order(pictures):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(format="yuv420p", interpolation="AREA", threads=1)
                frame.pts, frame.time_base, frame.duration = int(ticks[number]), unit, int(durations[number])
                container.mux(stream.encode(frame))
                while following is not None and following[0] <= info.pts_seconds[number]:
                    container.mux(following[1])
                    following = next(packets, None)
            container.mux(stream.encode())
            while following is not None:
                container.mux(following[1])
                following = next(packets, None)
        _look_again(source, target, info.pts_seconds, size=(height, width), has_sound=sound.is_there)
    notes = (_noted(source), sound.note)
    return {"num_frames": info.num_frames, "note": "; ".join(note for note in notes if note)}


def even_size(height: int, width: int, *, short_side_px: int) -> tuple[int, int]:
    """Return (height, width) for H.264: the smaller at most `short_side_px`, never enlarged, both even."""
    scale = min(1.0, short_side_px / min(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def exact_ticks(times_seconds: NDArray[np.float64], unit: Fraction | None) -> tuple[NDArray[np.int64], Fraction]:
    """Express times as whole multiples of a unit of time that mp4 can count in.

    Args:
        times_seconds: Strictly increasing, the first 0 (N,).
        unit: That of the source in seconds; tried first.

    Returns:
        int64 (N,) and its unit: times of the source exactly where they are multiples of its unit; else (times that
        were interpolated, or counted in less than microseconds) to the nearest microsecond.
    """
    if unit is not None:
        ticks = np.rint(times_seconds / float(unit)).astype(np.int64)
        if np.allclose(ticks * float(unit), times_seconds, rtol=1e-12, atol=float(unit) * 1e-3):
            common = max(1, int(np.gcd.reduce(ticks)))
            if (unit * common).denominator <= _FINEST_UNIT.denominator:
                return ticks // common, unit * common
    return np.rint(times_seconds / float(_FINEST_UNIT)).astype(np.int64), _FINEST_UNIT


def _noted(source: Path) -> str:
    """What `vidssl data check` says of a source; not that it is slow to read, which what is written is not."""
    return "; ".join(str(one) for one in audit_file(source) if one.kind != SLOW)


def _unit_of(source: Path, *, fps: float) -> Fraction | None:
    """The unit in which a video counts time; of still images the interval between them."""
    if source.is_dir() or sniff(source) == "image":
        return 1 / Fraction(fps).limit_denominator(1001)
    with open_container(source) as container:
        return video_stream(container, source).time_base


def _in_order(pictures: Iterable[tuple[int, NDArray[np.uint8]]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield pictures 0, 1, 2, ...; readers deliver them in order, or nearly."""
    waiting: dict[int, NDArray[np.uint8]] = {}
    following = 0
    for number, picture in pictures:
        waiting[number] = picture
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1


def _look_again(
    source: Path, target: Path, times_seconds: NDArray[np.float64], *, size: tuple[int, int], has_sound: bool
) -> None:
    """Open what was written; raise `MediaError` unless frames, times and tracks are those of the source."""
    with open_video(target) as reader:
        info = reader.info
        wrong = info.distrust or (
            f"{info.num_frames} frames instead of {len(times_seconds)}" if info.num_frames != len(times_seconds) else
            "frames at other times"
            if np.abs(info.pts_seconds - times_seconds).max() > _MAX_TIME_ERROR_SECONDS else
            f"{info.height} x {info.width} pixels instead of {size}" if (info.height, info.width) != size else
            "the sound is lost" if has_sound and info.audio_sample_rate_hz is None else None
        )  # fmt: skip
    with open_container(target) as container:
        stream = video_stream(container, target)
        stated, found = stated_index(container, stream), read_index(container, stream)
    for name in ("pts", "is_entry", "is_disposable", "frame_packet", "num_corrupt", "num_gaps", "distrust"):
        if stated is None or not np.array_equal(getattr(stated, name), getattr(found, name)):
            wrong = wrong or f"{name} of its packets is not as stated"
    if wrong:
        raise MediaError(source, f"was not encoded right ({wrong})")


class _Sound:
    """The sound of a video on its way into an mp4: copied if that holds its codec, else encoded as AAC.

    Args:
        path: The video.
        zero_seconds: Time in the file of its first picture.

    Attributes:
        is_there: Whether there is any; known once `packets` has begun.
        note: What is missing of it.
    """

    def __init__(self, path: Path, *, zero_seconds: float) -> None:
        self._path = path
        self._zero_seconds = zero_seconds
        self.is_there = True
        self.note = ""

    def packets(self, container: OutputContainer) -> Iterator[tuple[float, Packet]]:
        """Add a track to `container`; yield (seconds after the first picture, packet for it)."""
        return self._copied(container) if self._may_be_copied() else self._encoded(container)

    def _source_packets(self) -> Iterator[tuple[AudioStream, Packet]]:
        import av

        with open_container(self._path) as source:
            stream = audio_stream(source)
            if stream is None:
                return
            try:
                for packet in packets_of(source, stream):
                    if packet.size:
                        yield stream, packet
            except av.FFmpegError as error:
                self.note = f"its sound breaks off ({describe(error)})"

    def _shift(self, stream: AudioStream) -> int:
        return round(self._zero_seconds / float(stream.time_base or 1))

    def _may_be_copied(self) -> bool:
        """Whether packets alone say when what is heard."""
        last_pts = None
        for stream, packet in self._source_packets():
            codec, rate = stream.codec_context.codec.canonical_name, stream.sample_rate
            if codec not in COPIED_SOUND or (codec == "mp3" and rate < _MP3_MIN_HZ):
                return False
            if packet.pts is None or (last_pts is not None and packet.pts <= last_pts):
                return False
            last_pts = packet.pts
            # What is decoded but not to be heard is cut off by mp4 before time 0, nowhere else.
            start = (packet.pts - self._shift(stream)) * float(stream.time_base or 0)
            hidden = _num_skipped(packet) / rate
            if (packet.is_discard and start >= 0) or (hidden and start + hidden > 1 / rate):
                return False
        return last_pts is not None

    def _copied(self, container: OutputContainer) -> Iterator[tuple[float, Packet]]:
        track = None
        for stream, packet in self._source_packets():
            track = track or container.add_stream_from_template(stream)
            assert packet.pts is not None and packet.time_base is not None
            packet.pts -= self._shift(stream)
            packet.dts = packet.pts
            packet.stream = track
            yield float(packet.pts * packet.time_base), packet

    def _encoded(self, container: OutputContainer) -> Iterator[tuple[float, Packet]]:
        import av

        with contextlib.closing(AudioReader(self._path, zero_seconds=self._zero_seconds)) as reader:
            rate, layout = reader.sample_rate_hz, _LAYOUTS.get(reader.channels, "mono")
            blocks = self._blocks(reader, num_channels=av.AudioLayout(layout).nb_channels)
            first = next(blocks, None)
            if first is None:
                self.is_there = False
                return
            track_rate = min((one for one in _AAC_RATES_HZ if one >= rate), default=_AAC_RATES_HZ[0])
            track = container.add_stream("aac", rate=track_rate, layout=layout)
            track.bit_rate = _AAC_BITS_PER_SECOND_AND_CHANNEL * av.AudioLayout(layout).nb_channels
            track.codec_context.thread_count = 1
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=track_rate)
            for place, samples in itertools.chain([first], blocks):
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
                for part in resampler.resample(frame):
                    yield from _timed(track.encode(part))
            for part in resampler.resample(None):
                yield from _timed(track.encode(part))
            yield from _timed(track.encode(None))

    def _blocks(self, reader: AudioReader, *, num_channels: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (place of the first sample, samples (C, S)) without gap or overlap, until decoding fails."""
        rate = reader.sample_rate_hz
        following: int | None = None
        try:
            for seconds, samples in reader.pieces():
                if not np.isfinite(samples).all():
                    raise MediaError(self._path, "sound is not a number")
                place = round(seconds * rate)
                if following is None or abs(place - following) < _SOUND_GAP_SECONDS * rate:
                    place = place if following is None else following
                while following is not None and following < place:
                    silence = np.zeros((num_channels, min(rate, place - following)), dtype=np.float32)
                    yield following, silence
                    following += silence.shape[1]
                if following is not None and following > place:
                    samples, place = samples[:, following - place :], following
                if len(samples) != num_channels:
                    mono = without_cancelling(samples.mean(axis=0), samples, sample_rate_hz=rate)
                    samples = mono[None].repeat(num_channels, axis=0)
                if samples.shape[1]:
                    yield place, np.ascontiguousarray(samples)
                    following = place + samples.shape[1]
        except MediaError as error:
            self.note = f"its sound ends at {(following or 0) / rate:.2f} s ({error.reason})"


class _NoSound(_Sound):
    """That of still images, and of videos without a sound track."""

    def __init__(self) -> None:
        self.is_there = False
        self.note = ""

    def packets(self, container: OutputContainer) -> Iterator[tuple[float, Packet]]:
        return iter(())


def _sound_of(reader: Reader) -> _Sound:
    if isinstance(reader, PyAVReader) and reader.info.audio_sample_rate_hz is not None:
        return _Sound(reader.info.path, zero_seconds=reader._zero_seconds)
    return _NoSound()


def _timed(packets: Iterable[Packet]) -> Iterator[tuple[float, Packet]]:
    for packet in packets:
        assert packet.pts is not None and packet.time_base is not None
        yield float(packet.pts * packet.time_base), packet


def _num_skipped(packet: Packet) -> int:
    """Samples at the start of a packet that are decoded but not to be heard."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")

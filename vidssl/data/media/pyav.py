"""Reading video with PyAV, whose sequential decode is the truth that every other way of reading is held to."""

from __future__ import annotations

import contextlib
import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import AudioReader, audio_stream
from .container import (
    ENCRYPTED,
    MediaError,
    check_seconds,
    describe,
    frames_of,
    open_container,
    packets_of,
    printable,
)
from .images import refused_depth
from .known import pack, unpack
from .packets.index import PacketIndex, num_dropped, read_index, stated_index
from .packets.orientation import Orientation, display_orientation
from .packets.times import rate_and_duration, stamped_seconds
from .reader import Reader, VideoInfo
from .stream import DEFAULT_FPS, video_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray


_log = logging.getLogger(__name__)


class _Astray(Exception):
    """What came after a seek is not what the packet index says."""


class PyAVReader(Reader):
    """Frames through FFmpeg's libraries as PyAV brings them.

    Where the packet index can be trusted (see `_index.py`), a read jumps to the entry point before the first
    wanted frame, decodes on, skips pictures that nobody wants or refers to, and jumps again where the next wanted
    frame has a later entry point of its own. The packets after each jump and the frames that come out are compared
    with the index; the first difference sends the reader back to the start of the file. Where the index cannot be
    trusted, the whole stream is decoded once when the file is opened, its frames are numbered as they come, and
    each read decodes from the start. Times that are missing or do not increase there are interpolated from those
    that do. A stream that breaks off in the middle ends where sequential decoding ends; a warning is logged.

    Args:
        path: Regular file.
        index: What `packed_index` of an earlier reader returned; None looks through the file.
    """

    def __init__(self, path: Path, *, index: bytes | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._audio: AudioReader | None = None
        # One for all frames: setting up the scaler costs more than its work.
        self._reformatter = VideoReformatter()
        known = unpack(index, path) if index else None
        # In what order pictures come is the one thing that FFmpeg must know beforehand.
        self._container = open_container(path, decode=known is None or not known[1].states_reordering)
        try:
            super().__init__(self._recall(*known) if known else self._examine(), backend="pyav")
        except BaseException:
            self._container.close()
            raise

    def _examine(self) -> VideoInfo:
        container, path = self._container, self._path
        self._stream = video_stream(container, path)
        sound = audio_stream(container)
        self._time_base = float(self._stream.time_base or 0)
        rate = self._stream.average_rate or self._stream.guessed_rate
        with _blaming(path):
            self._index = stated_index(container, self._stream) or read_index(container, self._stream)
        if self._index.num_packets == 0:
            raise MediaError(path, "holds no picture; it is a header alone or was cut off, copy it again")
        if self._index.num_encrypted:
            raise MediaError(path, ENCRYPTED)
        distrust = self._index.distrust
        first = self._first_by_seek() if distrust is None else None
        if first is None:
            distrust = distrust or "the first frame does not decode as the index says"
            first, seconds = self._decode_all(float(rate) if rate else DEFAULT_FPS)
            times, self._zero_seconds = seconds - seconds[0], float(seconds[0])
        else:
            pts = self._index.frame_pts
            times, self._zero_seconds = (pts - pts[0]) * self._time_base, int(pts[0]) * self._time_base
        reason = refused_depth(first)
        if reason:
            raise MediaError(path, reason)
        self._orientation = display_orientation(first)
        height, width = self._orientation.size(first.height, first.width)
        check_seconds(path, float(times[-1]))
        fps, duration = rate_and_duration(
            times,
            unit_seconds=self._time_base,
            last_seconds=self._index.last_ticks * self._time_base,
            fps=float(rate) if rate else DEFAULT_FPS,
        )
        return VideoInfo(
            path=path,
            pts_seconds=times,
            duration_seconds=duration,
            fps=fps,
            width=width,
            height=height,
            rotation_degrees=90 * self._orientation.turns,
            is_mirrored=self._orientation.is_mirrored,
            codec=self._stream.codec_context.codec.canonical_name,
            audio_sample_rate_hz=sound.sample_rate if sound else None,
            audio_channels=sound.channels if sound else None,
            distrust=distrust,
        )

    def _recall(self, info: VideoInfo, index: PacketIndex, zero_seconds: float) -> VideoInfo:
        self._stream = video_stream(self._container, self._path)
        context = self._stream.codec_context
        if {context.width, context.height} != {info.width, info.height} and context.width * context.height:
            # Memory is laid out by what is known: it has to be of this file.
            self._container.close()
            self._container = open_container(self._path)
            return self._examine()
        self._time_base = float(self._stream.time_base or 0)
        self._index, self._zero_seconds = index, zero_seconds
        self._orientation = Orientation(is_mirrored=info.is_mirrored, turns=info.rotation_degrees // 90)
        return info

    def packed_index(self) -> bytes:
        """What opening the file again need not find out."""
        return pack(self.info, self._index, zero_seconds=self._zero_seconds, unit_seconds=self._time_base)

    @property
    def trap(self) -> str | None:
        """What is likely to make another decoder read other frames than these; None if nothing is known."""
        mirror = "its display matrix mirrors" if self.info.is_mirrored else None
        return self.info.distrust or self._index.trap or mirror

    @property
    def packet_index(self) -> PacketIndex:
        """What was found out about the packets of the stream."""
        return self._index

    @property
    def num_promised(self) -> int:
        """Pictures that the header states, 0 where it states none; those that it states to be left out are not."""
        dropped = num_dropped(self._container, self._stream, self._path, num_packets=self._index.num_packets)
        return self._stream.frames - dropped

    def _first_by_seek(self) -> VideoFrame | None:
        """Return frame 0, None if it is not to be had as the index says."""
        import av

        try:
            return next(self._by_seek([0]))[1]
        except (_Astray, av.FFmpegError, StopIteration):
            return None

    def _decode_all(self, fps: float) -> tuple[VideoFrame, NDArray[np.float64]]:
        """Decode the stream once; return its first frame and the time of each, seconds in the file."""
        import av

        first, pts = None, []
        try:
            for frame in self._from_start():
                first = first or frame
                pts.append(frame.pts)
        except (av.FFmpegError, MediaError) as error:
            if first is None:
                raise MediaError(self._path, f"no picture can be decoded ({describe(error)})") from error
            _log.warning(
                "%s", MediaError(self._path, f"decoding breaks off after {len(pts)} frames ({describe(error)})")
            )
        if first is None:
            raise MediaError(self._path, "no picture can be decoded: there is no key frame to begin with")
        return first, stamped_seconds(pts, time_base=self._time_base, fps=fps)

    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        import av

        missing = set(numbers)
        if self.info.distrust is None:
            try:
                for number, frame in self._by_seek(numbers):
                    yield number, self._to_rgb(frame, height=height, width=width)
                    missing.discard(number)
            except (_Astray, av.FFmpegError) as error:
                _log.info("%s: decoding from the start, because %s", printable(self._path), describe(error))
        if missing:
            for number, frame in self._by_decoding(missing):
                yield number, self._to_rgb(frame, height=height, width=width)

    def _to_rgb(self, frame: VideoFrame, *, height: int, width: int) -> NDArray[np.uint8]:
        """Convert and scale in one call of swscale, then turn upright: (height, width, 3)."""
        height, width = self._orientation.size(height, width)
        picture = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        plane = picture.planes[0]
        # A view of the frame's memory, whose rows may be longer than the picture is wide.
        strides = (plane.line_size, 3, 1)
        pixels = np.ndarray((height, width, 3), np.uint8, buffer=plane, strides=strides)  # type: ignore[arg-type]
        return self._orientation.upright(pixels)

    # -- by seeking

    def _by_seek(self, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) of increasing frame numbers, jumping to entry points.

        Raises:
            _Astray: A packet or a frame differs from the index.
        """
        groups: list[tuple[int, list[int]]] = []
        last_packet = -1
        for number in numbers:
            entry = self._index.entry_of(number)
            # Stay on the way unless the next entry point lies behind all that has to be decoded anyway.
            if entry > last_packet:
                groups.append((entry, []))
            groups[-1][1].append(number)
            last_packet = max(last_packet, int(self._index.frame_packet[number]))
        for entry, group in groups:
            yield from self._decode_group(entry, group)

    def _decode_group(self, entry: int, numbers: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        index = self._index
        missing = dict(zip(index.frame_pts[numbers].tolist(), numbers, strict=True))
        entry_pts = int(index.pts[entry])
        landed = entry not in index.frame_packet  # an entry point that an edit list hides is never shown
        wanted = index.frame_packet[numbers]
        turns = iter(self._turns(entry, wanted=wanted))
        for packet in self._packets(entry, wanted=wanted):
            for frame in self._stream.codec_context.decode(packet):
                if frame.pts is None or frame.pts < entry_pts:
                    continue  # a leading picture of an open group; its references were jumped over
                if not landed and frame.pts != entry_pts:
                    raise _Astray(f"frame {frame.pts} comes first, not the entry point {entry_pts}")
                landed = True
                if frame.pts != next(turns, None):
                    raise _Astray(f"frame {frame.pts} comes out of turn")
                if frame.is_corrupt:
                    raise _Astray(f"frame {frame.pts} is damaged")
                if frame.pts in missing:
                    yield missing.pop(frame.pts), frame
            if not missing:
                return
        raise _Astray(f"frames {sorted(missing)} did not come")

    def _turns(self, entry: int, *, wanted: NDArray[np.int64]) -> list[int]:
        """Times of the frames that `_packets` brings, in the order in which a decoder has to deliver them."""
        index, last = self._index, int(wanted.max())
        is_fed = np.zeros(index.num_packets, dtype=bool)
        is_fed[entry : last + 1] = ~index.is_disposable[entry : last + 1]
        is_fed[wanted] = True
        pts = index.pts[index.frame_packet[is_fed[index.frame_packet]]]
        return pts[pts >= index.pts[entry]].tolist()

    def _packets(self, entry: int, *, wanted: NDArray[np.int64]) -> Iterator[Packet | None]:
        """Yield the packets from number `entry` on that are needed to decode those `wanted`.

        At last None, which brings out what the decoder holds back to put it in order: no packet more is decoded
        for that.
        """
        index, last = self._index, int(wanted.max())
        skipped = index.is_disposable[: last + 1].copy()
        skipped[wanted] = False
        expected_pts, is_skipped = index.pts[: last + 1].tolist(), skipped.tolist()
        packets, number = self._land(entry)
        for packet in packets:
            if packet.size == 0 or packet.pts != expected_pts[number]:
                raise _Astray(f"packet {packet.pts} follows where the index has another")
            if number >= entry and not is_skipped[number]:
                yield packet
            if number == last:
                break
            number += 1
        yield None

    def _land(self, entry: int) -> tuple[Iterator[Packet], int]:
        """Seek to packet `entry` or before it; return the packets from there and the number of the first."""
        pts = self._index.pts
        for target in np.flatnonzero(self._index.is_entry[: entry + 1])[::-1]:
            self._container.seek(int(pts[target]), stream=self._stream)
            packets = packets_of(self._container, self._stream)
            first = next(packets)
            places = np.flatnonzero(pts == first.pts)
            if first.size == 0 or len(places) != 1:
                raise _Astray(f"packet {first.pts} comes after seeking to {pts[target]}")
            if places[0] <= entry:
                return itertools.chain([first], packets), int(places[0])
        raise _Astray("every seek lands too late")

    # -- by decoding from the start

    def _from_start(self) -> Iterator[VideoFrame]:
        """Yield every frame that sequential decoding delivers; raises the decoder's error where it breaks off."""
        self._container.close()
        self._container = open_container(self._path)
        self._stream = video_stream(self._container, self._path)
        yield from frames_of(self._container, self._stream)

    def _by_decoding(self, numbers: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) of `numbers`, decoding everything before them.

        Raises:
            MediaError: One of them does not come, or the pictures come in another order than their times.
        """
        missing = set(numbers)
        with _blaming(self._path):
            for number, frame in enumerate(self._from_start()) if self.info.distrust else self._in_turn():
                if number in missing:
                    yield number, frame
                    missing.discard(number)
                if not missing:
                    return
        seconds = ", ".join(f"{self.info.pts_seconds[number]:.3f}" for number in sorted(missing)[:5])
        raise MediaError(
            self._path, f"frames at {seconds} s are promised but do not come; check the file for damage"
        )

    def _in_turn(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, frame) from the start, by the times of the index.

        A decoder delivers pictures in the order in which they are shown, whatever times the container gives them. A
        frame that others should have preceded is held back until the next one has come: if that is one of them, the
        times are damaged, and nobody knows which frame belongs to which.

        Raises:
            MediaError: They are.
        """
        number_of: dict[int | None, int] = {int(pts): number for number, pts in enumerate(self._index.frame_pts)}
        last, held = -1, None
        for frame in self._from_start():
            number = number_of.get(frame.pts, -1)
            if number < 0:
                continue
            if number <= last:
                raise MediaError(
                    self._path, "its pictures come in another order than their times; check the file for damage"
                )
            if held is not None:
                yield held
            held = (number, frame) if number > last + 1 else None
            if held is None:
                yield number, frame
            last = number
        if held is not None:
            yield held

    def _audio_reader(self) -> AudioReader:
        if self._audio is None:
            self._audio = AudioReader(self._path, zero_seconds=self._zero_seconds)
        return self._audio

    def close(self) -> None:
        """Close the file; may be called again."""
        self._container.close()
        if self._audio is not None:
            self._audio.close()


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn a decoder's error into a `MediaError` that names the file."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(path, f"cannot be decoded ({describe(error)}); check the file for damage") from error

"""Reading the sound of a file: any codec, rate and channel count in, aligned mono samples out."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .channels import SILENCE, without_cancelling
from .container import (
    ENCRYPTED,
    MAX_SAMPLE_RATE_HZ,
    MediaError,
    check_seconds,
    describe,
    is_encrypted,
    open_container,
    packets_of,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from numpy.typing import NDArray
    from torch import Tensor

# Containers whose seeks are exact. In the others (mp3, mpegts, ogg, ...) times after a seek may be estimates, so
# they are decoded from the start.
_SEEKABLE_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav"}

# Decoding starts this long before the wanted sound: codecs need some packets to settle (Opus 80 ms, RFC 7845).
_PREROLL_SECONDS = 0.5

# Stamps of consecutive packets are rounded to the time base; only a step larger than this is a real gap.
_GAP_SECONDS = 0.03

# Decoders of FFmpeg that go on after a seek from what they decoded last, wherever that was: those of speech, which
# guess from the samples before. A fresh one is made for each read.
_REMEMBERING = {
    "amrnb", "amrwb", "evrc", "g723_1", "g729", "gsm", "gsm_ms", "ilbc", "qcelp", "real_144", "real_288", "sipr",
    "truespeech", "wmavoice",
}  # fmt: skip

# Pieces of sound that are held back until one of them has a time.
_MAX_WAITING = 64

# Samples added on both sides before resampling, so that the filter sees real sound at the ends (32 taps at 1:1).
_CONTEXT_SAMPLES = 256

# AMR frames of higher modes hold no speech but a pause between words (3GPP TS 26.101 and 26.201, table 1a); FFmpeg
# refuses them.
_SPEECH_MODES = {"amrnb": 8, "amrwb": 9}


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return FFmpeg's best audio stream, another one if no decoder is known for that; None without one."""
    best = container.streams.best("audio") if container.streams.audio else None
    known = [
        stream for stream in container.streams.audio if stream.codec_context is not None and stream.sample_rate
    ]
    return best if best in known else next(iter(known), None)


class AudioReader:
    """The sound of an open file; get one with `open_audio`, or ask a video `Reader` for its sound.

    Args:
        path: Regular file with an audio stream.
        zero_seconds: Time in the file that is called 0; None for the first sample.

    Attributes:
        sample_rate_hz: As stored.
        channels: As stored.
        num_refused: Packets at the end that no sound came of, as far as was decoded last.
        num_refused_first: Likewise before the first sound.

    Raises:
        MediaError: The file cannot be opened, or has no audio stream.
    """

    def __init__(self, path: Path, *, zero_seconds: float | None = None) -> None:
        self._path = path
        self.num_refused = self.num_refused_first = 0
        self._open()
        self.sample_rate_hz: int = self._stream.sample_rate
        self.channels: int = self._stream.channels
        try:
            if zero_seconds is None:
                zero_seconds = next((start for start, _ in self._pieces(None)), 0.0)
            self._zero_seconds = zero_seconds
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._container = open_container(self._path)
        stream = audio_stream(self._container)
        if stream is None:
            why = (
                "has sound of a codec that is not known"
                if self._container.streams.audio
                else "has no audio stream"
            )
            self._container.close()
            raise MediaError(self._path, why)
        if stream.sample_rate > MAX_SAMPLE_RATE_HZ:
            self._container.close()
            raise MediaError(
                self._path,
                f"claims {stream.sample_rate} samples per second; at most {MAX_SAMPLE_RATE_HZ} are read",
            )
        stream.codec_context.thread_count = 1
        self._stream, self._is_at_start = stream, True

    def pieces(self) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Decode everything: yield (seconds after time 0, samples (C, S) at the stored rate), piece by piece.

        Raises:
            MediaError: Decoding fails somewhere.
        """
        for seconds, samples in self._pieces(None):
            yield seconds - self._zero_seconds, samples

    def measure_seconds(self) -> float:
        """Decode everything; return the time from time 0 to the end of the last sample, in seconds."""
        return max(
            (start + samples.shape[1] / self.sample_rate_hz for start, samples in self.pieces()), default=0.0
        )

    def is_silent(self) -> bool:
        """Tell whether no sample exceeds -80 dB of full scale; stops at the first that does."""
        return all(float(np.abs(samples).max(initial=0.0)) <= SILENCE for _, samples in self.pieces())

    def read(self, start_seconds: float, duration_seconds: float, *, sample_rate_hz: int) -> Tensor:
        """Read mono sound; see `Reader.audio`."""
        import torch

        if not (np.isfinite(start_seconds) and np.isfinite(duration_seconds) and duration_seconds > 0):
            raise ValueError(f"sound from {start_seconds} s for {duration_seconds} s is no span of time")
        if sample_rate_hz < 1:
            raise ValueError(f"sample_rate_hz is {sample_rate_hz}, expected at least 1")
        num_samples = round(duration_seconds * sample_rate_hz)
        rate = self.sample_rate_hz
        if rate == sample_rate_hz:
            mono = self._collect(round(start_seconds * rate), num_samples)
        else:
            first = int(np.floor(start_seconds * rate)) - _CONTEXT_SAMPLES
            length = int(np.ceil(duration_seconds * rate)) + 2 * _CONTEXT_SAMPLES
            resampled = _resample(self._collect(first, length), rate, sample_rate_hz)
            skip = round((start_seconds - first / rate) * sample_rate_hz)
            mono = np.zeros(num_samples, dtype=np.float32)
            part = resampled[skip : skip + num_samples]
            mono[: len(part)] = part
        return torch.from_numpy(mono.clip(-1, 1))

    def _collect(self, first_sample: int, num_samples: int) -> NDArray[np.float32]:
        """Mono samples [first, first + num) after time 0 at the stored rate, zeros where there is no sound."""
        rate = self.sample_rate_hz
        mono = np.zeros(num_samples, dtype=np.float32)
        channels = np.zeros((self.channels, num_samples), dtype=np.float32)
        end = first_sample + num_samples
        expected = None
        for seconds, samples in self._pieces(self._zero_seconds + first_sample / rate):
            place = round((seconds - self._zero_seconds) * rate)
            if expected is not None and abs(place - expected) < _GAP_SECONDS * rate:
                place = expected
            expected = place + samples.shape[1]
            if place >= end:
                break
            low, high = max(place, first_sample), min(expected, end)
            if low < high:
                wanted = samples[:, low - place : high - place]
                if not np.isfinite(wanted).all():
                    raise MediaError(self._path, f"has sound that is not a number near {low / rate:.3f} s")
                mono[low - first_sample : high - first_sample] = wanted.mean(axis=0)
                if len(wanted) > len(channels):  # broadcasts change between stereo and 5.1
                    channels = np.pad(channels, ((0, len(wanted) - len(channels)), (0, 0)))
                channels[: len(wanted), low - first_sample : high - first_sample] = wanted
        return without_cancelling(mono, channels, sample_rate_hz=rate)

    def _pieces(self, from_seconds: float | None) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Yield (seconds of the first sample, samples (C, S) at the stored rate) that cover all from a time on."""
        import av

        try:
            following, waiting = None, []
            for frame in self._frames(from_seconds):
                # A packet of several frames (AMR, WMA) gives a time to one of them alone.
                seconds = following if frame.pts is None else _seconds(frame)
                if frame.samples:
                    waiting.append(_to_float(frame))
                if seconds is not None and frame.samples:
                    seconds -= sum(samples.shape[1] for samples in waiting[:-1]) / self._stream.sample_rate
                elif len(waiting) < _MAX_WAITING:
                    continue
                following = yield from self._placed(waiting, seconds)
                waiting = []
                check_seconds(self._path, following)
            yield from self._placed(waiting, None)
        except av.FFmpegError as error:
            raise MediaError(self._path, f"sound cannot be decoded ({describe(error)})") from error

    def _placed(
        self, pieces: list[NDArray[np.float32]], seconds: float | None
    ) -> Generator[tuple[float, NDArray[np.float32]], None, float]:
        """Yield pieces of sound with their times; those without any (WMA Pro) begin where the packets do."""
        if seconds is None:
            seconds = (
                _seconds(self._first_packet) if self._first_packet and self._first_packet.pts is not None else 0.0
            )
        for samples in pieces:
            yield seconds, samples
            seconds += samples.shape[1] / self._stream.sample_rate
        return seconds

    def _frames(self, from_seconds: float | None) -> Iterator[AudioFrame]:
        if from_seconds is not None and self._stream.codec_context.codec.name in _REMEMBERING:
            self._start_anew()
        import av

        if from_seconds is not None and self._seek(from_seconds - _PREROLL_SECONDS):
            frames, first = self._decoded(), None
            with contextlib.suppress(av.FFmpegError):
                first = next(frames, None)
            if first is not None and first.pts is not None and _seconds(first) <= from_seconds:
                yield first
                yield from frames
                return
        self._start_anew()
        yield from self._decoded()

    def _seek(self, seconds: float) -> bool:
        """Go to the last packet before a time; False if decoding has to begin at the start of the file."""
        import av

        time_base, start = self._stream.time_base, self._stream.start_time
        if not time_base or self._container.format.name not in _SEEKABLE_FORMATS:
            return False
        # What a decoder is to leave out at the start it is told there alone, not after a seek.
        if start is not None and seconds <= start * time_base:
            return False
        self._is_at_start = False
        try:
            self._container.seek(round(seconds / time_base), stream=self._stream)
        except av.FFmpegError:  # a file cut off before its table of entry points
            return False
        return True

    def _start_anew(self) -> None:
        if not self._is_at_start:
            self._container.close()
            self._open()

    def _decoded(self) -> Iterator[AudioFrame]:
        """Decode on from where the container is, passing over packets that hold nothing: decoders refuse them.

        What cannot be decoded behind the last sound (a packet that was cut off, a tag) ends it, and what comes before
        the first (a recording that was cut out of a longer one) is left out; between sounds, or where there are none,
        it is an error.
        """
        import av

        self._is_at_start = False
        speech_modes = _SPEECH_MODES.get(self._stream.codec_context.codec.name)
        refused: av.FFmpegError | None = None
        self.num_refused, self.num_refused_first, self._first_packet, is_empty = 0, 0, None, True
        packets = itertools.chain(packets_of(self._container, self._stream), [None])
        packet: Packet | None = None
        is_end = False
        while not is_end:
            try:
                packet = next(packets, None)  # of Ogg the demuxer itself refuses packets of Opus
                is_end = packet is None
                if packet is not None and packet.size == 0:
                    continue
                self._first_packet = self._first_packet or packet
                if packet is not None and is_encrypted(packet):
                    raise MediaError(self._path, ENCRYPTED)
                if packet is not None and speech_modes and memoryview(packet)[0] >> 3 & 15 >= speech_modes:
                    frames = [_pause(packet, self._stream)]
                else:
                    frames = self._stream.decode(packet)
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # of the disk
                    raise
                refused, self.num_refused = refused or error, self.num_refused + 1
                continue
            if frames and refused:
                if not is_empty:
                    raise refused
                refused, self.num_refused_first, self.num_refused = None, self.num_refused, 0
            is_empty = is_empty and not frames
            yield from frames
        if refused and is_empty:
            raise refused

    def close(self) -> None:
        """Close the file; may be called again."""
        self._container.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _seconds(frame: AudioFrame | Packet) -> float:
    assert frame.pts is not None and frame.time_base is not None
    return float(frame.pts * frame.time_base)


def _pause(packet: Packet, stream: AudioStream) -> AudioFrame:
    """Silence for as long as a packet lasts: 20 ms."""
    from av import AudioFrame

    frame = AudioFrame.from_ndarray(
        np.zeros((1, stream.sample_rate // 50), dtype=np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = stream.sample_rate, packet.pts, packet.time_base
    return frame


def _to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Samples of a frame, float32 (C, S), integer formats scaled to [-1, 1)."""
    from av.audio.frame import format_dtypes

    channels = frame.layout.nb_channels
    samples: NDArray[Any]
    if frame.format.is_planar:
        # `frame.to_ndarray` takes what lies in memory behind the eighth channel for a ninth, and crashes.
        dtype = np.dtype(format_dtypes[frame.format.name])
        samples = np.stack(
            [np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in frame.planes[:channels]]
        )
    else:
        samples = frame.to_ndarray().reshape(-1, channels).T
    if samples.dtype == np.uint8:
        return ((samples - 128.0) / 128).astype(np.float32)
    scale = 1.0 if samples.dtype.kind == "f" else -float(np.iinfo(samples.dtype).min)
    return (samples / scale).astype(np.float32)


def _resample(mono: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resample (S,) samples; sample 0 keeps its time."""
    from av import AudioFrame, AudioResampler

    resampler = AudioResampler(format="fltp", layout="mono", rate=to_hz)
    frame = AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
    frame.sample_rate = from_hz
    pieces = [piece.to_ndarray()[0] for part in (frame, None) for piece in resampler.resample(part)]
    return np.concatenate(pieces)

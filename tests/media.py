"""Small damaged and odd media, made anew in each session, so that no file beside the repository is needed.

Every picture carries its number in a strip on top: a reader is held to what was put into the file and not to what
another decoder makes of it. The files are made by PyAV, whose wheels bring FFmpeg, or byte by byte. None of them
hurts software that opens it: at worst an error is raised.
"""

import itertools
import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import filelock
import numpy as np
import pytest
from PIL import Image

NUM_FRAMES, FPS, HEIGHT, WIDTH = 60, 30, 64, 112
GROUP = 15  # frames from one key frame to the next
RATE_HZ = 16_000
NUM_CELLS = 14  # of the strip: a light one, 12 bits, a dark one

# What shells, FFmpeg, printf and lists of files take for something else.
NAMES = ["with space.mp4", "-dash.mp4", "per%20cent%d.mp4", "quote'\"q.mp4", "a:b.mp4", "semi;amp&$HOME.mp4"]
NAMES += ["new\nline.mp4", "UPPER.MP4", "noext", "x" * 240 + ".mp4", "[bracket]*.mp4", "#hash?query=1.mp4"]
NAMES += ["\u00fc\u00f1\u00ed-\u65e5\u672c\u8a9e-\U0001f3ac.mp4", "bad_utf8_\udcff\udcfe.mp4"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` filled; all processes of one session share it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with filelock.FileLock(base / f"{name}.lock"):
        if not (base / name).is_dir():
            unfinished = base / f"{name}.unfinished"
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(base / name)
    return base / name


# Pictures.


def numbered(num_frames: int = NUM_FRAMES, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Moving texture under a strip that holds the number of the frame: uint8 (T, H, W, 3)."""
    texture = np.random.default_rng(0).integers(40, 216, (16, 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    texture = np.tile(texture, (2, 1, 1))
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    cell = width / NUM_CELLS
    for number, frame in enumerate(frames):
        left = 3 * number % 256
        frame[:] = texture[:height, left : left + width]
        frame[: height // 4] = 0
        for place in range(NUM_CELLS - 1):
            if place == 0 or number >> (place - 1) & 1:
                frame[: height // 4, int(place * cell) : int((place + 1) * cell)] = 255
    return frames


def number_of(picture: np.ndarray) -> int:
    """Read the number from the strip of an upright picture (H, W, 3) of any size."""
    height, width = picture.shape[:2]
    strip = picture[height // 16 : height * 3 // 16].mean(axis=(0, 2))
    cell = width / NUM_CELLS
    light = [strip[int((k + 0.3) * cell) : int((k + 0.7) * cell)].mean() > 128 for k in range(1, NUM_CELLS - 1)]
    return sum(bit << k for k, bit in enumerate(light))


def tone(seconds: float, *, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """A tone whose height rises, so that each moment sounds different: float32 (C, N)."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.4 * np.sin(2 * np.pi * (300 + 100 * time) * time)
    return np.stack([wave * (1 - 0.1 * channel) for channel in range(channels)]).astype(np.float32)


def silence(seconds: float, *, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.zeros((1, round(seconds * rate_hz)), np.float32)


# Files.


def encode(
    path: Path,
    frames: np.ndarray | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction | int = FPS,
    ticks: list[int] | None = None,
    b_frames: int = 2,
    options: dict[str, str] | None = None,
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    rate_hz: int = RATE_HZ,
    file_options: dict[str, str] | None = None,
    format_name: str | None = None,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write frames (T, H, W, 3), and sound (C, N), as one file; `ticks` are times in units of 1 / fps."""
    if codec.startswith("libx26"):
        options = {"crf": "18", "g": str(GROUP), "bf": str(b_frames), "preset": "veryfast", **(options or {})}
        if codec == "libx264":
            options = {"sc_threshold": "0", "refs": "2", **options}
    elif not codec.startswith("lib"):
        options = {"qmin": "2", "qmax": "6", **(options or {})}
    with av.open(str(path), "w", format=format_name, options=file_options or {}) as container:
        tracks = []
        if frames is not None:
            stream = container.add_stream(codec, rate=fps, options=options or {})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
            stream.codec_context.thread_count = 1
            if not codec.startswith("lib"):
                stream.codec_context.gop_size = GROUP
                if codec in ("mpeg4", "mpeg1video"):
                    stream.codec_context.max_b_frames = b_frames
            if pixel_aspect is not None:
                stream.sample_aspect_ratio = pixel_aspect
            if ticks is not None:
                stream.codec_context.time_base = 1 / Fraction(fps)
            tracks.append((stream, _pictures(frames, ticks, stream, fps)))
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            stream = container.add_stream(
                sound_codec, rate=rate_hz, layout=layout, options={"strict": "experimental"}
            )
            tracks.append((stream, _sounds(sound, rate_hz, stream, layout)))
        for stream, made in tracks:
            for frame in made:
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def _pictures(
    frames: np.ndarray, ticks: list[int] | None, stream: Any, fps: Fraction | int
) -> Iterator[av.VideoFrame]:
    for number, picture in enumerate(frames):
        layout = "rgba" if picture.shape[2] == 4 else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
        frame.pts, frame.time_base = number if ticks is None else ticks[number], 1 / Fraction(fps)
        yield frame


def _sounds(sound: np.ndarray, rate_hz: int, stream: Any, layout: str) -> Iterator[av.AudioFrame]:
    wanted = stream.codec_context.format.name
    resampler = av.AudioResampler(format=wanted, layout=layout, rate=rate_hz)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    yield from resampler.resample(frame)


def copy(
    source: Path,
    path: Path,
    edit: Callable[[int, Any], bool | None] = lambda number, packet: None,
    *,
    tracks: str = "va",
    file_options: dict[str, str] | None = None,
    format_name: str | None = None,
) -> Path:
    """Copy packets; `edit` may change one, told its place in its own track, and drops it by returning False."""
    with (
        av.open(str(source)) as read,
        av.open(str(path), "w", format=format_name, options=file_options or {}) as written,
    ):
        streams = [stream for stream in read.streams if stream.type[0] in tracks]
        targets = {stream.index: written.add_stream_from_template(stream) for stream in streams}
        counts = {stream.index: itertools.count() for stream in streams}
        written.start_encoding()  # a file without packets has a header too
        for packet in read.demux(streams):
            if packet.dts is None or edit(next(counts[packet.stream.index]), packet) is False:
                continue
            packet.stream = targets[packet.stream.index]
            written.mux(packet)
    return path


def join(path: Path, sources: list[Path], *, to_play: list[Path]) -> Path:
    """Put the tracks of several files into one; those of `to_play` are marked as the ones to play, PNG as a cover."""
    with av.open(str(path), "w") as written:
        opened, targets = [av.open(str(source)) for source in sources], []
        for read, source in zip(opened, sources, strict=True):
            targets.append([written.add_stream_from_template(stream) for stream in read.streams])
            kinds = av.stream.Disposition
            kind = kinds.attached_pic if source.suffix == ".png" else kinds.default
            for target in targets[-1]:
                target.disposition = kind if source in to_play or source.suffix == ".png" else kinds(0)
        for read, to in zip(opened, targets, strict=True):
            for packet in read.demux():
                if packet.dts is not None:
                    packet.stream = to[packet.stream.index]
                    written.mux(packet)
            read.close()
    return path


def png(path: Path, picture: np.ndarray) -> Path:
    Image.fromarray(picture).save(path, format="png")
    return path


def shift(packet: Any, seconds: float) -> None:
    ticks = round(seconds / packet.time_base)
    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks


def change(source: Path, path: Path, edit: Callable[[bytearray], object]) -> Path:
    content = bytearray(source.read_bytes())
    edit(content)
    path.write_bytes(content)
    return path


def boxes(content: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Yield (type, start of the content, end) of the boxes of an MP4 and of those inside them."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8:
            return
        yield kind.decode("latin-1"), start + 8, start + size
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"):
            yield from boxes(content, start + 8, start + size)
        start += size


def wav(path: Path, sound: np.ndarray, *, rate_hz: int = RATE_HZ) -> Path:
    """Write sound (C, N) as 16-bit PCM behind a header of 44 bytes."""
    samples = (sound.T * 32767).astype("<i2").tobytes()
    width = 2 * len(sound)
    header = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, len(sound), rate_hz,
                         rate_hz * width, width, 16)  # fmt: skip
    path.write_bytes(header + struct.pack("<4sI", b"data", len(samples)) + samples)
    return path

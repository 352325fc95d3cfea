"""One way to read pictures and sound: PyAV, decord, torchcodec, image files and folders of frames.

    with open_video("clip.mp4") as reader:
        frames = reader.frames([0.0, 0.5, 1.0], short_side=256)   # frames.video: uint8 (3, 3, H, W)
        sound = reader.audio(0.0, 1.0, sample_rate_hz=16_000)     # float32 (16000,)

Frames are addressed by the time at which they are shown, in seconds after the first frame of the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from .audio import AudioReader
from .container import MAX_PIXELS, MediaError, regular_file, sniff
from .images import ImagesReader
from .others import OtherReader
from .pyav import PyAVReader
from .reader import Frames, Reader, VideoInfo
from .series import frame_paths
from .stream import DEFAULT_FPS

__all__ = ["MAX_PIXELS", "AudioReader", "Frames", "MediaError", "Reader", "VideoInfo", "open_audio", "open_video"]

Backend = Literal["pyav", "decord", "torchcodec"]


def open_video(
    path: str | os.PathLike[str],
    *,
    backend: Backend = "pyav",
    fps: float = DEFAULT_FPS,
    index: bytes | None = None,
) -> Reader:
    """Open a video file, an image (a video of one frame) or a folder of images (its frames in natural order).

    Readers belong to the process and the thread that opened them. Open one per use: opening costs a few
    milliseconds, and an open reader does not survive a fork.

    Args:
        path: What it is, its first bytes tell, not its name.
        backend: The decoder of video files. PyAV reads everything; decord (`pip install vidssl[decord]`, Linux
            x86-64 alone) and torchcodec (`pip install vidssl[torchcodec]`) read the files on which they can be
            trusted, PyAV the others; see `OtherReader`, and `Reader.backend` for who it is.
        fps: Frames per second of a folder of images, which cannot say it itself.
        index: What `Reader.packed_index` returned for this file, which spares looking through it again; of no effect
            if the file has changed since. The frames are the same with it and without.

    Raises:
        MediaError: The file cannot be read as video; the reason and, where there is one, the cure are in it.
        ValueError: No such backend.
    """
    if backend not in {"pyav", "decord", "torchcodec"}:
        raise ValueError(f"backend is {backend!r}, expected 'pyav', 'decord' or 'torchcodec'")
    if Path(path).is_dir():
        return ImagesReader(Path(path), frame_paths(Path(path)), fps=fps)
    file = regular_file(path)
    if sniff(file) == "image":
        return ImagesReader(file, [file], fps=fps)
    reader = PyAVReader(file, index=index)
    if backend == "pyav":
        return reader
    return OtherReader(reader, backend=backend)


def open_audio(path: str | os.PathLike[str]) -> AudioReader:
    """Open the sound of a file, with or without pictures; time 0 is its first sample.

    Raises:
        MediaError: The file cannot be read, or holds no sound.
    """
    return AudioReader(regular_file(path))

"""Reading video with decord and torchcodec, as far as they can be trusted."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from .container import describe, printable
from .member import Member
from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from .audio import AudioReader
    from .pyav import PyAVReader

# Seen to agree with PyAV frame for frame. decord's FFmpeg knows no AV1; decord2 now and then breaks off in HEVC.
_CODECS = {"decord": {"h264", "vp8", "vp9"}, "torchcodec": {"h264", "hevc", "vp8", "vp9", "av1"}}

_log = logging.getLogger(__name__)


class OtherReader(Reader):
    """Frames by decord or torchcodec where these can be trusted, by PyAV elsewhere.

    Both are wrong on whole classes of files without saying so: open groups of pictures, MPEG-TS, AVI with B
    frames, edit lists, intra refresh, lying key flags (tests/data/media/test_decoders_agree.py shows it). So PyAV opens
    the file and indexes its packets, and the other decoder is asked only where that index can be trusted, all
    groups of pictures are closed, no edit list hides frames, no key flag lies, and the codec is one that was seen
    to agree. Its answer is taken only if it sees the same number of frames, of the same size, at the same times.
    In every other case PyAV reads the file; then `backend` is "pyav" from there on, and a line with the reason is
    logged at level INFO.

    A decoder is opened for each call of `frames`, with one thread, and dropped after it: kept ones of decord hold
    about 100 MB each. Sound is always read by PyAV, which keeps its offset from the pictures.
    """

    def __init__(self, reader: PyAVReader, *, backend: Literal["decord", "torchcodec"]) -> None:
        super().__init__(reader.info, backend=backend)
        self._reader = reader
        self._decode = {"decord": _decord, "torchcodec": _torchcodec}[backend]
        why_not = reader.trap or (
            "it lies in a shard" if backend == "decord" and isinstance(reader.info.path, Member) else None
        )
        why_not = why_not or (None if reader.info.codec in _CODECS[backend] else f"codec is {reader.info.codec}")
        if why_not is not None:
            self._leave_to_pyav(why_not)

    def _leave_to_pyav(self, why: str) -> None:
        _log.info("%s is read with pyav, not %s: %s", printable(self.info.path), self.backend, why)
        self.backend = self._reader.backend

    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        if self.backend != self._reader.backend:
            scaled = (height, width) != (self.info.height, self.info.width)
            try:
                pictures, times, num_frames = self._decode(
                    self.info.path, numbers, size=(height, width) if scaled else None
                )
            except ImportError:
                raise
            except Exception as error:  # DECORDError, RuntimeError, UnicodeEncodeError for a file name, ...
                self._leave_to_pyav(describe(error))
            else:
                expected = self.info.pts_seconds[list(numbers)]
                if num_frames != self.info.num_frames:
                    self._leave_to_pyav(f"it sees {num_frames} frames, the index {self.info.num_frames}")
                elif pictures.shape[1:] != (height, width, 3):
                    self._leave_to_pyav(f"its frames are {pictures.shape[1:]}, expected {(height, width, 3)}")
                elif not np.allclose(times, expected, rtol=1e-6, atol=1e-4):  # decord's times are float32
                    self._leave_to_pyav("it delivers frames of other times")
                else:
                    yield from zip(numbers, pictures, strict=True)
                    return
        yield from self._reader._pictures(numbers, height=height, width=width)

    def packed_index(self) -> bytes:
        """What opening the file again need not find out."""
        return self._reader.packed_index()

    def _audio_reader(self) -> AudioReader:
        return self._reader._audio_reader()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._reader.close()


def _decord(
    path: Path, numbers: Sequence[int], *, size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], NDArray[np.float64], int]:
    """Return (pictures (n, H, W, 3), seconds after the first frame (n,), frames in the file)."""
    # decord2 shows the symbols of its FFmpeg to the whole process; torchcodec, loaded after it, takes them for its own
    # and crashes.
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        import torchcodec.decoders  # noqa: F401
    try:
        import decord
    except ImportError as error:
        raise ImportError("backend='decord' needs decord: pip install 'vidssl[decord]'") from error
    height, width = size or (-1, -1)
    decoder = decord.VideoReader(str(path), num_threads=1, width=width, height=height)
    seconds = decoder.get_frame_timestamp([0, *numbers])[:, 0].astype(np.float64)
    return decoder.get_batch(list(numbers)).asnumpy(), seconds[1:] - seconds[0], len(decoder)


def _torchcodec(
    path: Path, numbers: Sequence[int], *, size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], NDArray[np.float64], int]:
    """As `_decord`; the file is handed over open, so that no name is taken for a protocol."""
    try:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize
    except (ImportError, OSError, RuntimeError) as error:  # the last two where it finds no FFmpeg
        raise ImportError(
            "backend='torchcodec' needs torchcodec (pip install vidssl[torchcodec]) and the libraries of FFmpeg, "
            f"which the system package ffmpeg brings ({describe(error)})"
        ) from error
    with path.open("rb") as file:
        decoder = VideoDecoder(
            file,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
            transforms=None if size is None else [Resize(size)],
        )
        batch = decoder.get_frames_at(list(numbers))
        first_seconds = decoder.metadata.begin_stream_seconds
        return batch.data.numpy(), batch.pts_seconds.numpy() - first_seconds, len(decoder)

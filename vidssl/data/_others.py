"""Reading video with decord and torchcodec, as far as they can be trusted.

Both are wrong on whole classes of files without saying so: open groups of pictures, MPEG-TS, AVI with B frames, edit
lists, intra refresh, lying key flags (measured with frame numbers burned into the pictures; see
tests/data/test_decoders_agree.py). So one rule holds for both: PyAV opens the file first and indexes its packets.
The other decoder is used only if that index can be trusted, every group of pictures is closed, nothing is hidden by an
edit list, the codec is one that was seen to agree, and it reports the same number of frames, the same size and the same
times. Else PyAV reads the file; `Reader.backend` names who does, and a line is logged at level INFO.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._container import MediaError, describe
from ._pyav import PyAVReader
from ._reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ._audio import AudioReader

_TRUSTED_CODECS = {"decord": {"h264", "hevc", "vp9"}, "torchcodec": {"h264", "hevc", "vp9", "av1"}}

# Decoders report times as float32 or rounded; frames are further apart than this.
_TIME_TOLERANCE_SECONDS = 1e-4

_log = logging.getLogger(__name__)


class _Unfit(Exception):
    """A decoder does not see the file as the packet index does."""


def open_other(reader: PyAVReader, backend: Literal["decord", "torchcodec"]) -> Reader:
    """Return a reader of the same file with another decoder, or `reader` itself where that cannot be trusted.

    Raises:
        ImportError: The decoder is not installed.
    """
    kinds: dict[str, type[DecordReader] | type[TorchcodecReader]]
    kinds = {"decord": DecordReader, "torchcodec": TorchcodecReader}
    try:
        why_not = reader.why_not_elsewhere() or (
            f"codec {reader.info.codec}" if reader.info.codec not in _TRUSTED_CODECS[backend] else None
        )
        if why_not is None:
            return kinds[backend](reader)
    except _Unfit as error:
        why_not = str(error)
    except BaseException:
        reader.close()
        raise
    _log.info("%s is read with pyav, not %s: %s", reader.info.path, backend, why_not)
    return reader


class DecordReader(Reader):
    """Frames by decord (Linux x86-64), addressed by frame number; see the module for when it is used.

    Each call of `frames` opens a decoder of its own with one thread, and drops it: kept decoders hold about 100 MB each,
    and with more threads some files fail. Sound is read by PyAV; decord's own audio reader leaks and drops offsets.
    """

    def __init__(self, reader: PyAVReader) -> None:
        super().__init__(reader.info, backend="decord")
        self._reader = reader
        decoder = self._open(height=-1, width=-1)
        num_frames = len(decoder)
        if num_frames != self.info.num_frames:
            raise _Unfit(f"decord sees {num_frames} frames, the index {self.info.num_frames}")

    def _open(self, *, height: int, width: int) -> Any:
        try:
            import decord
        except ImportError as error:
            raise ImportError("backend='decord' needs decord: pip install vidssl[decord] (Linux x86-64)") from error
        try:
            return decord.VideoReader(
                str(self.info.path), ctx=decord.cpu(0), num_threads=1, width=width, height=height
            )
        except Exception as error:  # DECORDError, RuntimeError, UnicodeEncodeError for names that are not UTF-8
            raise _Unfit(f"decord cannot open it ({describe(error)})") from error

    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        scaled = (height, width) != (self.info.height, self.info.width)
        decoder = self._open(height=height if scaled else -1, width=width if scaled else -1)
        try:
            pictures = decoder.get_batch(list(numbers)).asnumpy()
            times = decoder.get_frame_timestamp(list(numbers))[:, 0] - decoder.get_frame_timestamp(0)[0]
        except Exception as error:
            raise MediaError(self.info.path, f"decord cannot decode it ({describe(error)})") from error
        _check(self.info.path, times, self.info.pts_seconds[list(numbers)], pictures, height=height, width=width)
        yield from zip(numbers, pictures, strict=True)

    def _audio_reader(self) -> AudioReader:
        return self._reader._audio_reader()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._reader.close()


class TorchcodecReader(Reader):
    """Frames by torchcodec in its exact seek mode; see the module for when it is used.

    The file is opened here and handed over as an object, so that no name is taken for a protocol. Sound is read by
    PyAV, which keeps its offset from the pictures.
    """

    def __init__(self, reader: PyAVReader) -> None:
        super().__init__(reader.info, backend="torchcodec")
        self._reader = reader
        num_frames = len(self._open(height=self.info.height, width=self.info.width))
        if num_frames != self.info.num_frames:
            raise _Unfit(f"torchcodec sees {num_frames} frames, the index {self.info.num_frames}")

    def _open(self, *, height: int, width: int) -> Any:
        try:
            from torchcodec.decoders import VideoDecoder
            from torchcodec.transforms import Resize
        except ImportError as error:
            raise ImportError("backend='torchcodec' needs torchcodec: pip install vidssl[torchcodec]") from error
        scaled = (height, width) != (self.info.height, self.info.width)
        try:
            return VideoDecoder(
                self.info.path.open("rb"),
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                seek_mode="exact",
                transforms=[Resize((height, width))] if scaled else None,
            )
        except Exception as error:
            raise _Unfit(f"torchcodec cannot open it ({describe(error)})") from error

    def _pictures(
        self, numbers: Sequence[int], *, height: int, width: int
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        decoder = self._open(height=height, width=width)
        try:
            first = decoder.metadata.begin_stream_seconds
            batch = decoder.get_frames_at(list(numbers))
        except Exception as error:
            raise MediaError(self.info.path, f"torchcodec cannot decode it ({describe(error)})") from error
        pictures, times = batch.data.numpy(), batch.pts_seconds.numpy() - first
        _check(self.info.path, times, self.info.pts_seconds[list(numbers)], pictures, height=height, width=width)
        yield from zip(numbers, pictures, strict=True)

    def _audio_reader(self) -> AudioReader:
        return self._reader._audio_reader()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._reader.close()

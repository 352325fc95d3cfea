"""One video or image of a corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.container import MediaError, regular_file
from ..media.member import Member
from ..media.packets.times import Length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..media.video import Backend, Reader


@dataclass(frozen=True)
class Entry:
    """One video or image of a corpus.

    Args:
        path: Absolute path of the file, or of the folder of frames.
        duration_seconds: From the first frame to the end of the last.
        fps: Mean frame rate.
        num_frames: Frames that can be shown.
        width: Of the upright picture, pixels.
        height: Likewise.
        has_audio: Whether there is an audio stream.
        audio_silent: Whether no sample of it exceeds -80 dB of full scale; None without audio, or if it cannot be
            decoded.
        label: Number of its class in `Corpus.class_names`, -1 without labels.
        source: Name of what it was cut from, where several files may be parts of one recording; else empty.
        index: What `open_video` need not find out again about the file, a few hundred bytes for each ten seconds.
        member: Where it lies in a shard (vidssl.data.corpus.shards); None for a file of its own. Then `path` is
        for people. damage: What looks wrong with a file that can be read all the same, as far as it goes; else
        empty. The scan
            sees what a look at the packets tells; `audit` decodes every picture and sees more.
        parts: (seconds of the first frame, frames, frames per second) of each part between gaps in which nothing was
            recorded; empty without gaps.
    """

    path: Path
    duration_seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    has_audio: bool
    audio_silent: bool | None
    label: int = -1
    source: str = ""
    index: bytes = field(default=b"", repr=False)
    member: Member | None = field(default=None, repr=False)
    damage: str = ""
    parts: Sequence[tuple[float, int, float]] = ()

    @property
    def length(self) -> float:
        """The duration for samplers of clips: a `Length` where there are gaps."""
        return Length(self.duration_seconds, self.parts) if self.parts else self.duration_seconds

    def open(self, *, backend: Backend = "pyav") -> Reader:
        """Open it; see `open_video`.

        Raises:
            MediaError: It cannot be read.
        """
        from ..media.known import index_of
        from ..media.video import open_video

        if self.member is None:
            return open_video(self.path, backend=backend, index=self.index)
        if not self.member.is_remote:
            regular_file(self.member)
        try:
            member, known = self.member.load()
        except OSError as error:
            raise MediaError(self.member, str(error.strerror)) from error
        return open_video(member, backend=backend, index=index_of(known, member))

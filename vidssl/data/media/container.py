"""The one door to the demuxers: which files are opened at all, and with which limits.

A corpus is downloaded from strangers. FFmpeg opens playlists that fetch other files, pipes that never answer
and pictures that need gigabytes; what is refused here never reaches a decoder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .member import Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import AudioStream, Packet, VideoStream
    from av.container import InputContainer
    from av.stream import Stream

# DCI 8K (8192 x 4320), the largest standardised video picture. A frame of it takes 106 MB as RGB; files that
# claim more are damaged or made to exhaust memory (a 20 kB file can hold 8192 x 8192).
MAX_PIXELS = 8192 * 4320

# A clip of 300 frames of 4K video as RGB; what claims more is a mistake, or pictures of absurd proportions whose
# short side is scaled up.
MAX_CLIP_BYTES = 2**33

# A week. Headers that claim more are damaged, and what is counted by the second (windows, clips) has no bound then.
MAX_SECONDS = 7 * 24 * 3600

# The highest rate that is sold (PCM at 16 x 48 kHz); a second of sound at the rate that a header may claim is 16 GB.
MAX_SAMPLE_RATE_HZ = 768_000

# Demuxers of single files that hold sound or pictures. Playlists, streaming manifests, devices and raw text
# formats are absent on purpose.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,gif,ivf,mjpeg,dv,mxf,"
    "nut,rm,obu,yuv4mpegpipe,ogg,wav,w64,mp3,flac,aac,aiff,au,amr,caf"
)

_PLAYLISTS = {b"#EXTM3U": "an HLS playlist", b"ffconcat": "an ffconcat playlist", b"v=0": "an SDP description"}
_EBML, _ASF, _MPEG_PS, _MPEG_ES = (
    b"\x1a\x45\xdf\xa3",
    b"\x30\x26\xb2\x75",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
)


# What is said of files that nobody without their key can read.
ENCRYPTED = "is encrypted; get a copy that is not, or decrypt it: ffmpeg -decryption_key KEY -i IN -c copy OUT"
_MAX_LOOKED_AT = 2**20  # bytes of the head of a file


class MediaError(ValueError):
    """A file that cannot be read as what was asked of it.

    Args:
        path: The file to blame.
        reason: What is wrong with it and, where there is one, the cure.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)  # the two arguments make it picklable
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"

    def reason_for(self, path: str | os.PathLike[str]) -> str:
        """What is wrong with `path`: the reason, behind the name of a frame if it is the folder that holds it."""
        return (
            self.reason
            if self.path.parent != Path(path).absolute()
            else f"{printable(self.path.name)} {self.reason}"
        )


def printable(path: str | os.PathLike[str]) -> str:
    """Spell a file name so that any terminal shows it on one line, whatever bytes it holds."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def regular_file(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a regular file, links followed, without opening it.

    A member of an archive comes back as it is, or with its content if the archive is remote: what opens, sniffs and
    names it takes it for a path.

    Raises:
        MediaError: Absent, a dangling link, a URL, a folder, or a pipe, socket or device (reading may never end); the
            archive is not what it was when it was indexed, or cannot be fetched.
    """
    if isinstance(path, Member):
        return _whole_member(path)  # type: ignore[return-value]
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        if "://" in os.fspath(path):
            raise MediaError(path, "is a URL; only local files are read, download it first") from error
        kind = "is a link to a file that does not exist" if Path(path).is_symlink() else "cannot be found"
        raise MediaError(path, f"{kind} ({error})") from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise MediaError(path, f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a regular file")
    return Path(path).absolute()


def _whole_member(member: Member) -> Member:
    try:
        if member.is_remote:
            return member.held()
        num_bytes = regular_file(member.shard).stat().st_size
    except MediaError as error:
        raise MediaError(member, f"lies in a shard that {error.reason}") from error
    except OSError as error:
        raise MediaError(member, str(error.strerror)) from error
    if num_bytes != member.shard_bytes:
        raise MediaError(
            member,
            f"lies in a shard of {num_bytes} bytes that had {member.shard_bytes} when it was indexed; copy the shard "
            "again, or remove its index",
        )
    return member


def sniff(path: Path) -> Literal["image", "media", "unknown"]:
    """Tell by its first bytes whether a file is a still image, a known media container, or something else.

    Raises:
        MediaError: The file is empty, unreadable, or a playlist that would open other files.
    """
    try:
        with path.open("rb") as file:
            head = file.read(400)
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror})") from error
    if not head:
        raise MediaError(path, "is empty (0 bytes); download or copy it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _PLAYLISTS.items():
        if text.startswith(magic):
            raise MediaError(path, f"is {name}, which names other files; give the media file itself")
    if head.startswith(b"\xff\xd8\xff") and path.suffix.lower() not in {".mjpg", ".mjpeg"}:
        return "image"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"BM")) and (head[:1] == b"\x89" or head[6:10] == bytes(4)):
        return "image"
    # By name as well: raw files of cameras begin as TIFF does.
    if head.startswith((b"II*\0", b"MM\0*")) and path.suffix.lower() in {".tif", ".tiff"}:
        return "image"
    if head[:4] == b"RIFF":
        return "image" if head[8:12] == b"WEBP" else "media"
    known = head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"wide"} or head.startswith(
        (_EBML, _ASF, _MPEG_PS, _MPEG_ES, b"OggS", b"FLV\x01", b"GIF8", b"fLaC", b"ID3", b".RMF", b"DKIF", b"RF64")
    )
    return "media" if known or (head[:1] == b"G" and head[188:189] == b"G") else "unknown"


def open_container(path: Path, *, decode: bool = True) -> InputContainer:
    """Open a regular file with PyAV: local protocols and known demuxers only.

    The caller closes the container: an unclosed one keeps its file and threads until the garbage collector runs.

    Args:
        path: Of the file.
        decode: Whether FFmpeg may decode the first pictures to find out what the header does not say. It takes
            four fifths of the time; what it would find out is left at its default without.

    Raises:
        MediaError: The file is not one that may be opened, or no demuxer understands it.
    """
    import av

    path = regular_file(path)
    sniff(path)
    # Pictures that are skipped tell nothing, so there is a limit to how many are skipped.
    limits = {} if decode else {"skip_frame": "all", "probesize": "32"}
    # A member's bytes come through a file object; then no protocol at all is needed, and none is allowed: a demuxer
    # could else be told to open other files by name.
    file = path.open("rb") if isinstance(path, Member) else None
    try:
        return av.open(
            file or str(path),
            options={"protocol_whitelist": "" if file else "file", **limits},
            container_options={"format_whitelist": FORMATS},
            metadata_errors="replace",
        )
    except Exception as error:  # damaged headers also raise UnicodeDecodeError, MemoryError, IndexError, EOFError
        if file:
            file.close()
        if isinstance(error, av.ArgumentError):  # what FFmpeg says of a format that is not on the list
            cure = "its format is none of those that are read (mp4, mkv, avi, ts, wav, flac, ...), convert it"
            raise MediaError(path, f"is no readable media file: {cure}") from error
        if _names_encryption(path):
            raise MediaError(path, ENCRYPTED) from error
        raise MediaError(path, f"is no readable media file ({describe(error)})") from error


def _names_encryption(path: Path) -> bool:
    """Whether an mp4 file that cannot be opened has an encrypted track (sinf: ISO/IEC 14496-12, 8.12)."""
    with path.open("rb") as file:
        head = file.read(_MAX_LOOKED_AT)
    return b"sinf" in head and (b"encv" in head or b"enca" in head)


def is_encrypted(packet: Packet) -> bool:
    """Whether the container says that it is encrypted (Common Encryption, ISO/IEC 23001-7)."""
    return packet.has_sidedata("encryption_info")


def packets_of(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Yield the packets of a stream, or of all, and close PyAV's generator of them when this one is dropped.

    PyAV 18 loses about 150 bytes with each generator that is dropped before its end and not closed. It ends by
    IndexError at a packet of a stream that was not there when the file was opened, as damaged tables of MPEG-TS make
    them: such packets are left out.
    """
    while True:
        try:
            yield from container.demux(*streams)
        except IndexError:
            continue
        return


def frames_of(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Any]:
    """Yield the frames of a stream; `InputContainer.decode` without what its own `demux` loses (`packets_of`)."""
    for packet in packets_of(container, stream):
        yield from stream.decode(packet)


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what FFmpeg's demuxers and decoders report as errors inside a `with` block; known after its end.

    Much of what is wrong with a file they say, and then go on as if nothing were. For child processes with a time
    limit alone: a log level can deadlock PyAV where decoders have threads.
    """
    import av.logging

    said: list[str] = []
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # What was said last of the file before would be kept back here, and told of the file after.
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as records:
            yield said
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
        # IMGUTILS only repeats sizes that a header claims; the decoder goes by what the stream itself says.
        said += [f"{name}: {text.strip()}".split("\n")[0] for _, name, text in records if name != "IMGUTILS"]


def describe(error: BaseException) -> str:
    """Put a decoder's error in a few words, without the file name it repeats."""
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}".split("\n")[0][:200]


def check_pixels(path: Path, *, width: int, height: int) -> None:
    """Refuse a picture larger than `MAX_PIXELS` before it is decoded.

    Raises:
        MediaError: It is larger.
    """
    if width * height > MAX_PIXELS:
        raise MediaError(
            path,
            f"claims {width} x {height} pixels; at most 8192 x 4320 are decoded, scale it down first",
        )


def check_clip(path: Path, *, num_frames: int, height: int, width: int) -> None:
    """Refuse to decode frames that would take more than `MAX_CLIP_BYTES`, or are larger than `MAX_PIXELS` when scaled.

    Raises:
        MediaError: They do.
    """
    if height * width > MAX_PIXELS or 3 * num_frames * height * width > MAX_CLIP_BYTES:
        raise MediaError(
            path,
            f"{num_frames} frames of {width} x {height} pixels are too much at once; at most 8192 x 4320 pixels and "
            f"{MAX_CLIP_BYTES / 2**30:g} GiB are decoded: ask for fewer frames, or for a smaller short side",
        )


def check_seconds(path: Path, seconds: float) -> None:
    """Refuse a file that claims to last longer than `MAX_SECONDS`.

    Raises:
        MediaError: It does.
    """
    if seconds > MAX_SECONDS:
        raise MediaError(
            path, f"claims to last {seconds:.0f} s; at most a week is read: its header may be damaged"
        )

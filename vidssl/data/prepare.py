"""Re-encoding a corpus for training: small pictures, short groups of pictures, everything else kept.

    print(prepare("my_videos", out="my_videos_256").summary())

Random clips of a downloaded video cost mostly pictures that nobody asked for: those between the last key frame and
the clip. A prepared file has a key frame every eight pictures, none that refer forwards, no arithmetic coding and no
deblocking, and pictures no larger than training looks at.

What stays as it was: the folders and the names, suffixes included (what is in a file, its first bytes say), so that
labels by folder, lists and source patterns go on working; the frames that `open_video` delivers, in number, upright,
each at its time, the first at 0; the sound, at its place in time, silent tracks too. What goes: everything else in
a file, such as further tracks, subtitles, titles and the shape of pixels that are not square (readers ignore it).

    OUT/...                  the videos, H.264 with the sound as it was, or AAC where mp4 does not hold that
    OUT/prepare.json         settings, sizes, clips per second, files that cannot be read
    OUT/.prepare/done.jsonl  what is finished, with size and time of change of its source: the base for going on

Files are encoded in child processes, one thread each, under another name, looked at again, and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import math
import os
import random
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import replacing
from ._audio import AudioReader, audio_stream
from ._container import MediaError, describe, open_container, printable, sniff
from ._isolation import call_each
from ._pyav import PyAVReader, video_stream
from ._sources import Source, find
from .corpus import _stamp
from .video import open_video

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from numpy.typing import NDArray
    from rich.progress import Progress

    from .video import Reader

__all__ = ["Prepared", "encode_file", "prepare"]

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

# The clips that are timed before and after.
_CLIP_FRAMES, _CLIP_STRIDE, _MAX_CLIP_SECONDS = 16, 4, 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Args:
        root: The folder or list that was prepared, absolute.
        out: Where the prepared files are, absolute; the corpus to train on.
        num_encoded: Files encoded now.
        num_kept: Files that were finished before.
        bad: (path, reason) of each file that cannot be read.
        notes: (path, note) of files that are prepared, with something missing.
        num_bytes_before: Of the sources of all finished files.
        num_bytes_after: Of the finished files.
        clips_per_second: (before, after), per second of processor time in one thread: median over a few files, one
            random clip of 16 frames of stride 4 in each, brought to the short side. None if no file could be timed.
    """

    root: Path
    out: Path
    num_encoded: int
    num_kept: int
    bad: tuple[tuple[Path, str], ...]
    notes: tuple[tuple[Path, str], ...]
    num_bytes_before: int
    num_bytes_after: int
    clips_per_second: tuple[float, float] | None

    def summary(self) -> str:
        """Describe the outcome in a few lines, bad files by name."""
        ratio = self.num_bytes_after / max(self.num_bytes_before, 1)
        lines = [
            f"{printable(self.out)}: {self.num_encoded} files encoded, {self.num_kept} were finished before",
            f"size: {self.num_bytes_before / 1e6:.1f} MB before, {self.num_bytes_after / 1e6:.1f} MB after "
            f"({ratio:.2f} times)",
        ]
        if self.clips_per_second:
            before, after = self.clips_per_second
            lines.append(
                f"clips of {_CLIP_FRAMES} frames, stride {_CLIP_STRIDE}, per second and core: {before:.1f} before, "
                f"{after:.1f} after ({after / before:.1f} times)"
            )
        for title, files in (("cannot be read", self.bad), ("prepared, but", self.notes)):
            lines += [f"{title}: {len(files)}"] if files else []
            lines += [f"  {printable(path)}: {text}" for path, text in files]
        return "\n".join(lines)


def prepare(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    short_side_px: int = 256,
    gop_frames: int = 8,
    crf: int = 23,
    num_workers: int | None = None,
    bad_file_budget: float = 0.01,
    timeout_seconds: float = 3600.0,
    num_timed_clips: int = 8,
    progress: bool = True,
) -> Prepared:
    """Re-encode the videos of a folder or list for training; the sources are only read.

    Stopped at any moment, the same call goes on where it was: a file is finished if it was encoded with the same
    settings from a source of the same size and time of change. Folders of frames become one video each, of 24
    frames per second. A list is written to `out` too, without the files that cannot be read.

    Args:
        source: Folder, list (.txt) or table (.csv) of videos, see `Corpus.scan`. Paths in a list must lie in or
            below its folder.
        out: Folder for the prepared files: new, or from an earlier call.
        short_side_px: Height or width, whichever is smaller; even. Smaller pictures keep their size (odd heights and
            widths become even: H.264 halves its colours).
        gop_frames: Frames from one key frame to the next.
        crf: Quality of H.264 from 0 (lossless) to 51; 6 less is about twice the size.
        num_workers: Files encoded at a time; None is the number of processors.
        bad_file_budget: Share of the files that may turn out unreadable (one always may).
        timeout_seconds: Longest time for one file; a file that takes longer is bad.
        num_timed_clips: Random clips that are timed before and after, at the end.
        progress: Show a progress bar.

    Raises:
        OSError: The output cannot be written.
        ValueError: A setting is out of range; nothing was found; `out` and the source lie in one another, or `out`
            holds other things; another process is preparing into `out`; more files are bad than the budget allows.
    """
    settings = _checked(short_side_px=short_side_px, gop_frames=gop_frames, crf=crf)
    found = find(Path(source), labels="none", media="video")
    base = found.root if found.root.is_dir() else found.root.parent
    out = Path(out).absolute()
    _check_places(found, base, out)
    with _Ledger.open(out) as ledger:
        paths = {os.fspath(path.relative_to(base)): path for path in found.paths}
        stamps = {name: _stamp(path) for name, path in paths.items()}
        todo = [name for name in paths if not ledger.holds(name, stamps[name], settings)]
        num_kept = len(paths) - len(todo)
        if num_kept:
            _log.info("%d of %d files are finished already", num_kept, len(paths))
        bad: dict[str, str] = {}
        requests = [
            json.dumps({"source": os.fspath(paths[name]), "target": os.fspath(out / name), **settings,
                        "temporary": os.fspath(ledger.folder / f"{number}.tmp")})
            for number, name in enumerate(todo)
        ]  # fmt: skip
        answers = call_each(
            "vidssl.data.prepare:encode",
            requests,
            num_workers=num_workers or os.cpu_count() or 1,
            timeout_seconds=timeout_seconds,
        )
        sizes = [stamps[name][0] for name in todo]
        title = f"prepare {printable(found.root)}"
        with contextlib.closing(answers), _bar(title, sizes, show=progress) as advance:
            for place, answer in answers:
                name = todo[place]
                if "unwritable" in answer:
                    raise OSError(answer["unwritable"])
                reason = answer.get("died") or answer.get("reason")
                if reason is None:
                    ledger.add(name, stamps[name], settings, answer)
                else:
                    bad[name] = reason
                    _log.warning("%s: %s", printable(paths[name]), reason)
                    _check_budget(bad, paths, budget=bad_file_budget)
                advance(place)
        good = [name for name in paths if name not in bad]
        if not found.root.is_dir():
            _write_list(found, bad={paths[name] for name in bad}, out=out)
        records = [ledger.records[name] for name in good]
        result = Prepared(
            root=found.root,
            out=out,
            num_encoded=len(todo) - len(bad),
            num_kept=num_kept,
            bad=tuple((paths[name], reason) for name, reason in bad.items()),
            notes=tuple((paths[name], note) for name in good if (note := ledger.records[name]["note"])),
            num_bytes_before=sum(stamps[name][0] for name in good),
            num_bytes_after=sum(record["num_bytes"] for record in records),
            clips_per_second=_clips_per_second(
                [(paths[name], out / name) for name in good],
                num_clips=num_timed_clips,
                short_side_px=short_side_px,
            ),
        )
        _write_report(result, settings)
    return result


def _checked(*, short_side_px: int, gop_frames: int, crf: int) -> dict[str, int]:
    if short_side_px < 2 or short_side_px % 2:
        raise ValueError(f"short_side_px is {short_side_px}, expected an even number of at least 2")
    if gop_frames < 1:
        raise ValueError(f"gop_frames is {gop_frames}, expected at least 1")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf is {crf}, expected 0 (lossless) to 51")
    return {"short_side_px": short_side_px, "gop_frames": gop_frames, "crf": crf}


def _check_places(found: Source, base: Path, out: Path) -> None:
    """Refuse every layout in which an output could be taken for a source, or lie over one."""
    true_out, true_base = out.resolve(), base.resolve()
    if found.root.is_dir() and (true_out.is_relative_to(true_base) or true_base.is_relative_to(true_out)):
        raise ValueError(
            f"--out {printable(out)} and the videos in {printable(base)} lie in one another; give a folder beside it, "
            f"such as {printable(base.with_name(base.name + '_prepared'))}"
        )
    for path in found.paths:
        if not path.is_relative_to(base) or ".." in path.relative_to(base).parts:
            raise ValueError(
                f"{printable(found.root)} lists {printable(path)}, which does not lie below the list's folder; "
                "put the list where all its files are below it"
            )
        if path.resolve().is_relative_to(true_out):
            raise ValueError(f"{printable(path)} lies in --out {printable(out)}; give another folder")


def _check_budget(bad: dict[str, str], paths: dict[str, Path], *, budget: float) -> None:
    if len(bad) <= max(1, math.floor(budget * len(paths))):
        return
    shown = "".join(f"\n  {printable(paths[name])}: {reason}" for name, reason in bad.items())
    raise ValueError(
        f"{len(bad)} of {len(paths)} files cannot be read, more than the share of {budget:g} that may be; repair or "
        f"remove them, or raise --bad-file-budget; what is finished is kept:{shown}"
    )


def _write_list(found: Source, *, bad: set[Path], out: Path) -> None:
    """Write a list with the paths and labels of the one that was read, bad files left out."""
    comma = found.root.suffix.lower() == ".csv"
    lines = []
    for path, label in zip(found.paths, found.labels, strict=True):
        if path not in bad:
            name = os.fspath(path.relative_to(found.root.parent))
            row = [name] if label < 0 else [name, found.class_names[label]]
            quoted = ['"' + cell.replace('"', '""') + '"' for cell in row]
            lines.append(",".join(quoted) if comma else "\t".join(row))
    text = "".join(f"{line}\n" for line in lines)
    with replacing(out / found.root.name) as temporary:
        temporary.write_bytes(text.encode(errors="surrogateescape"))


def _write_report(result: Prepared, settings: dict[str, int]) -> None:
    before, after = result.clips_per_second or (None, None)
    report = {
        "source": os.fspath(result.root),
        "settings": settings,
        "num_files": result.num_encoded + result.num_kept,
        "num_bytes_before": result.num_bytes_before,
        "num_bytes_after": result.num_bytes_after,
        "clips_per_second_before": before,
        "clips_per_second_after": after,
        "bad": [[os.fspath(path), reason] for path, reason in result.bad],
        "notes": [[os.fspath(path), note] for path, note in result.notes],
    }
    with replacing(result.out / "prepare.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")


class _Ledger:
    """What is finished in an output folder; one process at a time writes there."""

    def __init__(self, folder: Path, records: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.records = records
        self._file = folder / "done.jsonl"

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: Path) -> Iterator[_Ledger]:
        """Take possession of `out`, remove what a killed process left half done, read what is finished."""
        folder = out / ".prepare"
        if out.exists() and not folder.is_dir() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"--out {printable(out)} holds other things; give a folder that is new or empty")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(f"another process is preparing into {printable(out)}; wait for it") from error
            for leftover in folder.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
            ledger = cls(folder, {})
            ledger._read()
            yield ledger

    def _read(self) -> None:
        if not self._file.exists():
            return
        whole, _, cut = self._file.read_bytes().rpartition(b"\n")
        if cut:  # a kill in the middle of a line
            self._file.write_bytes(whole + b"\n" if whole else b"")
        for line in whole.splitlines():
            record = json.loads(line)
            self.records[record.pop("path")] = record

    def holds(self, name: str, stamp: list[int], settings: dict[str, int]) -> bool:
        """Whether a file is finished: same source, same settings, and still there."""
        record = self.records.get(name)
        if record is None or record["stamp"] != stamp or record["settings"] != settings:
            return False
        try:
            return (self.folder.parent / name).stat().st_size == record["num_bytes"]
        except OSError:
            return False

    def add(self, name: str, stamp: list[int], settings: dict[str, int], answer: dict[str, Any]) -> None:
        self.records[name] = {"stamp": stamp, "settings": settings, **answer}
        with self._file.open("a") as file:
            file.write(json.dumps({"path": name, **self.records[name]}) + "\n")


@contextlib.contextmanager
def _bar(title: str, sizes: Sequence[int], *, show: bool) -> Iterator[Any]:
    """Progress by bytes of the sources, of which the time that remains is estimated; yields what advances it."""
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[num_done]}/{task.fields[num_files]} files"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    num_done = itertools.count(1)
    bar: Progress
    with Progress(*columns, disable=not show or not sizes) as bar:
        task = bar.add_task(escape(title), total=sum(sizes), num_done=0, num_files=len(sizes))
        yield lambda place: bar.update(task, advance=sizes[place], num_done=next(num_done))


# -- in the child processes


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
        return {"reason": error.reason}
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
    source: Path, target: Path, *, short_side_px: int = 256, gop_frames: int = 8, crf: int = 23
) -> dict[str, Any]:
    """Encode one video to mp4 and look at the result; see `prepare`.

    Returns:
        {"num_frames": frames, "note": what is missing, empty if nothing}.

    Raises:
        MediaError: The source cannot be read, or was not encoded right.
    """
    import av

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
            packets = sound.packets(container)
            following = next(packets, None)
            durations = np.append(np.diff(ticks), max(1, round(1 / info.fps / float(unit))))
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
    return {"num_frames": info.num_frames, "note": sound.note}


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
            try:
                for packet in source.demux(stream) if stream else ():
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
                    samples = samples.mean(axis=0, keepdims=True).repeat(num_channels, axis=0)
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


# -- what it has brought


def _clips_per_second(
    pairs: Sequence[tuple[Path, Path]], *, num_clips: int, short_side_px: int
) -> tuple[float, float] | None:
    """Time random clips of a few files before and after; the same clips each time this is called."""
    draws = random.Random(0)
    requests = [
        json.dumps({"files": [os.fspath(path) for path in draws.choice(pairs)], "short_side_px": short_side_px,
                    "start": draws.random()})
        for _ in range(num_clips if pairs else 0)
    ]  # fmt: skip
    answers = call_each(
        "vidssl.data.prepare:time_clip", requests, num_workers=1, timeout_seconds=_MAX_CLIP_SECONDS
    )
    seconds = [answer["seconds"] for _, answer in answers if "seconds" in answer]
    if not seconds:
        return None
    before, after = np.median(np.array(seconds), axis=0)
    return float(1 / before), float(1 / after)


def time_clip(request: str) -> dict[str, Any]:
    """Read one clip from each of two files: {"seconds": processor time of each}, opening and closing included."""
    wanted = json.loads(request)
    seconds = []
    try:
        with open_video(wanted["files"][-1]) as reader:
            reader.frames([0.0])  # imports what is imported on first use
        for file in wanted["files"]:
            begin = time.process_time()
            with open_video(file) as reader:
                last = max(0, reader.info.num_frames - 1 - _CLIP_STRIDE * (_CLIP_FRAMES - 1))
                first = round(wanted["start"] * last)
                times = (first + _CLIP_STRIDE * np.arange(_CLIP_FRAMES)) / reader.info.fps
                reader.frames(times.tolist(), short_side=wanted["short_side_px"])
            seconds.append(time.process_time() - begin)
    except MediaError as error:
        return {"reason": error.reason}
    return {"seconds": seconds}

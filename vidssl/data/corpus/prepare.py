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
    OUT/000000.tar, ...      with `shards=True` the same videos in a few large files, see vidssl.data.corpus.shards
    OUT/prepare.json         settings, sizes, clips per second, files that cannot be read
    OUT/.prepare/done.jsonl  what is finished, with size and time of change of its source: the base for going on
    OUT/.prepare/source.json the folder or list that it was made from: another one is refused

Files are encoded in child processes, one thread each, under another name, looked at again, and then renamed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import replacing
from ..lists.sources import Source, find
from ..media.container import printable
from ..media.isolation import allowed_seconds, call_each
from .cache import stamp_of
from .ledger import _Ledger
from .timing import _CLIP_FRAMES, _CLIP_STRIDE, _clips_per_second

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence


__all__ = ["Prepared", "prepare"]


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Args:
        root: The folder or list that was prepared, absolute.
        out: Where the prepared files are, absolute; the corpus to train on.
        num_encoded: Files encoded now.
        num_kept: Files that were finished before.
        num_other: Files of the source that are no videos; they are not copied.
        others: The same by suffix, with the first names, in words.
        bad: (path, reason) of each file that cannot be read, and of each folder that cannot be entered.
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
    num_other: int
    bad: tuple[tuple[Path, str], ...]
    notes: tuple[tuple[Path, str], ...]
    num_bytes_before: int
    num_bytes_after: int
    clips_per_second: tuple[float, float] | None
    others: str = ""

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
        if self.num_other:
            lines.append(f"passed over, not copied: {self.others}")
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
    crf: int = 25,
    num_workers: int | None = None,
    bad_file_budget: float = 0.01,
    timeout_seconds: float = 3600.0,
    num_timed_clips: int = 8,
    progress: bool = True,
    shards: bool = False,
    shard_gib: float = 1.0,
) -> Prepared:
    """Re-encode the videos of a folder or list for training; the sources are only read.

    Stopped at any moment, the same call goes on where it was: a file is finished if it was encoded with the same
    settings from a source of the same size and time of change. Folders of frames become one video each, of 24
    frames per second. A list is written to `out` too, without the files that cannot be read.

    Args:
        source: Folder, list (.txt) or table (.csv) of videos, see `scan`. Paths in a list must lie in or
            below its folder.
        out: Folder for the prepared files: new, or from an earlier call.
        short_side_px: Height or width, whichever is smaller; even. Smaller pictures keep their size (odd heights and
            widths become even: H.264 halves its colours).
        gop_frames: Frames from one key frame to the next.
        crf: Quality of H.264 from 0 (lossless) to 51; 6 less is about twice the size.
        num_workers: Files encoded at a time; None is the number of processors.
        bad_file_budget: Share of the files that may turn out unreadable (one of several always may).
        timeout_seconds: Longest time for one file, and 4 s more for each of its megabytes; a file that takes longer
            is bad.
        num_timed_clips: Random clips that are timed before and after, at the end.
        progress: Show a progress bar.
        shards: Pack the prepared files into tar files (vidssl.data.corpus.shards), in the order of the source, with the
            labels of a list. Shards are never rewritten: files that come to the source later go to new ones.
        shard_gib: Size of a shard at most, GiB.

    Raises:
        OSError: The output cannot be written.
        ValueError: A setting is out of range; nothing was found; `out` and the source lie in one another, or `out`
            holds other things, or what was made from another source; another process is preparing into `out`; more
            files are bad than the budget allows; files that are packed have changed or are gone.
    """
    settings = _checked(short_side_px=short_side_px, gop_frames=gop_frames, crf=crf)
    if not shard_gib > 0:
        raise ValueError(f"shard_gib is {shard_gib}, expected more than 0")
    found = find(Path(source), labels="none", media="video")
    found.refuse_parts()
    if not found.paths:
        raise ValueError("; ".join(f"{printable(folder)} {reason}" for folder, reason in found.closed))
    base = found.root if found.root.is_dir() else found.root.parent
    out = Path(out).absolute()
    _check_places(found, base, out)
    if found.root in found.paths:  # it is one video, a folder of frames
        base = found.root.parent
    paths = {os.fspath(path.relative_to(base)): path for path in found.paths}
    stamps = {name: stamp_of(path) for name, path in paths.items()}
    closed = {os.fspath(folder.relative_to(base)): reason for folder, reason in found.closed}
    paths |= {name: base / name for name in closed}
    _check_budget(closed, paths, budget=bad_file_budget)
    with _Ledger.open(out, shards=shards) as ledger:
        ledger.check_source(found.root, stamps)
        ledger.check_packed(stamps, settings)
        todo = [name for name in stamps if not ledger.holds(name, stamps[name], settings)]
        if len(todo) < len(stamps):
            _log.info("%d of %d files are finished already", len(stamps) - len(todo), len(stamps))
        bad = dict(closed)
        sizes = {name: max(0, stamps[name][0]) for name in todo}
        answers = _encode_all(
            todo,
            paths,
            ledger,
            settings,
            num_bytes=sizes,
            num_workers=num_workers,
            timeout_seconds=timeout_seconds,
        )
        with _stoppable(answers), _bar(f"prepare {printable(base)}", sizes, show=progress) as advance:
            for name, answer in answers:
                if "unwritable" in answer:
                    raise OSError(answer["unwritable"])
                reason = answer.get("died") or answer.get("reason")
                if reason is None:
                    ledger.add(name, stamps[name], settings, answer)
                else:
                    bad[name] = reason
                    _log.warning("%s: %s", printable(paths[name]), reason)
                    _check_budget(bad, paths, budget=bad_file_budget)
                advance(name)
        good = [name for name in paths if name not in bad]
        pairs = [(paths[name], place) for name in good if (place := ledger.place(name)).exists()]
        clips_per_second = _clips_per_second(pairs, num_clips=num_timed_clips, short_side_px=short_side_px)
        if shards:
            _pack(ledger, good, found, base, max_bytes=round(shard_gib * 2**30), progress=progress)
        elif not found.root.is_dir():
            _write_list(found, bad={paths[name] for name in bad}, out=out)
        result = Prepared(
            root=found.root,
            out=out,
            num_encoded=len(todo) - len(bad) + len(closed),
            num_kept=len(stamps) - len(todo),
            num_other=len(found.others),
            others=str(found.others) if found.others else "",
            bad=tuple((paths[name], reason) for name, reason in bad.items()),
            notes=tuple((paths[name], note) for name in good if (note := ledger.records[name]["note"])),
            num_bytes_before=sum(stamps[name][0] for name in good),
            num_bytes_after=sum(ledger.records[name]["num_bytes"] for name in good),
            clips_per_second=clips_per_second,
        )
        _write_report(result, settings)
    return result


@contextlib.contextmanager
def _stoppable(answers: Generator[Any, None, None]) -> Iterator[None]:
    """End the child processes on the way out, whatever the reason."""
    with contextlib.closing(answers):
        try:
            yield
        except KeyboardInterrupt:
            _log.info("what is finished is kept; the same command goes on from there")
            raise


def _encode_all(
    names: Sequence[str],
    paths: Mapping[str, Path],
    ledger: _Ledger,
    settings: Mapping[str, int],
    *,
    num_bytes: Mapping[str, int],
    num_workers: int | None,
    timeout_seconds: float,
) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Encode files in child processes; yield (name, answer of `_encode.encode`) as they come."""
    requests = [
        json.dumps(
            {
                "source": os.fspath(paths[name]),
                "target": os.fspath(ledger.place(name)),
                "temporary": os.fspath(ledger.folder / f"{number}.tmp"),
                **settings,
            }
        )
        for number, name in enumerate(names)
    ]
    answers = call_each(
        "vidssl.data.corpus.pack:encode_and_look" if ledger.packer else "vidssl.data.corpus.encode:encode",
        requests,
        num_workers=num_workers or os.cpu_count() or 1,
        timeout_seconds=[allowed_seconds(num_bytes[name], timeout_seconds=timeout_seconds) for name in names],
    )
    for place, answer in answers:
        yield names[place], answer


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
        if Path(os.path.realpath(path)).is_relative_to(true_out):  # `resolve` raises where links lead in circles
            raise ValueError(f"{printable(path)} lies in --out {printable(out)}; give another folder")


def _check_budget(bad: Mapping[str, str], paths: Mapping[str, Path], *, budget: float) -> None:
    one_of_several = min(1, len(paths) - 1)
    if len(bad) <= max(one_of_several, math.floor(budget * len(paths))):
        return
    shown = "".join(f"\n  {printable(paths[name])}: {reason}" for name, reason in bad.items())
    raise ValueError(
        f"{len(bad)} of {len(paths)} files cannot be read, more than the share of {budget:g} that may be; repair or "
        f"remove them, or raise --bad-file-budget; what is finished is kept:{shown}"
    )


def _write_list(found: Source, *, bad: set[Path], out: Path) -> None:
    """Write a list with the paths and labels of the one that was read, bad files left out."""
    comma = found.root.suffix.lower() == ".csv"  # tabs otherwise
    lines = []
    for path, label in zip(found.paths, found.labels, strict=True):
        if path not in bad:
            name = os.fspath(path.relative_to(found.root.parent))
            row = [name] if label < 0 else [name, found.class_names[label]]
            quoted = ['"' + cell.replace('"', '""') + '"' for cell in row]
            needs_quotes = comma or any('"' in cell for cell in row)
            lines.append(("," if comma else "\t").join(quoted if needs_quotes else row))
    text = "".join(f"{line}\n" for line in lines)
    with replacing(out / found.root.name) as temporary:
        temporary.write_bytes(text.encode(errors="surrogateescape"))


def _pack(
    ledger: _Ledger, good: Sequence[str], found: Source, base: Path, *, max_bytes: int, progress: bool
) -> None:
    """Pack what is encoded into shards and write their index."""
    assert ledger.packer is not None
    facts = {name: record["facts"] for name, record in ledger.records.items()}
    labels = {
        os.fspath(path.relative_to(base)): (label, found.class_names[label])
        for path, label in zip(found.paths, found.labels, strict=True)
        if label >= 0
    }
    todo = [name for name in good if name not in ledger.packer.packed]
    ledger.flush()
    sizes = {name: ledger.records[name]["num_bytes"] for name in todo}
    with _bar(f"pack {printable(ledger.out)}", sizes, show=progress) as advance:
        ledger.packer.pack(todo, facts, labels=labels, max_bytes=max_bytes, advance=advance)
    ledger.packer.save_index(facts, labels=labels, class_names=found.class_names)


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


@contextlib.contextmanager
def _bar(title: str, sizes: Mapping[str, int], *, show: bool) -> Iterator[Callable[[str], None]]:
    """Progress by bytes of the sources, from which the time that remains is estimated; yields what advances it."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[num_done]}/{task.fields[num_files]} files"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    num_done = itertools.count(1)
    with Progress(*columns, disable=not show or not sizes) as bar:
        task = bar.add_task(escape(title), total=sum(sizes.values()), num_done=0, num_files=len(sizes))
        yield lambda name: bar.update(task, advance=sizes[name], num_done=next(num_done))

"""Published archives of data sets: checked, unpacked without trusting them, and arranged whole or not at all.

Used by datasets/prepare_*.py. Nothing is ever downloaded: the user gives the files.

An archive may name files outside the folder it is unpacked into, hold links, or blow up to any size. Here only regular
files are written, under names that stay below the folder, by our own code, up to a limit; anything else is an error
that names the entry, and nothing of the archive stays behind.
"""

import gzip
import hashlib
import io
import json
import logging
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypedDict

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..json_files import read_json
from ._archive_limits import (
    bounded_headers,
    check_members,
    check_ratio,
    check_zip_directory,
    check_zip_member,
    unpacked,
)
from ._rar import RAR4, list_rar, unpack_rar

GIB = 2**30
RECORD = "prepared.json"
# What the operating systems of those who pack leave in archives.
LITTER = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|\._|Thumbs\.db$|desktop\.ini$)")

logger = logging.getLogger(__name__)


class _File(TypedDict):
    num_bytes: int


class _Prepared(TypedDict):
    files: dict[str, _File]


@dataclass(frozen=True)
class Published:
    """A file as the authors of a data set publish it.

    Args:
        name: Of the file.
        origin: Where it is to be had, for people.
        md5: As the authors give it, lower case; None where they give none.
    """

    name: str
    origin: str
    md5: str | None = None


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive.

    Args:
        name: As stored.
        num_bytes: Its size when unpacked.
        open: Gives its content; call it before the next member is asked for.
    """

    name: str
    num_bytes: int
    open: Callable[[], IO[bytes]]


# Preparing a data set.


def prepare(
    out: Path,
    given: Sequence[tuple[Published, Path | None]],
    fill: Callable[[Path], Mapping[str, Any]],
    *,
    expected: Mapping[str, Any] | None = None,
    check: bool = True,
) -> bool:
    """Arrange published files into the folder `out`, whole or not at all.

    `fill` writes into a temporary folder beside `out`, which takes its place when all is done. What was given and
    counted is written to OUT/prepared.json. A folder that was prepared from the same files is left as it is.

    Args:
        out: Folder of the data set; new or empty.
        given: Published files, and where the user has them.
        fill: Writes the data set into a folder; returns what it counted, such as {"videos": 13320}.
        expected: The same counts, as published.
        check: Whether checksums and counts that differ from the published ones are an error.

    Returns:
        Whether anything was done.

    Raises:
        ValueError: A file is missing or differs from the published one, an archive cannot be trusted, counts differ,
            or `out` holds something else.
    """
    paths = present(given)
    sizes = {path.name: path.stat().st_size for path in paths}
    if (out / RECORD).is_file():
        known = read_json(out / RECORD, _Prepared)["files"]
        if {name: facts["num_bytes"] for name, facts in known.items()} == sizes:
            logger.info("%s is there already, from the same files; nothing to do", out)
            return False
        raise ValueError(
            f"{out} was prepared from other files ({', '.join(known)}); choose another folder, or remove it"
        )
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} already holds files; the data set needs a new or an empty folder")
    files = {
        path.name: {"num_bytes": sizes[path.name], **checksums(path, published, check=check)}
        for (published, _), path in zip(given, paths, strict=True)
    }
    temporary = out.parent / f".{out.name}.preparing"
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    try:
        counts = dict(fill(temporary))
        if check and expected is not None and counts != {**counts, **expected}:
            raise ValueError(
                f"the files hold {_listed(counts)}; published are {_listed(expected)}. An archive is missing or not "
                "whole; --no-check takes them as they are"
            )
        (temporary / RECORD).write_text(json.dumps({"files": files, "counts": counts}, indent=1) + "\n")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("%s holds %s", out, _listed(counts))
    return True


def present(given: Iterable[tuple[Published, Path | None]]) -> list[Path]:
    """Paths of the files that were given.

    Raises:
        ValueError: Some are missing; the message says which, and where they are to be had.
    """
    given = list(given)
    missing = [
        f"{published.name} ({f'{path} is no file' if path else 'not given'}) from {published.origin}"
        for published, path in given
        if path is None or not path.is_file()
    ]
    if missing:
        raise ValueError(f"nothing is downloaded here; get {'; '.join(missing)}, and give the path")
    names = [path.name for _, path in given if path]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the files given are called {name}")
    return [path for _, path in given if path]


def checksums(path: Path, published: Published, *, check: bool = True) -> dict[str, str]:
    """SHA-256 of a file, and its MD5 where one is published, which it must match.

    Raises:
        ValueError: The MD5 is another one.
    """
    digests = {"sha256": hashlib.sha256()}
    if published.md5:
        digests["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream, progress(f"checking {path.name}", path.stat().st_size) as advance:
        while block := stream.read(2**20):
            for digest in digests.values():
                digest.update(block)
            advance(len(block))
    found = {name: digest.hexdigest() for name, digest in digests.items()}
    if published.md5 and check and found["md5"] != published.md5:
        raise ValueError(
            f"{path} has the MD5 {found['md5']}; {published.name} is published with {published.md5}. It is damaged or "
            "another file: get it again. --no-check takes it as it is"
        )
    if not published.md5:
        logger.info("%s: no checksum is published; its SHA-256 is %s", path.name, found["sha256"])
    return found


def script(function: Callable[..., Any]) -> None:
    """Run a function as a command whose options are its signature; what the user did wrong is one paragraph."""
    import tyro

    handler = RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    try:
        tyro.cli(function)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)


# Unpacking.


def extract(
    archive: Path | Sequence[Path],
    out: Path,
    *,
    max_bytes: int,
    place: Callable[[str], str | None] = lambda name: name,
) -> int:
    """Unpack a zip, tar (also compressed) or rar archive.

    Args:
        archive: The file; several are parts of one tar archive, in order.
        out: Folder to write into.
        max_bytes: What it may hold unpacked; twice what the data set really has leaves room for new releases.
        place: Name in the archive, with / between folders -> path below `out`, or None for what is not wanted.
            Litter of operating systems (__MACOSX, .DS_Store) never gets here.

    Returns:
        Number of files written.

    Raises:
        ValueError: The archive is damaged, holds links, devices, encrypted files or names that lead out of `out`, two
            different files for one place, or more than `max_bytes`; or the disk has no room.
    """
    label = str(archive if isinstance(archive, Path) else archive[0])
    out.mkdir(parents=True, exist_ok=True)
    with damage_named(label):
        if isinstance(archive, Path):
            found = members(archive, out, max_bytes=max_bytes)
            size = archive.stat().st_size
            return write(found, out, max_bytes=max_bytes, place=place, label=label, num_packed=size)
        with io.BufferedReader(_Joined(archive)) as stream:
            found = tar_members(stream, label)
            size = sum(part.stat().st_size for part in archive)
            return write(found, out, max_bytes=max_bytes, place=place, label=label, num_packed=size)


def write(
    found: Iterable[Member],
    out: Path,
    *,
    max_bytes: int,
    label: str,
    place: Callable[[str], str | None] = lambda name: name,
    num_packed: int | None = None,
) -> int:
    """Write members of an archive of `num_packed` bytes below `out`; see `extract`."""
    num_files = num_bytes = 0
    with progress(f"unpacking {Path(label).name}", None) as advance:
        for member in found:
            name = safe_name(member.name, label)
            num_bytes += member.num_bytes
            _check_total(num_bytes, max_bytes, label)
            if num_packed is not None:
                check_ratio(num_bytes, num_packed, label)
            target = None if LITTER.search(name) else place(name)
            if target is not None:
                with member.open() as stream:
                    _copy(stream, out / safe_name(target, label), label=label)
                num_files += 1
            advance(member.num_bytes)
    return num_files


def _check_total(num_bytes: int, max_bytes: int | None, label: str) -> None:
    if max_bytes is not None and num_bytes > max_bytes:
        raise ValueError(
            f"{label} holds more than {max_bytes / GIB:.3g} GiB, the most expected; is it the right file?"
        )


def members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of an archive, in its order; rar archives are unpacked to a folder inside `scratch` meanwhile."""
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from zip_members(path, scratch, max_bytes=max_bytes)
    elif magic[: len(RAR4) - 1] == RAR4[:-1]:
        yield from rar_members(path, scratch, max_bytes=max_bytes)
    else:
        with path.open("rb") as stream:
            yield from tar_members(stream, str(path))


def zip_members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of a zip archive."""
    check_zip_directory(path)
    with zipfile.ZipFile(path) as archive:
        check_members(len(archive.infolist()), str(path))
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_total(sum(info.file_size for info in infos), max_bytes, str(path))
        _room(sum(info.file_size for info in infos), scratch, str(path))
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise ValueError(f"{path} holds {info.filename!r}, which is a link or a device; refused")
            if info.flag_bits & 1:
                raise ValueError(f"{path} holds {info.filename!r}, which is encrypted; no published data set is")
            check_zip_member(info, str(path))
            yield Member(info.filename, info.file_size, partial(archive.open, info))


def tar_members(stream: IO[bytes], label: str) -> Iterator[Member]:
    """Regular files of a tar archive, compressed or not, read from front to back."""
    # Content is read here and written by `_copy`, so the extraction filters of tarfile, which Python has from 3.10.12
    # and 3.11.4 on, are not needed: owners, modes and links of the archive never reach the disk.
    with tarfile.open(fileobj=unpacked(stream), mode="r|", tarinfo=bounded_headers(label)) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise ValueError(f"{label} holds {info.name!r}, which is a link or a device; refused")
            yield Member(info.name, info.size, partial(_opened, archive, info))


def rar_members(path: Path, scratch: Path, *, max_bytes: int | None = None) -> Iterator[Member]:
    """Regular files of a rar archive, which another program unpacks to a folder inside `scratch` first."""
    entries = list_rar(path)
    for entry in entries:
        safe_name(entry.name, str(path))
        if entry.trouble:
            raise ValueError(f"{path} holds {entry.name!r}, which is {entry.trouble}; refused")
    listed = sorted(entry.num_bytes for entry in entries if not entry.is_folder)
    check_ratio(sum(listed), path.stat().st_size, str(path))
    _check_total(sum(listed), max_bytes, str(path))
    _room(2 * sum(listed), scratch, str(path))
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".rar-") as folder:
        unpack_rar(path, Path(folder), max_file_bytes=max(listed, default=0))
        found = sorted(item for item in Path(folder).rglob("*") if item.is_symlink() or not item.is_dir())
        if any(not stat.S_ISREG(item.lstat().st_mode) for item in found):
            raise ValueError(f"{path} holds links or devices; refused")
        if sorted(item.lstat().st_size for item in found) != listed:
            raise ValueError(
                f"{path} lists {len(listed)} files, of which {len(found)} came out whole; get it again"
            )
        for item in found:
            yield Member(item.relative_to(folder).as_posix(), item.stat().st_size, partial(_content, item))


def safe_name(name: str, label: str) -> str:
    """A name of an archive with / between folders.

    Raises:
        ValueError: It leads out of the folder it is meant for.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or re.match("[A-Za-z]:", name):
        raise ValueError(f"{label} holds {name!r}, which leads out of the folder it is unpacked into; refused")
    return path.as_posix()


def below(*folders: str) -> Callable[[str], str | None]:
    """A `place` that keeps what lies in a folder of one of these names, wherever that is in the archive."""

    def place(name: str) -> str | None:
        parts = name.split("/")
        start = next((number for number, part in enumerate(parts[:-1]) if part in folders), None)
        return None if start is None else "/".join(parts[start:])

    return place


def _copy(stream: IO[bytes], target: Path, *, label: str) -> None:
    """Write a new file; one that is there already must have the same content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        with target.open("rb") as old:
            while True:
                block, known = stream.read(2**20), old.read(2**20)
                if block != known:
                    raise ValueError(f"{label} has another content for {target.name}, which was there already")
                if not block:
                    return
    with target.open("xb") as file:
        shutil.copyfileobj(stream, file, 2**20)


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None, "regular files have content"
    return content


def _content(path: Path) -> IO[bytes]:
    return path.open("rb")


def _room(num_bytes: int, folder: Path, label: str) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise ValueError(
            f"{label} needs {num_bytes / GIB:.1f} GiB in {folder}, which has {free / GIB:.1f} GiB left"
        )


@contextmanager
def damage_named(label: str) -> Iterator[None]:
    """Say of broken archives which file it is."""
    try:
        yield
    except tarfile.ReadError as error:
        raise ValueError(
            f"{label} is no zip, tar or rar archive, or damaged ({error}); a web page may have been saved in its "
            "place. Get it again"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{label} is damaged (headers within headers); get it again") from error
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, LZMAError) as error:
        raise ValueError(f"{label} is damaged ({error}); get it again") from error


class _Joined(io.RawIOBase):
    """Several files read as one.

    Args:
        paths: In order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what the current file gives; 0 at the end of the last one."""
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            if block := self._file.read(len(buffer)):
                buffer[: len(block)] = block
                return len(block)
            self._file.close()
            self._file = None


@contextmanager
def progress(what: str, num_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; call what it yields with the bytes done since the last call."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=num_bytes)
        yield lambda count: bar.advance(task, count)


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())

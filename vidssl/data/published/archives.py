"""Published archives of data sets: checked, unpacked without trusting them, and arranged whole or not at all.

Used by datasets/prepare_*.py. Nothing is ever downloaded: the user gives the files.

An archive may name files outside the folder it is unpacked into, hold links, or blow up to any size. Here only regular
files are written, under names that stay below the folder, by our own code, up to a limit; anything else is an error
that names the entry, and nothing of the archive stays behind.
"""

import hashlib
import io
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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

from ...json_files import read_json
from ..lists.archive_limits import check_ratio
from ..lists.trust import damage_named, safe_name
from .members import Member, _check_total, _Joined, members, tar_members

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


@contextmanager
def progress(what: str, num_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; call what it yields with the bytes done since the last call."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=num_bytes)
        yield lambda count: bar.advance(task, count)


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())

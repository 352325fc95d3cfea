"""Writing files so that a crash leaves the old one or the new one, never a part; and folders that one process owns."""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOCK = "lock"

logger = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there takes its place when the block ends well.

    The file is flushed to disk before it is renamed, and the folder after, so that a power cut is survived too. The
    temporary lies in the same folder because a rename across file systems is a copy, which a kill can halve.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Name to write under before it is renamed to `path`; `remove_leftovers` knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder: temporary names whose process is no more."""
    for path in folder.glob(".*.tmp"):
        found = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
        if found is None or _is_another_alive(int(found[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def own_file(path: Path, *, folder: Path) -> Path:
    """`path`, if it is a regular file below `folder` to which no link leads; the folder itself may be reached by one.

    For what is copied from a folder that somebody else may have filled into something that is passed on.

    Raises:
        ValueError: It is a link, a device or a pipe, or lies elsewhere.
        OSError: There is no such file.
    """
    relative = path.relative_to(folder) if path.is_relative_to(folder) else None
    inside = None if relative is None else folder.resolve() / relative
    if inside is None or inside.resolve() != inside:
        raise ValueError(f"{path} leads out of {folder} or is a link; put the file itself there")
    if not stat.S_ISREG(inside.lstat().st_mode):
        raise ValueError(f"{path} is no regular file")
    return path


def flush(path: Path) -> None:
    """Have the file system write a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Own a folder: of several processes that ask for it, one gets in and the others are refused.

    The lock is a record lock (fcntl) on FOLDER/lock. The kernel drops it with the process, however that ends, and
    children do not share it: neither a killed process nor the workers it leaves can block the next one. The file
    stays, its text says who holds the lock. On NFS the server keeps the lock for all machines and drops that of a
    dead machine after its lease; where it offers none, a warning says that nothing guards the folder.

    Raises:
        ValueError: Another process holds the lock; the message names it. Or the file is not ours.
    """
    file = _open_locked(folder)
    # Opened once: closing any descriptor of the file would drop the lock of this process.
    with file:
        file.seek(0)
        if left := file.read().strip():
            if not re.match(r"process \d+ on ", left):
                raise ValueError(f"{folder / LOCK} is a file of somebody else; choose another --out")
            logger.info("%s was last used by %s, which ended without leaving", folder, left)
        file.truncate(0)
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _open_locked(folder: Path) -> TextIO:
    """Open FOLDER/lock and lock it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                with file:
                    file.seek(0)
                    holder = file.read().strip() or "a process that has just started"
                raise ValueError(
                    f"{folder} is in use by {holder}; wait for it, stop it, or choose another --out"
                ) from error
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            logger.warning("%s cannot be locked (%s): see to it that one process alone uses it", folder, error)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat()):
                return file
        file.close()  # the folder was moved aside in between


def move_aside(folder: Path) -> Path:
    """Rename a folder that nobody uses to FOLDER.old-1, or the first number that is free; return the new name.

    Raises:
        ValueError: A process uses the folder (see `locked`).
    """
    with locked(folder):
        number = 1
        while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1
        folder.rename(target)
    return target


def _is_another_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # this process has just started: the name is that of one with the same number before it
    with contextlib.suppress(ProcessLookupError):
        with contextlib.suppress(PermissionError):
            os.kill(pid, 0)
        return True
    return False

"""What is believed of archives and lists that strangers made: no name leads out, damage is told by file."""

import gzip
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from ..media.container import printable


def safe_name(name: str, label: str) -> str:
    """A name of an archive with / between folders.

    Raises:
        ValueError: It leads out of the folder it is meant for.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or re.match("[A-Za-z]:", name):
        raise ValueError(f"{label} holds {name!r}, which leads out of the folder it is unpacked into; refused")
    return path.as_posix()


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


def refuse_outside(folder: Path, path: str, *, where: str, allowed: bool | None) -> None:
    """Raise ValueError if a path in a list does not lie below the folder of the list.

    Links below the folder may lead anywhere: who made them owns the folder.
    """
    if os.environ.get("VIDSSL_ALLOW_OUTSIDE") == "1" if allowed is None else allowed:
        return
    folder = Path(os.path.normpath(folder.absolute()))
    if not Path(os.path.normpath(folder / path)).is_relative_to(folder):
        raise ValueError(
            f"{where}: '{path}' leads out of {printable(folder)}, the folder of the list; lists may come from others, "
            "so they reach only what lies beside or below them: move the list to a folder above its files, or, if you "
            "trust it, set the environment variable VIDSSL_ALLOW_OUTSIDE=1"
        )

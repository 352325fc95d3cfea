"""Where shards lie: a folder of a disk, or an object store that fsspec knows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypedDict

from ...files import file_sha256, replacing
from ...json_files import parse_json
from ..media.container import printable
from ..media.images import natural_key
from .cache import stamp_of
from .part import INDEX, NAMES, RECORDS, SHARD_NAME, cached_folder


class _Digests(TypedDict):
    files: dict[str, str]


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a URL and no file that is called like one."""
    return "://" in os.fspath(source) and not Path(source).exists()


def check_urls_allowed(url: str, allow_urls: bool | None) -> None:
    """Raise ValueError if URLs are not allowed."""
    if not (os.environ.get("VIDSSL_ALLOW_URLS") == "1" if allow_urls is None else allow_urls):
        raise ValueError(
            f"{url} is a URL; nothing is fetched unless that is allowed: set the environment variable "
            "VIDSSL_ALLOW_URLS=1, or call scan(..., allow_urls=True)"
        )


class LocalStore:
    """Shards on a disk: a folder, or one tar file."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self._path = root

    def indexed(self) -> list[str]:
        """Folders that have an index."""
        if (self._path / INDEX).is_file():
            return [self.root]
        if (self._path / ".prepare").is_dir():
            raise ValueError(f"{printable(self.root)} is not finished; run the same `vidssl data prepare` again")
        found = sorted(
            (path.parent for path in self._path.glob(f"*/{INDEX}")), key=lambda one: natural_key(one.name)
        )
        return [os.fspath(path) for path in found]

    def index_folder(self, base: str, cache: Path) -> Path:
        """The folder of an index on a local disk."""
        return Path(base)

    def tar_files(self) -> list[tuple[str, int, Any]]:
        """(path, size, stamp) of each tar file."""
        paths = [self._path] if self._path.is_file() else sorted(self._path.glob("[!.]*.tar"), key=_natural)
        return [(os.fspath(path), path.stat().st_size, stamp_of(path)) for path in paths if path.is_file()]

    def sizes(self, base: str) -> dict[str, int]:
        """Size of each file of a folder, by its name."""
        return {entry.name: entry.stat().st_size for entry in os.scandir(base) if entry.is_file()}

    def open(self, shard: str) -> IO[bytes]:
        """Open a file of the store."""
        return Path(shard).open("rb")


class RemoteStore:
    """Shards in a store that fsspec knows."""

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        try:
            from fsspec.core import url_to_fs

            self._system, self._path = url_to_fs(self.root)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"{url} cannot be read ({error}); `pip install vidssl[shards]` brings what s3:// needs"
            ) from error

    def _listed(self, base: str) -> dict[str, dict[str, Any]]:
        """What a folder holds, by name."""
        with self._blaming(base):
            listed = self._system.ls(self._inside(base), detail=True)
        return {one["name"].rstrip("/").rpartition("/")[2]: one for one in listed}

    def _inside(self, url: str) -> str:
        """Path in the store of the root or of something below it."""
        return self._path + url[len(self.root) :]

    @contextlib.contextmanager
    def _blaming(self, url: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of store has errors of its own
            raise ValueError(f"{url} cannot be read ({type(error).__name__}: {error})") from error

    def indexed(self) -> list[str]:
        """Folders that have an index."""
        listed = self._listed(self.root)
        if INDEX in listed:
            return [self.root]
        folders = sorted((name for name, one in listed.items() if one["type"] == "directory"), key=natural_key)
        return [f"{self.root}/{name}" for name in folders if INDEX in self._listed(f"{self.root}/{name}")]

    def index_folder(self, base: str, cache: Path) -> Path:
        """Copy an index to the cache folder, unless it is there."""
        folder, remote = cached_folder(cache, base), self._inside(base)
        with self._blaming(base):
            content = self._system.cat_file(f"{remote}/{INDEX}")
            if (folder / INDEX).is_file() and (folder / INDEX).read_bytes() == content:
                return folder
            digests = parse_json(content, _Digests, where=INDEX)["files"]
            for name in (RECORDS, NAMES):
                with replacing(folder / name) as temporary:
                    self._system.get_file(f"{remote}/{name}", os.fspath(temporary))
                    if file_sha256(temporary) != digests[name]:
                        raise ValueError(f"{name} is not the file that {INDEX} was written with")
            with replacing(folder / INDEX) as temporary:
                temporary.write_bytes(content)
        return folder

    def tar_files(self) -> list[tuple[str, int, Any]]:
        """(URL, size, stamp) of each tar file."""
        listed = sorted(self._listed(self.root).items(), key=lambda one: natural_key(one[0]))
        found = [(name, one) for name, one in listed if one["type"] == "file" and SHARD_NAME.fullmatch(name)]
        with self._blaming(self.root):
            return [(f"{self.root}/{name}", one["size"], self._system.ukey(one["name"])) for name, one in found]

    def sizes(self, base: str) -> dict[str, int]:
        """Size of each file of a folder, by its name."""
        return {name: one["size"] for name, one in self._listed(base).items() if one["type"] == "file"}

    def open(self, shard: str) -> IO[bytes]:
        """Open a file of the store."""
        return self._system.open(self._inside(shard), "rb", block_size=2**16)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    return natural_key(path.name)

"""Shards: a corpus in a few large tar files instead of many small ones, on a disk or in an object store.

    OUT/000000.tar, ...       000000000.mp4, 000000000.json, 000000001.mp4, ...: WebDataset's layout
    OUT/shards.json           shards with size, number of samples and sha256; names of classes
    OUT/shards.records.npy    one record of fixed size a sample: where it lies, duration, frame rate, size, label
    OUT/shards.names.npy      names of the samples, those of the files they were made of, one behind the other

`vidssl data prepare ROOT --out OUT --shards` writes them. `Corpus.scan(OUT)` reads them, like a folder of files: tar
stores its members whole, so any sample is a read of (shard, offset, size), and the order of an epoch is as random as
on a folder. Several such folders beside one another (OUT/part0, OUT/part1, ...) are one corpus.

Any other uncompressed tar files, such as WebDataset's TarWriter writes, are looked through once, and what was found is
kept in the user's cache folder, as for a folder of files. Nothing is ever unpacked.

A shard is no more trusted than any other file: names in it are for people, and each member is opened as a stretch of
bytes that can name no other file.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import copy
import hashlib
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from ..files import file_sha256, replacing
from ._container import MediaError, describe, printable
from ._images import IMAGE_SUFFIXES, natural_key
from ._isolation import allowed_seconds, call_each
from ._member import Member
from ._suffixes import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

from ..json_files import parse_json, read_json
from .corpus import Audit, Corpus, Entry, Finding, default_cache, default_workers, probe, stamp_of, with_progress

__all__ = ["ShardEntries", "is_sharded", "scan_shards"]

INDEX, RECORDS, NAMES, KNOWN = "shards.json", "shards.records.npy", "shards.names.npy", "shards.known.bin"
FORMAT = "vidssl shards 1"  # raise it when records or what is known of a sample change
RECORD = np.dtype(
    [
        ("offset", "<u8"),
        ("num_bytes", "<u8"),
        ("known_offset", "<u8"),
        ("known_bytes", "<u4"),
        ("name_end", "<u8"),
        ("duration_seconds", "<f8"),
        ("fps", "<f8"),
        ("num_frames", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("audio", "i1"),  # a number of _AUDIO
        ("label", "<i4"),
    ]
)
# (has_audio, audio_silent) by the number in a record.
_AUDIO = [(False, None), (True, False), (True, True), (True, None)]

_MAPPED_BYTES = 2**24  # larger files of an index are mapped, so that the processes of a machine share them
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar")  # names no folder, no URL, no chain of stores
_MAX_KNOWN_BYTES = 2**24
_MAX_OFFSET = 2**62  # what files can be asked for
_BLOCK = 2**20  # records that are compared at once

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The index of some shards.

    Args:
        folder: Of the index, on a local disk.
        base: Folder or URL of the shards.
        facts: Content of `INDEX`.
        records: Of the samples, `RECORD` (N,).
        names: Of the samples, uint8.
    """

    folder: Path
    base: str
    facts: dict[str, Any]
    records: NDArray[Any]
    names: NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path, base: str) -> Part:
        """Read an index.

        Raises:
            ValueError: It is damaged, or of another version.
        """
        try:
            facts = read_json(folder / INDEX)
            if facts["format"] != FORMAT:
                raise ValueError(f"its format is {facts['format']!r}, expected {FORMAT!r}")
            records, names = _array(folder / RECORDS), _array(folder / NAMES)
            if records.dtype != RECORD or names.dtype != np.uint8 or records.ndim != 1 or names.ndim != 1:
                raise ValueError("its arrays are of another kind")
            shards = [
                (str(one["name"]), int(one["num_bytes"]), int(one["num_samples"])) for one in facts["shards"]
            ]
            wrong = [name for name, _, _ in shards if facts["prepared"] and not _SHARD_NAME.fullmatch(name)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no name of a shard")
            if min((count for _, _, count in shards), default=0) < 0 or len(records) != sum(
                count for _, _, count in shards
            ):
                raise ValueError(f"it has {len(records)} records, which is not what its shards add up to")
            if (wrong_place := _first_wrong(records, shards, num_name_bytes=len(names))) is not None:
                raise ValueError(f"sample {wrong_place} of {RECORDS} cannot be as it says")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{printable(folder / INDEX)} cannot be used ({describe(error)})") from error
        return cls(folder, base, facts, records, names)

    def __reduce__(self) -> tuple[Any, ...]:
        return Part.load, (self.folder, self.base)  # processes share the files, they do not copy them

    def shard(self, number: int) -> str:
        """Path or URL of a shard."""
        return f"{self.base}/{self.facts['shards'][number]['name']}"


def _array(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED_BYTES else None, allow_pickle=False)


def _first_wrong(
    records: NDArray[Any], shards: Sequence[tuple[str, int, int]], *, num_name_bytes: int
) -> int | None:
    """The first record that leads out of its shard or says what cannot be; None if there is none."""
    ends = np.cumsum([count for _, _, count in shards])
    shard_bytes = np.array([num_bytes for _, num_bytes, _ in shards], dtype=np.uint64)
    name_start = 0
    for start in range(0, len(records), _BLOCK):
        block = records[start : start + _BLOCK]
        sizes = shard_bytes[np.searchsorted(ends, np.arange(start, start + len(block)), side="right")]
        name_ends = np.append(np.uint64(name_start), block["name_end"])
        wrong = (block["num_bytes"] > sizes) | (block["offset"] > sizes - block["num_bytes"])
        wrong |= (block["known_bytes"] > _MAX_KNOWN_BYTES) | (block["known_offset"] > _MAX_OFFSET)
        wrong |= (name_ends[1:] < name_ends[:-1]) | (name_ends[1:] > num_name_bytes)
        wrong |= (block["audio"] < 0) | (block["audio"] >= len(_AUDIO))
        for field in ("duration_seconds", "fps"):
            wrong |= ~((block[field] > 0) & (block[field] < np.inf))
        if wrong.any():
            return start + int(wrong.argmax())
        name_start = int(name_ends[-1])
    return None


class ShardEntries(Sequence[Entry]):
    """Entries of a corpus of shards, made when they are asked for: a sample takes 69 bytes and its name.

    Args:
        parts: Indices, in order.
        labels: "folder" takes the folder in a sample's name for its class, "none" the label of its record.
        source_pattern: See `Corpus.scan`.

    Attributes:
        shard_starts: Number of the first sample of each shard, and at last the number of samples, int64.
        class_names: Name of each label.

    Raises:
        ValueError: Parts number their classes differently, or a sample that needs a folder has none.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        labels: Literal["none", "folder"] = "none",
        source_pattern: str | None = None,
    ) -> None:
        self.parts = list(parts)
        self._source_pattern = source_pattern
        counts = [one["num_samples"] for part in parts for one in part.facts["shards"]]
        self.shard_starts = np.append(0, np.cumsum(counts)).astype(np.int64)
        self._starts = self.shard_starts.tolist()
        self._first_shards = np.append(0, np.cumsum([len(part.facts["shards"]) for part in parts])).tolist()
        self._numbers: NDArray[np.int64] | None = None
        self._label_of: dict[str, int] | None = None
        self.class_names = tuple(parts[0].facts["class_names"])
        if any(tuple(part.facts["class_names"]) != self.class_names for part in parts):
            raise ValueError(
                f"{printable(parts[0].base)} and the folders beside it number their classes differently"
            )
        if labels == "folder":
            names = {_folder_of(self._name(*self._place(number)[1:])) for number in range(len(self))}
            self.class_names = tuple(sorted(names, key=natural_key))
            self._label_of = {name: label for label, name in enumerate(self.class_names)}

    def kept(self, numbers: NDArray[np.int64]) -> ShardEntries:
        """Some of these entries, by increasing numbers."""
        chosen = copy.copy(self)
        chosen._numbers = numbers
        chosen.shard_starts = np.searchsorted(numbers, self._starts).astype(np.int64)
        return chosen

    def alike(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of entries that are equal in duration, frame rate and sound, for all of them.

        Groups are those of a block of entries: what is equal may come again in the next one.
        """
        assert self._numbers is None, "groups are those of all entries"
        first = 0
        for part in self.parts:
            for start in range(0, len(part.records), _BLOCK):
                block = part.records[start : start + _BLOCK]
                kinds = np.zeros(len(block), dtype=np.int64)
                for field in ("duration_seconds", "fps", "audio"):
                    values, which = np.unique(block[field], return_inverse=True)
                    kinds = np.unique(kinds * len(values) + which.reshape(-1), return_inverse=True)[1].reshape(-1)
                order = np.argsort(kinds, kind="stable")
                borders = np.flatnonzero(np.diff(kinds[order])) + 1
                for group in np.split(order, borders):
                    yield first + start + group
            first += len(part.records)

    def __len__(self) -> int:
        return int(self.shard_starts[-1])

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"entry {number} of {len(self)}")
        number %= len(self)
        shard, part, place = self._place(number if self._numbers is None else int(self._numbers[number]))
        record = part.records[place].item()
        offset, num_bytes, known_offset, known_bytes, _, duration_seconds, fps, *rest = record
        num_frames, width, height, audio, label = rest
        name = self._name(part, place)
        member = Member(
            shard=part.shard(shard),
            shard_bytes=part.facts["shards"][shard]["num_bytes"],
            name=name,
            offset=offset,
            num_bytes=num_bytes,
            known_file=None if part.facts["prepared"] else os.fspath(part.folder / KNOWN),
            known_offset=known_offset,
            known_bytes=known_bytes,
        )
        path = Path(member)
        match = re.search(self._source_pattern, os.fspath(path)) if self._source_pattern else None
        has_audio, audio_silent = _AUDIO[audio]
        return Entry(
            path=path,
            duration_seconds=duration_seconds,
            fps=fps,
            num_frames=num_frames,
            width=width,
            height=height,
            has_audio=has_audio,
            audio_silent=audio_silent,
            label=label if self._label_of is None else self._label_of[_folder_of(name)],
            source="/".join(match.groups("")) if match else "",
            member=member,
        )

    def _place(self, number: int) -> tuple[int, Part, int]:
        """(number of the shard in its part, part, number of the sample in the part)."""
        shard = bisect.bisect_right(self._starts, number) - 1
        part = bisect.bisect_right(self._first_shards, shard) - 1
        first_shard = self._first_shards[part]
        return shard - first_shard, self.parts[part], number - self._starts[first_shard]

    def _name(self, part: Part, place: int) -> str:
        start = int(part.records[place - 1]["name_end"]) if place else 0
        return os.fsdecode(part.names[start : int(part.records[place]["name_end"])].tobytes())


def _folder_of(name: str) -> str:
    folder = PurePosixPath(name).parent.name
    if not folder:
        raise ValueError(f"{printable(name)} lies in no folder; labels='folder' needs one folder per class")
    return folder


class _Digests(TypedDict):
    files: dict[str, str]


def index_of(known: bytes, member: Member) -> bytes:
    """What `open_video(..., index=)` wants, of what a shard says of a sample.

    Raises:
        MediaError: The shard says nothing that can be understood.
    """
    if not known:
        return b""
    try:
        return base64.b64decode(parse_json(known, where="its description")["index"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise MediaError(
            member, f"what its shard says of it is damaged ({describe(error)}); copy it again"
        ) from error


def save_index(
    folder: Path, *, rows: Sequence[tuple[Any, ...]], names: Sequence[str], facts: dict[str, Any]
) -> None:
    """Write an index; the file that makes it valid comes last.

    Args:
        folder: To write into.
        rows: Fields of `RECORD` of each sample but `name_end`, as `row_of` returns them.
        names: Of the samples.
        facts: "shards": [{"name", "num_bytes", "num_samples", "sha256"}], "class_names", "prepared", "media", "bad".
    """
    encoded = [os.fsencode(name) for name in names]
    records = np.zeros(len(rows), RECORD)
    fields = [name for name in RECORD.names or () if name != "name_end"]
    for place, field in enumerate(fields):
        records[field] = [row[place] for row in rows]
    records["name_end"] = np.cumsum([len(name) for name in encoded])
    digests = {}
    for file, array in ((RECORDS, records), (NAMES, np.frombuffer(b"".join(encoded), np.uint8))):
        with replacing(folder / file) as temporary:
            with temporary.open("wb") as stream:
                np.save(stream, array)
            digests[file] = file_sha256(temporary)
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, "files": digests, **facts}, indent=1) + "\n")


def row_of(
    facts: dict[str, Any], *, offset: int, num_bytes: int, known_offset: int, known_bytes: int, label: int = -1
) -> tuple[Any, ...]:
    """One record but its name; `facts` as `corpus.probe` finds them."""
    sound = _AUDIO.index((facts["has_audio"], facts["audio_silent"]))
    seen = (facts["duration_seconds"], facts["fps"], facts["num_frames"], facts["width"], facts["height"])
    return (offset, num_bytes, known_offset, known_bytes, *seen, sound, label)


# Finding shards.


def is_sharded(source: str | os.PathLike[str]) -> bool:
    """Whether a source is shards: a URL, a .tar file, a folder with an index, or with tar files and no other media."""
    if is_url(source):
        return True
    path = Path(source)
    if not path.is_dir():
        return path.suffix == ".tar" and path.is_file()
    if (path / INDEX).is_file() or next(path.glob(f"*/{INDEX}"), None) is not None:
        return True
    # An archive beside what was unpacked from it is no shard.
    beside = [one for one in path.iterdir() if not one.name.startswith(".")]
    suffixes = {one.suffix.lower() for one in beside}
    is_alone = not suffixes & (VIDEO_SUFFIXES | IMAGE_SUFFIXES) and not any(one.is_dir() for one in beside)
    return ".tar" in suffixes and is_alone


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a URL and no file that is called like one."""
    return "://" in os.fspath(source) and not Path(source).exists()


def scan_shards(
    source: str | os.PathLike[str],
    *,
    labels: Literal["none", "folder"],
    media: Literal["video", "image", "any"],
    source_pattern: str | None,
    cache: Path | None,
    num_workers: int | None,
    timeout_seconds: float,
    progress: bool,
    allow_urls: bool | None,
) -> Corpus:
    """`Corpus.scan` of shards."""
    store: _Local | _Remote
    if is_url(source):
        _check_urls_allowed(os.fspath(source), allow_urls)
        store = _Remote(os.fspath(source))
    else:
        store = _Local(Path(source).absolute())
    cache = cache or default_cache()
    parts = [_prepared_part(store, base, cache) for base in store.indexed()]
    bad: list[tuple[Path, str]] = []
    if not parts:
        parts, bad = _looked_through(
            store, cache, num_workers=num_workers, timeout_seconds=timeout_seconds, progress=progress
        )
    kinds = {part.facts["media"] for part in parts if len(part.records)}
    wanted = media if media != "any" else "video" if "video" in kinds else "image"
    bad += [(Path(part.base) / name, reason) for part in parts for name, reason in part.facts["bad"]]
    parts = [part for part in parts if part.facts["media"] == wanted and len(part.records)]
    if not parts:
        reasons = "".join(f"\n  {printable(path)}: {reason}" for path, reason in bad[:5])
        raise ValueError(f"the shards of {printable(source)} hold no {media} that can be read{reasons}")
    entries = ShardEntries(parts, labels=labels, source_pattern=source_pattern)
    if bad:
        _log.warning("%d files of %s cannot be read, see Corpus.bad", len(bad), printable(source))
    return Corpus(
        root=Path(source) if is_url(source) else Path(source).absolute(),
        entries=entries,
        class_names=entries.class_names,
        bad=tuple(bad),
        num_other=sum(part.facts.get("num_other", 0) for part in parts),
    )


def audit_shards(
    source: str | os.PathLike[str],
    *,
    media: Literal["video", "image"],
    num_workers: int | None,
    timeout_seconds: float,
    progress: bool,
) -> Audit:
    """`corpus.audit` of shards: the checksum of each that has one, then every sample."""
    corpus = Corpus.scan(source, media=media, num_workers=num_workers, progress=progress)
    assert isinstance(corpus.entries, ShardEntries)
    sums = [
        (part.shard(number), one["sha256"])
        for part in corpus.entries.parts
        for number, one in enumerate(part.facts["shards"])
        if one["sha256"] and not is_url(part.shard(number))
    ]
    members = [entry.member for entry in corpus.entries if entry.member]
    files: list[tuple[Path, tuple[Finding, ...]]] = [
        (path, (Finding("error", "cannot be read", reason),)) for path, reason in corpus.bad
    ]
    for paths, target, requests in (
        (
            [Path(shard) for shard, _ in sums],
            "vidssl.data._audit:examine_shard",
            [json.dumps(one) for one in sums],
        ),
        ([Path(one) for one in members], "vidssl.data._audit:examine_member", [one.spelled() for one in members]),
    ):
        answers = call_each(
            target, requests, num_workers=num_workers or default_workers(), timeout_seconds=timeout_seconds
        )
        found = dict(with_progress(answers, len(requests), f"check {printable(source)}", show=progress))
        for number, path in enumerate(paths):
            died = [{"severity": "error", "kind": "cannot be read", "detail": found[number].get("died", "")}]
            files.append((path, tuple(Finding(**one) for one in found[number].get("findings", died))))
    return Audit(root=corpus.root, files=tuple(files), num_other=corpus.num_other)


def _check_urls_allowed(url: str, allow_urls: bool | None) -> None:
    if not (os.environ.get("VIDSSL_ALLOW_URLS") == "1" if allow_urls is None else allow_urls):
        raise ValueError(
            f"{url} is a URL; nothing is fetched unless that is allowed: set the environment variable "
            "VIDSSL_ALLOW_URLS=1, or call Corpus.scan(..., allow_urls=True)"
        )


class _Local:
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
        return Path(base)

    def tar_files(self) -> list[tuple[str, int, Any]]:
        """(path, size, stamp) of each tar file."""
        paths = [self._path] if self._path.is_file() else sorted(self._path.glob("[!.]*.tar"), key=_natural)
        return [(os.fspath(path), path.stat().st_size, stamp_of(path)) for path in paths if path.is_file()]

    def sizes(self, base: str) -> dict[str, int]:
        return {entry.name: entry.stat().st_size for entry in os.scandir(base) if entry.is_file()}

    def open(self, shard: str) -> IO[bytes]:
        return Path(shard).open("rb")


class _Remote:
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
        listed = self._listed(self.root)
        if INDEX in listed:
            return [self.root]
        folders = sorted((name for name, one in listed.items() if one["type"] == "directory"), key=natural_key)
        return [f"{self.root}/{name}" for name in folders if INDEX in self._listed(f"{self.root}/{name}")]

    def index_folder(self, base: str, cache: Path) -> Path:
        """Copy an index to the cache folder, unless it is there."""
        folder, remote = _cached(cache, base), self._inside(base)
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
        found = [(name, one) for name, one in listed if one["type"] == "file" and _SHARD_NAME.fullmatch(name)]
        with self._blaming(self.root):
            return [(f"{self.root}/{name}", one["size"], self._system.ukey(one["name"])) for name, one in found]

    def sizes(self, base: str) -> dict[str, int]:
        return {name: one["size"] for name, one in self._listed(base).items() if one["type"] == "file"}

    def open(self, shard: str) -> IO[bytes]:
        return self._system.open(self._inside(shard), "rb", block_size=2**16)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    return natural_key(path.name)


def _prepared_part(store: _Local | _Remote, base: str, cache: Path) -> Part:
    """Load the index of prepared shards; raise ValueError unless all of them are there."""
    part = Part.load(store.index_folder(base, cache), base)
    if not part.facts["prepared"]:
        raise ValueError(
            f"{printable(base)}/{INDEX} is none that `vidssl data prepare --shards` writes; remove it"
        )
    sizes = store.sizes(base)
    wrong = [
        f"{one['name']} is absent"
        if one["name"] not in sizes
        else f"{one['name']} has {sizes[one['name']]} bytes instead of {one['num_bytes']}"
        for one in part.facts["shards"]
        if sizes.get(one["name"]) != one["num_bytes"]
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"shards of {printable(base)} are not as {INDEX} says: {'; '.join(wrong[:5])}{more}; copy them again"
        )
    return part


# Tar files that others wrote.


def media_members(
    stream: IO[bytes], label: str
) -> tuple[list[tuple[str, int, int]], Literal["video", "image"], int]:
    """(name, offset, size) of the videos of an uncompressed tar file, of the images if it has no video; what; others.

    Raises:
        ValueError: It is damaged or compressed, or holds links, devices or names that lead out of it.
    """
    from .archives import damage_named, safe_name

    found: dict[str, list[tuple[str, int, int]]] = {"video": [], "image": []}
    num_other = 0
    with damage_named(label), tarfile.open(fileobj=stream, mode="r:") as archive:
        while (info := archive.next()) is not None:
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise ValueError(f"{label} holds {info.name!r}, which is a link or a device; refused")
            name = safe_name(info.name, label)
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                found["video"].append((name, info.offset_data, info.size))
            elif suffix in IMAGE_SUFFIXES:
                found["image"].append((name, info.offset_data, info.size))
            else:
                num_other += 1
        # tarfile takes a header that is damaged or cut off for the end of the archive.
        end = archive.offset
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(
                f"{label} is damaged (what is at byte {end} is neither a file nor the end); get it again"
            )
    if found["video"]:
        return found["video"], "video", num_other + len(found["image"])
    return found["image"], "image", num_other


def probe_member(request: str) -> dict[str, Any]:
    """Look at one member as `corpus.probe` does at a file, in a child process."""
    return probe(Member.parsed(request))


def _looked_through(
    store: _Local | _Remote, cache: Path, *, num_workers: int | None, timeout_seconds: float, progress: bool
) -> tuple[list[Part], list[tuple[Path, str]]]:
    """Indices of tar files, one each, kept in the cache; and the files that are no tar files, with the reason."""
    shards = store.tar_files()
    bad: list[tuple[Path, str]] = []
    requests: list[Member] = []
    looked: dict[str, tuple[list[Member], str, int]] = {}
    for shard, num_bytes, stamp in shards:
        if _is_current(_cached(cache, shard), stamp):
            continue
        try:
            with store.open(shard) as stream:
                places, media, num_other = media_members(stream, printable(shard))
        except (ValueError, OSError) as error:
            bad.append((Path(shard), str(error)))
            continue
        members = [
            Member(shard=shard, shard_bytes=num_bytes, name=name, offset=offset, num_bytes=size)
            for name, offset, size in places
        ]
        looked[shard] = (members, media, num_other)
        requests += members
    answers = call_each(
        "vidssl.data.shards:probe_member",
        [one.spelled() for one in requests],
        num_workers=num_workers or default_workers(),
        timeout_seconds=[allowed_seconds(one.num_bytes, timeout_seconds=timeout_seconds) for one in requests],
    )
    found: dict[Member, dict[str, Any]] = {}
    left = {shard: len(members) for shard, (members, _, _) in looked.items()}
    facts = {shard: (num_bytes, stamp) for shard, num_bytes, stamp in shards}

    def save(shard: str) -> None:
        (num_bytes, stamp), (members, media, num_other) = facts[shard], looked[shard]
        _save_looked(_cached(cache, shard), shard, num_bytes, stamp, found, members, media, num_other)

    for shard in [shard for shard, count in left.items() if not count]:
        save(shard)
    for place, answer in with_progress(answers, len(requests), f"scan {printable(store.root)}", show=progress):
        member = requests[place]
        found[member] = {"reason": answer["died"]} if "died" in answer else answer
        left[member.shard] -= 1
        if not left[member.shard]:  # at once: a scan that is killed loses the archives it was at
            save(member.shard)
    parts = []
    for shard, _, stamp in shards:
        folder = _cached(cache, shard)
        if _is_current(folder, stamp):
            parts.append(Part.load(folder, shard.rpartition("/")[0]))
    return parts, bad


def _cached(cache: Path, place: str) -> Path:
    """Folder of the cache for the index of a shard, or for that of a folder of shards elsewhere."""
    return cache / f"shards-{hashlib.blake2b(os.fsencode(place), digest_size=12).hexdigest()}"


def _is_current(folder: Path, stamp: Any) -> bool:
    try:
        facts = read_json(folder / INDEX)
        return facts["format"] == FORMAT and facts["stamp"] == stamp
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not ours: look at the shard again
        return False


def _save_looked(
    folder: Path,
    shard: str,
    num_bytes: int,
    stamp: Any,
    found: dict[Member, dict[str, Any]],
    members: Sequence[Member],
    media: str,
    num_other: int,
) -> None:
    rows, names, place = [], [], 0
    with replacing(folder / KNOWN) as temporary, temporary.open("wb") as stream:
        for member in members:
            answer = found[member]
            if "reason" in answer:
                continue
            known = json.dumps(answer).encode()
            stream.write(known)
            spot = {"offset": member.offset, "num_bytes": member.num_bytes}
            rows.append(row_of(answer, **spot, known_offset=place, known_bytes=len(known)))
            names.append(member.name)
            place += len(known)
    name = shard.rpartition("/")[2]
    facts = {
        "shards": [{"name": name, "num_bytes": num_bytes, "num_samples": len(rows), "sha256": None}],
        "class_names": [],
        "prepared": False,
        "media": media,
        "num_other": num_other,
        "stamp": stamp,
        "bad": [[f"{name}/{one.name}", found[one]["reason"]] for one in members if "reason" in found[one]],
    }
    save_index(folder, rows=rows, names=names, facts=facts)

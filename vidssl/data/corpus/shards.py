"""Shards: a corpus in a few large tar files instead of many small ones, on a disk or in an object store.

    OUT/000000.tar, ...       000000000.mp4, 000000000.json, 000000001.mp4, ...: WebDataset's layout
    OUT/shards.json           shards with size, number of samples and sha256; names of classes
    OUT/shards.records.npy    one record of fixed size a sample: where it lies, duration, frame rate, size, label
    OUT/shards.names.npy      names of the samples, those of the files they were made of, one behind the other

`vidssl data prepare ROOT --out OUT --shards` writes them. `scan(OUT)` reads them, like a folder of files: tar
stores its members whole, so any sample is a read of (shard, offset, size), and the order of an epoch is as random as
on a folder. Several such folders beside one another (OUT/part0, OUT/part1, ...) are one corpus.

Any other uncompressed tar files, such as WebDataset's TarWriter writes, are looked through once, and what was found is
kept in the user's cache folder, as for a folder of files. Nothing is ever unpacked.

A shard is no more trusted than any other file: names in it are for people, and each member is opened as a stretch of
bytes that can name no other file.
"""

from __future__ import annotations

import bisect
import copy
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..lists.suffixes import VIDEO_SUFFIXES
from ..media.container import printable
from ..media.images import IMAGE_SUFFIXES, natural_key
from ..media.member import Member
from .cache import default_cache
from .corpus import Corpus
from .entry import Entry
from .part import AUDIO, INDEX, KNOWN, Part
from .stores import LocalStore, RemoteStore, check_urls_allowed, is_url
from .tars import looked_through

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["ShardEntries", "is_sharded", "scan_shards"]


_BLOCK = 2**20  # records that are compared at once

_log = logging.getLogger(__name__)


class ShardEntries(Sequence[Entry]):
    """Entries of a corpus of shards, made when they are asked for: a sample takes 69 bytes and its name.

    Args:
        parts: Indices, in order.
        labels: "folder" takes the folder in a sample's name for its class, "none" the label of its record.
        source_pattern: See `scan`.

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
        has_audio, audio_silent = AUDIO[audio]
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
    """`scan` of shards."""
    store: LocalStore | RemoteStore
    if is_url(source):
        check_urls_allowed(os.fspath(source), allow_urls)
        store = RemoteStore(os.fspath(source))
    else:
        store = LocalStore(Path(source).absolute())
    cache = cache or default_cache()
    parts = [_prepared_part(store, base, cache) for base in store.indexed()]
    bad: list[tuple[Path, str]] = []
    if not parts:
        parts, bad = looked_through(
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
        _log.warning(
            "%d files of %s cannot be read (%s: %s%s); `vidssl data check` names all",
            len(bad),
            printable(source),
            printable(bad[0][0]),
            bad[0][1],
            ", ..." * (len(bad) > 1),
        )
    return Corpus(
        root=Path(source) if is_url(source) else Path(source).absolute(),
        entries=entries,
        class_names=entries.class_names,
        bad=tuple(bad),
        num_other=sum(part.facts.get("num_other", 0) for part in parts),
    )


def _prepared_part(store: LocalStore | RemoteStore, base: str, cache: Path) -> Part:
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

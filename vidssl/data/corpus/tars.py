"""Tar files that others wrote, looked through once; what was found is kept like the index of our shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from ...files import replacing
from ..lists.archive_limits import bounded_headers, check_size
from ..lists.suffixes import VIDEO_SUFFIXES
from ..lists.trust import damage_named, safe_name
from ..media.container import printable
from ..media.images import IMAGE_SUFFIXES
from ..media.isolation import allowed_seconds, call_each
from ..media.member import Member
from .part import KNOWN, Part, cached_folder, is_current, row_of, save_index
from .probe import default_workers, probe, with_progress
from .stores import LocalStore, RemoteStore


def media_members(
    stream: IO[bytes], label: str
) -> tuple[list[tuple[str, int, int]], Literal["video", "image"], int]:
    """(name, offset, size) of the videos of an uncompressed tar file, of the images if it has no video; what; others.

    Raises:
        ValueError: It is damaged or compressed, holds links, devices or names that lead out of it, or asks for more
            memory than any sound one.
    """
    found: dict[str, list[tuple[str, int, int]]] = {"video": [], "image": []}
    num_other = 0
    headers = bounded_headers(label)
    with damage_named(label), tarfile.open(fileobj=stream, mode="r:", tarinfo=headers) as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            check_size(info, label)  # it may come from a header before the member's own
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


def looked_through(
    store: LocalStore | RemoteStore,
    cache: Path,
    *,
    num_workers: int | None,
    timeout_seconds: float,
    progress: bool,
) -> tuple[list[Part], list[tuple[Path, str]]]:
    """Indices of tar files, one each, kept in the cache; and the files that are no tar files, with the reason."""
    shards = store.tar_files()
    bad: list[tuple[Path, str]] = []
    requests: list[Member] = []
    looked: dict[str, tuple[list[Member], str, int]] = {}
    for shard, num_bytes, stamp in shards:
        if is_current(cached_folder(cache, shard), stamp):
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
        "vidssl.data.corpus.tars:probe_member",
        [one.spelled() for one in requests],
        num_workers=num_workers or default_workers(),
        timeout_seconds=[allowed_seconds(one.num_bytes, timeout_seconds=timeout_seconds) for one in requests],
    )
    found: dict[Member, dict[str, Any]] = {}
    left = {shard: len(members) for shard, (members, _, _) in looked.items()}
    facts = {shard: (num_bytes, stamp) for shard, num_bytes, stamp in shards}

    def save(shard: str) -> None:
        (num_bytes, stamp), (members, media, num_other) = facts[shard], looked[shard]
        _save_looked(cached_folder(cache, shard), shard, num_bytes, stamp, found, members, media, num_other)

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
        folder = cached_folder(cache, shard)
        if is_current(folder, stamp):
            parts.append(Part.load(folder, shard.rpartition("/")[0]))
    return parts, bad


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

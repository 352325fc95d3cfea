"""Look at every file of a corpus for damage: all of it is decoded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from ..lists.sources import Source, find, is_list
from ..media.audit import Finding
from ..media.container import printable
from ..media.isolation import allowed_seconds, call_each
from .cache import stamp_of
from .corpus import Audit
from .probe import default_workers, with_progress
from .scan import scan
from .shards import ShardEntries, is_sharded
from .stores import is_url


def audit(
    source: str | os.PathLike[str],
    *,
    media: Literal["video", "image"] = "video",
    num_workers: int | None = None,
    timeout_seconds: float = 600.0,
    progress: bool = True,
) -> Audit:
    """Decode every file of a folder, a list or shards, or a single file, to its last packet, and say what is wrong.

    Each file is decoded in a child process: one that crashes the decoder or takes longer than `timeout_seconds` is
    reported, the others go on. Arguments as for `scan`.

    Raises:
        ValueError: Nothing was found, or the list is malformed.
    """
    if is_sharded(source):
        return audit_shards(
            source, media=media, num_workers=num_workers, timeout_seconds=timeout_seconds, progress=progress
        )
    path = Path(source).absolute()
    single = path.exists() and not path.is_dir() and not is_list(path)
    found = Source(path, [path]) if single else find(path, labels="none", media=media, allow_outside=None)
    paths = list(dict.fromkeys(found.paths))  # a list may name a file several times, or parts of it
    answers = call_each(
        "vidssl.data.media.audit:examine",
        [os.fspath(file) for file in paths],
        num_workers=num_workers or default_workers(),
        timeout_seconds=[allowed_seconds(stamp_of(file)[0], timeout_seconds=timeout_seconds) for file in paths],
    )
    findings: dict[int, tuple[Finding, ...]] = {}
    for number, answer in with_progress(answers, len(paths), f"check {printable(path)}", show=progress):
        died = [{"severity": "error", "kind": "cannot be read", "detail": answer.get("died", "")}]
        findings[number] = tuple(Finding(**one) for one in answer.get("findings", died))
    closed = [(folder, (Finding("error", "closed folder", reason),)) for folder, reason in found.closed]
    files = (*closed, *((file, findings[number]) for number, file in enumerate(paths)))
    others = str(found.others) if found.others else ""
    return Audit(root=path, files=files, num_other=len(found.others), others=others)


def audit_shards(
    source: str | os.PathLike[str],
    *,
    media: Literal["video", "image"],
    num_workers: int | None,
    timeout_seconds: float,
    progress: bool,
) -> Audit:
    """`corpus.audit` of shards: the checksum of each that has one, then every sample."""
    corpus = scan(source, media=media, num_workers=num_workers, progress=progress)
    assert isinstance(corpus.entries, ShardEntries)
    sums = [
        (part.shard(number), one["sha256"], one["num_bytes"])
        for part in corpus.entries.parts
        for number, one in enumerate(part.facts["shards"])
        if one["sha256"] and not is_url(part.shard(number))
    ]
    members = [entry.member for entry in corpus.entries if entry.member]
    files: list[tuple[Path, tuple[Finding, ...]]] = [
        (path, (Finding("error", "cannot be read", reason),)) for path, reason in corpus.bad
    ]
    for paths, target, requests, sizes in (
        (
            [Path(shard) for shard, _, _ in sums],
            "vidssl.data.media.audit:examine_shard",
            [json.dumps([shard, sha256]) for shard, sha256, _ in sums],
            [num_bytes for _, _, num_bytes in sums],
        ),
        (
            [Path(one) for one in members],
            "vidssl.data.media.audit:examine_member",
            [one.spelled() for one in members],
            [one.num_bytes for one in members],
        ),
    ):
        answers = call_each(
            target,
            requests,
            num_workers=num_workers or default_workers(),
            timeout_seconds=[allowed_seconds(size, timeout_seconds=timeout_seconds) for size in sizes],
        )
        found = dict(with_progress(answers, len(requests), f"check {printable(source)}", show=progress))
        for number, path in enumerate(paths):
            died = [{"severity": "error", "kind": "cannot be read", "detail": found[number].get("died", "")}]
            files.append((path, tuple(Finding(**one) for one in found[number].get("findings", died))))
    return Audit(root=corpus.root, files=tuple(files), num_other=corpus.num_other)

"""Look at every file of a folder, of a list or of shards once.

corpus = scan("my_videos")
print(corpus.summary())
"""

from __future__ import annotations

import base64
import logging
import os
import re
from pathlib import Path
from typing import Literal

from ..lists.sources import find
from ..media.container import printable
from ..media.isolation import allowed_seconds, call_each
from .cache import ScanCache, default_cache, stamp_of
from .corpus import Corpus
from .entry import Entry
from .probe import default_workers, with_progress
from .shards import is_sharded, scan_shards

_log = logging.getLogger(__name__)


def scan(
    source: str | os.PathLike[str],
    *,
    labels: Literal["none", "folder"] = "none",
    media: Literal["video", "image", "any"] = "video",
    source_pattern: str | None = None,
    cache: Path | None = None,
    num_workers: int | None = None,
    timeout_seconds: float = 60.0,
    allow_outside: bool | None = None,
    progress: bool = True,
    allow_urls: bool | None = None,
) -> Corpus:
    """Look at every file of a folder or list once, or read the index of shards.

    Folder: searched to any depth, links followed, hidden files and folders passed over. A file is taken for
    what its name or, where that says nothing, its first bytes say.

    List (`.txt`, `.csv`, `.tsv`): a path per line, optionally followed by its label; or a first line that names
    the columns, such as path, label and split (all lines are taken, whatever their split). Commas, tabs,
    semicolons, spaces or two colons separate them: those under which the lines name files that are there. Paths
    are relative to the list's folder, labels are whole numbers from 0 or names, and either every line has one or
    none has.

    Shards: a folder, or the URL of one, that `vidssl data prepare --shards` wrote, or that holds tar files and
    neither folders nor media beside them, or a single tar file; see `vidssl.data.corpus.shards`.

    Args:
        source: The folder or list.
        labels: "folder" takes the name of the folder that holds a file (or folder of frames) for its class.
            Labels of a list are always used.
        media: "video" finds video files, and folders with at least two images, no video and no folder in them,
            each of which is one video. "image" finds image files, each a video of one frame.
            "any" finds videos or, where there are none, images: those of folders that lie directly below the
            root, too, which may be classes; several folders of images in a folder below it are videos.
        source_pattern: Regular expression that tells files cut from one recording: those whose paths match it
            with equal groups, for example r"v_(\\w+_g\\d+)_c\\d+" for UCF101. None takes each file for a
            recording of its own.
        cache: Folder for what was found; by default `$XDG_CACHE_HOME/vidssl` or `~/.cache/vidssl`.
        num_workers: Files looked at a time; by default the number of processors, at most 16.
        timeout_seconds: Longest time for one file, and 4 s more for each of its megabytes; a file that takes
            longer is bad.
        allow_outside: Whether a list may name files that do not lie below its folder. Lists of strangers could
            else have any file of this machine read. None asks the environment: they may if VIDSSL_ALLOW_OUTSIDE
            is 1.
        progress: Show a progress bar.
        allow_urls: Whether `source` may be a URL (of shards; any store that fsspec knows). None asks the
            environment: they are allowed if VIDSSL_ALLOW_URLS is 1.

    Raises:
        ValueError: Nothing was found, the list is malformed, labels are asked for where there are none, or
            `source_pattern` has no group.
    """
    if source_pattern is not None and re.compile(source_pattern).groups == 0:
        raise ValueError(f"source_pattern {source_pattern!r} has no group (...) that names the source")
    if is_sharded(source):
        return scan_shards(
            source,
            labels=labels,
            media=media,
            source_pattern=source_pattern,
            cache=cache,
            num_workers=num_workers,
            timeout_seconds=timeout_seconds,
            progress=progress,
            allow_urls=allow_urls,
        )
    found = find(Path(source), labels=labels, media=media, allow_outside=allow_outside)
    found.refuse_parts()
    store = ScanCache.of(found.root, cache or default_cache())
    stamps = [stamp_of(path) for path in found.paths]
    stamped = list(zip(found.paths, stamps, strict=True))
    records = {path: record for path, stamp in stamped if (record := store.get(path, stamp)) is not None}
    todo = [path for path in dict.fromkeys(found.paths) if path not in records]
    answers = call_each(
        "vidssl.data.corpus.probe:probe",
        [os.fspath(path) for path in todo],
        num_workers=num_workers or default_workers(),
        timeout_seconds=[allowed_seconds(stamp_of(path)[0], timeout_seconds=timeout_seconds) for path in todo],
    )
    stamp_by_path = dict(stamped)
    with store:
        for place, answer in with_progress(answers, len(todo), f"scan {printable(found.root)}", show=progress):
            path = todo[place]
            records[path] = {"reason": answer["died"]} if "died" in answer else answer
            store.note(path, stamp_by_path[path], records[path])
        if todo:
            store.save(stamped, records)
    entries, bad = [], list(found.closed)
    for path, label in zip(found.paths, found.labels, strict=True):
        record = records[path]
        if "reason" in record:
            bad.append((path, record["reason"]))
        else:
            match = re.search(source_pattern, os.fspath(path)) if source_pattern else None
            origin = "/".join(match.groups("")) if match else ""
            index, parts = base64.b64decode(record["index"]), tuple(map(tuple, record["parts"]))
            told = {**record, "index": index, "parts": parts}
            entries.append(Entry(path=path, label=label, source=origin, **told))
    if bad:
        _log.warning(
            "%d of %d files of %s cannot be read (%s: %s%s); `vidssl data check` names all",
            len(bad),
            len(found.paths),
            printable(found.root),
            printable(bad[0][0]),
            bad[0][1],
            ", ..." * (len(bad) > 1),
        )
    damaged = [entry for entry in entries if entry.damage]
    if damaged:
        _log.warning(
            "%d of %d files of %s are damaged or cut off and are read as far as they go (%s: %s); "
            "`vidssl data check` says more",
            len(damaged),
            len(found.paths),
            found.root,
            printable(damaged[0].path),
            damaged[0].damage,
        )
    return Corpus(
        root=found.root,
        entries=tuple(entries),
        class_names=tuple(found.class_names),
        bad=tuple(bad),
        num_other=len(found.others),
        others=str(found.others) if found.others else "",
    )

"""vidssl data: looking after a corpus."""

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console


def check(root: tyro.conf.Positional[str], *, media: Literal["video", "image"] = "video") -> int:
    """Decode every file of a corpus to its end; print what there is, and each file with a finding.

    An error is a file that training could not read right: damaged, cut short, or no media at all. A note is a file
    that is read right but costs time or has an oddity. The exit code is 0 if no file has an error, 1 if one has.

    Args:
        root: Folder, list file (.txt) or table (.csv) of videos or images; folder or URL of shards.
        media: What to look for.
    """
    from ..data.corpus.audit import audit

    result = audit(root, media=media)
    Console().print(result, soft_wrap=True)
    return 1 if result.bad else 0


def prepare(
    root: tyro.conf.Positional[Path],
    *,
    out: Path,
    short_side_px: int = 256,
    gop_frames: int = 8,
    crf: int = 25,
    num_workers: int | None = None,
    bad_file_budget: float = 0.01,
    timeout_seconds: float = 3600.0,
    shards: bool = False,
    shard_gib: float = 1.0,
) -> None:
    """Re-encode a corpus for training: small pictures that are quick to reach; folders, names, times, sound kept.

    Random clips of the prepared files cost a small part of what those of the sources cost. The sources are only read.
    Stopped at any moment, the same command goes on where it was. What is measured goes to OUT/prepare.json too.

    Args:
        root: Folder, list file (.txt) or table (.csv) of videos.
        out: Folder for the prepared files, the root to train on: new, or from an earlier call.
        short_side_px: Height or width, whichever is smaller; even. Smaller pictures are not enlarged.
        gop_frames: Frames from one key frame to the next.
        crf: Quality of H.264 from 0 (lossless) to 51; 6 less is about twice the size.
        num_workers: Files encoded at a time, one thread each; None is the number of processors.
        bad_file_budget: Share of the files that may turn out unreadable (one of several always may).
        timeout_seconds: Longest time for one file, and 4 s more for each of its megabytes; a file that takes longer
            counts as unreadable.
        shards: Pack the files into tar files, for object stores and for millions of clips; see docs/scale.md.
        shard_gib: Size of a shard at most, GiB.
    """
    from ..data.corpus.prepare import prepare as prepare_corpus

    result = prepare_corpus(
        root,
        out=out,
        short_side_px=short_side_px,
        gop_frames=gop_frames,
        crf=crf,
        num_workers=num_workers,
        bad_file_budget=bad_file_budget,
        timeout_seconds=timeout_seconds,
        shards=shards,
        shard_gib=shard_gib,
    )
    Console().print(result.summary(), soft_wrap=True, markup=False, highlight=False)

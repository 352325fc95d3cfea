"""vidssl evaluate jhmdb: PCK of a frozen encoder that carries the joints of a body."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ._measure import MeasureOptions, listed


def jhmdb(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    protocol: Literal["crw", "cropmae", "vfs", "siammae"] = "crw",
    read_topk: int | None = None,
    sequences: str | None = None,
    split: Literal[1, 2, 3] = 1,
    command: str | None = None,
) -> None:
    """Carry the joints of every first frame through its video with frozen features; print PCK.

    Official codes count differently: that of UVC, CRW and CropMAE leaves lost joints out, that of VFS as well, but
    counts the first frame; for that of TAP-Vid lost joints are wrong. PCK is counted as by the protocol's own code;
    beside it stand TAP-Vid's and the share of joints that were not lost (coverage), and all three below. Writes the
    joints, drawings, per-video figures and result.json to OUT; random weights and joints that stay where they were
    are measured beside it. Running the same command again takes over what is done.

    Args:
        root: Folder in the layout of JHMDB (Rename_Images, joint_positions, splits or testlist_split1.txt), or of
            videos of your own: VIDEO/frames/00000.jpg and VIDEO/joint_positions.mat.
        options: What is measured, and where.
        protocol: How labels travel, on frames of 320x320 pixels; published figures differ by protocol.
        read_topk: Cells that a joint is read from, instead of the protocol's: 3 of crw, 5 of the others.
        sequences: Names of videos, with commas between them. None is all of the split's test videos.
        split: Of JHMDB; published figures are of the first.
        command: Command line that started this, for the record.
    """
    from rich.console import Console

    from ...data.published.poses import jhmdb_sequences
    from ...evaluate.propagation.jhmdb import PROTOCOLS, jhmdb_benchmark, variants_table
    from ._measure import measure

    how, maps, variant = PROTOCOLS[protocol]
    if read_topk is not None:
        if read_topk < 1:
            raise ValueError(f"--read-topk is {read_topk}; a joint is read from at least 1 cell")
        maps = dataclasses.replace(maps, topk=read_topk)
    benchmark = jhmdb_benchmark(
        jhmdb_sequences(root, names=listed(sequences), split=split), maps=maps, variant=variant, split=split
    )
    results, _ = measure(benchmark, options, protocol=how, root=root, command=command)
    Console().print(variants_table(next(iter(results.values()))))

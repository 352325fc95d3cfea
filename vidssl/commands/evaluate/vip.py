"""vidssl evaluate vip: mIoU of a frozen encoder that carries the parts of bodies."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from ._measure import MeasureOptions, listed


def vip(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    protocol: Literal["crw", "vfs", "siammae"] = "crw",
    sequences: str | None = None,
    subset: str = "val",
    num_classes: int = 20,
    command: str | None = None,
) -> None:
    """Carry the parts of every first frame through its video with frozen features; print mIoU over the classes.

    Writes masks, drawings, per-video figures and result.json to OUT; random weights and parts that stay where they
    were are measured beside it. Running the same command again takes over what is done.

    Args:
        root: Folder in the layout of VIP (VIP_Fine with Images, Annotations/Category_ids, lists/val_videos.txt), or
            VIP_Fine itself.
        options: What is measured, and where.
        protocol: How labels travel, on frames of 560x560 pixels, or 448x880 with siammae; published figures differ by
            protocol.
        sequences: Names of videos, with commas between them. None is all of the subset.
        subset: List of videos, lists/SUBSET_videos.txt.
        num_classes: With the background: 20 in VIP.
        command: Command line that started this, for the record.
    """
    from ...data.published.parts import vip_sequences
    from ...evaluate.propagation.vip import PROTOCOLS, vip_benchmark
    from ._measure import measure

    if not 2 <= num_classes <= 255:
        raise ValueError(f"--num-classes is {num_classes}, expected 2 to 255, with the background")
    benchmark = vip_benchmark(
        vip_sequences(root, names=listed(sequences), subset=subset), num_classes=num_classes, subset=subset
    )
    measure(benchmark, options, protocol=PROTOCOLS[protocol], root=root, command=command)

"""vidssl evaluate tapvid: how well points are followed with frozen features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ._measure import MeasureOptions, listed

if TYPE_CHECKING:
    from ...evaluate.propagation.protocols import Protocol


def tapvid(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None,
    query_mode: Literal["first", "strided"] = "strided",
    visible_share: float = 0.15,
    sequences: str | None = None,
    command: str | None = None,
) -> None:
    """Carry points through videos with frozen features; print the official figures of TAP-Vid.

    Frames are 256x256 pixels, whatever the protocol says, unless --short-side gives another size; distances are
    always those in 256x256.

    Args:
        root: Folder of .npz files, as datasets/prepare_tapvid.py writes them from the published pickles.
        options: What is measured, and where.
        protocol: How labels travel. None is dino for vision transformers and crw for everything else.
        query_mode: first asks for every track at its first visible frame and counts the frames after it; strided
            asks at every fifth frame and counts all frames.
        visible_share: A point is visible where so much of its label is around the maximum, from 0 (always) to 1.
        sequences: Names of sequences, with commas between them. None is all of them.
        command: Command line that started this, for the record.
    """
    from ...data.published.points import tapvid_sequences
    from ...evaluate.propagation.tapvid import square_protocol, tapvid_benchmark
    from .._model import protocol_named
    from ._measure import measure

    benchmark = tapvid_benchmark(
        tapvid_sequences(root, names=listed(sequences)), mode=query_mode, visible_share=visible_share
    )

    def square(family: str) -> "Protocol":
        return square_protocol(protocol_named(protocol)(family))

    measure(benchmark, options, protocol=square, root=root, variant=query_mode, command=command)

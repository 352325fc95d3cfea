"""vidssl evaluate otb, vidssl evaluate got10k: how well boxes are followed with frozen features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ._measure import MeasureOptions, listed

if TYPE_CHECKING:
    from ...data.published.tracks import BoxSequence


def otb(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    tracker: Literal["masks", "correlation"] = "correlation",
    num_scales: int = 1,
    protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None,
    subset: Literal["otb2013", "tb50", "tb100"] | None = None,
    sequences: str | None = None,
    command: str | None = None,
) -> None:
    """Follow the first box of every sequence with frozen features; print the official figures of OTB.

    Args:
        root: Folder in the layout of OTB: SEQUENCE/img/0001.jpg, SEQUENCE/groundtruth_rect.txt.
        options: What is measured, and where.
        tracker: masks carries the box as a mask by label propagation; correlation looks for the features of the
            first box around the last place, as SiamFC does.
        num_scales: Sizes that the correlation tracker tries in every frame, such as 3; 1 keeps the size.
        protocol: How labels travel; of the correlation tracker, which features. None is dino for vision
            transformers and crw for everything else.
        subset: The sequences of OTB-2013, or the 50 or 100 of OTB-2015. None is what ROOT holds.
        sequences: Names of sequences, with commas between them. None is all of them.
        command: Command line that started this, for the record.
    """
    from ...data.published.tracks import otb_sequences

    found = otb_sequences(root, names=listed(sequences), subset=subset)
    _measure_boxes(
        found,
        options,
        task="otb",
        tracker=tracker,
        num_scales=num_scales,
        protocol=protocol,
        root=root,
        command=command,
        subset=subset,
    )


def got10k(
    root: Path,
    options: Annotated[MeasureOptions, tyro.conf.arg(name="")],
    *,
    tracker: Literal["masks", "correlation"] = "correlation",
    num_scales: int = 1,
    protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None,
    split: Literal["val", "test", "train"] = "val",
    sequences: str | None = None,
    command: str | None = None,
) -> None:
    """Follow the first box of every sequence with frozen features; print the official figures of GOT-10k.

    Args:
        root: Folder in the layout of GOT-10k: val/list.txt, val/GOT-10k_Val_000001/00000001.jpg, groundtruth.txt,
            cover.label.
        options: What is measured, and where.
        tracker: masks carries the box as a mask by label propagation; correlation looks for the features of the
            first box around the last place, as SiamFC does.
        num_scales: Sizes that the correlation tracker tries in every frame, such as 3; 1 keeps the size.
        protocol: How labels travel; of the correlation tracker, which features. None is dino for vision
            transformers and crw for everything else.
        split: Folder of the sequences. Of test only the first boxes are published: boxes are written, nothing is
            scored.
        sequences: Names of sequences, with commas between them. None is all of the split.
        command: Command line that started this, for the record.
    """
    from ...data.published.tracks import got10k_sequences

    found = got10k_sequences(root, names=listed(sequences), split=split)
    _measure_boxes(
        found,
        options,
        task="got10k",
        tracker=tracker,
        num_scales=num_scales,
        protocol=protocol,
        root=root,
        command=command,
        split=split,
    )


def _measure_boxes(
    sequences: "list[BoxSequence]",
    options: MeasureOptions,
    *,
    task: Literal["otb", "got10k"],
    tracker: Literal["masks", "correlation"],
    num_scales: int,
    protocol: str | None,
    root: Path,
    command: str | None,
    **settings: Any,
) -> None:
    from ...evaluate.propagation.boxes import Correlation, box_benchmark
    from .._model import protocol_named
    from ._measure import measure

    if num_scales < 1 or num_scales % 2 == 0:
        raise ValueError(f"--num-scales is {num_scales}; give an odd number, so that one of them is the last size")
    benchmark = box_benchmark(
        sequences, task=task, tracker=tracker, correlation=Correlation(num_scales=num_scales), **settings
    )
    measure(benchmark, options, protocol=protocol_named(protocol), root=root, variant=tracker, command=command)

"""Evaluators of sequences as Python calls: an encoder and a folder, and a result.

    result = davis(load_encoder("runs/x"), "DAVIS", protocol=CRW, baselines=True)
    result.figures["J&F-Mean"], result.baselines["identity"].figures["J&F-Mean"]

None in place of an encoder leaves labels where they were. `out` is taken over as far as it is of the same request.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from ...data.published.benchmarks import davis_sequences
from ...data.published.parts import vip_sequences
from ...data.published.points import tapvid_sequences
from ...data.published.poses import jhmdb_sequences
from ...data.published.tracks import got10k_sequences, otb_sequences
from ...models import Encoder
from ...models.load import redrawn
from ..results import Result, folder_of
from . import jhmdb as joints
from . import vip as parts
from .boxes import box_benchmark
from .davis import TASKS, davis_benchmark
from .protocols import Protocol
from .runner import Benchmark, Carrier, evaluate_sequences
from .tapvid import square_protocol, tapvid_benchmark

Device = str | torch.device


def davis(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Protocol | None,
    sequences: Iterable[str] | None = None,
    year: Literal[2016, 2017] = 2017,
    subset: str = "val",
    resolution: str = "480p",
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Carry the masks of every first frame: J and F of DAVIS.

    Args:
        encoder: In eval mode.
        root: Data in the layout of DAVIS.
        out: Folder for masks and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel; None without an encoder.
        sequences: Names of those wanted; None is all of the subset.
        year: 2017; or 2016, with one object.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    wanted = davis_sequences(root, names=_listed(sequences), year=year, subset=subset, resolution=resolution)
    benchmark = davis_benchmark(wanted, task=TASKS[year], year=year, subset=subset, resolution=resolution)
    return _measured(
        benchmark, encoder, protocol, root=root, out=out, baselines=baselines, device=device, overlays=overlays
    )


def jhmdb(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Literal["crw", "cropmae", "vfs", "siammae"] = "crw",
    sequences: Iterable[str] | None = None,
    split: Literal[1, 2, 3] = 1,
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Carry the joints of every first frame: PCK of JHMDB.

    Args:
        encoder: In eval mode.
        root: Data in the layout of JHMDB.
        out: Folder for joints and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel and joints are counted.
        sequences: Names of those wanted; None is all of the split.
        split: Of the test lists.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    how, maps, variant = joints.PROTOCOLS[protocol]
    found = jhmdb_sequences(root, names=_listed(sequences), split=split)
    benchmark = joints.jhmdb_benchmark(found, maps=maps, variant=variant, split=split)
    return _measured(
        benchmark, encoder, how, root=root, out=out, baselines=baselines, device=device, overlays=overlays
    )


def vip(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Literal["crw", "vfs", "siammae"] = "crw",
    sequences: Iterable[str] | None = None,
    subset: str = "val",
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Carry the parts of every first frame: mIoU of VIP.

    Args:
        encoder: In eval mode.
        root: Data in the layout of VIP.
        out: Folder for masks and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel.
        sequences: Names of those wanted; None is all of the subset.
        subset: List of videos.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    benchmark = parts.vip_benchmark(vip_sequences(root, names=_listed(sequences), subset=subset), subset=subset)
    return _measured(
        benchmark,
        encoder,
        parts.PROTOCOLS[protocol],
        root=root,
        out=out,
        baselines=baselines,
        device=device,
        overlays=overlays,
    )


def otb(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Protocol | None,
    tracker: Literal["masks", "correlation"] = "correlation",
    sequences: Iterable[str] | None = None,
    subset: Literal["otb2013", "tb50", "tb100"] | None = None,
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Follow boxes: success and precision of OTB.

    Args:
        encoder: In eval mode.
        root: Data in the layout of OTB.
        out: Folder for boxes and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel; None without an encoder.
        tracker: Carry a mask of the box, or correlate with the first box.
        sequences: Names of those wanted; None is all.
        subset: Published list of sequences.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    found = otb_sequences(root, names=_listed(sequences), subset=subset)
    benchmark = box_benchmark(found, task="otb", tracker=tracker, subset=subset)
    return _measured(
        benchmark, encoder, protocol, root=root, out=out, baselines=baselines, device=device, overlays=overlays
    )


def got10k(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Protocol | None,
    tracker: Literal["masks", "correlation"] = "correlation",
    sequences: Iterable[str] | None = None,
    split: Literal["val", "test", "train"] = "val",
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Follow boxes: average overlap and success rates of GOT-10k.

    Args:
        encoder: In eval mode.
        root: Data in the layout of GOT-10k.
        out: Folder for boxes and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel; None without an encoder.
        tracker: Carry a mask of the box, or correlate with the first box.
        sequences: Names of those wanted; None is all.
        split: Folder of the data.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    found = got10k_sequences(root, names=_listed(sequences), split=split)
    benchmark = box_benchmark(found, task="got10k", tracker=tracker, split=split)
    return _measured(
        benchmark, encoder, protocol, root=root, out=out, baselines=baselines, device=device, overlays=overlays
    )


def tapvid(
    encoder: Encoder | None,
    root: str | Path,
    *,
    out: str | Path | None = None,
    baselines: bool = False,
    protocol: Protocol | None,
    query_mode: Literal["first", "strided"] = "strided",
    sequences: Iterable[str] | None = None,
    device: Device = "cpu",
    overlays: bool = False,
) -> Result:
    """Follow points on frames of 256 x 256 pixels: average Jaccard of TAP-Vid.

    Args:
        encoder: In eval mode.
        root: Folder that datasets/prepare_tapvid.py wrote.
        out: Folder for points and result.json; None keeps the result in memory alone.
        baselines: Measure the same network with random weights, and labels that stay, too.
        protocol: How labels travel, on square frames; None without an encoder.
        query_mode: Ask once at the first visible frame, or at every fifth frame.
        sequences: Names of those wanted; None is all.
        device: Where to compute.
        overlays: Draw what is predicted.
    """
    benchmark = tapvid_benchmark(tapvid_sequences(root, names=_listed(sequences)), mode=query_mode)
    square = None if protocol is None else square_protocol(protocol)
    return _measured(
        benchmark, encoder, square, root=root, out=out, baselines=baselines, device=device, overlays=overlays
    )


def _measured(
    benchmark: Benchmark,
    encoder: Encoder | None,
    protocol: Protocol | None,
    *,
    root: str | Path,
    out: str | Path | None,
    baselines: bool,
    device: Device,
    overlays: bool,
) -> Result:
    rows: dict[str, Encoder | None] = {_named(encoder): encoder}
    if baselines and encoder is not None:
        rows |= {"random weights": redrawn(encoder), "identity": None}
    results: dict[str, Result] = {}
    with folder_of(out) as folder:
        for name, row in rows.items():
            results[name] = evaluate_sequences(
                benchmark,
                Carrier(row, None if row is None else protocol, torch.device(device)),
                out=folder / "baselines" / name.split()[0] if results else folder,
                model_name=name,
                root=root,
                overlays=overlays and not results,
            )
    first, *others = results
    return dataclasses.replace(results[first], baselines={other: results[other] for other in others})


def _named(encoder: Encoder | None) -> str:
    return "identity" if encoder is None else type(encoder).__name__


def _listed(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else list(names)

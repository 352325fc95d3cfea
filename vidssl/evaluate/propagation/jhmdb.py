"""JHMDB: carry the joints of the first frame through every video with frozen features, and score where they end.

Every joint is a label channel with a small Gaussian around it. The figures are PCK (metrics/pck.py).

    OUT/predictions/VIDEO.npz      xy float64 (T, J, 2) in pixels, the first pixel at 0, and lost bool (T, J); lost
                                   joints are (-1, -1)
    OUT/sequences/VIDEO.json       what was done and measured
    OUT/overlays/VIDEO.{png,mp4}   a few frames beside the ground truth, and the joints over the video
    OUT/result.json                all figures, every knob, versions
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from ...data.published.benchmarks import read_frame
from ...data.published.poses import JHMDB_EDGES, JHMDB_JOINTS, PoseSequence
from ...files import replacing
from ..metrics.pck import (
    LOST,
    THRESHOLDS,
    VARIANTS,
    Counts,
    Variant,
    count_correct,
    count_found,
    pck,
    pck_per_joint,
)
from ..results import Result, per_cent
from .drawing.draw import contact_sheet_of, draw_points
from .drawing.overlay import evenly_spaced, write_video
from .propagate import propagate_labels
from .protocols import CRW, SIAMMAE, VFS, Protocol
from .runner import Benchmark, Carrier
from .sequence_intervals import joint_sums

_FPS = 15  # of the drawn videos: half the speed of most clips


@dataclass(frozen=True)
class JointMaps:
    """How joints become label channels, and are read from them.

    Args:
        grid: What the Gaussians are drawn on and the joints read from: feature "cells"; or native "pixels", from
            which the maps are brought to the cells and back by bilinear interpolation.
        sigma: Standard deviation of the Gaussians, in cells or pixels.
        background: Whether a first channel says that there is no joint.
        topk: Cells or pixels whose mean place, weighted by the map, is the joint.
    """

    grid: Literal["cells", "pixels"]
    sigma: float
    background: bool
    topk: int


# Protocols of JHMDB by name: how labels travel, how joints become labels, and whose PCK was published with that.
PROTOCOLS: dict[str, tuple[Protocol, JointMaps, Variant]] = {
    # ajabri/videowalk (047f3f4), data/jhmdb.py and utils/test_utils.py; options as in its issue 10.
    "crw": (
        dataclasses.replace(CRW, frame_size=(320, 320), num_recent_frames=7),
        JointMaps(grid="cells", sigma=0.5, background=True, topk=3),
        "uvc",
    ),
    # alexandre-eymael/CropMAE (5d0dab2), downstreams/propagation/util.py: videowalk's code with other options.
    "cropmae": (
        dataclasses.replace(CRW, name="cropmae", frame_size=(320, 320), topk=7, temperature=0.7, radius_cells=20),
        JointMaps(grid="cells", sigma=0.5, background=True, topk=5),
        "uvc",
    ),
    # xvjiarui/VFS (7233826), datasets/jhmdb_dataset.py and pipelines/loading.py. The configuration for JHMDB was not
    # published: the propagation is that of DAVIS, the frames are those of the others.
    "vfs": (
        dataclasses.replace(VFS, frame_size=(320, 320)),
        JointMaps(grid="pixels", sigma=4, background=False, topk=5),
        "vfs",
    ),
    # google-deepmind/representations4d (75aca30), colabs/rvm_evaluation_demo.ipynb, cells 16 and 24: as "cropmae" but
    # for the filter that frames are resized by, and a first frame that is predicted.
    "siammae": (
        dataclasses.replace(SIAMMAE, frame_size=(320, 320)),
        JointMaps(grid="cells", sigma=0.5, background=True, topk=5),
        "uvc",
    ),
}


def jhmdb_benchmark(
    sequences: Sequence[PoseSequence], *, maps: JointMaps, variant: Variant = "uvc", **settings: Any
) -> Benchmark:
    """Videos with joints, measured as JHMDB is.

    Args:
        sequences: Of `jhmdb_sequences`.
        maps: How joints become label channels.
        variant: The PCK that is called so in the figures; all are recorded.
        settings: What the result records of the data besides.

    Raises:
        ValueError: The videos differ in their number of joints.
    """
    num_joints = {sequence.joints.shape[1]: sequence.name for sequence in sequences}
    if len(num_joints) > 1:
        raise ValueError(
            f"videos differ in their number of joints: {', '.join(f'{n} in {v}' for n, v in num_joints.items())}; "
            "PCK is a mean over joints, so all must have the same"
        )
    names = JHMDB_JOINTS if set(num_joints) == {len(JHMDB_JOINTS)} else tuple(map(str, range(max(num_joints))))

    def predict(
        sequence: PoseSequence, carrier: Carrier, out: Path, advance: Callable[[str], None]
    ) -> dict[str, Any]:
        places = []
        for xy in carry_joints(carrier, sequence.frames(), sequence.joints[0], maps=maps):
            places.append(xy)
            advance(sequence.name)
        xy = np.stack(places)
        with replacing(_prediction_path(sequence, out)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, xy=xy, lost=(xy == LOST).all(axis=2))
        return {"name": sequence.name, "num_frames": len(sequence), **score(sequence, xy)}

    return Benchmark(
        task="jhmdb",
        sequences=sequences,
        settings={**settings, "pck": variant, "joint_maps": dataclasses.asdict(maps)},
        predict=predict,
        outputs=lambda sequence, out: [_prediction_path(sequence, out)],
        draw=_draw,
        summarise=lambda records: summary(records, joint_names=names, variant=variant),
        sums=functools.partial(joint_sums, variant=variant),
    )


def carry_joints(
    carrier: Carrier, frames: Iterable[Tensor], first_joints: np.ndarray, *, maps: JointMaps
) -> Iterator[np.ndarray]:
    """Carry joints through a video.

    Args:
        carrier: What with; without an encoder, every joint stays where it was.
        frames: RGB, uint8 (3, H, W) each, all of one size.
        first_joints: Joints of the first frame, (J, 2) x and y in pixels, the first pixel at 0.
        maps: How joints become label channels.

    Yields:
        Joints of every frame, float64 (J, 2) in pixels; (-1, -1) where a joint is lost. For the first frame, what
        its own map gives: a joint is known to the cell.
    """
    if carrier.encoder is None or carrier.protocol is None:
        for _ in frames:
            yield first_joints
        return
    size: list[tuple[int, int]] = []  # of the frames, once the first has come

    def noted() -> Iterator[Tensor]:
        for frame in frames:
            size[:] = [(frame.shape[1], frame.shape[2])]
            yield frame

    def first_labels(rows: int, columns: int) -> Tensor:
        if maps.grid == "pixels":
            drawn = joint_maps(first_joints, size=size[0], maps=maps)
            return F.interpolate(drawn[None], size=(rows, columns), mode="bilinear")[0]
        scale = np.array([columns / size[0][1], rows / size[0][0]])
        return joint_maps(first_joints * scale, size=(rows, columns), maps=maps)

    labels = propagate_labels(
        carrier.encoder, noted(), first_labels, protocol=carrier.protocol, device=carrier.device
    )
    for number, soft in enumerate(labels):
        scale = np.ones(2)
        if maps.grid == "cells":
            scale = np.array([size[0][1] / soft.shape[2], size[0][0] / soft.shape[1]])
        elif number == 0:
            soft = joint_maps(first_joints, size=size[0], maps=maps)
        else:
            soft = F.interpolate(soft[None], size=size[0], mode="bilinear")[0]
        places = read_joints(soft[1:] if maps.background else soft, topk=maps.topk)
        yield np.where(places == LOST, LOST, places * scale)


def joint_maps(joints: np.ndarray, *, size: tuple[int, int], maps: JointMaps) -> Tensor:
    """Draw a Gaussian around every joint: float32 (J, *size), with the background channel first where there is one.

    As the official codes do, by a routine of Newell's pose-hg-train: a patch of 6 sigma + 1 cells, whose middle goes
    to the cell nearest to the joint (rounded down where the patch is odd); near the upper and left border it is
    off by one, because Python rounds negative numbers up. A joint outside leaves an empty map.

    Args:
        joints: (J, 2) x and y in cells.
        size: Rows and columns of the map.
        maps: How.
    """
    num_cells = math.ceil(6 * maps.sigma + 1)
    axis = np.arange(num_cells) - (6 * maps.sigma + 1) // 2
    bell = np.exp(-(axis**2) / (2 * maps.sigma**2))
    drawn = np.zeros((len(joints), *size), dtype=np.float32)
    for channel, (x, y) in zip(drawn, joints.tolist(), strict=True):
        rows, of_rows = _span(y, size[0], sigma=maps.sigma)
        columns, of_columns = _span(x, size[1], sigma=maps.sigma)
        channel[rows, columns] = bell[of_rows, None] * bell[of_columns]
    labels = torch.from_numpy(drawn)
    return torch.cat([(labels.sum(dim=0, keepdim=True) == 0).float(), labels]) if maps.background else labels


def _span(place: float, length: int, *, sigma: float) -> tuple[slice, slice]:
    """Cells of an axis that a patch covers, and the part of the patch that covers them; both empty outside."""
    start, stop = int(place - 3 * sigma), int(place + 3 * sigma + 1)  # rounded towards zero
    if start >= length or stop < 0:
        return slice(0), slice(0)
    return slice(max(0, start), min(stop, length)), slice(max(0, -start), min(stop, length) - start)


def read_joints(labels: Tensor, *, topk: int) -> np.ndarray:
    """Read the places of joints from their maps: the mean of the `topk` cells of largest weight, weighted.

    Args:
        labels: A map per joint (J, h, w).
        topk: Number of cells.

    Returns:
        float64 (J, 2), x and y in cells; (-1, -1) where a map is empty.
    """
    flat = labels.flatten(1)
    weight, cell = flat.topk(min(topk, flat.shape[1]), dim=1)
    weight, cell = weight.double().cpu(), cell.cpu()
    places = torch.stack((cell % labels.shape[2], cell // labels.shape[2]), dim=2)
    mean = (places * (weight / weight.sum(dim=1, keepdim=True))[..., None]).sum(dim=1)
    mean[(flat.sum(dim=1) == 0).cpu()] = LOST
    return mean.numpy()


def score(sequence: PoseSequence, xy: np.ndarray) -> dict[str, Any]:
    """Count what is right in a video, by every variant of PCK: JSON values.

    Args:
        sequence: The truth.
        xy: Predicted joints (T, J, 2), (-1, -1) where lost.
    """
    size = sequence.size()
    counts = {variant: count_correct(sequence.joints, xy, variant=variant, size=size) for variant in VARIANTS}
    found, present = count_found(sequence.joints, xy, size=size)
    return {
        "found": found,
        "present": present,
        **{
            name: {"counted": one.counted.tolist(), "correct": one.correct.tolist()}
            for name, one in counts.items()
        },
    }


def summary(
    records: list[dict[str, Any]], *, joint_names: Sequence[str], variant: Variant
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Figures of all videos together, by video and by joint.

    Args:
        records: Of `score`, with "name".
        joint_names: One per joint.
        variant: The PCK of the figures.

    Returns:
        Figures: "PCK@0.1" and "PCK@0.2"; the same where lost joints are wrong ("tapvid PCK@0.1"); "coverage", the
        share of the joints inside the frame that were not lost. Parts: the same by video, and PCK at all thresholds
        by joint ("joint neck"). The record gets PCK at all thresholds by every variant ("variants").
    """
    parts = {record["name"]: _figures([record], variant) for record in records}
    columns = [f"PCK@{threshold}" for threshold in THRESHOLDS]
    for name, values in zip(joint_names, pck_per_joint(_total(records, variant)).T.tolist(), strict=True):
        parts[f"joint {name}"] = dict(zip(columns, values, strict=True))
    variants = {one: pck(_total(records, one)) for one in VARIANTS}
    return _figures(records, variant), parts, {"variants": variants}


def variants_table(result: Result) -> Table:
    """Draw PCK at all thresholds by every variant for the terminal, in per cent."""
    variants = result.record["variants"]
    table = Table("", *variants["uvc"], title="PCK as it is counted by the code of ...")
    names = {"uvc": "UVC, CRW, CropMAE, RVM", "vfs": "VFS", "tapvid": "TAP-Vid"}
    for variant, values in variants.items():
        table.add_row(names[variant], *map(per_cent, values.values()))
    return table


def _figures(records: list[dict[str, Any]], variant: Variant) -> dict[str, float]:
    """What people cite."""
    figures: dict[str, float] = {}
    for prefix, one in (("", variant), ("tapvid ", "tapvid")):
        values = pck(_total(records, one))
        figures |= {f"{prefix}{column}": values[column] for column in ("PCK@0.1", "PCK@0.2")}
    present = sum(record["present"] for record in records)
    coverage = sum(record["found"] for record in records) / present if present else math.nan
    return figures | {"coverage": coverage}


def _total(records: list[dict[str, Any]], variant: str) -> Counts:
    """Counts of several videos together."""
    counted = np.sum([record[variant]["counted"] for record in records], axis=0)
    return Counts(counted, np.sum([record[variant]["correct"] for record in records], axis=0))


def _prediction_path(sequence: PoseSequence, out: Path) -> Path:
    return out / "predictions" / f"{sequence.name}.npz"


def _draw(sequence: PoseSequence, out: Path) -> None:
    """Draw the joints of a video that is complete: a contact sheet and a video."""
    with np.load(_prediction_path(sequence, out)) as saved:
        xy, lost = saved["xy"], saved["lost"]
    kept = last_seen(xy, lost)
    edges = JHMDB_EDGES if xy.shape[1] == len(JHMDB_JOINTS) else ()

    def picture(frame: Tensor, places: np.ndarray, hidden: np.ndarray) -> Tensor:
        return draw_points(frame, torch.from_numpy(places), torch.from_numpy(~hidden), edges=edges)

    numbers = evenly_spaced(len(sequence), count=6)
    frames = [read_frame(sequence.frame_paths[number]) for number in numbers]
    nothing_hidden = np.zeros(xy.shape[1], dtype=bool)
    truths = [picture(frame, sequence.joints[n], nothing_hidden) for frame, n in zip(frames, numbers, strict=True)]
    found = [picture(frame, kept[n], lost[n]) for frame, n in zip(frames, numbers, strict=True)]
    sheet = contact_sheet_of(
        [("ground truth", truths), ("prediction; a cross is where a lost joint was last", found)],
        column_titles=[f"frame {number}" for number in numbers],
    )
    stem = out / "overlays" / sequence.name
    with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
        sheet.save(temporary, format="PNG")
    pictures = (picture(frame, kept[n], lost[n]) for n, frame in enumerate(sequence.frames()))
    write_video(stem.with_name(f"{stem.name}.mp4"), pictures, fps=_FPS)


def last_seen(xy: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Put every lost joint where it was last: (T, J, 2); NaN where it never was."""
    kept = np.where(lost[..., None], np.nan, xy)
    for number in range(1, len(kept)):
        kept[number] = np.where(lost[number][:, None], kept[number - 1], kept[number])
    return kept

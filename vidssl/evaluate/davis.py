"""DAVIS: carry the first mask through every video with frozen features, and score the result.

The figures are those of davis2017-evaluation (semi-supervised task), under its column names; see metrics/jf.py.

    OUT/masks/SEQUENCE/00000.png ...   indexed masks, as the official evaluation reads them
    OUT/sequences/SEQUENCE.json        what was done and measured; written last: a sequence that has it is complete
    OUT/overlays/SEQUENCE.{png,mp4}    a few frames beside the ground truth, and the masks over the video
    OUT/result.json                    all figures, every knob, versions
    OUT/global_results-val.csv, OUT/per-sequence_results-val.csv   the official tables
"""

import dataclasses
import datetime
import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group
from rich.table import Table

from ..data.benchmarks import MaskSequence, davis_sequences, read_frame
from ..files import replacing
from ..models.encoder import Encoder
from .masks import read_mask, write_mask
from .metrics.jf import score_frame, statistics
from .overlay import contact_sheet, evenly_spaced, overlay, write_video
from .propagate import Protocol, identity_masks, propagate_masks
from .provenance import Stopwatch, device_name, fingerprint, frame_progress, versions, write_json

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DavisResult:
    """Figures of an evaluation.

    Args:
        figures: `COLUMNS` over the whole data set, means over objects; NaN where nothing was scored.
        objects: The same for each object, named "SEQUENCE_ID" as in the official tables.
        sequences: The same for each scored sequence, means over its objects; also its number of frames and speed.
        unscored: Sequences without figures: fewer than three of their frames have annotation.
        record: What else result.json holds: protocol, model, device, versions, speed, date.
    """

    figures: dict[str, float]
    objects: dict[str, dict[str, float]]
    sequences: dict[str, dict[str, float]]
    unscored: list[str]
    record: dict[str, Any]

    def __rich__(self) -> Group:
        """Draw the official tables for the terminal."""
        overall = Table(*COLUMNS, title="Mean over objects")
        overall.add_row(*(_cell(self.figures[column]) for column in COLUMNS))
        objects = Table("Sequence", "J-Mean", "F-Mean", title="Per object")
        for name, figures in self.objects.items():
            objects.add_row(name, _cell(figures["J-Mean"]), _cell(figures["F-Mean"]))
        for name in self.unscored:
            objects.add_row(name, "not scored", "not scored")
        return Group(objects, overall)

    def write(self, out: str | Path, *, subset: str = "val") -> None:
        """Write result.json and the official tables (three decimals) into the folder `out`."""
        out = Path(out)
        overall = [self.figures[column] for column in COLUMNS]
        _write_table(out / f"global_results-{subset}.csv", [COLUMNS, overall])
        rows = [(name, figures["J-Mean"], figures["F-Mean"]) for name, figures in self.objects.items()]
        _write_table(out / f"per-sequence_results-{subset}.csv", [("Sequence", "J-Mean", "F-Mean"), *rows])
        document = {name: value for name, value in vars(self).items() if name not in ("figures", "record")}
        write_json(out / "result.json", {"global": self.figures, **document, **self.record})


def evaluate_davis(
    encoder: Encoder | None,
    *,
    root: str | Path,
    out: str | Path,
    model_name: str,
    protocol: Protocol | None = None,
    sequences: Iterable[str] | None = None,
    subset: str = "val",
    resolution: str = "480p",
    device: str | torch.device = "cpu",
    overlays: bool = True,
    progress: bool = False,
    command: str | None = None,
) -> DavisResult:
    """Propagate the first mask of every sequence, write the masks, score them, and write down the result.

    A sequence that `out` holds already is taken over if protocol, weights, data, kind of device and versions of
    vidssl and torch are the same; otherwise it is done again, and the log says why. Stopping in between loses no
    finished sequence.

    Args:
        encoder: Frozen network in eval mode; None for the identity baseline, the first mask on every frame.
        root: Data in the layout of DAVIS (vidssl.data.benchmarks).
        out: Folder for the results (see the top of this file).
        protocol: How labels travel; the identity baseline needs none and is the same under all.
        model_name: What the result calls the model.
        sequences: Names of the sequences wanted; None for the list of `subset`.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.
        device: Where the encoder runs.
        overlays: Write OUT/overlays as well.
        progress: Show a progress bar on stderr.
        command: Command line that started this, for the record.

    Raises:
        ValueError: Something is wrong with the data (the message names the file), or there is no protocol.
    """
    if encoder is None:
        protocol = None
    elif protocol is None:
        raise ValueError(
            "protocol is None; an encoder needs one: pass DINO, CRW, VFS or DINOV3 (evaluate/propagate.py)"
        )
    out, device = Path(out), torch.device(device)
    wanted = davis_sequences(root, names=sequences, subset=subset, resolution=resolution)
    model: dict[str, Any] = {"name": model_name, "architecture": None, "sha256": None}
    if encoder is not None:
        model |= {"architecture": encoder.architecture, "sha256": fingerprint(encoder)}
    knobs = None if protocol is None else dataclasses.asdict(protocol)
    software = {name: versions()[name] for name in ("vidssl", "torch")}
    common = {"protocol": knobs, "model": model["sha256"], "device": device.type, "versions": software}
    keys = {sequence.name: json.loads(json.dumps(common | {"data": _files(sequence)})) for sequence in wanted}
    todo = [sequence for sequence in wanted if not _is_complete(sequence, keys[sequence.name], out)]
    if len(todo) < len(wanted):
        logger.info("%d of %d sequences are taken over from %s", len(wanted) - len(todo), len(wanted), out)
    if todo:
        (out / "result.json").unlink(missing_ok=True)  # it would describe masks that are being replaced

    with frame_progress(sum(len(sequence) for sequence in todo), shown=progress) as advance:
        for sequence in wanted:
            if sequence in todo:
                _forget(sequence, out)
                record = _run(sequence, encoder, out, protocol=protocol, device=device, advance=advance)
                write_json(_record_path(sequence.name, out), record | {"key": keys[sequence.name]})
            if overlays and not _overlay_path(sequence.name, out).exists():
                _write_overlays(sequence, out)

    records = [json.loads(_record_path(sequence.name, out).read_text()) for sequence in wanted]
    num_frames = sum(record["num_frames"] for record in records)
    facts = {
        "model": model,
        "protocol": knobs,
        "root": str(root),
        "subset": subset,
        "resolution": resolution,
        "num_frames": num_frames,
        "propagation_frames_per_second": num_frames / sum(record["propagation_seconds"] for record in records),
        "frames_per_second": num_frames / sum(record["seconds"] for record in records),
        "device": device_name(device),
        "versions": versions(),
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    result = _result(records, facts)
    result.write(out, subset=subset)
    return result


def score_masks(
    root: str | Path,
    masks: str | Path,
    *,
    sequences: Iterable[str] | None = None,
    subset: str = "val",
    resolution: str = "480p",
    out: str | Path | None = None,
) -> DavisResult:
    """Score masks that exist already, as the official evaluation does.

    Args:
        root: Data in the layout of DAVIS.
        masks: Folder with SEQUENCE/00000.png ...
        sequences: Names of the sequences wanted; None for the list of `subset`.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.
        out: Folder for result.json and the official tables; None writes nothing.

    Raises:
        ValueError: A mask is missing, has another size than its annotation, or ids above those of the first frame.
    """
    wanted = davis_sequences(root, names=sequences, subset=subset, resolution=resolution)
    records = [_scores(sequence, Path(masks) / sequence.name) for sequence in wanted]
    facts = {"masks": str(masks), "root": str(root), "subset": subset, "resolution": resolution}
    result = _result(records, facts | {"versions": versions()})
    if out is not None:
        result.write(out, subset=subset)
    return result


def _run(
    sequence: MaskSequence,
    encoder: Encoder | None,
    out: Path,
    *,
    protocol: Protocol | None,
    device: torch.device,
    advance: Callable[[str], None],
) -> dict[str, Any]:
    """Write the masks of one sequence and score what was written."""
    start = time.perf_counter()
    reading, propagating = Stopwatch(), Stopwatch()
    frames, first_mask = reading.over(sequence.frames()), sequence.mask(0)
    if encoder is None or protocol is None:
        masks = identity_masks(frames, first_mask)
    else:
        masks = propagate_masks(encoder, frames, first_mask, protocol=protocol, device=device)
    folder = out / "masks" / sequence.name
    # The copy to the CPU is timed too: a GPU answers before it has finished.
    on_cpu = propagating.over(mask.cpu() for mask in masks)
    for path, mask in zip(sequence.frame_paths, on_cpu, strict=True):
        write_mask(folder / f"{path.stem}.png", mask)
        advance(sequence.name)
    scores = _scores(sequence, folder)
    propagation_seconds = propagating.seconds - reading.seconds
    return scores | {"propagation_seconds": propagation_seconds, "seconds": time.perf_counter() - start}


def _scores(sequence: MaskSequence, folder: Path) -> dict[str, Any]:
    """J and F of every object on every scored frame, from the masks in a folder."""
    num_objects = sequence.num_objects
    objects: dict[str, dict[str, list[float]]] = {str(i + 1): {"J": [], "F": []} for i in range(num_objects)}
    for number in sequence.scored:
        path = folder / f"{sequence.frame_paths[number].stem}.png"
        mask, truth = read_mask(path).numpy(), sequence.mask(number).numpy()
        if mask.shape != truth.shape:
            raise ValueError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, its annotation "
                f"{sequence.annotation_paths[number]} {truth.shape[1]}x{truth.shape[0]}"
            )
        if int(mask.max()) > num_objects:
            raise ValueError(
                f"{path} has the object id {int(mask.max())}, but the first frame of {sequence.name} has "
                f"{num_objects} object(s)"
            )
        frame_scores = score_frame(truth, mask, num_objects=num_objects)
        for values, (similarity, accuracy) in zip(objects.values(), frame_scores, strict=True):
            values["J"].append(similarity)
            values["F"].append(accuracy)
    return {
        "name": sequence.name,
        "num_frames": len(sequence),
        "scored_frames": [sequence.frame_paths[number].stem for number in sequence.scored],
        "objects": objects,
    }


def _result(records: list[dict[str, Any]], facts: dict[str, Any]) -> DavisResult:
    """Put the figures of all sequences together."""
    objects: dict[str, dict[str, float]] = {}
    sequences: dict[str, dict[str, float]] = {}
    unscored = [record["name"] for record in records if not record["scored_frames"]]
    for record in records:
        if record["name"] in unscored:
            continue
        own = {f"{record['name']}_{number}": _figures(values) for number, values in record["objects"].items()}
        objects |= own
        sequences[record["name"]] = _mean(list(own.values())) | {"num_frames": record["num_frames"]}
        if "seconds" in record:
            sequences[record["name"]]["frames_per_second"] = record["num_frames"] / record["seconds"]
    if unscored:
        logger.warning("not scored, because fewer than 3 frames have annotation: %s", ", ".join(unscored))
    return DavisResult(_mean(list(objects.values())), objects, sequences, unscored, facts)


def _figures(values: dict[str, list[float]]) -> dict[str, float]:
    """Official columns of one object, from its J and F on every scored frame."""
    region, contour = statistics(np.array(values["J"])), statistics(np.array(values["F"]))
    return dict(zip(COLUMNS, ((region.mean + contour.mean) / 2, *region, *contour), strict=True))


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every column; J&F from the means of J and F, as in the official code."""
    if not figures:
        return dict.fromkeys(COLUMNS, math.nan)
    means = {column: float(np.mean([row[column] for row in figures])) for column in COLUMNS}
    return means | {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2}


def _is_complete(sequence: MaskSequence, key: dict[str, Any], out: Path) -> bool:
    """Whether `out` holds this sequence, made the same way; says in the log what is different."""
    path = _record_path(sequence.name, out)
    if not path.is_file():
        return False
    old = json.loads(path.read_text())["key"]
    changes = _changes(old, key)
    names = {file.name for file in (out / "masks" / sequence.name).glob("*.png")}
    if not changes and names >= {f"{frame.stem}.png" for frame in sequence.frame_paths}:
        return True
    logger.warning("%s is done again: %s", sequence.name, ", ".join(changes) or "masks are missing")
    return False


def _changes(old: Any, new: Any, *, name: str = "") -> list[str]:
    """Names of the values that differ, with both values where these are short."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            text for key in keys for text in _changes(old.get(key), new.get(key), name=f"{name} {key}".strip())
        ]
    if old == new:
        return []
    values = f" {old} -> {new}"
    return [f"{name}{values}" if len(values) < 60 else f"another {name}"]


def _files(sequence: MaskSequence) -> list[list[str | int]]:
    """Name and size in bytes of every file of a sequence."""
    paths: list[Path | None] = [*sequence.frame_paths, *sequence.annotation_paths]
    return [[path.name, path.stat().st_size] for path in paths if path is not None]


def _write_overlays(sequence: MaskSequence, out: Path) -> None:
    """Draw the masks of a sequence that is complete."""
    paths = [out / "masks" / sequence.name / f"{frame.stem}.png" for frame in sequence.frame_paths]
    numbers = evenly_spaced(len(sequence), count=6)
    sheet = contact_sheet(
        [read_frame(sequence.frame_paths[number]) for number in numbers],
        truths=[
            None if sequence.annotation_paths[number] is None else sequence.mask(number) for number in numbers
        ],
        predictions=[read_mask(paths[number]) for number in numbers],
    )
    video = _overlay_path(sequence.name, out)
    with replacing(video.with_suffix(".png")) as temporary:
        sheet.save(temporary, format="PNG")
    pictures = (overlay(frame, read_mask(path)) for frame, path in zip(sequence.frames(), paths, strict=True))
    write_video(video, pictures, fps=24)  # the frame rate of DAVIS


def _forget(sequence: MaskSequence, out: Path) -> None:
    """Remove what describes masks that are about to be replaced."""
    _record_path(sequence.name, out).unlink(missing_ok=True)
    _overlay_path(sequence.name, out).unlink(missing_ok=True)


def _record_path(name: str, out: Path) -> Path:
    return out / "sequences" / f"{name}.json"


def _overlay_path(name: str, out: Path) -> Path:
    return out / "overlays" / f"{name}.mp4"


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _write_table(path: Path, rows: Iterable[Iterable[str | float]]) -> None:
    """Write a CSV file with three decimals and empty cells for NaN, as the official code (pandas) does."""
    lines = [
        ",".join(cell if isinstance(cell, str) else "" if math.isnan(cell) else f"{cell:.3f}" for cell in row)
        for row in rows
    ]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))

"""DAVIS: carry the first mask through every video with frozen features, and score the result.

The figures are those of davis2017-evaluation (semi-supervised task), under its column names; see metrics/jf.py. They
serve DAVIS-2016 and the layout of YouTube-VOS as well: the official code of DAVIS-2016 has the same J and F, over the
same frames, and a temporal stability besides, which DAVIS-2017 dropped and we leave out. They differ from the official
ones where ids below the largest never occur: the official code counts each of these as an object that is always right,
here they are no objects, named in the log and in result.json ("absent_ids").

    OUT/masks/SEQUENCE/00000.png ...   indexed masks, as the official evaluation reads them
    OUT/sequences/SEQUENCE.json        what was done and measured; written last: a sequence that has it is complete
    OUT/overlays/SEQUENCE.{png,mp4}    a few frames beside the ground truth, and the masks over the video
    OUT/result.json                    all figures, every knob, versions
    OUT/global_results-val.csv, OUT/per-sequence_results-val.csv   the official tables
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table

from ...data.published.benchmarks import MaskSequence, davis_sequences, read_frame
from ...data.published.later_masks import check_later_masks
from ...data.published.masks import listed_ids
from ...files import replacing
from ...models.encoder import Encoder
from ..metrics.jf import score_frame, statistics
from ..overlap import read_ahead, write_behind
from ..provenance import Stopwatch, versions
from ..results import Result
from .drawing.overlay import contact_sheet, evenly_spaced, overlay, write_video
from .masks import read_mask, write_mask
from .protocols import Protocol
from .runner import Benchmark, Carrier, evaluate_sequences
from .sequence_intervals import Sums, weighted_means

COLUMNS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
# Name of the task by year, for results.
TASKS = {2017: "davis", 2016: "davis2016"}

logger = logging.getLogger(__name__)


def davis_benchmark(sequences: Sequence[MaskSequence], *, task: str, **settings: Any) -> Benchmark:
    """Sequences of masks, measured as DAVIS is.

    Args:
        sequences: Of `davis_sequences` or `youtubevos_sequences`.
        task: Name of the task.
        settings: What the result records of the data: subset, resolution, year.
    """
    return Benchmark(
        task=task,
        sequences=sequences,
        settings=settings,
        predict=_predict,
        outputs=_mask_paths,
        draw=_write_overlays,
        summarise=_summary,
        sums=_sums,
    )


def evaluate_davis(
    encoder: Encoder | None,
    *,
    root: str | Path,
    out: str | Path,
    model_name: str,
    protocol: Protocol | None = None,
    sequences: Iterable[str] | None = None,
    year: int = 2017,
    subset: str = "val",
    resolution: str = "480p",
    device: str | torch.device = "cpu",
    overlays: bool = True,
    progress: bool = False,
    command: str | None = None,
) -> Result:
    """Propagate the first mask of every sequence, write the masks, score them, and write down the result.

    A sequence that `out` holds already is taken over if nothing that matters has changed
    (evaluate/propagation/runner.py).

    Args:
        encoder: Frozen network in eval mode; None for the identity baseline, the first mask on every frame.
        root: Data in the layout of DAVIS (vidssl.data.published.benchmarks).
        out: Folder for the results (see the top of this file).
        protocol: How labels travel; the identity baseline needs none and is the same under all.
        model_name: What the result calls the model.
        sequences: Names of the sequences wanted; None for the list of `subset`.
        year: 2017; or 2016, with one object.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.
        device: Where the encoder runs.
        overlays: Write OUT/overlays as well.
        progress: Show a progress bar on stderr.
        command: Command line that started this, for the record.

    Returns:
        Figures over all objects, parts by sequence; the record has the figures by object ("objects", named
        "SEQUENCE_ID" as in the official tables) and the sequences without figures ("unscored").

    Raises:
        ValueError: Something is wrong with the data (the message names the file), or there is no protocol.
    """
    wanted = davis_sequences(root, names=sequences, year=year, subset=subset, resolution=resolution)
    result = evaluate_sequences(
        davis_benchmark(wanted, task=TASKS[year], year=year, subset=subset, resolution=resolution),
        Carrier(encoder, protocol, torch.device(device)),
        out=out,
        model_name=model_name,
        root=root,
        overlays=overlays,
        progress=progress,
        command=command,
    )
    write_tables(result, out, subset=subset)
    return result


def official_tables(result: Result) -> Group:
    """Draw the official tables for the terminal."""
    # With narrow borders the seven columns fit into 80 letters.
    overall = Table(*COLUMNS, title="Mean over objects", box=SIMPLE, padding=(0, 1, 0, 0))
    overall.add_row(*(_cell(result.figures[column]) for column in COLUMNS))
    objects = Table("Sequence", "J-Mean", "F-Mean", title="Per object")
    for name, figures in result.record["objects"].items():
        objects.add_row(name, _cell(figures["J-Mean"]), _cell(figures["F-Mean"]))
    for name in result.record["unscored"]:
        objects.add_row(name, "not scored", "not scored")
    return Group(objects, overall)


def write_tables(result: Result, out: str | Path, *, subset: str = "val") -> None:
    """Write the official tables (three decimals) into the folder `out`."""
    overall = [result.figures[column] for column in COLUMNS]
    _write_table(Path(out) / f"global_results-{subset}.csv", [COLUMNS, overall])
    objects = result.record["objects"].items()
    rows = [(name, figures["J-Mean"], figures["F-Mean"]) for name, figures in objects]
    _write_table(Path(out) / f"per-sequence_results-{subset}.csv", [("Sequence", "J-Mean", "F-Mean"), *rows])


def score_masks(
    root: str | Path,
    masks: str | Path,
    *,
    sequences: Iterable[str] | None = None,
    subset: str = "val",
    resolution: str = "480p",
    year: int = 2017,
    out: str | Path | None = None,
) -> Result:
    """Score masks that exist already, as the official evaluation does.

    Args:
        root: Data in the layout of DAVIS.
        masks: Folder with SEQUENCE/00000.png ...
        sequences: Names of the sequences wanted; None for the list of `subset`.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.
        year: 2017; or 2016, with one object.
        out: Folder for result.json and the official tables; None writes nothing.

    Raises:
        ValueError: A mask is missing, has another size than its annotation, or ids that are no objects of the sequence.
    """
    wanted = davis_sequences(root, names=sequences, year=year, subset=subset, resolution=resolution)
    records = [_scores(sequence, Path(masks) / sequence.name) for sequence in wanted]
    figures, parts, more = _summary(records)
    settings = {"year": year, "subset": subset, "resolution": resolution}
    facts = {"masks": str(masks), "root": str(root), "settings": settings, "versions": versions()}
    result = Result(TASKS[year], figures, parts, facts | more)
    if out is not None:
        result.write(out)
        write_tables(result, out, subset=subset)
    return result


def _predict(
    sequence: MaskSequence, carrier: Carrier, out: Path, advance: Callable[[str], None]
) -> dict[str, Any]:
    """Write the masks of one sequence and score what was written."""
    check_later_masks(sequence)
    reading, propagating = Stopwatch(), Stopwatch()
    frames = reading.over(read_ahead(sequence.frames()))  # what is waited for
    masks = carrier.masks(frames, sequence.first_mask(), later_masks=sequence.later_masks())
    # The copy to the CPU is timed too: a GPU answers before it has finished.
    on_cpu = propagating.over(mask.cpu() for mask in masks)
    with write_behind() as later:
        for path, mask in zip(_mask_paths(sequence, out), on_cpu, strict=True):
            later(write_mask, path, mask)
            advance(sequence.name)
    seconds = propagating.seconds - reading.seconds
    return _scores(sequence, out / "masks" / sequence.name) | {"propagation_seconds": seconds}


def _scores(sequence: MaskSequence, folder: Path) -> dict[str, Any]:
    """J and F of every object on every frame that is scored for it, from the masks in a folder."""
    counting = {i: set(sequence.scored(i)) for i in sequence.first_frames}
    scored = sorted(set().union(*counting.values()))
    objects: dict[str, dict[str, list[float | None]]] = {str(i): {"J": [], "F": []} for i in counting}
    for number in scored:
        path = folder / f"{sequence.frame_paths[number].stem}.png"
        mask, truth = read_mask(path).numpy(), sequence.mask(number).numpy()
        if mask.shape != truth.shape:
            raise ValueError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, its annotation "
                f"{sequence.annotation_paths[number]} {truth.shape[1]}x{truth.shape[0]}"
            )
        unknown = sorted(set(np.unique(mask).tolist()) - {0, *counting})
        if unknown:
            raise ValueError(
                f"{path} has the object id {listed_ids(unknown)}, but the first frame of {sequence.name} has "
                f"{len(counting)} object(s), {listed_ids(list(counting))}"
            )
        frame_scores = score_frame(truth, mask, ids=list(counting))
        for (i, values), score in zip(objects.items(), frame_scores, strict=True):
            similarity, accuracy = score if number in counting[int(i)] else (None, None)
            values["J"].append(similarity)
            values["F"].append(accuracy)
    return {
        "name": sequence.name,
        "num_frames": len(sequence),
        "scored_frames": [sequence.frame_paths[number].stem for number in scored],
        "objects": objects,
        "groups": {str(i): group for i, group in sequence.groups.items()},
        "absent_ids": sequence.absent_ids,
    }


def _summary(
    records: list[dict[str, Any]],
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Put the figures of all sequences together: over all objects, by sequence, and by object."""
    objects: dict[str, dict[str, float]] = {}
    sequences: dict[str, dict[str, float]] = {}
    groups: dict[str, list[dict[str, float]]] = {}
    unscored = [record["name"] for record in records if not record["scored_frames"]]
    for record in records:
        own = {
            f"{record['name']}_{number}": _figures(values)
            for number, values in record["objects"].items()
            if any(value is not None for value in values["J"])
        }
        if not own:
            continue
        for number, group in record.get("groups", {}).items():
            if f"{record['name']}_{number}" in own:
                groups.setdefault(group, []).append(own[f"{record['name']}_{number}"])
        objects |= own
        sequences[record["name"]] = _mean(list(own.values())) | {"num_frames": record["num_frames"]}
        if "seconds" in record:
            sequences[record["name"]]["frames_per_second"] = record["num_frames"] / record["seconds"]
    if unscored:
        logger.warning("not scored, because too few of their frames have annotation: %s", ", ".join(unscored))
    more: dict[str, Any] = {"objects": objects, "unscored": unscored}
    absent = {record["name"]: record["absent_ids"] for record in records if record["absent_ids"]}
    if absent:  # davis2017-evaluation counts them: its figures differ
        more["absent_ids"] = absent
    if all("propagation_seconds" in record for record in records):
        num_frames, seconds = (
            sum(record[key] for record in records) for key in ("num_frames", "propagation_seconds")
        )
        more["propagation_frames_per_second"] = num_frames / seconds
    figures = _mean(list(objects.values()))
    if len(groups) == 2:
        # As YouTube-VOS ranks: seen and unseen categories weigh the same.
        by_group = {name: _mean(values) for name, values in groups.items()}
        more["groups"] = by_group
        figures["G-Mean"] = float(np.mean([one["J&F-Mean"] for one in by_group.values()]))
    return figures, sequences, more


def _sums(records: list[dict[str, Any]]) -> Sums:
    """Means over all objects: a sequence weighs as much as it has. Of two groups, the mean of both means as well."""
    scored = [record for record in records if record["scored_frames"]] or records[:1]
    rows, figures_of = weighted_means(scored, _summary, weight=lambda more: len(more["objects"]))
    groups = sorted({group for record in scored for group in record.get("groups", {}).values()})
    if len(groups) != 2:
        return rows, figures_of
    own = np.zeros((len(scored), 2, 2))  # sequence, group, sum and number of its objects
    for place, record in enumerate(scored):
        objects = _summary([record])[2]["objects"]
        for number, group in record["groups"].items():
            if (name := f"{record['name']}_{number}") in objects:
                own[place, groups.index(group)] += (objects[name]["J&F-Mean"], 1)

    def with_groups(row: np.ndarray) -> dict[str, float]:
        sums = row[-4:].reshape(2, 2)
        with np.errstate(invalid="ignore"):
            return {**figures_of(row[:-4]), "G-Mean": float((sums[:, 0] / sums[:, 1]).mean())}

    return np.concatenate([rows, own.reshape(len(own), 4)], axis=1), with_groups


def _figures(values: dict[str, list[float | None]]) -> dict[str, float]:
    """Official columns of one object, from its J and F on every frame that is scored for it."""
    region, contour = (
        statistics(np.array([value for value in values[letter] if value is not None])) for letter in "JF"
    )
    return dict(zip(COLUMNS, ((region.mean + contour.mean) / 2, *region, *contour), strict=True))


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every column; J&F from the means of J and F, as in the official code."""
    if not figures:
        return dict.fromkeys(COLUMNS, math.nan)
    means = {column: float(np.mean([row[column] for row in figures])) for column in COLUMNS}
    return means | {"J&F-Mean": (means["J-Mean"] + means["F-Mean"]) / 2}


def _mask_paths(sequence: MaskSequence, out: Path) -> list[Path]:
    return [out / "masks" / sequence.name / f"{frame.stem}.png" for frame in sequence.frame_paths]


def _write_overlays(sequence: MaskSequence, out: Path) -> None:
    """Draw the masks of a sequence that is complete."""
    paths = _mask_paths(sequence, out)
    numbers = evenly_spaced(len(sequence), count=6)
    sheet = contact_sheet(
        [read_frame(sequence.frame_paths[number]) for number in numbers],
        truths=[
            None if sequence.annotation_paths[number] is None else sequence.mask(number) for number in numbers
        ],
        predictions=[read_mask(paths[number]) for number in numbers],
    )
    stem = out / "overlays" / sequence.name
    with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
        sheet.save(temporary, format="PNG")
    pictures = (overlay(frame, read_mask(path)) for frame, path in zip(sequence.frames(), paths, strict=True))
    write_video(stem.with_name(f"{stem.name}.mp4"), pictures, fps=24)  # the frame rate of DAVIS


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

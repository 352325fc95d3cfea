"""Measure frozen features on labelled data: results of every split, and those that are done."""

import dataclasses
import datetime
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...json_files import ResultRecord, read_json
from ..results import slug
from .subject import Subject, Task

if TYPE_CHECKING:
    from ...data.published.labelled import LabelledSet
    from ..results import Result

logger = logging.getLogger(__name__)


def measure(
    task: Task,
    subjects: Sequence[Subject],
    sets: "Mapping[int, LabelledSet]",
    *,
    name: str,
    out: Path,
    chance: bool = True,
    root: str = "",
    command: str | None = None,
) -> "dict[str, Result]":
    """Measure subjects on every split, and what guessing gives; finished results of the same request are taken over.

    Args:
        task: What is measured.
        subjects: The model, then its baselines.
        sets: Splits of one data set by their numbers.
        name: Of the data, for people.
        out: Folder for results: of the model; of the others OUT/baselines/NAME.
        chance: Whether to give the figures of guessing.
        root: Where the data lies, for the record.
        command: Command line that started this, for the record.

    Returns:
        Row of the table -> result, the model first, "chance" last.

    Raises:
        ValueError: The data cannot be measured, or cannot be read.
    """
    odd = {split: task.look(data) for split, data in sets.items()}
    common = {"root": root, "command": command}
    results: dict[str, Result] = {}
    for row in subjects:
        groups = [row.layers] if task.joint_layers or len(row.layers) == 1 else [(layer,) for layer in row.layers]
        for layers in groups:
            folder = out if row is subjects[0] else out / "baselines" / row.name.split()[0]
            title = row.model_name if row is subjects[0] else row.name
            if len(groups) > 1:
                folder, title = folder / "layers" / slug(layers[0]), f"{title}, {layers[0]}"
            results[title] = _result(task, row, layers, sets, folder, name=name, common=common, odd=odd)
    if chance:
        columns = list(next(iter(results.values())).figures)
        results["chance"] = _chance(task, sets, columns, common, name=name)
        results["chance"].write(out / "baselines" / "chance")
    return results


def _result(
    task: Task,
    subject: Subject,
    layers: tuple[str, ...],
    sets: "Mapping[int, LabelledSet]",
    out: Path,
    *,
    name: str,
    common: dict[str, Any],
    odd: Mapping[int, dict[str, list[str]]],
) -> "Result":
    """Results of every split, and their mean if there are several; finished ones are taken over."""
    from ..metrics.interval import mean_uncertainty
    from ..results import Result

    by_split = {}
    for split, data in sets.items():
        folder = out if len(sets) == 1 else out / "splits" / str(split)
        own = {**common, "odd_classes": odd[split]}
        by_split[split] = _result_of_split(task, subject, layers, data, folder, common=own)
    first = next(iter(by_split.values()))
    if len(sets) == 1:
        return first
    sure = mean_uncertainty([one.record["uncertainty"] for one in by_split.values()])
    result = Result(
        task.name,
        {
            column: sum(one.figures[column] for one in by_split.values()) / len(by_split)
            for column in first.figures
        },
        {f"split {split}": one.figures for split, one in by_split.items()},
        {
            **first.record,
            "settings": {**first.record["settings"], "data": name, "splits": list(sets)},
            "uncertainty": sure,
        },
    )
    for one in (
        "key",
        "chosen",
        "classes",
        "odd_classes",
    ):  # those of the first split alone; each is in its own folder
        result.record.pop(one, None)
    result.write(out)
    return result


def _result_of_split(
    task: Task,
    subject: Subject,
    layers: tuple[str, ...],
    data: "LabelledSet",
    out: Path,
    *,
    common: dict[str, Any],
) -> "Result":
    from ..provenance import device_name, versions
    from ..results import Result
    from .features.extract import data_fingerprint
    from .outcome import class_accuracies
    from .predictions import NAME, write_predictions

    settings = {
        "data": data.name,
        "num_classes": len(data.class_names),
        "views": {"of": type(subject.views).__name__, **dataclasses.asdict(subject.views)},
        "layers": list(layers),
        **task.settings,
        "seed": subject.seed,
    }
    listener = {}
    if subject.partner is not None:
        settings["audio_views"] = dataclasses.asdict(subject.partner.views)
        listener = {"audio_model": subject.partner.description}
    software = {name: versions()[name] for name in ("vidssl", "torch")}
    asked = {
        "task": task.name,
        "settings": settings,
        "model": subject.description,
        **listener,
        "train": data_fingerprint(data.train),
        "test": data_fingerprint(data.test),
        "versions": software,
        "device": subject.device.type,
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    has_predictions = (out / NAME).is_file()
    finished, picture = taken_over(out, key) if has_predictions else None, out / f"{task.name}.png"
    if finished is None:
        picture.unlink(missing_ok=True)
        outcome = task.evaluate(subject, layers, data)
        classes = {}
        if outcome.predicted is not None and task.name in ("knn", "linear"):
            label = subject.samples(layers[0], data.test).label
            classes = {
                data.class_names[one]: value for one, value in class_accuracies(outcome.predicted, label).items()
            }
        features = next(iter(subject.features.values()))
        write_predictions(
            out / NAME,
            task.scored(subject, data),
            outcome.columns,
            root=Path(common["root"]),
            class_names=data.class_names,
            gallery=subject.readable(data.train),
        )
        finished = Result(
            task.name,
            outcome.figures,
            {_with_class_name(part, data.class_names): values for part, values in outcome.parts.items()},
            {
                "settings": settings,
                "protocol": None,
                "model": subject.description,
                **listener,
                "uncertainty": outcome.uncertainty,
                "chosen": outcome.chosen,
                "classes": classes,
                "unreadable": [list(one) for one in features.bad],
                **common,
                "device": device_name(subject.device),
                "versions": versions(),
                "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "key": key,
            },
        )
        finished.write(out)
    if task.picture is not None and subject.name == "model" and not picture.is_file():
        task.picture(subject, layers[0], data, picture)
    return finished


def taken_over(out: Path, key: str) -> "Result | None":
    """The result in a folder if it is of the same request, by its key."""
    finished = read_result(out / "result.json")
    if finished is None:
        return None
    if finished.record.get("key") == key:
        logger.info("taken over from %s", out)
        return finished
    logger.warning("%s holds the result of something else, which is replaced", out)
    return None


def read_result(path: Path) -> "Result | None":
    """Read a result.json; None if there is none, or it is not ours."""
    from ..results import Result

    try:
        document = read_json(path, ResultRecord)
        figures = {name: math.nan if value is None else value for name, value in document.pop("figures").items()}
        parts = {
            part: {name: math.nan if value is None else value for name, value in values.items()}
            for part, values in document.pop("parts").items()
        }
        return Result(document.pop("task"), figures, parts, document)
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _with_class_name(part: str, class_names: Sequence[str]) -> str:
    number = part.removeprefix("class ")
    return class_names[int(number)] if part.startswith("class ") and number.isdecimal() else part


def _chance(
    task: Task, sets: "Mapping[int, LabelledSet]", columns: Sequence[str], common: dict[str, Any], *, name: str
) -> "Result":
    from ..results import Result

    guesses = [task.chance(data, columns) for data in sets.values()]
    figures = {column: sum(guess.get(column, math.nan) for guess in guesses) / len(guesses) for column in columns}
    model = {"name": "chance", "architecture": None, "sha256": None}
    settings = {"data": name, **task.settings}
    return Result(task.name, figures, {}, {"model": model, "protocol": None, "settings": settings, **common})

"""What was said of each test sample: OUT/predictions.csv, a row per sample in the order of the test list."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...data.published.labelled import Item
from ...files import replacing

NAME = "predictions.csv"

# Guesses that are written for each sample.
NUM_GUESSES = 5
# Neighbours that are written for each query.
NUM_HITS = 10


@dataclass(frozen=True)
class Column:
    """A column of predictions.csv.

    Args:
        name: In the heading.
        values: A number per test sample, (M,); below 0 there is none, where it is a class or a sample.
        kind: "class" is written as the name of the class, "sample" as the file of that training sample, "number" as
            it is.
    """

    name: str
    values: Tensor
    kind: Literal["class", "sample", "number"] = "number"


def guess_columns(ranked: Tensor, scores: Tensor) -> tuple[Column, ...]:
    """Best guess, and the best ones with their scores.

    Args:
        ranked: Classes, best first, int64 (M, 5); -1 is none.
        scores: Probability or share of the votes of each, (M, up to 5).
    """
    columns = [Column("prediction", ranked[:, 0], "class")]
    num_guesses = int((ranked >= 0).any(0).sum())  # of few classes there are fewer than five
    for place in range(min(num_guesses, scores.shape[1])):
        columns.append(Column(f"class_{place + 1}", ranked[:, place], "class"))
        columns.append(
            Column(f"score_{place + 1}", torch.where(ranked[:, place] < 0, torch.nan, scores[:, place]))
        )
    return tuple(columns)


def write_predictions(
    path: Path,
    items: Sequence[Item],
    columns: Sequence[Column],
    *,
    root: Path,
    class_names: Sequence[str],
    gallery: Sequence[Item] = (),
) -> None:
    """Write a row per sample: file, start_s, end_s, recording, label, and the columns; whole or not at all.

    Args:
        path: Of the CSV.
        items: The M samples.
        columns: What was said of them.
        root: Folder or list of the data: files are written as it names them, relative to the folder.
        class_names: By number of the class.
        gallery: Samples that columns of the kind "sample" count.
    """
    folder = (root if root.is_dir() else root.parent).resolve()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "start_s", "end_s", "recording", "label", *(column.name for column in columns)])
    cells = [
        [_cell(value, column, folder, class_names, gallery) for value in column.values.tolist()]
        for column in columns
    ]
    for item, own in zip(items, zip(*cells, strict=True), strict=True):
        part = ["" if one is None else one for one in (item.start_seconds, item.end_seconds)]
        name = file_name(item, folder)
        table.writerow([name, *part, item.source or name, class_names[item.label], *own])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")


def file_name(item: Item, folder: Path) -> str:
    """Path of a sample relative to the folder of the data, or whole where it lies elsewhere."""
    path = item.path.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(item.path)


def _cell(
    value: float, column: Column, folder: Path, class_names: Sequence[str], gallery: Sequence[Item]
) -> str | int:
    if column.kind == "number":
        return value if isinstance(value, int) else "" if value != value else f"{value:.6g}"
    if value < 0:
        return ""
    return class_names[int(value)] if column.kind == "class" else file_name(gallery[int(value)], folder)

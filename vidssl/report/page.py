"""One page that shows a run: how it trained, what it measured beside its baselines, and where it fails.

The page needs no other file and no network: charts, pictures and videos are inside it.
"""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from einops import rearrange
from PIL import Image
from torch import Tensor

from .. import __version__
from ..data.published.benchmarks import MaskSequence, davis_sequences, read_frame
from ..evaluate.propagation.davis import COLUMNS, TASKS
from ..evaluate.propagation.drawing.overlay import evenly_spaced, overlay
from ..files import own_file, replacing
from ..json_files import RunRecord, parse_json
from . import charts, comparison, finding, templates
from .embed import file_uri, jpeg_uri, svg_uri
from .measured import Evaluation, _read, find_evaluations

NUM_STRIP_FRAMES = 6
NUM_FAILURES = 3
STRIP_HEIGHT_PX = 144
PICTURE_WIDTH_PX = 480
# A page of more cannot be sent by mail, and phones give up on it.
MAX_VIDEO_BYTES = 24 * 2**20

logger = logging.getLogger(__name__)


class _Run(RunRecord):
    overrides: dict[str, Any]
    num_videos: int
    device: str
    date: str
    versions: dict[str, str]
    command: str | None


class _Encoder(TypedDict):
    architecture: dict[str, Any]
    dim: int


def write_report(folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write a page from what a run folder holds.

    Read are run.json, config.py, metrics.jsonl, pictures/ and encoder.json of `vidssl pretrain`, and the
    evaluations in evaluate/*/ (`vidssl evaluate`), with their baselines, identity and random weights. DAVIS comes
    first; the other tasks follow as in a comparison (comparison.py).

    Args:
        folder: The run folder.
        out: The page; None is FOLDER/report.html.

    Returns:
        Path of the page.

    Raises:
        ValueError: `folder` is no run folder.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder} is no run folder: it holds no run.json, which `vidssl pretrain` writes")
    evaluations = find_evaluations(folder)
    environment = templates.environment()
    environment.filters["points"] = _points
    page = environment.get_template("page.html").render(
        name=folder.resolve().name,
        folder=str(folder),
        run=_read(folder / "run.json", folder=folder, kind=_Run),
        source=own_file(folder / "config.py", folder=folder).read_text(encoding="utf-8", errors="replace"),
        encoder=_encoder(folder),
        training=_training(folder),
        columns=COLUMNS,
        evaluations=evaluations,
        comparison=_comparison(evaluations),
        sections=_other_tasks(folder),
        propagation=_propagation(evaluations),
        version=__version__,
    )
    out = Path(out or folder / "report.html")
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def _other_tasks(folder: Path) -> list[dict[str, Any]]:
    """Tables, charts and pictures of the tasks that have no part of their own on this page."""
    if not any(folder.glob("evaluate/*/result.json")):
        return []
    found = finding.find(folder)
    return comparison.sections([one for one in found if one.result["task"] not in TASKS.values()])


def _training(folder: Path) -> dict[str, Any] | None:
    """Curves and last pictures of the training; None before anything was logged."""
    path = folder / "metrics.jsonl"
    lines = _metrics(own_file(path, folder=folder)) if path.exists() else []
    if not any("loss" in line for line in lines):
        return None
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if name != "step"]
    # Evaluations in between have lines, and steps, of their own.
    scalars = {name: [(line["step"], line[name]) for line in lines if name in line] for name in names}
    # PATH is NAME_00000500.png; the last one of each name is shown.
    found = sorted((folder / "pictures").glob("*.png"))
    pictures = {path.stem.rpartition("_")[0]: path for path in found if re.fullmatch(r".+_\d+", path.stem)}
    drawn = {
        name: svg_uri(
            charts.curve(
                *zip(*points, strict=True),
                title=name,
                width=5.2 if name == "loss" else 3.6,
                height=2.7 if name == "loss" else 2,
            )
        )
        for name, points in scalars.items()
    }
    return {
        "loss": drawn.pop("loss"),
        "others": drawn,
        "num_steps": lines[-1]["step"],
        "last": [line for line in lines if "loss" in line][-1],
        "pictures": [
            {
                "name": name,
                "step": path.stem.rpartition("_")[2].lstrip("0") or "0",
                "uri": file_uri(path, "image/png", folder=folder),
            }
            for name, path in pictures.items()
        ],
    }


def _metrics(path: Path) -> list[dict[str, float]]:
    """Lines of metrics.jsonl; one that a kill, a full disk or a power cut damaged is left out and named."""
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = parse_json(text, dict[str, float], where=f"{path}:{number}")
            lines.append({"step": line["step"], **line})
        except (ValueError, KeyError):
            logger.warning("%s:%d is damaged and left out: %.60r", path, number, text)
    return lines


def _comparison(evaluations: Sequence[Evaluation]) -> dict[str, Any] | None:
    """Charts of all evaluations side by side, and what pretraining gained; None if there are none."""
    if not evaluations:
        return None
    names = sorted({name for evaluation in evaluations for name in evaluation.result["parts"]})
    colors = {evaluation.label: evaluation.color for evaluation in evaluations}
    scores = {one.label: {name: one.score(name) for name in names} for one in evaluations}
    return {
        "names": names,
        "bars": svg_uri(charts.bars(names, scores, colors)) if names else None,
        "along": svg_uri(charts.along({one.label: _along(one) for one in evaluations}, colors)) if names else None,
        "gains": _gains(evaluations),
    }


def _gains(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """What each pretrained encoder has more than each baseline on the same sequences, in J&F of [0, 1]."""
    return [
        {
            "label": one.label,
            "baseline": other.label,
            "gain": one.result["figures"]["J&F-Mean"] - other.result["figures"]["J&F-Mean"],
        }
        for one in evaluations
        for other in evaluations
        if one.kind == "run" and other.kind != "run"
        if None not in (one.result["figures"]["J&F-Mean"], other.result["figures"]["J&F-Mean"])
        if one.result["parts"].keys() == other.result["parts"].keys() and one.result["parts"]
        # The identity is the same under every protocol.
        if other.kind == "identity" or one.result["protocol"] == other.result["protocol"]
    ]


def _along(evaluation: Evaluation) -> list[float]:
    """Mean over sequences of J&F on the first, second, ... scored frame; sequences that have ended drop out."""
    scores = [list(evaluation.frame_scores(name).values()) for name in evaluation.records]
    length = max((len(values) for values in scores), default=0)
    padded = [[*values, *[math.nan] * (length - len(values))] for values in scores]
    return np.nanmean(padded, axis=0).tolist() if padded else []


def _propagation(evaluations: Sequence[Evaluation]) -> dict[str, Any] | None:
    """Masks of the first pretrained evaluation (else the last baseline): strips, failures, videos."""
    scored = [evaluation for evaluation in evaluations if evaluation.result["parts"]]
    if not scored:
        return None
    shown = next((evaluation for evaluation in scored if evaluation.kind == "run"), scored[-1])
    facts = shown.result
    ranking = sorted(facts["parts"], key=lambda name: (shown.score(name), name), reverse=True)
    try:
        sequences = {
            sequence.name: sequence
            for sequence in davis_sequences(
                facts["root"],
                names=ranking,
                year=facts["settings"]["year"],
                resolution=facts["settings"]["resolution"],
            )
        }
        for path in (path for sequence in sequences.values() for path in sequence.files()):
            own_file(path, folder=Path(facts["root"]))  # the run says where; links there could lead anywhere
    except ValueError as error:
        logger.warning("the report has no pictures of masks: %s", error)
        return {"shown": shown, "missing": str(error), "strips": [], "failures": [], **_videos(shown, ranking)}
    places = dict.fromkeys((0, (len(ranking) - 1) // 2, len(ranking) - 1))
    titles = ("Best", "Median", "Worst")[: len(places)] if len(places) != 2 else ("Best", "Worst")
    others = [one for one in scored if one is not shown]
    return {
        "shown": shown,
        "missing": None,
        "strips": [
            {"title": title, "name": ranking[place], **_strips(sequences[ranking[place]], [*others, shown])}
            for title, place in zip(titles, places, strict=True)
        ],
        "failures": [_failure(sequences[name], shown, others) for name in reversed(ranking[-NUM_FAILURES:])],
        **_videos(shown, ranking),
    }


def _strips(sequence: MaskSequence, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Frames of a sequence under the true masks, and under those of each evaluation that has it."""
    annotated = [number for number, path in enumerate(sequence.annotation_paths) if path is not None]
    numbers = [annotated[place] for place in evenly_spaced(len(annotated), count=NUM_STRIP_FRAMES)]
    paths = [sequence.frame_paths[number] for number in numbers]
    frames = [read_frame(path) for path in paths]
    truth = [overlay(frame, sequence.mask(number)) for frame, number in zip(frames, numbers, strict=True)]
    rows: list[dict[str, Any]] = [{"label": "Ground truth", "score": None, "uri": _strip_uri(truth)}]
    for one in evaluations:
        if sequence.name in one.records:
            masks = [one.mask(sequence.name, path) for path in paths]
            drawn = [overlay(frame, mask) for frame, mask in zip(frames, masks, strict=True)]
            rows.append({"label": one.label, "score": one.score(sequence.name), "uri": _strip_uri(drawn)})
    return {"rows": rows, "frames": [path.stem for path in paths]}


def _failure(sequence: MaskSequence, shown: Evaluation, others: Sequence[Evaluation]) -> dict[str, Any]:
    """The worst frame of a sequence: what was given, what is right, what came out."""
    scores = shown.frame_scores(sequence.name)
    worst = min(scores, key=lambda name: scores[name])
    number = [path.stem for path in sequence.frame_paths].index(worst)
    path = sequence.frame_paths[number]
    frame = read_frame(path)
    given = overlay(read_frame(sequence.frame_paths[0]), sequence.mask(0))
    panels: list[dict[str, Any]] = [
        {"title": f"given, frame {sequence.frame_paths[0].stem}", "score": None, "uri": _picture_uri(given)},
        {"title": "ground truth", "score": None, "uri": _picture_uri(overlay(frame, sequence.mask(number)))},
    ]
    for one in [shown, *reversed(others)]:
        if sequence.name in one.records:
            drawn = overlay(frame, one.mask(sequence.name, path))
            score = one.frame_scores(sequence.name).get(worst)
            panels.append({"title": one.label, "score": score, "uri": _picture_uri(drawn)})
    return {"name": sequence.name, "frame": worst, "score": scores[worst], "panels": panels}


def _videos(shown: Evaluation, ranking: Iterable[str]) -> dict[str, Any]:
    """Overlay videos, embedded while they fit into the page; the rest by their paths."""
    embedded, left_out, num_bytes = [], [], 0
    for name in ranking:
        path = shown.folder / "overlays" / f"{name}.mp4"
        if not path.exists():
            continue
        num_bytes += path.stat().st_size
        if num_bytes > MAX_VIDEO_BYTES:
            left_out.append(str(path))
        else:
            embedded.append(
                {"name": name, "score": shown.score(name), "uri": file_uri(path, "video/mp4", folder=shown.folder)}
            )
    return {"videos": embedded, "left_out": left_out}


def _strip_uri(pictures: Sequence[Tensor]) -> str:
    """Pictures, uint8 (3, H, W) each, side by side as one JPEG."""
    height, width = pictures[0].shape[1:]
    size = (round(width * STRIP_HEIGHT_PX / height), STRIP_HEIGHT_PX)
    gap_px = 3
    strip = Image.new("RGB", ((size[0] + gap_px) * len(pictures) - gap_px, size[1]), "white")
    for number, picture in enumerate(pictures):
        strip.paste(_image(picture).resize(size, Image.Resampling.LANCZOS), (number * (size[0] + gap_px), 0))
    return jpeg_uri(strip)


def _picture_uri(picture: Tensor) -> str:
    image = _image(picture)
    if image.width > PICTURE_WIDTH_PX:
        size = (PICTURE_WIDTH_PX, round(image.height * PICTURE_WIDTH_PX / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return jpeg_uri(image)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(rearrange(picture.numpy(), "c h w -> h w c")))


def _points(value: float | None, *, sign: bool = False) -> str:
    """A figure in [0, 1] as per cent with one decimal, as papers print it; a dash where there is none."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def _encoder(folder: Path) -> dict[str, Any] | None:
    """Content of encoder.json; None before the first checkpoint."""
    path = folder / "encoder.json"
    return _read(path, folder=folder, kind=_Encoder) if path.exists() else None

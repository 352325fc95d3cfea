"""TAP-Vid: carry points through videos with frozen features, and score as the official code does.

A point is a label channel: it starts as the four cells around it, weighted bilinearly, and travels by label
propagation, forward from its query frame and, with "strided" queries, backward as well. In every frame it is read
off the cells around the maximum of its channel. Labels of one query do not depend on the other queries.

    OUT/predictions/SEQUENCE.npz    track (Q,), query_frame (Q,), points (Q, T, 2) from 0 to 1, occluded (Q, T)
    OUT/sequences/, OUT/overlays/, OUT/result.json     see evaluate/propagation/runner.py
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...data.published.points import PointSequence
from ...files import replacing
from ..metrics.tapvid import FIGURES, Queries, QueryMode, queries, tapvid_figures
from .drawing.draw import contact_sheet_of, draw_tracks, point_colors
from .drawing.overlay import evenly_spaced, write_video
from .propagate import encode_frames, propagate_features
from .protocols import Protocol
from .runner import Benchmark, Carrier

RASTER_PX = 256  # the frame that distances are measured in
READ_RADIUS_CELLS = 2  # around the maximum; measured with 1, 2 and 3, see VISIBLE_SHARE
# Of the label that a point starts with. This, the radius and the bilinear start were chosen on eight sequences of
# the demo corpus (--seed 1), with a random ResNet-18 and one trained by colorization.
VISIBLE_SHARE = 0.15
_TAIL_FRAMES = 8


def tapvid_benchmark(
    sequences: Sequence[PointSequence], *, mode: QueryMode, visible_share: float = VISIBLE_SHARE
) -> Benchmark:
    """Sequences with tracked points.

    Args:
        sequences: Of `tapvid_sequences`.
        mode: How queries are chosen, see metrics/tapvid.py.
        visible_share: A point is visible where this much of its label, which starts with a sum of 1, is within
            `READ_RADIUS_CELLS` of the maximum.
    """

    def predict(
        sequence: PointSequence, carrier: Carrier, out: Path, advance: Callable[[str], None]
    ) -> dict[str, Any]:
        asked = queries(sequence.occluded, mode=mode)
        starts = sequence.points[asked.track, asked.frame]
        points = np.repeat(starts[:, None], len(sequence), axis=1)
        occluded = np.zeros(points.shape[:2], dtype=bool)
        if carrier.encoder is None or carrier.protocol is None:
            for _ in range(len(sequence)):
                advance(sequence.name)
        else:
            features = []
            frames = _resized(sequence.frames(), carrier.protocol)
            for one in encode_frames(carrier.encoder, frames, protocol=carrier.protocol, device=carrier.device):
                features.append(one)
                advance(sequence.name)
            points, occluded = track_points(
                features,
                starts,
                asked.frame,
                protocol=carrier.protocol,
                both_ways=mode == "strided",
                visible_share=visible_share,
            )
        path = _predictions_path(sequence, out)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, track=asked.track, query_frame=asked.frame, points=points, occluded=occluded)
        return _scores(sequence, path, mode=mode)

    return Benchmark(
        task="tapvid",
        sequences=sequences,
        settings={
            "query_mode": mode,
            "visible_share": visible_share,
            "read_radius_cells": READ_RADIUS_CELLS,
            "raster_px": RASTER_PX,
        },
        predict=predict,
        outputs=lambda sequence, out: [_predictions_path(sequence, out)],
        draw=_draw,
        summarise=summarise_points,
    )


def square_protocol(protocol: Protocol) -> Protocol:
    """Let a protocol see frames of 256x256 pixels, as the official readers give them."""
    return dataclasses.replace(protocol, frame_size=(RASTER_PX, RASTER_PX))


def track_points(
    features: Sequence[Tensor],
    starts: np.ndarray,
    query_frames: np.ndarray,
    *,
    protocol: Protocol,
    both_ways: bool,
    visible_share: float = VISIBLE_SHARE,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow points through the features of a video.

    Args:
        features: (D, h, w) of every frame, of length 1 in every cell.
        starts: Q points (x, y) from 0 to 1, (Q, 2).
        query_frames: Numbers of the frames they are given in, (Q,).
        protocol: How labels travel.
        both_ways: Follow them backward, too; otherwise they are called occluded before their frame.
        visible_share: See `tapvid_benchmark`.

    Returns:
        Points (Q, T, 2) from 0 to 1, and whether they are occluded, bool (Q, T).
    """
    num_frames, (height, width) = len(features), features[0].shape[1:]
    points = np.repeat(starts[:, None], num_frames, axis=1)
    occluded = np.ones((len(starts), num_frames), dtype=bool)
    occluded[np.arange(len(starts)), query_frames] = False
    for query_frame in np.unique(query_frames).tolist():
        group = np.flatnonzero(query_frames == query_frame)
        cells = torch.from_numpy(starts[group]) * torch.tensor([width, height]) - 0.5

        def labels(rows: int, columns: int, cells: Tensor = cells) -> Tensor:
            return point_labels(cells, grid=(rows, columns))

        for step in (1, -1) if both_ways else (1,):
            numbers = range(query_frame, num_frames if step == 1 else -1, step)
            soft = propagate_features((features[number] for number in numbers), labels, protocol=protocol)
            for number, channels in zip(numbers, soft, strict=True):
                if number == query_frame:
                    continue
                places, shares = read_points(channels)
                # A label that is gone has no place: the point stays where it was.
                gone = (shares <= 0).cpu().numpy()
                scaled = ((places + 0.5) / torch.tensor([width, height], device=places.device)).cpu().numpy()
                points[group, number] = np.where(gone[:, None], points[group, number - step], scaled)
                occluded[group, number] = gone | (shares < visible_share).cpu().numpy()
    return points, occluded


def point_labels(cells: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Make a label channel of every point, weighted bilinearly over the cells around it; its sum is 1.

    Args:
        cells: x and y in cells, (Q, 2); centres of cells are at whole numbers. Points beyond the outer centres go
            to the nearest.
        grid: Rows and columns.

    Returns:
        (Q, h, w).
    """
    rows, columns = (torch.arange(length, device=cells.device) for length in grid)
    x, y = cells[:, :1].clamp(0, grid[1] - 1), cells[:, 1:].clamp(0, grid[0] - 1)
    across, down = (1 - (columns - x).abs()).clamp(min=0), (1 - (rows - y).abs()).clamp(min=0)
    return (down[:, :, None] * across[:, None, :]).float()


def read_points(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Read points off label channels (Q, h, w): the mean place of the label around its maximum.

    Returns:
        x and y in cells (Q, 2), and how much label there is within `READ_RADIUS_CELLS` of the maximum (Q,).
    """
    height, width = labels.shape[1:]
    peak = labels.flatten(1).argmax(dim=1)
    rows, columns = (torch.arange(length, device=labels.device) for length in (height, width))
    near_rows = (rows - (peak // width)[:, None]).abs() <= READ_RADIUS_CELLS
    near_columns = (columns - (peak % width)[:, None]).abs() <= READ_RADIUS_CELLS
    near = labels * (near_rows[:, :, None] & near_columns[:, None, :])
    shares = near.sum(dim=(1, 2))
    places = torch.stack([(near.sum(dim=1) * columns).sum(dim=1), (near.sum(dim=2) * rows).sum(dim=1)], dim=1)
    return places / shares.clamp(min=1e-12)[:, None], shares


def summarise_points(
    records: list[dict[str, Any]],
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Put the figures of all videos together: plain means, each over the videos that have the figure."""
    parts = {
        record["name"]: {name: math.nan if value is None else value for name, value in record["figures"].items()}
        for record in records
    }
    figures = {}
    for name in FIGURES:
        values = [part[name] for part in parts.values() if not math.isnan(part[name])]
        figures[name] = float(np.mean(values)) if values else math.nan
    return figures, parts, {"num_queries": sum(record["num_queries"] for record in records)}


def _resized(frames: Iterator[Tensor], protocol: Protocol) -> Iterator[Tensor]:
    """Bring frames to the protocol's square by Lanczos' filter, which the official readers use (mediapy)."""
    for frame in frames:
        if protocol.frame_size is None or tuple(frame.shape[1:]) == protocol.frame_size:
            yield frame
            continue
        height, width = protocol.frame_size
        image = Image.fromarray(np.ascontiguousarray(rearrange(frame.numpy(), "c h w -> h w c")))
        resized = np.array(image.resize((width, height), Image.Resampling.LANCZOS))
        yield rearrange(torch.from_numpy(resized), "h w c -> c h w")


def _scores(sequence: PointSequence, path: Path, *, mode: QueryMode) -> dict[str, Any]:
    """Score what was written."""
    asked, points, occluded = _read_predictions(path)
    figures = tapvid_figures(
        query_frames=asked.frame,
        occluded=sequence.occluded[asked.track],
        points=sequence.points[asked.track] * RASTER_PX,
        predicted_occluded=occluded,
        predicted_points=points * RASTER_PX,
        mode=mode,
    )
    return {
        "name": sequence.name,
        "num_frames": len(sequence),
        "num_queries": len(asked.track),
        "figures": figures,
    }


def _predictions_path(sequence: PointSequence, out: Path) -> Path:
    return out / "predictions" / f"{sequence.name}.npz"


def _read_predictions(path: Path) -> tuple[Queries, np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return Queries(file["track"], file["query_frame"]), file["points"], file["occluded"]


def _draw(sequence: PointSequence, out: Path) -> None:
    """Draw the tracks of a sequence, of the first query of each: true and predicted, with the last frames' way."""
    asked, points, occluded = _read_predictions(_predictions_path(sequence, out))
    _, chosen = np.unique(asked.track, return_index=True)
    tracks, starts = asked.track[chosen], asked.frame[chosen]
    colors = point_colors(len(chosen))

    def drawn(number: int, frame: Tensor, all_points: np.ndarray, all_occluded: np.ndarray) -> Tensor:
        asked_already = starts <= number
        tails = all_points[asked_already, max(0, number - _TAIL_FRAMES) : number + 1]
        pixels = torch.from_numpy(tails * [frame.shape[2], frame.shape[1]] - 0.5)
        visible = torch.from_numpy(~all_occluded[asked_already, number])
        return draw_tracks(frame, pixels, visible, colors=colors[torch.from_numpy(asked_already)])

    truth = sequence.points[tracks], sequence.occluded[tracks]
    predicted = points[chosen], occluded[chosen]
    frames = list(sequence.frames())
    numbers = evenly_spaced(len(sequence), count=6)
    rows = [
        (title, [drawn(number, frames[number], *tracked) for number in numbers])
        for title, tracked in (("ground truth", truth), ("prediction", predicted))
    ]
    stem = out / "overlays" / sequence.name
    with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
        sheet = contact_sheet_of(rows, column_titles=[f"frame {number}" for number in numbers])
        sheet.save(temporary, format="PNG")
    pictures = (drawn(number, frame, *predicted) for number, frame in enumerate(frames))
    write_video(stem.with_name(f"{stem.name}.mp4"), pictures, fps=24)

"""Retrieval: by class, by instance across modalities, and as a picture to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..metrics.interval import mean_intervals, uncertainty
from .class_counts import check_classes
from .outcome import Outcome, Samples, check_widths, nearest, unit_means
from .predictions import NUM_HITS, Column

RANKS = (1, 5, 10, 20)

# Cosines nearer than this are a tie: rounding must not decide who is first.
_TIE = 1e-9
_BLOCK = 2**22
_GREEN, _RED, _GREY = (30, 160, 60), (210, 40, 40), (120, 120, 120)
_FRAME_PX, _GAP_PX = 4, 6
_TITLE_PX, _LINE_PX = 12, 16  # height of the letters, and of the line they stand in


def evaluate_retrieval(
    gallery: Samples, queries: Samples, *, ranks: Sequence[int] = RANKS, device: torch.device | str = "cpu"
) -> Outcome:
    """Retrieve by class: a query counts at rank k if any of its k nearest gallery samples is of its class.

    The protocol of video papers (Xu et al. 2019, clip order prediction): test samples are the queries, training
    samples the gallery. Views are scaled to length 1 and averaged; similarity is the cosine. Gallery samples of a
    query's own recording are out; a query whose class the gallery lacks is wrong.

    Args:
        gallery: Samples to find.
        queries: Samples to find them for.
        ranks: k.
        device: Where cosines are computed.

    Returns:
        figures: "R@1", ...; parts: the same by class, "class 3"; chosen: numbers of samples; predicted: class of the
        nearest sample.

    Raises:
        ValueError: A rank is below 1, the gallery is of one class, or the features differ in width.
    """
    _check_ranks(ranks)
    check_classes(gallery.label.tolist())
    cosine, index = nearest(gallery, queries, count=max(ranks), device=device)
    found = torch.where(index < 0, -1, gallery.label[index.clamp(min=0)])
    right = found == queries.label[:, None]
    hits = {f"R@{rank}": right[:, :rank].any(1).double() for rank in ranks}
    parts = {}
    for number in queries.label.unique().tolist():
        mine = queries.label == number
        parts[f"class {number}"] = {name: hit[mine].mean().item() for name, hit in hits.items()}
    return Outcome(
        figures={name: hit.mean().item() for name, hit in hits.items()},
        parts=parts,
        chosen={"num_gallery": len(gallery), "num_queries": len(queries)},
        predicted=found[:, 0],
        uncertainty=uncertainty(
            mean_intervals(hits, queries.source),
            num_units=len(queries.source.unique()),
            num_samples=len(queries),
        ),
        columns=(
            Column("prediction", found[:, 0], "class"),
            *(
                column
                for place in range(min(NUM_HITS, index.shape[1]))
                for column in (
                    Column(f"hit_{place + 1}", index[:, place], "sample"),
                    Column(f"class_{place + 1}", found[:, place], "class"),
                    Column(f"cosine_{place + 1}", torch.where(index[:, place] < 0, torch.nan, cosine[:, place])),
                )
            ),
        ),
    )


def _check_ranks(ranks: Sequence[int]) -> None:
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks are {tuple(ranks)}, expected numbers from 1")


def evaluate_instance_retrieval(
    first: Samples,
    second: Samples,
    *,
    names: tuple[str, str] = ("video", "audio"),
    ranks: Sequence[int] = RANKS,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Retrieve the counterpart of each sample in another modality, both ways.

    The counterpart's rank is 1 + the number of others that are at least as similar: ties count against, so a
    collapsed encoder is last everywhere. Others of the same recording are out: they may match as well.

    Args:
        first: Samples of one modality.
        second: The same samples, in the same order, of another, of the same width (else see `align_ridge`).
        names: Of the two modalities.
        ranks: k.
        device: Where cosines are computed; needs float64.

    Returns:
        figures: "video to audio R@1", ..., "video to audio median_rank" (from 1), and back; parts: the same by
        direction; chosen: numbers of samples.

    Raises:
        ValueError: The two differ in number, recordings or width, or a rank is below 1.
    """
    _check_ranks(ranks)
    if len(first) != len(second) or not torch.equal(first.source, second.source):
        raise ValueError(
            f"{len(first)} samples of {names[0]} and {len(second)} of {names[1]} are not the same recordings in the "
            "same order; extract both from one list"
        )
    if first.values.shape[2] != second.values.shape[2]:
        raise ValueError(
            f"features of {names[0]} have width {first.values.shape[2]}, of {names[1]} {second.values.shape[2]}: "
            "cosines need one space; map one to the other with align_ridge, fitted to training pairs"
        )
    figures: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    hits: dict[str, Tensor] = {}
    columns: list[Column] = []
    for query, target, name in (
        (first, second, f"{names[0]} to {names[1]}"),
        (second, first, f"{names[1]} to {names[0]}"),
    ):
        rank_of = counterpart_ranks(query, target, device=device)
        parts[name] = {f"R@{rank}": (rank_of <= rank).double().mean().item() for rank in ranks}
        parts[name]["median_rank"] = rank_of.double().quantile(0.5).item()
        figures |= {f"{name} {key}": value for key, value in parts[name].items()}
        hits |= {f"{name} R@{rank}": rank_of <= rank for rank in ranks}
        columns.append(Column(f"{name} rank", rank_of))
    return Outcome(
        figures=figures,
        parts=parts,
        chosen={"num_samples": len(first)},
        uncertainty=uncertainty(
            mean_intervals(hits, first.source), num_units=len(first.source.unique()), num_samples=len(first)
        ),
        columns=tuple(columns),
    )


def counterpart_ranks(queries: Samples, targets: Samples, *, device: torch.device | str = "cpu") -> Tensor:
    """Rank of target i among all targets for query i, from 1; ties count against it: (N,), int64."""
    check_widths(queries, targets)
    bank, source = unit_means(targets.values.double()).to(device), targets.source.to(device)
    ranks = []
    for start in range(0, len(queries), rows := max(1, _BLOCK // len(bank))):
        own = torch.arange(start, min(start + rows, len(queries)), device=device)
        cosine = unit_means(queries.values[start : start + rows].double()).to(device) @ bank.T
        counterpart = cosine.gather(1, own[:, None])
        rivals = (cosine >= counterpart - _TIE) & (source[own][:, None] != source)
        ranks.append(1 + rivals.sum(1).cpu())
    return torch.cat(ranks)


@dataclass(frozen=True)
class LinearMap:
    """Features of one encoder to the space of another: x -> x W + b, (..., D) -> (..., E).

    Args:
        weight: float64 (D, E).
        offset: float64 (E,).
    """

    weight: Tensor
    offset: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Map features; the type stays."""
        return (features.double() @ self.weight + self.offset).to(features.dtype)


def align_ridge(source: Tensor, target: Tensor, *, penalty: float) -> LinearMap:
    """Fit the linear map from one feature space to another, in closed form: mean |y - x W - b|^2 + penalty s |W|^2.

    s is the mean variance of the source features, so that the penalty does not depend on their units. scikit-learn's
    `Ridge` minimises the same for alpha = penalty s N. Fit it to training pairs only.

    Args:
        source: float (N, D).
        target: The counterparts, float (N, E).
        penalty: Above 0; 0.1 is a start.

    Raises:
        ValueError: The numbers of samples differ, or the penalty is not above 0.
    """
    if len(source) != len(target) or penalty <= 0:
        raise ValueError(
            f"{len(source)} source features, {len(target)} target features and penalty {penalty}: expected pairs, and "
            "a penalty above 0"
        )
    x, y = source.double(), target.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    covariance = x.T @ x / len(x)
    # Features that are all alike have no variance; then every map is the mean, and any positive penalty finds it.
    strength = penalty * covariance.diagonal().mean().clamp(min=1e-30)
    weight = torch.linalg.solve(covariance + strength * torch.eye(len(covariance)).to(x), x.T @ y / len(x))
    return LinearMap(weight, y_mean - x_mean @ weight)


def retrieval_grid(
    query_images: Sequence[Tensor],
    neighbour_images: Sequence[Sequence[Tensor]],
    *,
    right: Sequence[Sequence[bool]],
    query_titles: Sequence[str],
    neighbour_titles: Sequence[Sequence[str]],
    tile_px: int = 112,
) -> Image.Image:
    """Draw a contact sheet: a row per query, the query first, then its neighbours, best first.

    A neighbour has a green frame where it is right and a red one where it is wrong; the query's is grey.

    Args:
        query_images: Q pictures, uint8 (3, H, W) of any size; they are shown whole.
        neighbour_images: Those found for each query.
        right: Whether each is right.
        query_titles: One line above each query, cut to the tile.
        neighbour_titles: One above each neighbour.
        tile_px: Width and height of a picture.

    Raises:
        ValueError: There is no query, or the rows differ in number or length.
    """
    rows = list(zip(query_images, neighbour_images, right, query_titles, neighbour_titles, strict=False))
    if not rows or len({*map(len, (query_images, neighbour_images, right, query_titles, neighbour_titles))}) > 1:
        raise ValueError(
            f"{len(query_images)} queries, {len(neighbour_images)} rows of neighbours, {len(right)} of answers, "
            f"{len(query_titles)} and {len(neighbour_titles)} of titles: expected the same number, above 0"
        )
    width = tile_px + 2 * _FRAME_PX
    step_x, step_y = width + _GAP_PX, width + _LINE_PX + _GAP_PX
    num_columns = 1 + max(map(len, neighbour_images))
    # The query stands a little apart.
    sheet = Image.new("RGB", (step_x * num_columns + 2 * _GAP_PX, step_y * len(rows) + _GAP_PX), "white")
    for row, (query, neighbours, is_right, title, titles) in enumerate(rows):
        top = _GAP_PX + row * step_y
        _draw_tile(sheet, query, title, left=_GAP_PX, top=top, color=_GREY, tile_px=tile_px)
        for column, (image, good, text) in enumerate(zip(neighbours, is_right, titles, strict=True), start=1):
            left = 2 * _GAP_PX + column * step_x
            _draw_tile(sheet, image, text, left=left, top=top, color=_GREEN if good else _RED, tile_px=tile_px)
    return sheet


def _draw_tile(
    sheet: Image.Image,
    image: Tensor,
    title: str,
    *,
    left: int,
    top: int,
    color: tuple[int, int, int],
    tile_px: int,
) -> None:
    """Title, frame and picture at a place of the sheet; the picture keeps its shape, on black."""
    width = tile_px + 2 * _FRAME_PX
    line = Image.new("RGB", (width, _LINE_PX), "white")  # what is longer than the tile is cut off with it
    ImageDraw.Draw(line).text((0, 0), title, fill=color, font=ImageFont.load_default(_TITLE_PX))
    sheet.paste(line, (left, top))
    tile = Image.new("RGB", (width, width), color)
    tile.paste("black", (_FRAME_PX, _FRAME_PX, _FRAME_PX + tile_px, _FRAME_PX + tile_px))
    picture = Image.fromarray(np.ascontiguousarray(rearrange(image.cpu().numpy(), "c h w -> h w c")))
    scale = tile_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    place = (_FRAME_PX + (tile_px - size[0]) // 2, _FRAME_PX + (tile_px - size[1]) // 2)
    tile.paste(picture.resize(size, Image.Resampling.BICUBIC), place)
    sheet.paste(tile, (left, top + _LINE_PX))

"""The step of label propagation: a cell takes the labels of the cells that it resembles most."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .protocols import Window

_TILE_CELLS = 12  # measured on CPU at 30x54 and 60x107 cells: the best, or nearly so


def propagate(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    topk: int,
    radius_cells: float | None = None,
    window: Window = "disc",
    radius_inclusive: bool = True,
    keep_ties: bool = False,
    copies: Sequence[int] | None = None,
    first_key_free: bool = False,
    tile_cells: int = _TILE_CELLS,
) -> Tensor:
    """Label the cells of a frame by those they resemble most in the context: softmax over the top-k dot products.

    The dense N x nN affinity is never made: the frame is cut into tiles, and a tile is compared with the cells
    inside its window alone, by one matrix product for all context frames. The result is that of the dense
    computation.

    Args:
        query: Features of the frame (D, h, w), L2-normalised for cosine similarity.
        keys: Features of the n context frames (n, D, h, w), normalised alike; fastest with the D numbers of a cell side
            by side in memory.
        labels: Their soft labels (n, L, h, w).
        temperature: Of the softmax.
        topk: Cells copied from, jointly over all context frames.
        radius_cells: Half-width or radius of the window around a cell; None is no window.
        window: "square" or "disc".
        radius_inclusive: Whether a cell exactly at the radius is inside.
        keep_ties: Whether cells as good as the last of the top-k join in. Without it, which of them is taken is
            arbitrary.
        copies: How often each frame stands in the context, n numbers; each copy takes a place in the top-k.
        first_key_free: Whether the first frame stands in the context once more, without the window; its `copies`
            may then be 0.
        tile_cells: Side of a tile.

    Returns:
        Soft labels of the frame (L, h, w).

    Raises:
        ValueError: The window holds no cell.
    """
    height, width = query.shape[1:]
    if radius_cells is not None and not (radius_cells > 0 or (radius_cells == 0 and radius_inclusive)):
        raise ValueError(f"a window of radius {radius_cells} cells holds no cell; give a larger one, or None")
    # The largest whole offset inside the window, in cells.
    reach = max(height, width)
    if radius_cells is not None:
        reach = math.floor(radius_cells) if radius_inclusive else math.ceil(radius_cells) - 1
    counts = list(copies) if copies is not None else [1] * len(keys)
    cells = torch.arange(len(keys) * height * width, device=query.device).view(len(keys), height, width)
    values = rearrange(labels, "n l h w -> (n h w) l")
    first = 1 if first_key_free else 0
    first_key = rearrange(keys[0], "d h w -> (h w) d").contiguous() if first_key_free else None
    frame_copies = rearrange(torch.tensor(counts[first:], device=query.device), "n -> n 1 1 1")

    def in_window(rows: slice, columns: slice, key_rows: slice, key_columns: slice) -> Tensor:
        """Tell which cells may be copied from: bool (keys, queries)."""
        dy, dx = _offsets(rows, key_rows, query.device), _offsets(columns, key_columns, query.device)
        if radius_cells is None or window == "square":
            inside = rearrange(dy <= reach, "y v -> v 1 y 1") & rearrange(dx <= reach, "x u -> 1 u 1 x")
        else:
            squared = rearrange(dy**2, "y v -> v 1 y 1") + rearrange(dx**2, "x u -> 1 u 1 x")
            inside = squared <= radius_cells**2 if radius_inclusive else squared < radius_cells**2
        return rearrange(inside, "v u y x -> (v u) (y x)")

    @functools.lru_cache(maxsize=8)  # away from the borders it is the same for all tiles
    def penalty(rows: tuple[int, int, int], columns: tuple[int, int, int]) -> Tensor:
        """Give 0 inside the window and -inf outside: (keys, queries), by the `_place` of a tile along both axes."""
        (top, bottom, num_rows), (left, right, num_columns) = rows, columns
        outside = ~in_window(slice(top, bottom), slice(left, right), slice(0, num_rows), slice(0, num_columns))
        return query.new_zeros(outside.shape).masked_fill_(outside, -torch.inf)

    def near(cells: slice, length: int) -> slice:
        return slice(max(0, cells.start - reach), min(length, cells.stop + reach))

    strips = []
    for columns in _tiles(width, tile_cells):
        near_columns = near(columns, width)
        # Row after row: what is near a tile is then one matrix of each frame, without another copy.
        near_keys = rearrange(keys[first:, :, :, near_columns], "n d h u -> n h u d").contiguous()
        strip = []
        for rows in _tiles(height, tile_cells):
            tile = rearrange(query[:, rows, columns], "d y x -> d (y x)")
            near_rows = near(rows, height)
            tile_keys = rearrange(near_keys[:, near_rows], "n v u d -> n (v u) d")
            scores = torch.baddbmm(
                penalty(_place(rows, near_rows), _place(columns, near_columns)),
                tile_keys,
                tile.expand(len(tile_keys), -1, -1),
            )
            sources = [
                _Source(
                    scores=rearrange(scores, "n (v u) q -> n v u q", u=near_keys.shape[2]),
                    cells=cells[first:, near_rows, near_columns],
                    copies=frame_copies,
                )
            ]
            if first_key is not None:
                free_copies = torch.ones(1, 1, 1, 1, dtype=torch.int64, device=query.device)
                if counts[0]:
                    repeated = in_window(rows, columns, slice(0, height), slice(0, width))
                    repeated = rearrange(repeated, "(h w) q -> 1 h w q", h=height)
                    # A large tensor of small numbers.
                    free_copies = repeated.to(torch.int16).mul_(counts[0]).add_(1)
                free_scores = rearrange(first_key @ tile, "(h w) q -> 1 h w q", h=height)
                sources.append(_Source(scores=free_scores, cells=cells[:1], copies=free_copies))
            mixed = _weigh(sources, values, temperature=temperature, topk=topk, keep_ties=keep_ties)
            strip.append(rearrange(mixed, "(y x) l -> l y x", y=rows.stop - rows.start))
        strips.append(torch.cat(strip, dim=1))
    return torch.cat(strips, dim=2)


@dataclass(frozen=True)
class _Source:
    """Scores of the v x u cells of each of m context frames for the q queries of a tile.

    Args:
        scores: Dot products (m, v, u, q), -inf outside the window.
        cells: Number of each cell in the context (m, v, u).
        copies: How often a cell stands in the context, broadcastable to (m, v, u, q).
    """

    scores: Tensor
    cells: Tensor
    copies: Tensor

    def best(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, cells and copies of the `count` best cells of each query, or of all if there are fewer: (q, count).

        Only columns of cells are looked into whose best cell is among the `count` best of all columns: a cell of
        another column is no better than each of these.
        """
        num_rows, num_columns, num_queries = self.scores.shape[1:]
        peaks = rearrange(self.scores.amax(dim=1), "m u q -> q (m u)")
        columns = rearrange(peaks.topk(min(count, peaks.shape[1]), dim=1).indices, "q c -> c q")
        start = columns // num_columns * (num_rows * num_columns) + columns % num_columns
        rows = num_columns * torch.arange(num_rows, device=start.device)
        places = rearrange(rearrange(rows, "v -> v 1 1") + start, "v c q -> (v c) q")
        scores = rearrange(self.scores, "m v u q -> (m v u) q").gather(0, places)
        best = rearrange(scores, "k q -> q k").topk(min(count, len(scores)), dim=1)
        chosen = rearrange(places, "k q -> q k").gather(1, best.indices)
        frame, row, column = (
            chosen // (num_rows * num_columns),
            chosen // num_columns % num_rows,
            chosen % num_columns,
        )
        query = rearrange(torch.arange(num_queries, device=chosen.device), "q -> q 1")
        copies = self.copies.expand_as(self.scores)[frame, row, column, query]
        return best.values, self.cells[frame, row, column], copies


def _tiles(length: int, tile_cells: int) -> list[slice]:
    """Cut an axis into pieces of `tile_cells`; the last may be shorter."""
    return [slice(start, min(start + tile_cells, length)) for start in range(0, length, tile_cells)]


def _place(queries: slice, keys: slice) -> tuple[int, int, int]:
    """First and last + 1 of the queries along an axis, and the number of keys, all counted from the first key."""
    return queries.start - keys.start, queries.stop - keys.start, keys.stop - keys.start


def _offsets(queries: slice, keys: slice, device: torch.device) -> Tensor:
    """Distances along one axis, in cells: int32 (queries, keys)."""
    from_cell = torch.arange(queries.start, queries.stop, device=device, dtype=torch.int32)
    to_cell = torch.arange(keys.start, keys.stop, device=device, dtype=torch.int32)
    return (from_cell[:, None] - to_cell[None, :]).abs()


def _weigh(sources: list[_Source], values: Tensor, *, temperature: float, topk: int, keep_ties: bool) -> Tensor:
    """Softmax over the joint top-k of the sources, and the labels it mixes: (q, L)."""
    # One more than asked for shows whether the last place is tied.
    num_candidates = topk + 1 if keep_ties else topk
    candidates = [source.best(num_candidates) for source in sources]
    scores, cells, copies = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
    scores, order = scores.topk(min(num_candidates, scores.shape[1]), dim=1)
    cells, copies = cells.gather(1, order), copies.gather(1, order)

    # Copies of a cell share its score: they fill the top-k from the best score on until it is full.
    places_left = topk - (copies.cumsum(1) - copies)
    used = torch.minimum(copies, places_left.clamp(min=0))
    peak, last = scores[:, :1], scores.masked_fill(used == 0, torch.inf).amin(dim=1, keepdim=True)
    weights = torch.exp((scores - peak) / temperature) * used
    mixed = torch.einsum("qk, qkl -> ql", weights / weights.sum(dim=1, keepdim=True), values[cells])
    if not keep_ties:
        return mixed

    tied = ((scores == last) & (used < copies) & last.isfinite()).any(dim=1)
    if tied.any():
        total = torch.zeros_like(mixed[tied])
        norm = torch.zeros_like(total[:, :1])
        for source in sources:
            their_scores = source.scores[..., tied]
            kept = torch.exp((their_scores - peak[tied, 0]) / temperature) * (their_scores >= last[tied, 0])
            kept = kept * source.copies.expand_as(source.scores)[..., tied]
            total += torch.einsum("mvuq, mvul -> ql", kept, values[source.cells])
            norm += rearrange(kept.sum(dim=(0, 1, 2)), "q -> q 1")
        mixed[tied] = total / norm
    return mixed

"""Which tokens a masked method shows and which it hides: pure functions of the samples' seeds.

A split of N tokens is two tensors of token numbers, `visible` int64 (B, V) and `hidden` int64 (B, M). V and M are the
same for every sample and do not depend on the batch. Tokens are numbered step by step, row by row.
"""

import torch
from einops import rearrange
from torch import Tensor

from . import draws

Split = tuple[Tensor, Tensor]


def random_split(seed: Tensor, num_tokens: int, *, hidden_share: float, stream: int = 0) -> Split:
    """Hide tokens drawn uniformly without replacement (MAE, He et al. 2021, arXiv:2111.06377, Sec. 3).

    Args:
        seed: int64 (B,).
        num_tokens: N.
        hidden_share: Masking ratio; exactly round(N (1 - hidden_share)) tokens stay visible.
        stream: Another number gives an unrelated split of the same seeds.

    Returns:
        Visible (B, V) and hidden (B, N - V) tokens.

    Raises:
        ValueError: Nothing would stay visible, or nothing hidden.
    """
    num_visible = _count(num_tokens, 1 - hidden_share)
    order = draws.permutation(seed, num_tokens, stream=stream)
    return order[:, :num_visible], order[:, num_visible:]


def block_split(
    seed: Tensor,
    *,
    rows: int,
    columns: int,
    num_blocks: int,
    block_share: float,
    hidden_share: float,
    visible_share: float,
    aspect: tuple[float, float] = (0.75, 1.5),
    stream: int = 0,
) -> Split:
    """Hide cells of the union of random blocks, show cells outside of it (V-JEPA, Bardes et al. 2024, Sec. 3.2).

    Unions differ in size, splits must not: of the cells inside the union `hidden_share` are drawn and of those
    outside `visible_share`; the rest is neither. Where one kind runs short the other one fills up.

    Args:
        seed: int64 (B,).
        rows: Of the grid of cells.
        columns: Of the grid of cells.
        num_blocks: Blocks of a sample; they have one size and overlap.
        block_share: Area of a block, as a share of the grid.
        hidden_share: Exactly round(N hidden_share) cells are hidden, N = rows * columns.
        visible_share: Exactly round(N visible_share) cells are visible.
        aspect: Range of a block's height over its width.
        stream: Another number gives an unrelated split of the same seeds.

    Returns:
        Visible (B, V) and hidden (B, M) cells, numbered row by row.

    Raises:
        ValueError: The shares leave no visible or no hidden cell, or add up to more than all.
    """
    num_cells = rows * columns
    num_hidden, num_visible = _count(num_cells, hidden_share), _count(num_cells, visible_share)
    if num_hidden + num_visible > num_cells:
        raise ValueError(
            f"hidden_share {hidden_share} and visible_share {visible_share} add up to {num_hidden + num_visible} of "
            f"{num_cells} cells; lower one of them"
        )
    drawn = draws.uniform(seed, 1 + 2 * num_blocks, stream=stream)
    shape = aspect[0] + (aspect[1] - aspect[0]) * drawn[:, :1]  # (B, 1)
    height = (block_share * num_cells * shape).sqrt().round().clamp(1, rows)
    width = (block_share * num_cells / shape).sqrt().round().clamp(1, columns)
    top = (drawn[:, 1 : 1 + num_blocks] * (rows - height + 1)).floor()  # (B, blocks)
    left = (drawn[:, 1 + num_blocks :] * (columns - width + 1)).floor()
    row, column = torch.arange(rows, device=seed.device), torch.arange(columns, device=seed.device)
    in_rows = (row >= top[..., None]) & (row < (top + height)[..., None])  # (B, blocks, rows)
    in_columns = (column >= left[..., None]) & (column < (left + width)[..., None])
    union = rearrange((in_rows[..., :, None] & in_columns[..., None, :]).any(1), "b h w -> b (h w)")
    # Cells of the union first, those outside of it last, in random order: a fixed order would favour some rows.
    chance = draws.uniform(draws.mix(seed, stream), num_cells, stream=1)
    order = (chance + (~union).float()).argsort(dim=1, stable=True)
    return order[:, num_cells - num_visible :], order[:, :num_hidden]


def tubes(cells: Tensor, *, num_steps: int, num_cells: int) -> Tensor:
    """Repeat the cells of one time step in all of them (VideoMAE, Tong et al. 2022, Sec. 3.3).

    Args:
        cells: Numbers below num_cells, int64 (B, n).
        num_steps: Time steps of the clip.
        num_cells: Cells of one time step.

    Returns:
        Tokens, int64 (B, num_steps * n).
    """
    starts = num_cells * torch.arange(num_steps, device=cells.device)
    return rearrange(cells[:, None, :] + starts[:, None], "b t n -> b (t n)")


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Take each sample's own tokens: (B, N, ...), int64 (B, n) -> (B, n, ...)."""
    return tokens[torch.arange(len(index), device=index.device)[:, None], index]


def restore(shown: Tensor, visible: Tensor, filled: Tensor, hidden: Tensor) -> Tensor:
    """Put the parts of a split back in order: (B, V, ...), (B, V), (B, M, ...), (B, M) -> (B, V + M, ...)."""
    return take(torch.cat([shown, filled], dim=1), torch.cat([visible, hidden], dim=1).argsort(dim=1))


def _count(num_tokens: int, share: float) -> int:
    """Number of tokens that make up a share of all: at least one, not all."""
    count = round(num_tokens * share)
    if not 0 < count < num_tokens:
        raise ValueError(
            f"a share of {share:.3g} of {num_tokens} tokens is {count}, expected at least 1 and not all; change the "
            "share, or use more tokens (larger clips, smaller patches)"
        )
    return count

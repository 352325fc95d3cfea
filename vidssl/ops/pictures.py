"""Putting pictures together, for people to look at."""

import torch
from torch import Tensor


def mark(picture: Tensor, *, row: int, column: int, color: Tensor, radius_px: int = 2) -> Tensor:
    """Return the picture with a filled square at a pixel: (3, H, W), colour (3,)."""
    y = torch.arange(picture.shape[1], device=picture.device)[:, None]
    x = torch.arange(picture.shape[2], device=picture.device)
    inside = ((y - row).abs() <= radius_px) & ((x - column).abs() <= radius_px)
    return torch.where(inside, color.to(picture)[:, None, None], picture)


def nearest_to_each(frames: Tensor, scores: Tensor, *, num_rows: int = 4, num_columns: int = 4) -> Tensor:
    """Show which frames are nearest to prototypes: a row for each prototype, the nearest frame first.

    Args:
        frames: float (B, 3, H, W).
        scores: Of frames and prototypes, (B, K); larger is nearer.
        num_rows: Prototypes shown, those that some frame is nearest to first.
        num_columns: Frames shown for each.

    Returns:
        (3, height, width).
    """
    prototypes = scores.amax(0).topk(min(num_rows, scores.shape[1])).indices
    nearest = scores[:, prototypes].topk(min(num_columns, len(frames)), dim=0).indices  # (columns, rows)
    return torch.cat([side_by_side(list(frames[row])) for row in nearest.T], dim=1)


def side_by_side(pictures: list[Tensor], *, gap_px: int = 4) -> Tensor:
    """Join pictures of equal height, (3, H, W) each, left to right with a white gap."""
    gap = torch.ones_like(pictures[0][:, :, :gap_px])
    joined = [part for picture in pictures for part in (picture, gap)]
    return torch.cat(joined[:-1], dim=2)

"""Holes to be filled in: which pixels of a picture are missing, bool (B, H, W), True inside.

Each function is given the samples' seeds, int64 (B,), and draws from them alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import draws


def central_hole(seed: Tensor, height: int, width: int) -> Tensor:
    """Leave out the middle half of the rows and columns (Pathak et al. 2016, arXiv:1604.07379, Sec. 3.3)."""
    rows = _inside(height, torch.tensor(height // 4, device=seed.device), height // 2)
    columns = _inside(width, torch.tensor(width // 4, device=seed.device), width // 2)
    return (rows[:, None] & columns).expand(len(seed), -1, -1)


def random_blocks(seed: Tensor, height: int, width: int, *, num_blocks: int = 4, share: float = 0.25) -> Tensor:
    """Leave out blocks at random places, which may overlap (Pathak et al. 2016, Sec. 3.3).

    Args:
        seed: int64 (B,).
        height: H.
        width: W.
        num_blocks: Each has the aspect of the picture.
        share: Area of all blocks where they do not overlap, at most 1.
    """
    side = (share / num_blocks) ** 0.5
    hole = torch.zeros(len(seed), height, width, dtype=torch.bool, device=seed.device)
    high, wide = round(side * height), round(side * width)
    top = draws.integers(seed, height - high + 1, num_blocks, stream=10)
    left = draws.integers(seed, width - wide + 1, num_blocks, stream=11)
    for number in range(num_blocks):
        rows, columns = _inside(height, top[:, number], high), _inside(width, left[:, number], wide)
        hole = hole | (rows[:, :, None] & columns[:, None, :])
    return hole


def random_region(seed: Tensor, height: int, width: int, *, share: float = 0.25, num_grains: int = 8) -> Tensor:
    """Leave out the dark parts of smooth noise: regions of any form (Pathak et al. 2016, Sec. 3.3).

    Args:
        seed: int64 (B,).
        height: H.
        width: W.
        share: Of the pixels; exactly round(share H W) are missing.
        num_grains: Of the noise along each side.
    """
    # A window at a random place of a larger pattern: smooth noise varies most on its grains and least between them,
    # and without that some pixels would be missing more often than others.
    margin, extent = 2, num_grains + 5
    noise = draws.uniform(seed, 1, extent, extent, stream=12)
    y, x = (margin + draws.uniform(seed, 2, 1, stream=13)).unbind(1)  # (B, 1), in grains
    y = y + (torch.arange(height, device=seed.device) + 0.5) / height * num_grains
    x = x + (torch.arange(width, device=seed.device) + 0.5) / width * num_grains
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1) * 2 / extent - 1
    smooth = F.grid_sample(noise, grid, mode="bicubic", align_corners=False).flatten(1)
    # By rank, not by value: a threshold would count equal values twice.
    rank = smooth.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (rank < round(share * height * width)).view(len(seed), height, width)


def shrink(hole: Tensor, margin_px: int) -> Tensor:
    """Take away what lies less than or equal to `margin_px` (rows, columns and diagonals) from a known pixel.

    The edge of the picture is no known pixel: a hole that reaches it stays there.
    """
    known = (~hole).float()[:, None]
    near = F.max_pool2d(known, 2 * margin_px + 1, stride=1, padding=margin_px)[:, 0]  # pads with -inf
    return near == 0


def _inside(length: int, start: Tensor, extent: int) -> Tensor:
    """Which places of an axis lie in [start, start + extent): start (...) -> bool (..., length)."""
    place = torch.arange(length, device=start.device)
    return (place >= start[..., None]) & (place < start[..., None] + extent)

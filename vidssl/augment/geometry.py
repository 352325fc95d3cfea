"""Geometric views: where in the frame a view looks."""

import math
from typing import TypeAlias

import torch
from torch import Tensor

from ..ops import draws
from .plan import Change, Operator, Shape, Step, resample

Side: TypeAlias = int | Tensor  # of a frame, in pixels: of all, or of each, (B,)

# How often RandomResizedCrop draws a window that does not fit; torchvision's number.
TRIES = 10

# Places of MultiScaleCrop: rows and columns, in quarters of what the window leaves free.
_PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


class _Window(Operator):
    """Cut a window out of a clip, the same for all frames, scale it to a square, mirrored or not, in one pass.

    Bilinear, with the triangle as wide as a pixel of the view where the view is smaller than the window, so that
    nothing aliases: what torchvision calls antialias. Nothing outside of the window is seen. Of stretched frames the
    window is drawn in the picture as it is, and the same pass undoes the stretch. Subclasses write `draw`.
    """

    def __init__(self, size_px: int, *, flip: float) -> None:
        super().__init__()
        self.size_px = size_px
        self.flip = flip

    def draw(self, seed: Tensor, height: Side, width: Side) -> tuple[Tensor, Tensor]:
        """Draw windows in a frame: int64 (B,) -> top, left, height, width in pixels (B, 4); mirrored or not, (B,)."""
        raise NotImplementedError

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which rows and columns are summed."""
        _, height, width = shape
        return self._cut(*self.draw(seed, height, width), height=height, width=width)

    def steps_of_stretched(self, seed: Tensor, shape: Shape, aspect: Tensor) -> list[Step]:
        """Say which rows and columns of frames are summed that show pictures of other shapes."""
        _, height, width = shape
        aspect = aspect.double()
        # The picture as it would be if it were scaled to the frame's shorter side, and what of it a pixel of the
        # frame covers.
        short = min(height, width)
        picture_height, picture_width = short * (1 / aspect).clamp(min=1), short * aspect.clamp(min=1)
        window, mirrored = self.draw(seed, picture_height, picture_width)
        rows_per_px, columns_per_px = height / picture_height, width / picture_width
        scale = torch.stack([rows_per_px, columns_per_px, rows_per_px, columns_per_px], dim=1)
        return self._cut(window * scale, mirrored, height=height, width=width)

    def _cut(self, window: Tensor, mirrored: Tensor, *, height: int, width: int) -> list[Step]:
        top, left, window_height, window_width = window.double().unbind(1)
        rows = _triangles(top, window_height, num_out=self.size_px, num_in=height)
        # Seen from the right edge, leftwards, the window is mirrored.
        start = torch.where(mirrored, left + window_width, left)
        length = torch.where(mirrored, -window_width, window_width)
        columns = _triangles(start, length, num_out=self.size_px, num_in=width)
        return [Change(torch.arange(len(window)), ((resample, (*rows, *columns)),), takes_bytes=True)]

    def out_shape(self, shape: Shape) -> Shape:
        """A square."""
        return shape[0], self.size_px, self.size_px


class RandomResizedCrop(_Window):
    """Cut a random window out of a clip, the same for all frames, scale it to a square and mirror half of them.

    The window is drawn as torchvision draws it (Szegedy et al. 2015, arXiv:1409.4842): area and aspect, up to ten
    times until it fits, then place; if none fits, the largest window in the middle whose aspect is in range. But its
    sides need not be whole pixels. Draws come from `seed` alone: neither the batch around a clip nor the device
    changes them. Sampled as torchvision samples it, bilinear with antialias.

    Args:
        size_px: Height and width of the view.
        scale: Range of the window's area, as a share of the frame's.
        ratio: Range of the window's width over height.
        flip: Probability of a mirrored view.
    """

    def __init__(
        self,
        size_px: int,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
    ) -> None:
        super().__init__(size_px, flip=flip)
        self.scale = scale
        self.ratio = ratio

    def draw(self, seed: Tensor, height: Side, width: Side) -> tuple[Tensor, Tensor]:
        """Draw windows in a frame: int64 (B,) -> top, left, height, width in pixels (B, 4); mirrored or not, (B,)."""
        height, width = (torch.as_tensor(side, dtype=torch.float64).expand(len(seed)) for side in (height, width))
        drawn = draws.uniform(seed, 5 + 2 * (TRIES - 1)).double()
        x, y, mirror = drawn[:, 2:5].unbind(1)
        area, aspect = torch.cat([drawn[:, :2], drawn[:, 5:]], dim=1).unflatten(1, (TRIES, 2)).unbind(2)
        area = (height * width)[:, None] * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        aspect = (low + aspect * (high - low)).exp()
        sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=2)  # (B, tries, 2)
        frame = torch.stack([height, width], dim=1)
        fits = (sides <= frame[:, None]).all(2)
        first = sides[torch.arange(len(seed)), fits.byte().argmax(1)]
        # The largest whose width over height is in range.
        nearest = (width / height).clamp(*self.ratio)
        largest = torch.stack(
            [torch.minimum(height, width / nearest), torch.minimum(width, height * nearest)], dim=1
        )
        does_fit = fits.any(1, keepdim=True)
        size = torch.where(does_fit, first, largest)
        # It may move by what it leaves free.
        corner = torch.where(does_fit, torch.stack([y, x], dim=1), 0.5) * (frame - size)
        return torch.cat([corner, size], dim=1), mirror < self.flip


class MultiScaleCrop(_Window):
    """Cut a window of few sizes from one of 13 places, the same for all frames, and scale it to a square.

    Of VideoMAE (Tong et al. 2022, arXiv:2203.12602, released code), from temporal segment networks (Wang et al. 2016,
    arXiv:1608.00859). Sides are shares of the frame's shorter side; both sides are drawn together, at most one size
    apart, and one that misses that of the view by less than 3 pixels becomes it. Places are the corners, the middle,
    the middles of the edges and of the quarters.

    Args:
        size_px: Height and width of the view.
        scales: Shares of the frame's shorter side.
        flip: Probability of a mirrored view.
    """

    def __init__(
        self, size_px: int, *, scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66), flip: float = 0.0
    ) -> None:
        super().__init__(size_px, flip=flip)
        self.scales = scales

    def draw(self, seed: Tensor, height: Side, width: Side) -> tuple[Tensor, Tensor]:
        """Draw windows in a frame: int64 (B,) -> top, left, height, width in pixels (B, 4); mirrored or not, (B,)."""
        sides_px = (torch.as_tensor(side, dtype=torch.float64).round() for side in (height, width))
        frame = torch.stack([side.expand(len(seed)) for side in sides_px], dim=1)
        short = int(frame.min())  # pictures of other shapes have it in common
        sides = [int(short * scale) for scale in self.scales]
        sides = [self.size_px if abs(side - self.size_px) < 3 else side for side in sides]
        sides = [min(side, short) for side in sides]  # of a frame smaller than the view
        pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
        pair, place, mirror = draws.uniform(seed, 3).unbind(1)
        size = torch.tensor(pairs)[(pair * len(pairs)).long()]  # (B, 2)
        quarter = (frame - size) // 4
        corner = torch.tensor(_PLACES)[(place * len(_PLACES)).long()] * quarter
        return torch.cat([corner, size], dim=1), mirror < self.flip


def _triangles(start: Tensor, length: Tensor, *, num_out: int, num_in: int) -> tuple[Tensor, Tensor]:
    """Triangle filters that scale a stretch of pixels, backwards if its length is negative.

    Args:
        start: In pixels, float64 (B,); pixel j lies between j and j + 1.
        length: In pixels, float64 (B,).
        num_out: Pixels of the view.
        num_in: Pixels of the frame.

    Returns:
        Which pixels are summed, int32 (B, num_out, K), and their weights (B, num_out, K), which sum to 1.
    """
    size = (length.abs() / num_out).clamp(min=1)[:, None, None]  # half as wide as the triangle
    middle = start[:, None] + length[:, None] * (torch.arange(num_out) + 0.5) / num_out
    low = torch.minimum(start, start + length).floor().clamp(min=0)[:, None, None]
    high = torch.maximum(start, start + length).ceil().clamp(max=num_in)[:, None, None]
    middle = middle[..., None]
    pixel = (middle - size + 0.5).floor() + torch.arange(math.ceil(2 * float(size.max())))
    weight = (1 - (pixel + 0.5 - middle).abs() / size).clamp(min=0) * ((pixel >= low) & (pixel < high))
    pixel = torch.minimum(pixel.clamp(min=low), high - 1)
    return pixel.int(), weight / weight.sum(2, keepdim=True)

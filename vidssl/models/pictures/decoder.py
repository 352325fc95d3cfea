"""Plain networks from features back to pixels, for methods that compare what they draw with what was seen."""

import math

from einops import rearrange
from torch import Tensor, nn


class Upsampler(nn.Module):
    """Double height and width of maps again and again: (B, T, D, h, w) -> (B, T, widths[-1], H, W).

    4x4 transposed convolutions of stride 2, batch norm and ReLU (Radford et al. 2016, arXiv:1511.06434).

    Args:
        dim: D.
        widths: Channels after each doubling; none leaves the maps as they are.
    """

    def __init__(self, dim: int, *, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = widths[-1] if widths else dim
        layers: list[nn.Module] = []
        for before, after in zip((dim, *widths), widths, strict=False):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.net = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Enlarge frame by frame."""
        maps = self.net(rearrange(features, "b t d h w -> (b t) d h w"))
        return rearrange(maps, "(b t) d h w -> b t d h w", b=len(features))


class PictureDecoder(nn.Module):
    """Features -> pictures: (B, T, D, h, w) -> (B, T, out_dim, H, W), 2 ** (len(widths) + 1) times as large.

    Args:
        dim: D.
        widths: Channels after each doubling but the last.
        out_dim: Channels of the pictures; their values are not bounded.
    """

    def __init__(self, dim: int, *, widths: tuple[int, ...], out_dim: int = 3) -> None:
        super().__init__()
        self.enlarge = Upsampler(dim, widths=widths)
        self.paint = nn.ConvTranspose2d(self.enlarge.dim, out_dim, 4, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Decode frame by frame."""
        pixels = self.paint(rearrange(self.enlarge(features), "b t d h w -> (b t) d h w"))
        return rearrange(pixels, "(b t) c h w -> b t c h w", b=len(features))


class Bottleneck(nn.Module):
    """Squeeze all cells of a frame through one code, and back to cells: (B, T, D, h, w) -> (B, T, D, h, w).

    Args:
        dim: D.
        cells: h and w, of the pictures trained on.
        code_dim: Numbers of the code.
    """

    def __init__(self, dim: int, *, cells: tuple[int, int], code_dim: int) -> None:
        super().__init__()
        self.cells = cells
        self.squeeze = nn.Linear(dim * math.prod(cells), code_dim)
        self.spread = nn.Sequential(nn.Linear(code_dim, dim * math.prod(cells)), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Encode and spread every frame."""
        height, width = self.cells
        code = self.squeeze(rearrange(features, "b t d h w -> b t (d h w)", h=height, w=width))
        return rearrange(self.spread(code), "b t (d h w) -> b t d h w", h=height, w=width)

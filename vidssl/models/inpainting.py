"""Networks that fill holes and judge the result (Pathak et al. 2016, arXiv:1604.07379, Sec. 3.1 and 4)."""

import torch
from einops import rearrange
from torch import Tensor, nn


class ChannelwiseLinear(nn.Module):
    """Fully connected layer over the cells of each channel, then a 1x1 convolution across channels.

    Each channel has weights of its own, D (hw)^2 of them in place of (D hw)^2: (B, D, h, w) -> (B, D, h, w).

    Args:
        dim: D.
        num_cells: h w.
    """

    def __init__(self, dim: int, num_cells: int) -> None:
        super().__init__()
        bound = num_cells**-0.5
        self.weight = nn.Parameter(torch.empty(dim, num_cells, num_cells).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim, num_cells))
        self.mix = nn.Conv2d(dim, dim, 1)

    def forward(self, cells: Tensor) -> Tensor:
        """Let every cell see all others of its channel, then every channel all others of its cell."""
        height = cells.shape[2]
        spread = torch.einsum("bdn, dmn -> bdm", rearrange(cells, "b d h w -> b d (h w)"), self.weight) + self.bias
        return self.mix(rearrange(spread, "b d (h w) -> b d h w", h=height))


class InpaintingDecoder(nn.Module):
    """Features of a picture with a hole -> the whole picture: (B, T, D, h, w) -> (B, T, 3, H, W) in [-1, 1].

    Every transposed convolution doubles height and width; there are as many as `widths` and one to RGB.

    Args:
        dim: D.
        num_cells: h w, of the pictures trained on.
        widths: Channels of each doubling but the last.
    """

    def __init__(self, dim: int, *, num_cells: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [ChannelwiseLinear(dim, num_cells), nn.ReLU()]
        for before, after in zip((dim, *widths), widths, strict=False):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        last = widths[-1] if widths else dim
        self.net = nn.Sequential(*layers, nn.ConvTranspose2d(last, 3, 4, stride=2, padding=1), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        """Decode frame by frame."""
        frames = self.net(rearrange(features, "b t d h w -> (b t) d h w"))
        return rearrange(frames, "(b t) c h w -> b t c h w", b=len(features))


class PictureCritic(nn.Module):
    """Tell true pictures from completed ones: (B, T, 3, H, W) in [-1, 1] -> logits of each frame, (B, T).

    4x4 convolutions of stride 2, batch norm from the second on, leaky ReLU (Radford et al. 2016, arXiv:1511.06434);
    then one logit for each cell, and their mean, so that any size will do.

    Args:
        widths: Channels of each convolution.
    """

    def __init__(self, *, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=number == 0))
            if number:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2))
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, video: Tensor) -> Tensor:
        """Judge every frame by itself."""
        logits = self.net(rearrange(video, "b t c h w -> (b t) c h w")).mean(dim=(1, 2, 3))
        return rearrange(logits, "(b t) -> b t", b=len(video))

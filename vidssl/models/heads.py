"""Small networks between an encoder and a loss."""

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = False) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them: projectors and predictors of many methods.

    A layer that batch norm follows has no bias: it would be subtracted again.

    Args:
        widths: Of what comes in, of each hidden layer, of what comes out.
        last_norm: Whether what comes out is normalised too, without weight and bias.
        last_bias: Whether the last layer has a bias.
    """
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths[:-1]):
        layers += [nn.Linear(width, next_width, bias=False), nn.BatchNorm1d(next_width), nn.ReLU()]
    layers += [nn.Linear(widths[-2], widths[-1], bias=last_bias)]
    layers += [nn.BatchNorm1d(widths[-1], affine=False)] if last_norm else []
    return nn.Sequential(*layers)


class FrameHead(nn.Sequential):
    """1x1 convolution on the cells of every frame: (B, T, D, h, w) -> (B, T, out_dim, h, w)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(nn.Conv2d(dim, out_dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the convolution frame by frame."""
        num_frames = features.shape[1]
        cells = super().forward(rearrange(features, "b t d h w -> (b t) d h w"))
        return rearrange(cells, "(b t) d h w -> b t d h w", t=num_frames)


class CellHead(nn.Module):
    """Embedding of every cell by itself: two 1x1 convolutions beside a straight one, batch norm (AMDIM's, model.py).

    Shapes: (B, dim, ...) -> (B, out_dim, ...), cells of any number of dimensions in one row: (B, out_dim, cells).

    Args:
        dim: Width of the features.
        out_dim: Width of the embedding.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.bent = nn.Sequential(
            nn.Conv1d(dim, out_dim, 1, bias=False), nn.ReLU(), nn.Conv1d(out_dim, out_dim, 1, bias=False)
        )
        self.straight = nn.Conv1d(dim, out_dim, 1)
        self.norm = nn.BatchNorm1d(out_dim)

    def forward(self, cells: Tensor) -> Tensor:
        """Embed."""
        flat = cells.flatten(2)
        return self.norm(self.bent(flat) + self.straight(flat))


class VolumeHead(nn.Module):
    """Five 3-D convolutions over the frames of a clip, with pixel coordinates appended (Vondrick et al. 2018, Sec. 4).

    Spatial 1x3x3 and temporal 3x1x1 kernels alternate, batch norm and ReLU between them; a last 1x1x1 convolution
    gives the embedding. Shapes: (B, T, D, h, w) -> (B, T, out_dim, h, w).

    Args:
        dim: D.
        out_dim: Width of the embedding.
        hidden_dim: Channels between the convolutions.
    """

    def __init__(self, dim: int, out_dim: int, *, hidden_dim: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(5):
            kernel, padding = ((1, 3, 3), (0, 1, 1)) if number % 2 == 0 else ((3, 1, 1), (1, 0, 0))
            layers += [
                nn.Conv3d(dim + 2 if number == 0 else hidden_dim, hidden_dim, kernel, padding=padding, bias=False),
                nn.BatchNorm3d(hidden_dim),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv3d(hidden_dim, out_dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Mix the frames of each clip."""
        num_clips, num_frames, _, height, width = features.shape
        y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
        x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
        coordinates = torch.stack(torch.meshgrid(y, x, indexing="ij"))
        coordinates = coordinates[None, :, None].expand(num_clips, -1, num_frames, -1, -1)
        volume = torch.cat([rearrange(features, "b t d h w -> b d t h w"), coordinates], dim=1)
        return rearrange(self.layers(volume), "b d t h w -> b t d h w")

"""Networks of BiGAN (Donahue et al. 2017, arXiv:1605.09782): pictures from codes, and judgement of pairs of both."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from .decoder import PictureDecoder


class CodeGenerator(nn.Module):
    """Draw pictures from codes: (B, T, code_dim) -> (B, T, 3, H, W) in [-1, 1] (Radford et al. 2016, arXiv:1511.06434).

    Args:
        code_dim: Numbers of a code.
        cells: Height and width of the first maps, 2 ** (len(widths) + 1) times smaller than the pictures.
        dim: Channels of the first maps.
        widths: Channels after each doubling but the last.
    """

    def __init__(self, code_dim: int, *, cells: tuple[int, int], dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.cells = cells
        self.spread = nn.Linear(code_dim, dim * math.prod(cells), bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.decoder = PictureDecoder(dim, widths=widths)

    def forward(self, codes: Tensor) -> Tensor:
        """Draw one picture for each code."""
        maps = rearrange(self.spread(codes), "b t (d h w) -> (b t) d h w", h=self.cells[0], w=self.cells[1])
        maps = rearrange(self.norm(maps).relu(), "(b t) d h w -> b t d h w", b=len(codes))
        return self.decoder(maps).tanh()


class JointCritic(nn.Module):
    """Tell (picture, code of it) from (picture drawn from a code, code): logits of the former, (B, T).

    4x4 convolutions of stride 2 with batch norm from the second on and leaky ReLU; the code joins what they give, and
    two linear layers follow.

    Args:
        code_dim: Numbers of a code.
        cells: Height and width of the last maps, 2 ** len(widths) times smaller than the pictures.
        widths: Channels of each convolution.
        hidden_dim: Width of the two linear layers in between.
    """

    def __init__(
        self,
        code_dim: int,
        *,
        cells: tuple[int, int],
        widths: tuple[int, ...] = (64, 128, 256, 512),
        hidden_dim: int = 1024,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=number == 0))
            if number:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2))
        self.look = nn.Sequential(*layers, nn.Flatten())
        self.judge = nn.Sequential(
            nn.Linear(widths[-1] * math.prod(cells) + code_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, pictures: Tensor, codes: Tensor) -> Tensor:
        """Judge pairs: (B, T, 3, H, W) in [-1, 1], (B, T, code_dim) -> (B, T)."""
        seen = self.look(rearrange(pictures, "b t c h w -> (b t) c h w"))
        logits = self.judge(torch.cat([seen, rearrange(codes, "b t d -> (b t) d")], dim=1))
        return rearrange(logits, "(b t) 1 -> b t", b=len(pictures))

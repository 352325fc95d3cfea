"""A plain vision transformer on space-time patches that can encode a part of its tokens, and its narrow decoder."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from ..ops.masks import take
from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .layers import block_layer_names, tapped, token_maps
from .vit import patch_grid

Grid = tuple[int, int, int]
"""Time steps, rows and columns of the tokens of a clip."""

Positions = Literal["space_time", "space", "space_time_full", "order"]
"""What positions tell: time step, row and column (`position_embedding`, or `full_embedding` in all of the width), row
and column (`space_embedding`), or the number of the token (`order_embedding`)."""


def position_embedding(grid: Grid, dim: int, *, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of time step, row and column (Vaswani et al. 2017, Sec. 3.5, with the base 10000).

    Each of the three has dim // 6 frequencies; what is left of dim is zero. Positions count cells, so that a grid of
    any size is embedded without interpolation, and equal places of different grids equally.

    Args:
        grid: Time steps, rows and columns.
        dim: Width of the tokens, at least 6.
        device: Where to put it.

    Returns:
        float32 (steps * rows * columns, dim), token by token in that order: sines, then cosines of time, of row, of
        column.
    """
    num_frequencies = dim // 6
    frequencies = 10_000.0 ** (-torch.arange(num_frequencies, device=device) / num_frequencies)
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    places = torch.cartesian_prod(*axes).view(-1, 3)  # (N, 3)
    angles = places[..., None] * frequencies  # (N, 3, frequencies)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return nn.functional.pad(waves, (0, dim - waves.shape[1]))


def space_embedding(grid: Grid, dim: int, *, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of column and row, half of dim each: MAE's (models_mae.py, util/pos_embed.py, column first).

    Args:
        grid: One time step, rows and columns.
        dim: Width of the tokens, a multiple of 4.
        device: Where to put it.

    Returns:
        float32 (rows * columns, dim), row by row: sines, then cosines of column, then of row.

    Raises:
        ValueError: There are several time steps, which would have equal codes, or dim is no multiple of 4.
    """
    steps, rows, columns = grid
    if steps != 1:
        raise ValueError(
            f"a clip of {steps} time steps has no place in a code of rows and columns; give single frames, or build "
            'encoder and decoder with positions="space_time"'
        )
    if dim % 4:
        raise ValueError(f"tokens of width {dim} for a code of rows and columns, expected a multiple of 4")
    frequencies = 10_000.0 ** (-torch.arange(dim // 4, device=device) / (dim // 4))
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in (rows, columns)]
    places = torch.cartesian_prod(*axes).flip(1)  # (N, 2), column and row
    angles = places[..., None] * frequencies  # (N, 2, frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def full_embedding(grid: Grid, dim: int, *, device: torch.device | None = None) -> Tensor:
    """`position_embedding` with as many frequencies as fill the width: V-JEPA's (src/models/utils/pos_embs.py).

    Where dim is a multiple of 6 both are equal; else each axis has dim // 6 + 1 frequencies, and what is beyond dim is
    cut off.

    Args:
        grid: Time steps, rows and columns.
        dim: Width of the tokens.
        device: Where to put it.

    Returns:
        float32 (steps * rows * columns, dim).
    """
    return position_embedding(grid, dim + -dim % 6, device=device)[:, :dim]


def order_embedding(grid: Grid, dim: int, *, device: torch.device | None = None) -> Tensor:
    """Sines and cosines, in turn, of a token's number: VideoMAE's (modeling_finetune.py, Vaswani et al. 2017).

    Args:
        grid: Time steps, rows and columns; tokens are numbered in that order, so that the code of a place depends on
            the size of the grid.
        dim: Width of the tokens.
        device: Where to put it.

    Returns:
        float32 (steps * rows * columns, dim).
    """
    # In double precision: single leaves three digits of the phase of token 1567.
    numbers = torch.arange(math.prod(grid), dtype=torch.float64, device=device)
    frequencies = 10_000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angles = numbers[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim].float()


EMBEDDINGS = {
    "space_time": position_embedding,
    "space": space_embedding,
    "space_time_full": full_embedding,
    "order": order_embedding,
}


def _check_positions(positions: str) -> None:
    if positions not in EMBEDDINGS:
        raise ValueError(f"positions is {positions!r}, expected {' or '.join(map(repr, EMBEDDINGS))}")


def _blocks(dim: int, depth: int, num_heads: int) -> nn.Sequential:
    from timm.models.vision_transformer import Block

    if dim % num_heads:
        raise ValueError(f"a width of {dim} does not divide into {num_heads} heads; change one of them")
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    return nn.Sequential(*(Block(dim, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)))


def _initialize(module: nn.Module) -> None:
    """Draw matrices by Glorot's rule, as MAE does (github.com/facebookresearch/mae, models_mae.py)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class VideoViT(Encoder):
    """Plain transformer on tubelets of `tubelet_frames` x `patch_px` x `patch_px` pixels, all attending to all.

    There is no class token: the features are the tokens. Positions are fixed. An image is a clip of one frame; where a
    tubelet spans two, it is repeated.

    Args:
        dim: Width of the tokens D.
        depth: Number of blocks.
        num_heads: Of the attention.
        patch_px: Height and width of a patch.
        tubelet_frames: Frames of a patch, 1 or 2.
        positions: "space_time" (`position_embedding`) and "space_time_full" (`full_embedding`) for clips of any size;
            "order" (`order_embedding`) for clips of the size trained on alone; or "space" (`space_embedding`), for
            images: `tokens` takes single frames then, and the features of a clip are those of its frames, each by
            itself.
        mean: Per RGB channel.
        std: Per RGB channel.

    Raises:
        ValueError: Heads do not divide the width, a tubelet has other than 1 or 2 frames, positions are neither, or
            those of images meet tubelets of 2 frames.
    """

    def __init__(
        self,
        *,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_px: int = 16,
        tubelet_frames: int = 2,
        positions: Positions = "space_time",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        if tubelet_frames not in (1, 2):
            raise ValueError(f"tubelet_frames is {tubelet_frames}, expected 1 or 2")
        _check_positions(positions)
        if positions == "space" and tubelet_frames != 1:
            raise ValueError('positions="space" is for single frames; set tubelet_frames=1')
        super().__init__(
            dim=dim,
            stride=patch_px,
            mean=mean,
            std=std,
            multiple=patch_px,
            architecture={
                "family": "video_vit",
                "dim": dim,
                "depth": depth,
                "num_heads": num_heads,
                "patch_px": patch_px,
                "tubelet_frames": tubelet_frames,
                **({} if positions == "space_time" else {"positions": positions}),
            },
        )
        self.positions = positions
        self.patch_px = patch_px
        self.tubelet_frames = tubelet_frames
        self.patch_values = tubelet_frames * patch_px**2 * 3
        """Numbers in a patch: what a decoder of pixels predicts for each token."""
        self.embed = nn.Linear(self.patch_values, dim)
        self.blocks = _blocks(dim, depth, num_heads)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(_initialize)

    def grid(self, clip: Tensor) -> Grid:
        """Time steps, rows and columns of the tokens of a clip (B, T, 3, H, W).

        Raises:
            ValueError: Frames do not divide into tubelets, or pixels into patches.
        """
        num_frames = clip.shape[1]
        if num_frames > 1 and num_frames % self.tubelet_frames:
            raise ValueError(
                f"a clip of {num_frames} frames does not divide into tubelets of {self.tubelet_frames}; use "
                f"{num_frames - num_frames % self.tubelet_frames} or {num_frames + 1} frames, or a single one"
            )
        return max(num_frames // self.tubelet_frames, 1), *patch_grid(clip, self.patch_px)

    def patches(self, clip: Tensor) -> Tensor:
        """Cut a clip into tubelets: (B, T, 3, H, W) -> (B, T'hw, pixels, 3), as they are, not normalised."""
        steps, height, width = self.grid(clip)
        if clip.shape[1] < self.tubelet_frames:
            clip = clip.expand(-1, self.tubelet_frames, -1, -1, -1)
        return rearrange(
            clip, "b (t f) c (h y) (w x) -> b (t h w) (f y x) c", t=steps, h=height, w=width, f=self.tubelet_frames
        )

    def normalized_patches(self, clip: Tensor) -> Tensor:
        """Cut a clip into tubelets of normalised colours, as the network sees them: (B, T'hw, pixels, 3)."""
        return (self.patches(clip) - self.mean.flatten()) / self.std.flatten()

    def assemble(self, patches: Tensor, grid: Grid) -> Tensor:
        """Put tubelets together, the inverse of `patches`: (B, T'hw, pixels, 3) -> (B, T, 3, H, W)."""
        steps, height, width = grid
        return rearrange(
            patches,
            "b (t h w) (f y x) c -> b (t f) c (h y) (w x)",
            t=steps,
            h=height,
            w=width,
            f=self.tubelet_frames,
            y=self.patch_px,
        )

    def tokens(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encode some tokens, which attend to each other alone.

        Args:
            clip: RGB in [0, 1], (B, T, 3, H, W).
            keep: Numbers of the tokens that are seen, int64 (B, n), step by step and row by row; None is all.

        Returns:
            (B, n, D), in the order of `keep`, after the last norm.

        Raises:
            ValueError: The clip has several frames, and positions are those of images.
        """
        colors = self.normalized_patches(clip)
        position = EMBEDDINGS[self.positions](self.grid(clip), self.dim, device=clip.device).to(clip.dtype)
        position = position.expand(len(clip), -1, -1)
        if keep is not None:
            colors, position = take(colors, keep), take(position, keep)
        return self.norm(self.blocks(self.embed(colors.flatten(2)) + position))

    def features(self, clip: Tensor) -> Tensor:
        """Encode all tokens: (B, T, 3, H, W) in [0, 1] -> (B, T / tubelet_frames, D, H / patch, W / patch)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Blocks, "0" to "11" say, "11.keys", "11.queries", "11.values"; and "last" after the norm."""
        return block_layer_names(len(self.blocks), facets=True, class_token=False)

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        num_clips = len(clip)
        if self.positions == "space":
            clip = rearrange(clip, "b t c h w -> (b t) 1 c h w")
        with tapped(list(self.blocks), names) as tokens:
            last = self.tokens(clip)
        return token_maps({**tokens, "last": last}, names, batch_size=num_clips, grid=self.grid(clip))


class TokenPredictor(nn.Module):
    """Narrow transformer that predicts hidden tokens from visible ones: decoder of MAE, predictor of V-JEPA.

    Visible tokens and, in the place of hidden ones, a learned token are added to their positions and pass through the
    blocks together.

    Args:
        dim: Width of the visible tokens.
        out_dim: Width of the prediction.
        width: Of the blocks.
        depth: Number of blocks.
        num_heads: Of the attention.
        positions: As the encoder has them.
        num_mask_tokens: Learned tokens, one for each kind of mask.
        mask_token_std: Of the learned tokens at first: 0 as in V-JEPA, or 0.02 as in MAE and VideoMAE.

    Raises:
        ValueError: Heads do not divide the width, or positions are of an unknown kind.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        *,
        width: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        positions: Positions = "space_time",
        num_mask_tokens: int = 1,
        mask_token_std: float = 0.0,
    ) -> None:
        super().__init__()
        _check_positions(positions)
        self.positions = positions
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.zeros(num_mask_tokens, 1, width))
        self.blocks = _blocks(width, depth, num_heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, out_dim)
        self.apply(_initialize)
        if mask_token_std:
            nn.init.normal_(self.mask_token, std=mask_token_std)

    def forward(
        self, tokens: Tensor, *, visible: Tensor, hidden: Tensor, grid: Grid, mask_number: int = 0
    ) -> Tensor:
        """Predict the hidden tokens.

        Args:
            tokens: Encoded visible tokens, (B, V, dim).
            visible: Their numbers, int64 (B, V).
            hidden: Numbers of the tokens to predict, int64 (B, M).
            grid: Time steps, rows and columns of all tokens.
            mask_number: Kind of the mask, which learned token is taken; counted on from the first after the last.

        Returns:
            (B, M, out_dim).
        """
        position = EMBEDDINGS[self.positions](grid, self.mask_token.shape[-1], device=tokens.device)
        known = self.embed(tokens) + position[visible]
        asked = self.mask_token[mask_number % len(self.mask_token)] + position[hidden]
        mixed = self.blocks(torch.cat([known, asked], dim=1))
        return self.out(self.norm(mixed[:, known.shape[1] :]))

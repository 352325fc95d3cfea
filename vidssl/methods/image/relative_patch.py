"""Relative patch position: tell where beside a patch of a picture another one lies.

Doersch, Gupta and Efros 2015, "Unsupervised visual representation learning by context prediction", arXiv:1505.05192.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.precision import in_single_precision

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)

# One level of an 8-bit picture: a patch that varies less shows nothing but rounding.
SMALLEST_DEVIATION = 1 / 255
# Row and column of the eight neighbours, in the order of their classes; the opposite of class l is 7 - l.
NEIGHBORS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
# The direction of colour in which the fringes of a lens lie: green against magenta (Sec. 3.1).
FRINGE = (-1.0, 2.0, -1.0)


class RelativePatch(Method):
    """Name which of its eight neighbours a patch is, from features of two patches encoded apart.

    Patches lie on a grid at a random place of the picture; every pair of neighbours, in both orders, is a sample. All
    frames of a clip are cut alike. Against the short cuts of the paper (Sec. 3.1): gaps and jitter, so that no line
    goes on in the next patch; some patches are scaled down and up again; colours that tell where in a lens's picture
    a patch lies are taken away.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D); here it sees patches of mean 0 and mean
            square 1 after its own normalisation.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1] at their own resolution.
        patch_px: Height and width of a patch.
        gap_px: Between patches.
        jitter_px: How far a patch may lie from its place, in any direction.
        grid: Patches along each side.
        fringes: "drop" leaves one random channel and puts faint noise in the place of the others (the authors' code);
            "project" takes away the direction between green and magenta (the paper's other way); "keep" leaves
            colours as they are, for pictures without a lens.
        resample_probability: Of a patch that is scaled down and up.
        smallest_px: Side of the smallest that it is scaled down to.
        patch_dim: Width of the layer after the encoder, of every patch (fc6).
        hidden_dim: Width of the two layers that join a pair (fc7, fc8).
        clips: Which frames; by default one.

    Differences from the paper: one grid of each picture, of one size for all, instead of up to four that fill it; the
    layer after the encoder sees pooled features; patches that drop no channel have the mean of each taken away.
    """

    pairs: Tensor
    scalings: Tensor
    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        patch_px: int = 96,
        gap_px: int = 48,
        jitter_px: int = 7,
        grid: int = 3,
        fringes: Literal["drop", "project", "keep"] = "drop",
        resample_probability: float = 0.33,
        smallest_px: int = 10,
        patch_dim: int = 4096,
        hidden_dim: int = 4096,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        # No scale and no shift: with them the network stays at chance for long (the authors' code).
        self.patch_head = nn.Sequential(
            nn.Linear(encoder.dim, patch_dim, bias=False), nn.BatchNorm1d(patch_dim, affine=False), nn.ReLU()
        )
        self.pair_head = nn.Sequential(
            nn.Linear(2 * patch_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim, affine=False),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(hidden_dim, len(NEIGHBORS))
        self.patch_px = patch_px
        self.gap_px = gap_px
        self.jitter_px = jitter_px
        self.grid = grid
        self.fringes = fringes
        self.resample_probability = resample_probability
        self.smallest_px = smallest_px
        self.clips = clips
        self.register_buffer("pairs", neighbors(grid), persistent=False)
        self.register_buffer("scalings", scalings(patch_px, smallest_px=smallest_px), persistent=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the eight places, mean over pairs and clips."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        patches = self.prepare(self.cut(video, batch.seed), batch.seed)
        features = self.patch_head(self.encoder(rearrange(patches, "b n t c h w -> (b n) t c h w")))
        features = rearrange(features, "(b n) d -> b n d", b=len(video))
        first, second, place = self.pairs.unbind(1)
        joined = rearrange(torch.cat([features[:, first], features[:, second]], dim=2), "b p d -> (b p) d")
        logits = in_single_precision(self.classifier, self.pair_head(joined))
        target = place.repeat(len(video))
        accuracy = (logits.argmax(1) == target).float().mean()
        return {"loss": F.cross_entropy(logits, target), "accuracy": accuracy}

    def cut(self, video: Tensor, seed: Tensor) -> Tensor:
        """Cut the patches of a grid: (B, T, 3, H, W) -> (B, N, T, 3, patch_px, patch_px), row by row.

        Raises:
            ValueError: The grid is larger than the picture.
        """
        size, pitch = min(video.shape[3:]), self.patch_px + self.gap_px
        span = self.patch_px + (self.grid - 1) * pitch
        if span > size:
            raise ValueError(
                f"{self.grid} x {self.grid} patches of {self.patch_px} px with gaps of {self.gap_px} px span "
                f"{span} px, views are {video.shape[3]} x {video.shape[4]} px; let the view give more, or lower "
                "patch_px, gap_px or grid"
            )
        room = torch.tensor([side - span for side in video.shape[3:]], device=video.device)
        origin = (draws.uniform(seed, 1, 2, stream=1) * (room + 1)).long()  # (B, 1, 2), y and x
        cell = torch.arange(self.grid, device=video.device) * pitch
        place = origin + torch.cartesian_prod(cell, cell)  # (B, N, 2)
        jitter = draws.integers(seed, 2 * self.jitter_px + 1, place.shape[1], 2, stream=2) - self.jitter_px
        last = room + span - self.patch_px
        place = torch.minimum((place + jitter).clamp(min=0), last)
        y, x = (place[..., None] + torch.arange(self.patch_px, device=video.device)).unbind(2)  # (B, N, patch_px)
        clip = torch.arange(len(video), device=video.device)[:, None, None, None]
        cells = rearrange(video, "b t c h w -> b h w t c")[clip, y[..., None], x[:, :, None]]
        return rearrange(cells, "b n h w t c -> b n t c h w")

    def prepare(self, patches: Tensor, seed: Tensor) -> Tensor:
        """Take from patches what tells their place: (B, N, T, 3, h, w), int64 (B,) -> the same shape.

        Scaled down and up, colours dropped or projected, means taken away, and scaled to mean square 1 as the encoder
        normalises.
        """
        num_patches = patches.shape[1]
        whether, how, channel = draws.uniform(seed, 3, num_patches, stream=3).unbind(1)
        smallest, largest = self.smallest_px**2, (self.patch_px - 1) ** 2
        side = (smallest + how * (largest - smallest)).sqrt().long()  # the number of pixels is uniform
        scaling = self.scalings[torch.where(whether < self.resample_probability, side - self.smallest_px, -1)]
        scaling = scaling[:, :, None, None]  # (B, N, 1, 1, h, h), the last of which changes nothing
        with torch.autocast(patches.device.type, enabled=False):
            patches = scaling @ patches @ scaling.mT
        if self.fringes == "project":
            axis = torch.tensor(FRINGE, device=patches.device)
            along = torch.einsum("bntchw, c -> bnthw", patches, axis) / axis.square().sum()
            patches = patches - along[:, :, :, None] * axis[:, None, None]
        patches = patches - patches.mean(dim=(2, 4, 5), keepdim=True)
        if self.fringes == "drop":
            kept = (channel * 3).long()[..., None] == torch.arange(3, device=patches.device)  # (B, N, 3)
            noise = (draws.uniform(seed, *patches.shape[1:], stream=4) - 0.5) / 255  # of half a level
            patches = torch.where(kept[:, :, None, :, None, None], patches, noise)
        scale = patches.square().mean(dim=(2, 3, 4, 5), keepdim=True).sqrt()
        return patches / scale.clamp(min=SMALLEST_DEVIATION) * self.encoder.std + self.encoder.mean


def neighbors(grid: int) -> Tensor:
    """All ordered pairs of neighbours in a grid: int64 (P, 3), first patch, second, class of the second's place."""
    pairs = []
    for first in range(grid * grid):
        for place, (down, right) in enumerate(NEIGHBORS):
            row, column = first // grid + down, first % grid + right
            if 0 <= row < grid and 0 <= column < grid:
                pairs.append((first, row * grid + column, place))
    return torch.tensor(pairs)


def scalings(size_px: int, *, smallest_px: int) -> Tensor:
    """Matrices that scale a line of pixels down and up again, (size_px - smallest_px + 1, size_px, size_px).

    Number k goes through smallest_px + k pixels, bilinear without antialias as the authors' code; the last is the
    identity.
    """
    line = torch.eye(size_px)[:, None]  # every pixel alone, as a picture of one row
    small = (F.interpolate(line, side, mode="linear") for side in range(smallest_px, size_px + 1))
    return torch.stack([F.interpolate(one, size_px, mode="linear")[:, 0].T for one in small])

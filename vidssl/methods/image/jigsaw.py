"""Jigsaw: tell in which order the tiles of a picture lie.

Noroozi and Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw puzzles",
arXiv:1603.09246.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)

# One level of an 8-bit picture: a tile that varies less shows nothing but rounding.
SMALLEST_DEVIATION = 1 / 255


class Jigsaw(Method):
    """Shuffle the tiles of a clip by one of a fixed set of permutations and name the permutation.

    All frames of a clip are cut and shuffled alike. Against the short cuts of the paper (Sec. 4.2): tiles are cut at
    random places of their cells, so that no edge goes on in the next tile; every tile is standardised by itself, so
    that brightness and contrast tell no neighbours; its colour channels are shifted against each other, so that the
    colour fringes of a lens tell no place; and tiles of one clip are never in one batch of batch norm.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D); here it sees tiles of mean 0 and deviation
            1 after its own normalisation.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], square, a multiple of the grid.
        permutations: int64 (P, N), N tiles a square number: `permutations(1000)` below.
        tile_px: Height and width of a tile; what the cells are larger is the room of its random place.
        channel_shift_px: Largest shift of a tile's colour channel.
        tile_dim: Width of the layer after the encoder, of every tile (fc6).
        hidden_dim: Width of the layer that joins the tiles (fc7).
        clips: Which frames; by default one.

    Differences from the paper: the set keeps the smallest distance of two permutations large, not only the mean one;
    no dropout; tiles of all places are encoded place by place, each with batch statistics of its own.
    """

    permutations: Tensor
    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        permutations: Tensor,
        tile_px: int = 64,
        channel_shift_px: int = 2,
        tile_dim: int = 1024,
        hidden_dim: int = 4096,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        num_permutations, num_tiles = permutations.shape
        self.encoder = encoder
        self.view = view
        self.tile_head = nn.Sequential(nn.Linear(encoder.dim, tile_dim), nn.ReLU())
        self.classifier = nn.Sequential(
            nn.Linear(num_tiles * tile_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, num_permutations)
        )
        self.grid = math.isqrt(num_tiles)
        self.tile_px = tile_px
        self.channel_shift_px = channel_shift_px
        self.clips = clips
        self.register_buffer("permutations", permutations)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the permutation, mean over clips (Eq. 3)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        target = draws.integers(batch.seed, len(self.permutations), stream=1)  # (B,)
        tiles = shuffle(self.standardize(self.cut(video, batch.seed)), self.permutations[target])
        logits = self.classifier(rearrange(self.tile_head(self.encode(tiles)), "b n d -> b (n d)"))
        accuracy = (logits.argmax(1) == target).float().mean()
        return {"loss": F.cross_entropy(logits, target), "accuracy": accuracy}

    def cut(self, video: Tensor, seed: Tensor) -> Tensor:
        """Cut one tile out of each cell of the grid: (B, T, 3, S, S) -> (B, N, T, 3, tile_px, tile_px), row by row.

        Raises:
            ValueError: The tiles are larger than the cells.
        """
        cells = rearrange(video, "b t c (i h) (j w) -> b (i j) c h w t", i=self.grid, j=self.grid)
        num_clips, num_tiles, num_channels, cell_px = cells.shape[:4]
        room = cell_px - self.tile_px
        if room < 0:
            raise ValueError(
                f"tiles of {self.tile_px} px do not fit the cells of {cell_px} px of a view of {video.shape[-1]} px; "
                f"lower tile_px or let the view give {self.grid * self.tile_px} px or more"
            )
        corner = draws.integers(seed, room + 1, num_tiles, 1, 2, stream=2)
        shift = draws.integers(seed, 2 * self.channel_shift_px + 1, num_tiles, num_channels, 2, stream=3)
        corner = (corner + shift - self.channel_shift_px).clamp(0, room)  # (B, N, 3, 2), y and x
        pixel = torch.arange(self.tile_px, device=video.device)
        y, x = (corner[..., None] + pixel).unbind(3)  # (B, N, 3, tile_px)
        clip = torch.arange(num_clips, device=video.device)[:, None, None, None, None]
        tile = torch.arange(num_tiles, device=video.device)[:, None, None, None]
        channel = torch.arange(num_channels, device=video.device)[:, None, None]
        return rearrange(cells[clip, tile, channel, y[..., None], x[..., None, :]], "b n c h w t -> b n t c h w")

    def standardize(self, tiles: Tensor) -> Tensor:
        """Bring each channel of each tile to mean 0 and deviation 1, as the encoder normalises: the same shape."""
        deviation, mean = torch.std_mean(tiles, dim=(2, 4, 5), keepdim=True)
        return (tiles - mean) / deviation.clamp(min=SMALLEST_DEVIATION) * self.encoder.std + self.encoder.mean

    def encode(self, tiles: Tensor) -> Tensor:
        """Encode tiles (B, N, T, 3, h, w) -> (B, N, D), those of one place in one batch, none with its neighbours."""
        return torch.stack([self.encoder(tile) for tile in tiles.unbind(1)], dim=1)


def shuffle(tiles: Tensor, order: Tensor) -> Tensor:
    """Put tile order[b, n] of clip b at place n: (B, N, ...), int64 (B, N) -> (B, N, ...)."""
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], order]


def permutations(num: int, *, num_tiles: int = 9, seed: int = 0) -> Tensor:
    """Choose permutations that differ in as many places as they can (Algorithm 1 of the paper, greedy).

    From a random first one on, the next is the one whose smallest Hamming distance to those chosen is largest; of
    equals, the one with the largest mean distance. (The paper looks at the mean alone: the mean comes out as large,
    but some pairs then differ in two places only.)

    Args:
        num: How many.
        num_tiles: N; all N! permutations are looked at, so 9 is about the most.
        seed: Of the first one.

    Returns:
        int64 (num, num_tiles).

    Raises:
        ValueError: There are fewer permutations than asked for.
    """
    candidates = torch.zeros(1, 1, dtype=torch.int8)  # (places, orders), in lexicographic order of the insertions
    for tile in range(1, num_tiles):
        new = torch.full_like(candidates[:1], tile)
        places = range(tile + 1)
        candidates = torch.cat([torch.cat([candidates[:at], new, candidates[at:]]) for at in places], dim=1)
    num_candidates = candidates.shape[1]
    if num > num_candidates:
        raise ValueError(f"{num_tiles} tiles have {num_candidates} permutations, {num} are asked for; lower num")
    chosen = [int(torch.randint(num_candidates, (1,), generator=torch.Generator().manual_seed(seed)))]
    smallest = torch.full((num_candidates,), num_tiles, dtype=torch.int8)
    total = torch.zeros(num_candidates, dtype=torch.int32)
    while len(chosen) < num:
        distance = (candidates != candidates[:, chosen[-1], None]).sum(0, dtype=torch.int8)
        smallest = torch.minimum(smallest, distance)
        total = total + distance
        chosen.append(int((smallest.int() * (num_tiles * num) + total).argmax()))
    return candidates[:, chosen].T.long()

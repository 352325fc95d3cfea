"""Exemplar: patches of images, each changed in many ways, and each a class of its own.

Dosovitskiy, Springenberg, Riedmiller and Brox 2014, "Discriminative unsupervised feature learning with convolutional
neural networks", arXiv:1406.6909.
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
from ...ops.precision import in_single_precision

# An image, or a random frame of a video: what is cut from a video is one class.
CLIPS = partial(random_clips, num_frames=1)


class Exemplar(Method):
    """Cut a patch of each sample where there is much to see, move, scale, turn and colour it, and name the sample.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: Changes colours: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1] of the same size,
            for example augment.recipes.exemplar().
        num_samples: Of the dataset, N: the classes. The layer grows with it; beyond 10^4 or so see `InstDisc`.
        patch_px: Height and width of a patch.
        max_shift: Of the patch, as a share of its side.
        scale: Range of its size, as a share of `patch_px`; drawn evenly in the logarithm.
        max_degrees: Of its turn.
        clips: Which frames; by default one.

    Differences from the paper: one patch of each sample, cut anew in every step at the place that the sample's number
    draws, instead of a set of patches that is changed 150 times beforehand; patches have one size before they are
    scaled; the classifier sees pooled features through one linear layer.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        num_samples: int,
        patch_px: int = 32,
        max_shift: float = 0.2,
        scale: tuple[float, float] = (0.7, 1.4),
        max_degrees: float = 20.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.classifier = nn.Linear(encoder.dim, num_samples)
        self.patch_px = patch_px
        self.max_shift = max_shift
        self.scale = scale
        self.max_degrees = max_degrees
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the samples that the patches are of."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        middle = rich_place(video[:, 0], draws.uniform(batch.index), size_px=self.patch_px)
        patches = self.patches(self.view(video, batch.host_seed, *batch.stretch), middle, batch.seed)
        logits = in_single_precision(self.classifier, self.encoder(patches))
        accuracy = (logits.argmax(1) == batch.index).float().mean()
        return {"loss": F.cross_entropy(logits, batch.index), "accuracy": accuracy}

    def patches(self, video: Tensor, middle: Tensor, seed: Tensor) -> Tensor:
        """Cut patches, moved, scaled and turned by a draw for each clip, all frames alike; bilinear, edges repeated.

        Args:
            video: Float (B, T, 3, H, W).
            middle: x and y of the middles as shares of width and height, (B, 2).
            seed: int64 (B,).

        Returns:
            (B, T, 3, patch_px, patch_px).
        """
        num_frames, _, height, width = video.shape[1:]
        x, y, size, turn = (2 * draws.uniform(seed, 4) - 1).unbind(1)  # each in [-1, 1)
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        half = self.patch_px / 2 * ((low + high) / 2 + size * (high - low) / 2).exp()
        angle = math.radians(self.max_degrees) * turn
        shift = self.max_shift * self.patch_px * torch.stack([x, y], dim=1)
        frame = torch.tensor([width, height], device=video.device)
        place = 2 * (middle + shift / frame) - 1  # grid_sample's coordinates: -1 and 1 are the edges
        across = half[:, None] * torch.stack([angle.cos(), -angle.sin()], dim=1) * 2 / width
        down = half[:, None] * torch.stack([angle.sin(), angle.cos()], dim=1) * 2 / height
        affine = torch.stack([torch.cat([across, place[:, :1]], 1), torch.cat([down, place[:, 1:]], 1)], dim=1)
        shape = [len(video), 3 * num_frames, self.patch_px, self.patch_px]
        grid = F.affine_grid(affine, shape, align_corners=False)
        flat = rearrange(video, "b t c h w -> b (t c) h w")
        cut = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
        return rearrange(cut, "b (t c) h w -> b t c h w", t=num_frames)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Patches of eight samples, cut and coloured four times, one below the other."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")[:8]
        middle = rich_place(video[:, 0], draws.uniform(batch.index[:8]), size_px=self.patch_px)
        stretch = tuple(aspect[:8] for aspect in batch.stretch)
        rows = []
        for number in range(4):
            seed = draws.mix(batch.host_seed[:8], number)
            patches = self.patches(self.view(video, seed, *stretch), middle, seed.to(video.device))
            rows.append(rearrange(patches[:, 0], "b c h w -> c h (b w)"))
        return {"patches": torch.cat(rows, dim=1)}


def rich_place(frame: Tensor, draw: Tensor, *, size_px: int) -> Tensor:
    """Draw the middle of a window inside a frame, in proportion to its mean squared gradient.

    Args:
        frame: (B, 3, H, W), uint8, H and W larger than `size_px`.
        draw: In [0, 1), (B,).
        size_px: Side of the window.

    Returns:
        x and y as shares of width and height, (B, 2).
    """
    gray = frame.float().mean(1)
    corner = gray[:, :-1, :-1]
    energy = (gray[:, :-1, 1:] - corner).square() + (gray[:, 1:, :-1] - corner).square()
    # A frame without gradient leaves every place as likely as any.
    mean = F.avg_pool2d(energy[:, None], size_px, stride=1) + 1e-6  # (B, 1, H - size_px, W - size_px)
    total = mean.flatten(1).cumsum(1)
    place = (total <= draw[:, None] * total[:, -1:]).sum(1).clamp(max=total.shape[1] - 1)
    x, y = place % mean.shape[3], place // mean.shape[3]
    half = (size_px + 1) / 2  # a window of gradients touches a pixel more than it is wide
    return torch.stack([(x + half) / frame.shape[3], (y + half) / frame.shape[2]], dim=1)

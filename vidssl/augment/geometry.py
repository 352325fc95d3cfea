"""Geometric views: where in the frame a view looks."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class RandomResizedCrop(nn.Module):
    """Cut a random window out of a clip, the same for all frames, scale it to a square and mirror half of them.

    The window is drawn as torchvision draws it (Szegedy et al. 2015, arXiv:1409.4842): area, then aspect, then
    place. A window that does not fit is clamped to the frame instead of drawn again, so that every clip takes
    exactly the same number of draws. Draws come from `seed` alone: neither the batch around a clip nor the device
    changes them.

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
        super().__init__()
        self.size_px = size_px
        self.scale = scale
        self.ratio = ratio
        self.flip = flip

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Return one view of each clip.

        Args:
            video: (B, T, 3, H, W), uint8 or float in [0, 1].
            seed: int64 (B,), one per clip.

        Returns:
            Float in [0, 1], (B, T, 3, size_px, size_px), bilinear, edges repeated.
        """
        num_frames, _, height, width = video.shape[1:]
        affine = torch.stack([self._draw(int(number), height, width) for number in seed.tolist()]).to(video.device)
        grid = F.affine_grid(affine, [len(video), 1, self.size_px, self.size_px], align_corners=False)
        pixels = video.float() / 255 if video.dtype == torch.uint8 else video
        # One sampling pass over all frames of a clip at once: they share the window.
        stacked = rearrange(pixels, "b t c h w -> b (t c) h w")
        view = F.grid_sample(stacked, grid.to(pixels.dtype), padding_mode="border", align_corners=False)
        return rearrange(view, "b (t c) h w -> b t c h w", t=num_frames)

    def _draw(self, seed: int, height: int, width: int) -> Tensor:
        """Draw one window as an affine map of normalised coordinates, (2, 3)."""
        generator = torch.Generator().manual_seed(seed)
        area, aspect, x, y, mirror = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        area = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        aspect = math.exp(low + aspect * (high - low))
        window_height = min(math.sqrt(area / aspect), height)
        window_width = min(math.sqrt(area * aspect), width)
        share_y, share_x = window_height / height, window_width / width
        # Centre of the window in [-1, 1]: it may move by what the window leaves free.
        center_y, center_x = (2 * y - 1) * (1 - share_y), (2 * x - 1) * (1 - share_x)
        sign = -1.0 if mirror < self.flip else 1.0
        return torch.tensor([[sign * share_x, 0, center_x], [0, share_y, center_y]], dtype=torch.float32)

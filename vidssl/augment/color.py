"""Colour views: how a view looks. Operators on float clips in [0, 1], one draw per clip, equal on all its frames.

An operator takes (video (B, T, 3, H, W), seed int64 (B,)) and returns the same shape; what it does to a clip is a
function of that clip's seed alone. Operators in a row need unrelated seeds (vidssl.augment.Pipeline gives them).
"""

import math

import torch
from einops import rearrange
from kornia.color import rgb_to_grayscale
from kornia.enhance import adjust_hue, invert, solarize
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from ..ops import draws


class _Sometimes(nn.Module):
    """Change each clip with a probability. Subclasses write `change`."""

    def __init__(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}, expected a number in [0, 1]")
        super().__init__()
        self.probability = probability

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Change the clips that are drawn: float (B, T, 3, H, W) in [0, 1], int64 (B,) -> the same shape."""
        # Draws 0 of every operator: whether.
        chosen = (draws.uniform(seed) < self.probability).nonzero()[:, 0]
        if len(chosen) == 0:
            return video
        return video.index_copy(0, chosen, self.change(video[chosen], seed[chosen]))

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Change every clip; draws from stream 1 on."""
        raise NotImplementedError


class ColorJitter(_Sometimes):
    """Change brightness, contrast, saturation and hue, in an order drawn for each clip.

    Factors are uniform in [max(0, 1 - x), 1 + x], the hue is turned by a share of the circle uniform in [-hue, hue];
    each step is cut to [0, 1]. Contrast is relative to the mean luminance of the frame. Arithmetic as torchvision's.

    Args:
        brightness: Range of the factor, at least 0.
        contrast: Range of the factor, at least 0.
        saturation: Range of the factor, at least 0.
        hue: Largest turn, in [0, 0.5].
        probability: Of a clip that is changed.

    Raises:
        ValueError: A range or the probability is out of bounds.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                f"brightness, contrast, saturation are {brightness}, {contrast}, {saturation}, expected numbers from "
                f"0; hue is {hue}, expected a number in [0, 0.5]"
            )
        low = [max(0.0, 1 - x) for x in (brightness, contrast, saturation)]
        self.low = (*low, -hue)
        self.high = (1 + brightness, 1 + contrast, 1 + saturation, hue)

    def draw(self, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the factors (brightness, contrast, saturation, hue), (B, 4), and their order, int64 (B, 4)."""
        low, high = torch.tensor([self.low, self.high], device=seed.device)
        return low + (high - low) * draws.uniform(seed, 4, stream=1), draws.permutation(seed, 4, stream=2)

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Apply the four changes, each clip's in its own order."""
        factors, order = self.draw(seed)
        factors = factors.to(video.dtype)[..., None, None, None, None]
        for step in order.T:
            for number, operator in enumerate((_brightness, _contrast, _saturation, _hue)):
                if self.low[number] == self.high[number]:
                    continue  # this factor changes nothing
                rows = (step == number).nonzero()[:, 0]
                if len(rows) > 0:
                    video = video.index_copy(0, rows, operator(video[rows], factors[rows, number]))
        return video


def _brightness(video: Tensor, factor: Tensor) -> Tensor:
    return (factor * video).clamp(0, 1)


def _contrast(video: Tensor, factor: Tensor) -> Tensor:
    mean = rgb_to_grayscale(video).mean(dim=(2, 3, 4), keepdim=True)  # of each frame
    return (mean + factor * (video - mean)).clamp(0, 1)


def _saturation(video: Tensor, factor: Tensor) -> Tensor:
    gray = rgb_to_grayscale(video)
    return (gray + factor * (video - gray)).clamp(0, 1)


def _hue(video: Tensor, factor: Tensor) -> Tensor:
    angle = (2 * math.pi * factor[:, 0, 0, 0, 0]).repeat_interleave(video.shape[1])
    frames = adjust_hue(rearrange(video, "b t c h w -> (b t) c h w"), angle)
    return rearrange(frames, "(b t) c h w -> b t c h w", b=len(video)).clamp(0, 1)


class RandomGray(_Sometimes):
    """Replace the three channels by luminance (ITU-R BT.601)."""

    def __init__(self, *, probability: float = 0.2) -> None:
        super().__init__(probability)

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Make every clip grey."""
        return rgb_to_grayscale(video).expand_as(video)


class GaussianBlur(_Sometimes):
    """Blur with a Gaussian whose standard deviation is drawn for each clip.

    Args:
        kernel_px: Side of the window; odd. The border is mirrored, so frames must be larger than half of it.
        sigma_px: Range of the standard deviation, uniform.
        probability: Of a clip that is changed.

    Raises:
        ValueError: The window is not odd, or the probability is out of bounds.
    """

    def __init__(
        self, *, kernel_px: int, sigma_px: tuple[float, float] = (0.1, 2.0), probability: float = 0.5
    ) -> None:
        super().__init__(probability)
        if kernel_px < 1 or kernel_px % 2 == 0:
            raise ValueError(f"kernel_px is {kernel_px}, expected an odd number of pixels")
        self.kernel_px = kernel_px
        self.sigma_px = sigma_px

    def draw(self, seed: Tensor) -> Tensor:
        """Draw the standard deviations in pixels, (B,)."""
        low, high = self.sigma_px
        return low + (high - low) * draws.uniform(seed, stream=1)

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Blur every clip."""
        stacked = rearrange(video, "b t c h w -> b (t c) h w")  # all frames of a clip by its one kernel
        sigma = self.draw(seed)[:, None].expand(-1, 2).to(video.dtype)
        with torch.autocast(video.device.type, enabled=False):  # pixels keep their 32 bits
            blurred = gaussian_blur2d(stacked, (self.kernel_px, self.kernel_px), sigma)
        return rearrange(blurred, "b (t c) h w -> b t c h w", c=3)


class Solarize(_Sometimes):
    """Invert the values from a threshold on.

    Args:
        threshold: In [0, 1].
        probability: Of a clip that is changed.
    """

    def __init__(self, *, threshold: float = 0.5, probability: float = 0.2) -> None:
        super().__init__(probability)
        self.threshold = threshold

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Solarize every clip."""
        return solarize(rearrange(video, "b t c h w -> (b t) c h w"), self.threshold).view_as(video)


class RandomInvert(_Sometimes):
    """Invert all values: the sign of every contrast flips."""

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__(probability)

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Invert every clip."""
        return invert(video)


class GaussianNoise(_Sometimes):
    """Add noise of each pixel's own, the same on all frames of a clip, cut to [0, 1].

    Args:
        std: Standard deviation, on the scale [0, 1].
        probability: Of a clip that is changed.
    """

    def __init__(self, *, std: float, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.std = std

    def change(self, video: Tensor, seed: Tensor) -> Tensor:
        """Add noise to every clip."""
        noise = draws.normal(seed, 1, *video.shape[2:], stream=1).to(video.dtype)
        return (video + self.std * noise).clamp(0, 1)

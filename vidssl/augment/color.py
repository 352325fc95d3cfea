"""Colour views: how a view looks. Operators on float clips in [0, 1], one draw per clip, equal on all its frames.

An operator takes (video (B, T, 3, H, W), seed int64 (B,)) and returns the same shape; what it does to a clip is a
function of that clip's seed alone. Operators in a row need unrelated seeds (vidssl.augment.Pipeline gives them).
"""

import math
from functools import partial

import numpy as np
import torch
from kornia.color import rgb_to_grayscale
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor

from ..ops import draws
from .plan import Change, ColorMap, Numbers, Operator, Shape, Sometimes, Step, resample

# Luminance of a colour (ITU-R BT.601, as kornia has it) in each channel, (3, 3).
_LUMINANCE = np.tile(
    rgb_to_grayscale(torch.eye(3, dtype=torch.float64)[..., None, None]).flatten().numpy(), (3, 1)
)


class ColorJitter(Sometimes):
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

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say the four changes of each clip: what comes before its hue, the hue of all clips at once, and the rest."""
        factors, order = self.draw(seed)
        maps, orders = _jitter_maps(factors), order.numpy()
        place = (orders == 3).argmax(1)[:, None]  # of the hue
        # What is not due at a place leaves things as they are.
        before = np.where(np.arange(4) < place, orders, 3)[:, :3]
        after = np.where(np.arange(4) > place, orders, 3)[:, 1:]
        clip = np.arange(len(rows))
        hue = [Change(rows, ((_turn_hue, (factors[:, 3],)),))] if self.high[3] > 0 else []
        return [
            *(ColorMap(rows, maps[clip, which], clamp=True) for which in before.T),
            *hue,
            *(ColorMap(rows, maps[clip, which], clamp=True) for which in after.T),
        ]


def _jitter_maps(factors: Tensor) -> Numbers:
    """Colour maps of brightness, contrast, saturation and of nothing: factors (n, 4) -> (n, 4, 3, 7)."""
    maps = np.tile(np.eye(3, 7), (len(factors), 4, 1, 1))
    factor = factors[:, :3].double().numpy()[..., None, None]
    gray = (1 - factor) * _LUMINANCE
    maps[:, :3, :, :3] *= factor
    maps[:, 1, :, 3:6] = gray[:, 1]
    maps[:, 2, :, :3] += gray[:, 2]
    return maps


def _turn_hue(clips: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue, keeping value and saturation of HSV: (n, T, 3, H, W), shares of the circle (n,).

    Without branches. With c the chroma, s = (G - B) / c and u = (max - R) / c, the hue in sixths of the circle,
    in [-3, 3], is s (1 - 2u) + 3u sign(s): s where red is the largest, 3 sign(s) - s where it is the smallest.
    """
    red, green, blue = clips.unbind(2)
    high = torch.maximum(red, green)
    torch.maximum(high, blue, out=high)
    low = torch.minimum(red, green)
    chroma = high - torch.minimum(low, blue, out=low)
    inverse = torch.clamp(chroma, min=1e-20, out=low).reciprocal_()
    side = (green - blue).mul_(inverse)
    away = (high - red).mul_(inverse)
    hue = torch.addcmul(side, side, away, value=-2).add_(away.mul_(3).copysign_(side))
    hue.add_(6 * turn[:, None, None, None])
    hue.sub_((hue / 6).floor_(), alpha=6)  # in [0, 6)
    turned = torch.empty_like(clips)
    for channel, middle in enumerate((3, 2, 4)):
        # How much of the chroma the channel lacks: nothing around its own hue, all of it from two sixths away on.
        missing = torch.sub(hue, middle, out=side).abs_()
        missing = missing.neg_().add_(2) if channel == 0 else missing.sub_(1)
        torch.addcmul(high, chroma, missing.clamp_(0, 1), value=-1, out=turned[:, :, channel])
    return turned


class RandomGray(Sometimes):
    """Replace the three channels by luminance (ITU-R BT.601)."""

    def __init__(self, *, probability: float = 0.2) -> None:
        super().__init__(probability)

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which clips become grey."""
        return [_same_map(rows, _LUMINANCE)]


class RandomInvert(Sometimes):
    """Invert all values: the sign of every contrast flips."""

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__(probability)

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which clips are inverted."""
        return [_same_map(rows, -np.eye(3), 1.0)]


class Normalize(Operator):
    """Subtract a mean from each channel and divide by a deviation; what comes out is not in [0, 1].

    Encoders of vidssl normalise by themselves; this is for networks that do not. Last in a pipeline.

    Args:
        mean: Of each channel, on the scale [0, 1].
        std: Standard deviation, likewise.
    """

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say the map, the same for all clips."""
        mean, std = np.array(self.mean), np.array(self.std)
        return [_same_map(torch.arange(len(seed)), np.diag(1 / std), -mean / std)]


def _same_map(rows: Tensor, matrix: Numbers, offset: Numbers | float = 0.0) -> ColorMap:
    numbers = np.zeros((len(rows), 3, 7))
    numbers[:, :, :3], numbers[:, :, 6] = matrix, offset
    return ColorMap(rows, numbers, clamp=False)


class GaussianBlur(Sometimes):
    """Blur with a Gaussian whose standard deviation is drawn for each clip.

    Args:
        kernel_px: Side of the window; odd. The border is mirrored, so frames must be larger than half of it.
        sigma_px: Range of the standard deviation, uniform.
        probability: Of a clip that is changed.

    Raises:
        ValueError: The window is not odd, or the probability is out of bounds; or, when clips come, frames are not
            larger than half of the window.
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

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say the kernels, the same for rows and columns."""
        half, _, height, width = self.kernel_px // 2, *shape
        if min(height, width) <= half:
            raise ValueError(
                f"frames are {height} x {width} pixels; a blur of {self.kernel_px} pixels needs more than {half}"
            )
        kernel = get_gaussian_kernel1d(self.kernel_px, self.draw(seed)[:, None])[:, None]  # (n, 1, kernel_px)
        rows_of, columns_of = (_mirrored(size, half)[None] for size in (height, width))
        return [Change(rows, ((resample, (rows_of, kernel, columns_of, kernel)),))]


def _mirrored(size: int, half: int) -> Tensor:
    """Neighbours of each pixel of a line, mirrored at its ends without repeating them: int32 (size, 2 half + 1)."""
    pixel = (torch.arange(size)[:, None] + torch.arange(-half, half + 1)).abs()
    return torch.minimum(pixel, 2 * (size - 1) - pixel).int()


class Solarize(Sometimes):
    """Invert the values from a threshold on.

    Args:
        threshold: In [0, 1].
        probability: Of a clip that is changed.
    """

    def __init__(self, *, threshold: float = 0.5, probability: float = 0.2) -> None:
        super().__init__(probability)
        self.threshold = threshold

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which clips."""
        return [Change(rows, ((partial(_solarize, threshold=self.threshold), ()),))]


def _solarize(clips: Tensor, *, threshold: float) -> Tensor:
    # kornia's copies the threshold to the device, and waits for it.
    return torch.where(clips < threshold, clips, 1 - clips)


class GaussianNoise(Sometimes):
    """Add noise of each pixel's own, cut to [0, 1]; every frame has noise of its own, as a camera's.

    Args:
        std: Standard deviation, on the scale [0, 1].
        probability: Of a clip that is changed.
    """

    def __init__(self, *, std: float, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.std = std

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say the seeds: the noise itself is drawn on the device."""
        return [Change(rows, ((partial(_add_noise, std=self.std), (seed,)),))]


def _add_noise(clips: Tensor, seed: Tensor, *, std: float) -> Tensor:
    return torch.add(clips, draws.normal(seed, *clips.shape[1:], stream=1), alpha=std).clamp_(0, 1)


class RandomErasing(Sometimes):
    """Fill a rectangle with one value, the same in all frames of a clip (Zhong et al. 2020, arXiv:1708.04896).

    Drawn as torchvision draws it: area, aspect, place, in whole pixels; a rectangle that does not fit is clamped to
    the frame instead of drawn again.

    Args:
        scale: Range of the rectangle's area, as a share of the frame's.
        ratio: Range of its height over its width, log-uniform.
        value: What it is filled with.
        probability: Of a clip that is changed.
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0.0,
        probability: float = 0.5,
    ) -> None:
        super().__init__(probability)
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def draw(self, seed: Tensor, height: int, width: int) -> Tensor:
        """Draw top, left, height and width of rectangles in pixels, int64 (B, 4)."""
        area, aspect, y, x = draws.uniform(seed, 4, stream=1).double().unbind(1)
        area = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        aspect = (low + aspect * (high - low)).exp()
        tall = (area * aspect).sqrt().round().clamp(max=height)
        wide = (area / aspect).sqrt().round().clamp(max=width)
        top, left = (y * (height - tall + 1)).floor(), (x * (width - wide + 1)).floor()
        return torch.stack([top, left, tall, wide], dim=1).long()

    def change(self, rows: Tensor, seed: Tensor, shape: Shape) -> list[Step]:
        """Say the rectangles."""
        _, height, width = shape
        return [Change(rows, ((partial(_erase, value=self.value), (self.draw(seed, height, width),)),))]


def _erase(clips: Tensor, rectangle: Tensor, *, value: float) -> Tensor:
    top, left, tall, wide = (side[:, None] for side in rectangle.unbind(1))
    row = torch.arange(clips.shape[3], device=clips.device)
    column = torch.arange(clips.shape[4], device=clips.device)
    rows = (row >= top) & (row < top + tall)  # (n, H)
    columns = (column >= left) & (column < left + wide)
    return torch.where((rows[:, :, None] & columns[:, None])[:, None, None], value, clips)

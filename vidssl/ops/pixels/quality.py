"""How alike two pictures are: PSNR and SSIM, on luminance, as the literature of super-resolution measures them."""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601 luma of studio range, 16 to 235 (MATLAB's rgb2ycbcr, by which the papers measure).
_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_BLACK = 16 / 255
# Window, constants and range of Wang et al. 2004, IEEE Transactions on Image Processing 13(4), Sec. III-C.
WINDOW_PX, SIGMA_PX, K1, K2 = 11, 1.5, 0.01, 0.03


def luma(picture: Tensor) -> Tensor:
    """Y of Y'CbCr of studio range: RGB in [0, 1], (N, 3, H, W) -> (N, 1, H, W) in [16, 235] / 255."""
    weights = torch.tensor(_LUMA, device=picture.device)[:, None, None]
    return (picture.float() * weights).sum(
        1, keepdim=True
    ) + _BLACK  # no product of matrices, which autocast rounds


def psnr(first: Tensor, second: Tensor, *, border_px: int) -> Tensor:
    """Peak signal-to-noise ratio of the luminance in decibels, of each pair: RGB in [0, 1], (N, 3, H, W) -> (N,).

    Args:
        first: One picture of each pair.
        second: The other one.
        border_px: Cut off on all sides; the factor of scaling in the literature.
    """
    first, second = (_inside(luma(picture), border_px) for picture in (first, second))
    error = (first - second).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10()


def ssim(first: Tensor, second: Tensor, *, border_px: int) -> Tensor:
    """Structural similarity of the luminance (Wang et al. 2004, Eq. 13), of each pair: (N, 3, H, W) -> (N,).

    The mean over all windows of 11 x 11 pixels that lie inside, weighted by a Gaussian of 1.5 pixels.

    Args:
        first: One picture of each pair, RGB in [0, 1].
        second: The other one.
        border_px: Cut off on all sides.
    """
    x, y = (_inside(luma(picture), border_px) for picture in (first, second))
    place = torch.arange(WINDOW_PX, device=x.device) - WINDOW_PX // 2
    line = (-place.square() / (2 * SIGMA_PX**2)).exp()
    kernel = (line[:, None] * line / line.sum() ** 2)[None, None]
    with torch.autocast(x.device.type, enabled=False):
        mean_x, mean_y = F.conv2d(x, kernel), F.conv2d(y, kernel)
        var_x = F.conv2d(x * x, kernel) - mean_x.square()
        var_y = F.conv2d(y * y, kernel) - mean_y.square()
        covariance = F.conv2d(x * y, kernel) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (alike / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))).mean(dim=(1, 2, 3))


def _inside(picture: Tensor, border_px: int) -> Tensor:
    height, width = picture.shape[2:]
    return picture[:, :, border_px : height - border_px, border_px : width - border_px]

"""Colours of Exemplar-CNN: contrast along axes of natural colours, powers of saturation and value."""

import math

import numpy as np
import torch
from einops import rearrange
from kornia.color import hsv_to_rgb, rgb_to_hsv
from torch import Tensor

from ..ops import draws
from .plan import Change, ColorMap, Operator, Shape, Step

# Principal axes of the colours of natural pictures, nearly always: brightness, red against blue, green against both
# (Ohta, Kanade and Sakai 1980, "Color information for region segmentation").
AXES = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])


class PrincipalContrast(Operator):
    """Stretch colours along each of three axes by a factor, around the mean colour of the frame (Dosovitskiy 2014).

    Args:
        factor: Largest; factors are drawn evenly in the logarithm, from 1 / factor on, one for each axis.
    """

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say which map of colours each clip gets."""
        factors = self.factor ** (2 * draws.uniform(seed, 3).double().numpy() - 1)
        matrix = np.einsum("ai, na, aj -> nij", AXES, factors, AXES)
        numbers = np.concatenate([matrix, np.eye(3) - matrix, np.zeros((len(seed), 3, 1))], axis=2)
        return [ColorMap(torch.arange(len(seed)), numbers, clamp=True)]


class PowerHSV(Operator):
    """Raise saturation and value to a power, multiply, add; turn the hue (Dosovitskiy et al. 2014).

    Args:
        power: Largest; drawn evenly in the logarithm, from 1 / power on, for saturation and value apart.
        factor: Range of the factor.
        offset: Largest value that is added or subtracted.
        hue: Largest turn, as a share of the circle.
    """

    def __init__(
        self,
        *,
        power: float = 4.0,
        factor: tuple[float, float] = (0.7, 1.4),
        offset: float = 0.1,
        hue: float = 0.1,
    ) -> None:
        super().__init__()
        self.power = power
        self.factor = factor
        self.offset = offset
        self.hue = hue

    def steps(self, seed: Tensor, shape: Shape) -> list[Step]:
        """Say what is drawn for each clip: powers, factors and offsets of saturation and value, and the turn."""
        powers = self.power ** (2 * draws.uniform(seed, 2, stream=0) - 1)
        factors = self.factor[0] + (self.factor[1] - self.factor[0]) * draws.uniform(seed, 2, stream=1)
        offsets = self.offset * (2 * draws.uniform(seed, 2, stream=2) - 1)
        turn = self.hue * (2 * draws.uniform(seed, stream=3) - 1)
        return [Change(torch.arange(len(seed)), ((_change_hsv, (powers, factors, offsets, turn)),))]


def _change_hsv(clips: Tensor, powers: Tensor, factors: Tensor, offsets: Tensor, turn: Tensor) -> Tensor:
    """Change hue, saturation and value: (n, T, 3, H, W), three of (n, 2), (n,) -> (n, T, 3, H, W) in [0, 1]."""
    hsv = rgb_to_hsv(rearrange(clips, "n t c h w -> (n t) c h w")).unflatten(0, clips.shape[:2])
    hue = (hsv[:, :, :1] + 2 * math.pi * turn.view(-1, 1, 1, 1, 1)) % (2 * math.pi)
    powers, factors, offsets = (values.view(-1, 1, 2, 1, 1) for values in (powers, factors, offsets))
    others = (factors * hsv[:, :, 1:].pow(powers) + offsets).clamp(0, 1)
    return hsv_to_rgb(torch.cat([hue, others], dim=2).flatten(0, 1)).unflatten(0, clips.shape[:2])

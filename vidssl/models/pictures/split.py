"""Two networks side by side, each of which sees a part of the channels (Zhang et al. 2017, arXiv:1611.09842)."""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from kornia.color import rgb_to_lab
from torch import Tensor

from ..encoder import Encoder
from ..resnet import ResNet

# Lightness against a and b of CIE Lab, which is what RGB is turned into where there are three channels.
LAB = ((0,), (1, 2))
# Colour against depth as HHA (vidssl.ops.pixels.hha): six channels.
RGB_AND_HHA = ((0, 1, 2), (3, 4, 5))


class SplitResNet(Encoder):
    """Two ResNets, no weight of which joins them; features are those of the first, then those of the second.

    Args:
        depth: Of both, 18, 34, 50, 101 or 152.
        parts: Channels that each half sees. `LAB`: pictures are RGB and the channels those of Lab. Any other split is
            of the channels of the clips as they are, such as `RGB_AND_HHA`.
        stride: Pixels per feature cell.
        layer: The last layer kept.
        width: Channels of the first convolution of each half.
        mean: Of each channel; None is (50, 0, 0) of Lab, 0.5 of others.
        std: Of each channel; None is (25, 30, 30) of Lab, 0.25 of others.

    Raises:
        ValueError: Depth, stride or layer that a ResNet does not have, or not two parts.
    """

    def __init__(
        self,
        depth: int = 18,
        *,
        parts: Sequence[Sequence[int]] = LAB,
        stride: int = 8,
        layer: Literal["layer1", "layer2", "layer3", "layer4"] = "layer4",
        width: int = 32,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        parts = tuple(tuple(part) for part in parts)
        if len(parts) != 2:
            raise ValueError(f"parts are {parts}; expected two groups of channels")
        num_channels = sum(map(len, parts))
        is_lab = parts == LAB
        mean = mean or ((50.0, 0.0, 0.0) if is_lab else (0.5,) * num_channels)
        std = std or ((25.0, 30.0, 30.0) if is_lab else (0.25,) * num_channels)
        halves = [
            ResNet(
                depth,
                stride=stride,
                layer=layer,
                width=width,
                mean=tuple(mean[channel] for channel in part),
                std=tuple(std[channel] for channel in part),
            )
            for part in parts
        ]
        super().__init__(
            dim=sum(half.dim for half in halves),
            stride=stride,
            mean=mean,
            std=std,
            architecture={
                "family": "split_resnet",
                "depth": depth,
                "parts": [list(part) for part in parts],
                "stride": stride,
                "layer": layer,
                "width": width,
            },
        )
        self.parts = parts
        self.is_lab = is_lab
        self.first, self.second = halves

    def channels(self, clip: Tensor) -> Tensor:
        """What is split: clips (B, T, C, H, W) in [0, 1] -> Lab of RGB, or the clips as they are, float32."""
        if not self.is_lab:
            return clip.float()
        with torch.autocast(clip.device.type, enabled=False):
            lab = rgb_to_lab(rearrange(clip.float(), "b t c h w -> (b t) c h w"))
        return rearrange(lab, "(b t) c h w -> b t c h w", b=len(clip))

    def of_halves(self, channels: Tensor) -> list[Tensor]:
        """Features of each half: what `channels` gives -> (B, T, D / 2, h, w) twice."""
        first, second = (channels[:, :, list(part)] for part in self.parts)
        return [self.first.features(first), self.second.features(second)]

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, C, H, W) in [0, 1] -> (B, T, D, h, w)."""
        return torch.cat(self.of_halves(self.channels(clip)), dim=2)

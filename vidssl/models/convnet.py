"""A small plain convolutional network for small frames: what the proofs and the contract test train."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from .encoder import Encoder

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


class ConvNet(Encoder):
    """3x3 convolutions with normalisation and ReLU, frame by frame.

    Args:
        widths: Channels of each block.
        strides: Stride of each block.
        color: "gray" turns RGB into luminance first.
        standardize: Bring every frame to mean 0 and deviation 1, so that brightness and contrast tell nothing.
        norm: "batch", or "group" (one group: layer norm of a map), which keeps samples apart.
        padding_mode: "zeros" or "reflect"; "none" pads nothing.
        mean: Per input channel.
        std: Per input channel.

    Raises:
        ValueError: Not as many strides as widths, or values that are no whole numbers above 0.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...] = (20, 20, 40, 40, 80, 80),
        strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2),
        color: Literal["rgb", "gray"] = "rgb",
        standardize: bool = False,
        norm: Literal["batch", "group"] = "batch",
        padding_mode: Literal["zeros", "reflect", "none"] = "zeros",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        if len(widths) != len(strides):
            raise ValueError(f"there are {len(widths)} widths {widths} but {len(strides)} strides {strides}")
        if not all(type(value) is int and value > 0 for value in (*widths, *strides)):
            raise ValueError(f"widths {widths} and strides {strides} must be whole numbers above 0")
        num_channels = 1 if color == "gray" else 3
        super().__init__(
            dim=widths[-1],
            stride=math.prod(strides),
            mean=tuple(mean or (0.5,) * num_channels),
            std=tuple(std or (0.5,) * num_channels),
            architecture={
                "family": "convnet",
                "widths": list(widths),
                "strides": list(strides),
                "color": color,
                "standardize": standardize,
                "norm": norm,
                "padding_mode": padding_mode,
            },
        )
        self.widths = widths
        self.strides = strides
        self.color = color
        self.standardize = standardize
        blocks: list[nn.Module] = []
        channels = num_channels
        for width, step in zip(widths, strides, strict=True):
            padding = 0 if padding_mode == "none" else 1
            mode = "zeros" if padding_mode == "none" else padding_mode
            blocks += [
                nn.Conv2d(channels, width, 3, stride=step, padding=padding, padding_mode=mode, bias=False),
                nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(1, width),
                nn.ReLU(),
            ]
            channels = width
        # Channels last: 1.5 times as fast on a CPU core, forwards and backwards.
        self.net = nn.Sequential(*blocks).to(memory_format=torch.channels_last)

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        maps = self.net(self._pixels(clip))
        return rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Blocks, "0" to "5" say, the last of which is "last" too."""
        return (*map(str, range(len(self.widths))), "last")

    @property
    def last_name(self) -> str:
        """Of the last block."""
        return str(len(self.widths) - 1)

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width of a layer, and its pixels per cell."""
        number = len(self.widths) - 1 if name == "last" else int(name)
        return self.widths[number], math.prod(self.strides[: number + 1])

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        maps = self._pixels(clip)
        found = {}
        for number in range(len(self.widths)):
            maps = self.net[3 * number : 3 * number + 3](maps)  # convolution, norm, ReLU
            found[str(number)] = found["last"] = rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))
        return found

    def _pixels(self, clip: Tensor) -> Tensor:
        """What the first convolution sees: (B, T, 3, H, W) in [0, 1] -> (B * T, C, H, W)."""
        frames = rearrange(clip, "b t c h w -> (b t) c h w")
        if self.color == "gray":
            frames = torch.einsum("bchw, c -> bhw", frames, frames.new_tensor(_LUMINANCE))[:, None]
        frames = (frames - self.mean) / self.std
        if self.standardize:
            deviation, mean = torch.std_mean(frames, dim=(1, 2, 3), keepdim=True)
            frames = (frames - mean) / (deviation + 1e-4)
        return frames

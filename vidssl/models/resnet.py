"""ResNet with stride control (He et al. 2016), as the label-propagation literature uses it.

The blocks are torchvision's, and so are the names in the state dict: torchvision's files load as they are.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
LAYERS = ("layer1", "layer2", "layer3", "layer4")
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


class ResNet(Encoder):
    """ResNet up to one of its four layers, at a chosen stride.

    torchvision doubles the stride in layers 2, 3 and 4 (total 8, 16, 32). Here a layer keeps stride 1 once
    `stride` is reached: `stride=8, layer="layer3"` is the encoder of CRW and VFS (layers 3 and 4 at stride 1).

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        stride: Pixels per feature cell: 4, 8, 16 or 32 (a quarter of that with stem="cifar"); at most what `layer`
            reaches.
        layer: The last layer kept.
        padding_mode: Of every padded convolution: "zeros", or "reflect" as in CRW's own encoder.
        color: "gray" turns RGB into luminance first, and the first convolution takes one channel.
        width: Channels of the first convolution; the layers have 1, 2, 4 and 8 times as many (bottlenecks: 4 times
            that).
        mean: Per input channel; None is ImageNet's for "rgb", 0.5 for "gray".
        std: Per input channel; None is ImageNet's for "rgb", 0.5 for "gray" (so that grey is in [-1, 1], as in
            Vondrick et al. 2018).
        zero_init_residual: Start the last batch norm of every block at weight 0, so that a block passes its input on
            (Goyal et al. 2017, arXiv:1706.02677, Sec. 5.1); torchvision's option of that name. It is no part of the
            architecture: only of how a training begins.
        norm: "batch", or "group" (one group: layer norm of a map), which keeps samples apart.
        stem: "imagenet" is a convolution of 7 x 7 at stride 2, then max-pooling; "cifar", for pictures of 32 pixels,
            one of 3 x 3 at stride 1 and no pooling (Chen et al. 2020, arXiv:2002.05709, App. B.9).

    Raises:
        ValueError: Unknown depth, or a stride that the layer does not have.
    """

    def __init__(
        self,
        depth: int = 18,
        *,
        stride: int = 8,
        layer: Literal["layer1", "layer2", "layer3", "layer4"] = "layer3",
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        color: Literal["rgb", "gray"] = "rgb",
        width: int = 64,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        zero_init_residual: bool = False,
        norm: Literal["batch", "group"] = "batch",
        stem: Literal["imagenet", "cifar"] = "imagenet",
    ) -> None:
        if depth not in BLOCKS:
            raise ValueError(f"ResNet has no depth {depth}; depths: {', '.join(map(str, BLOCKS))}")
        if layer not in LAYERS:
            raise ValueError(f"ResNet has no layer {layer!r}; layers: {', '.join(LAYERS)}")
        num_layers = LAYERS.index(layer) + 1
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"stem is {stem!r}, expected 'imagenet' or 'cifar'")
        strides = [(4 if stem == "imagenet" else 1) * 2**position for position in range(num_layers)]
        if stride not in strides:
            raise ValueError(f"stride {stride} cannot be had at {layer}; strides: {', '.join(map(str, strides))}")
        if color not in ("rgb", "gray"):
            raise ValueError(f"color is {color!r}, expected 'rgb' or 'gray'")
        if norm not in ("batch", "group"):
            raise ValueError(f"norm is {norm!r}, expected 'batch' or 'group'")
        from torchvision.models.resnet import BasicBlock, Bottleneck

        block = BasicBlock if depth < 50 else Bottleneck
        mean = mean or (IMAGENET_MEAN if color == "rgb" else (0.5,))
        std = std or (IMAGENET_STD if color == "rgb" else (0.5,))
        super().__init__(
            dim=width * 2 ** (num_layers - 1) * block.expansion,
            stride=stride,
            mean=mean,
            std=std,
            architecture={
                "family": "resnet",
                "depth": depth,
                "stride": stride,
                "layer": layer,
                "padding_mode": padding_mode,
                "color": color,
                "width": width,
                # Files of before know of one norm and one stem alone.
                **({} if norm == "batch" else {"norm": norm}),
                **({} if stem == "imagenet" else {"stem": stem}),
            },
            unused_keys=("fc.", *(f"{name}." for name in LAYERS[num_layers:])),
        )
        self.color = color
        side, stem_stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Conv2d(
            len(mean), width, kernel_size=side, stride=stem_stride, padding=side // 2, bias=False
        )
        norm_layer = nn.BatchNorm2d if norm == "batch" else partial(nn.GroupNorm, 1)
        self.bn1 = norm_layer(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.kept_layers = LAYERS[:num_layers]
        self.layer_sizes: dict[str, tuple[int, int]] = {}
        channels = width
        for position, name in enumerate(self.kept_layers):
            out_channels = width * 2**position * block.expansion
            layer_stride = 2 if position > 0 and strides[position] <= stride else 1
            blocks = []
            for number in range(BLOCKS[depth][position]):
                step = layer_stride if number == 0 else 1
                downsample = None
                if step != 1 or channels != out_channels:
                    downsample = nn.Sequential(
                        nn.Conv2d(channels, out_channels, kernel_size=1, stride=step, bias=False),
                        norm_layer(out_channels),
                    )
                blocks.append(block(channels, width * 2**position, step, downsample, norm_layer=norm_layer))
                channels = out_channels
            self.add_module(name, nn.Sequential(*blocks))
            self.layer_sizes[name] = (channels, min(strides[position], stride))

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.padding != (0, 0):
                    module.padding_mode = padding_mode
            elif zero_init_residual and isinstance(module, BasicBlock | Bottleneck):
                last_norm = module.bn2 if isinstance(module, BasicBlock) else module.bn3
                nn.init.zeros_(last_norm.weight)
        # Channels last, on a CPU core: 1.1 times as fast in training, 1.2 to 1.4 times without gradient. The gradient
        # of a 1 x 1 convolution of stride 2 writes beyond its memory in that layout where it has fewer channels than
        # a vector register has numbers: 8 with AVX2, 16 with AVX-512 (oneDNN issue 6035).
        if width >= 16:
            self.to(memory_format=torch.channels_last)

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w), h = ceil(H / stride)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """ "layer1" to the last one kept, which is "last" too."""
        return (*self.kept_layers, "last")

    @property
    def last_name(self) -> str:
        """ "layer4", unless the network was cut before."""
        return self.kept_layers[-1]

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width of a layer, and its pixels per cell."""
        return self.layer_sizes[self.kept_layers[-1] if name == "last" else name]

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        frames = rearrange(clip, "b t c h w -> (b t) c h w")
        if self.color == "gray":
            frames = torch.einsum("bchw, c -> bhw", frames, frames.new_tensor(_LUMINANCE))
            frames = rearrange(frames, "b h w -> b 1 h w")
        maps = self.maxpool(self.relu(self.bn1(self.conv1((frames - self.mean) / self.std))))
        found = {}
        for name in self.kept_layers:
            maps = self.get_submodule(name)(maps)
            found[name] = found["last"] = rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))
        return found

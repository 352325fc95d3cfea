"""Thin adapters: other networks of timm and torchvision as dense encoders."""

import math
from collections import OrderedDict
from typing import Any, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .vit import PositionRule, patch_grid, resize_position_embedding


class TimmConvNet(Encoder):
    """A convolutional network of timm, up to its deepest stage whose stride is at most `stride`.

    Stride 16 by default: the third of four stages, as deep as a ResNet's layer3 and as fine as a ViT/16.

    Args:
        name: As in `timm.list_models()`.
        stride: Pixels per feature cell, at most.
        mean: Per RGB channel. ImageNet's by default: whoever trained the weights decides, not the architecture.
        std: Per RGB channel.

    Raises:
        ValueError: The network takes one fixed image size, or has no stage this fine.
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int = 16,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        import timm

        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            raise ValueError(
                f"timm's {name} takes one fixed image size; use a convolutional network or a plain ViT"
            )
        net: Any = timm.create_model(name, pretrained=False, num_classes=0)
        levels = [level for level, info in enumerate(net.feature_info) if info["reduction"] <= stride]
        if not levels:
            raise ValueError(
                f"timm's {name} has no stage of stride {stride} or less; its strides: "
                f"{', '.join(str(info['reduction']) for info in net.feature_info)}"
            )
        info = net.feature_info[levels[-1]]
        names = set(net.state_dict())
        net.prune_intermediate_layers([levels[-1]], prune_norm=True)
        super().__init__(
            dim=info["num_chs"],
            stride=info["reduction"],
            mean=mean,
            std=std,
            architecture={"family": "timm_conv", "name": name, "stride": stride},
            unused_keys=("head.", "fc.", "classifier.", *sorted(names - set(net.state_dict()))),
        )
        self.net: Any = net
        self.level = levels[-1]

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        (maps,) = self.net.forward_intermediates(
            frames, indices=[self.level], output_fmt="NCHW", intermediates_only=True
        )
        return rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))


class TorchvisionConvNet(Encoder):
    """A convolutional network of torchvision, cut after the last step whose stride is at most `stride`.

    Stride 16 by default: the third of four stages, as deep as a ResNet's layer3 and as fine as a ViT/16. The names
    in the state dict stay torchvision's.

    Args:
        name: As in `torchvision.models.list_models()`.
        stride: Pixels per feature cell, at most; a power of two.
        mean: Per RGB channel.
        std: Per RGB channel.

    Raises:
        ValueError: The network is no sequence of convolutional steps.
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int = 16,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        import torchvision

        if name.startswith(("swin", "maxvit", "googlenet", "inception")):
            raise ValueError(
                f"torchvision's {name} is not handled: it is no plain sequence of convolutional steps for images "
                f"of any size; use another (resnet50, convnext_tiny, efficientnet_b0, ...) or a ViT (vit_b_16)"
            )
        model = torchvision.models.get_model(name, weights=None)
        net, dim, reached_stride = _cut(model, stride)
        super().__init__(
            dim=dim,
            stride=reached_stride,
            mean=mean,
            std=std,
            architecture={"family": "torchvision_conv", "name": name, "stride": stride},
            unused_keys=tuple(sorted(set(model.state_dict()) - set(net.state_dict()))),
        )
        self.net = net

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        return rearrange(self.net(frames), "(b t) d h w -> b t d h w", b=len(clip))


@torch.no_grad()
def _cut(model: nn.Module, stride: int) -> tuple[nn.Sequential, int, int]:
    """Keep the leading steps of a network up to a total stride, and tell their width and stride.

    torchvision defines its networks in the order they run in: steps, or one Sequential of them.
    """
    model.eval()  # the probe must not move batch-norm statistics
    side = 256
    maps = torch.zeros(1, 3, side, side)
    reached_stride = 1
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model.named_children():
        if name == "classifier":
            break
        # Subclasses of Sequential are steps of their own: they cannot be sliced.
        is_sequence = type(child) is nn.Sequential
        steps = cast(nn.Sequential, child) if is_sequence else nn.Sequential(child)
        num_steps = 0
        for step in steps:
            following = step(maps)
            # Convolutions without padding give slightly fewer cells, hence the rounding.
            step_stride = 2 ** round(math.log2(side / following.shape[-1])) if following.ndim == 4 else math.inf
            if step_stride > stride:
                break
            maps, reached_stride, num_steps = following, int(step_stride), num_steps + 1
        if num_steps:
            kept[name] = steps[:num_steps] if is_sequence else child
        if num_steps < len(steps):
            break
    model.train()
    return nn.Sequential(kept), maps.shape[1], reached_stride


class TorchvisionViT(Encoder):
    """A vision transformer of torchvision (`vit_b_16`, ...): tokens of the last block after the norm.

    The class token is dropped.

    Args:
        name: One of torchvision's `vit_*`.
        pos_embed: How stored position embeddings are brought to other frame sizes, see
            `vidssl.models.vit.resize_position_embedding`.
        mean: Per RGB channel.
        std: Per RGB channel.
    """

    def __init__(
        self,
        name: str,
        *,
        pos_embed: PositionRule = "timm",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        import torchvision

        if pos_embed not in ("timm", "dino"):
            raise ValueError(f"pos_embed is {pos_embed!r}, expected 'timm' or 'dino'")
        net = torchvision.models.get_model(name, weights=None)
        net.heads = nn.Identity()
        super().__init__(
            dim=net.hidden_dim,
            stride=net.patch_size,
            mean=mean,
            std=std,
            multiple=net.patch_size,
            architecture={"family": "torchvision_vit", "name": name, "pos_embed": pos_embed},
            unused_keys=("heads.",),
        )
        self.net = net
        self.pos_embed = pos_embed

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, H / patch, W / patch)."""
        grid = patch_grid(clip, self.multiple)
        side = self.net.image_size // self.net.patch_size
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        tokens = rearrange(self.net.conv_proj(frames), "b d h w -> b (h w) d")
        tokens = torch.cat((repeat(self.net.class_token, "1 1 d -> b 1 d", b=len(tokens)), tokens), dim=1)
        transformer = self.net.encoder
        tokens = tokens + resize_position_embedding(
            transformer.pos_embedding, grid=(side, side), new_grid=grid, rule=self.pos_embed
        )
        tokens = transformer.ln(transformer.layers(transformer.dropout(tokens)))
        return rearrange(tokens[:, 1:], "(b t) (h w) d -> b t d h w", b=len(clip), h=grid[0])

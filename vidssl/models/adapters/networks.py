"""Thin adapters: other networks of timm and torchvision as dense encoders."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ..encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from ..layers import FACETS, Facet, block_layer_names, tapped, token_maps
from ..sizes import named_sizes
from ..vit import PositionRule, patch_grid, resize_position_embedding


class TimmConvNet(Encoder):
    """A convolutional network of timm, up to its deepest stage whose stride is at most `stride`.

    Stride 16 by default: the third of four stages, as deep as a ResNet's layer3 and as fine as a ViT/16.

    Args:
        name: As in `timm.list_models()`.
        stride: Pixels per feature cell, at most; None takes the last stage.
        mean: Per RGB channel. ImageNet's by default: whoever trained the weights decides, not the architecture.
        std: Per RGB channel.

    Raises:
        ValueError: The network takes one fixed image size, or has no stage this fine.
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int | None = 16,
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
        levels = [
            level for level, info in enumerate(net.feature_info) if stride is None or info["reduction"] <= stride
        ]
        if not levels:
            raise ValueError(
                f"timm's {name} has no stage of stride {stride} or less; its strides: "
                f"{', '.join(str(info['reduction']) for info in net.feature_info)}"
            )
        info = net.feature_info[levels[-1]]
        sizes = [(info["num_chs"], info["reduction"]) for info in net.feature_info]
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
        self.level_sizes = sizes[: self.level + 1]

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Stages as timm counts them, "0" to "2" say; the last of them is "last" too."""
        return (*map(str, range(self.level + 1)), "last")

    @property
    def last_name(self) -> str:
        """Of the deepest stage that is kept."""
        return str(self.level)

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width of a layer, and its pixels per cell."""
        return self.level_sizes[self.level if name == "last" else int(name)]

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        level_of = {name: self.level if name == "last" else int(name) for name in names}
        levels = sorted(set(level_of.values()))
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        with named_sizes(f"timm's {self.architecture['name']}", clip):
            maps = self.net.forward_intermediates(
                frames, indices=levels, output_fmt="NCHW", intermediates_only=True
            )
        by_level = {
            level: rearrange(one, "(b t) d h w -> b t d h w", b=len(clip))
            for level, one in zip(levels, maps, strict=True)
        }
        return {name: by_level[level] for name, level in level_of.items()}


class TorchvisionConvNet(Encoder):
    """A convolutional network of torchvision, cut after the last step whose stride is at most `stride`.

    Stride 16 by default: the third of four stages, as deep as a ResNet's layer3 and as fine as a ViT/16. The names
    in the state dict stay torchvision's.

    Args:
        name: As in `torchvision.models.list_models()`.
        stride: Pixels per feature cell, at most, a power of two; None takes all steps before the classifier.
        mean: Per RGB channel.
        std: Per RGB channel.

    Raises:
        ValueError: The network is no sequence of convolutional steps.
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int | None = 16,
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
        net, sizes, _ = cut(model, stride, probe=torch.zeros(1, 3, 256, 256))
        dim, reached_stride = list(sizes.values())[-1]
        super().__init__(
            dim=dim,
            stride=reached_stride,
            mean=mean,
            std=std,
            architecture={"family": "torchvision_conv", "name": name, "stride": stride},
            unused_keys=tuple(sorted(set(model.state_dict()) - set(net.state_dict()))),
        )
        self.net = net
        self.step_sizes = sizes

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w)."""
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        with named_sizes(f"torchvision's {self.architecture['name']}", clip):
            maps = self.net(frames)
        return rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Steps as torchvision names them, "features.3" or "layer2.0" say; the last of them is "last" too."""
        return (*self.step_sizes, "last")

    @property
    def last_name(self) -> str:
        """Of the last step that is kept."""
        return list(self.step_sizes)[-1]

    def layer_size(self, name: str) -> tuple[int, int]:
        """Width of a layer, and its pixels per cell."""
        return list(self.step_sizes.values())[-1] if name == "last" else self.step_sizes[name]

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        with named_sizes(f"torchvision's {self.architecture['name']}", clip):
            found = run_steps(self.net, frames, names=names, step_names=list(self.step_sizes))
        return {name: rearrange(maps, "(b t) d h w -> b t d h w", b=len(clip)) for name, maps in found.items()}


def run_steps(
    net: nn.Sequential, pixels: Tensor, *, names: Sequence[str], step_names: Sequence[str]
) -> dict[str, Tensor]:
    """Run a network of `cut` step by step; give what the steps named put out, and "last"."""
    found = {}
    for name in step_names:
        pixels = net.get_submodule(name)(pixels)
        if name in names:
            found[name] = pixels.clone()  # an activation may work in place
    return {**found, "last": pixels}


@torch.no_grad()
def cut(
    model: nn.Module, stride: int | None, *, probe: Tensor
) -> tuple[nn.Sequential, dict[str, tuple[int, int]], Tensor]:
    """Keep the leading steps of a network up to a total stride.

    torchvision defines its networks in the order they run in: steps, or one Sequential of them.

    Args:
        model: Of torchvision, for images or clips.
        stride: Pixels per cell, at most, a power of two; None keeps all that put out maps.
        probe: Pixels to try it with, (1, 3, ..., side, side).

    Returns:
        The kept part, the width and total stride of each of its steps, and what it makes of the probe.
    """
    model.eval()  # the probe must not move batch-norm statistics
    side, maps = probe.shape[-1], probe
    sizes: dict[str, tuple[int, int]] = {}
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model.named_children():
        if name in ("avgpool", "classifier", "fc"):
            break
        # Subclasses of Sequential are steps of their own: they cannot be sliced.
        is_sequence = type(child) is nn.Sequential
        steps = cast(nn.Sequential, child) if is_sequence else nn.Sequential(child)
        num_steps = 0
        for step in steps:
            following = step(maps)
            # Convolutions without padding give slightly fewer cells, hence the rounding.
            is_map = following.ndim == probe.ndim
            step_stride = 2 ** round(math.log2(side / following.shape[-1])) if is_map else math.inf
            if not is_map or (stride is not None and step_stride > stride):
                break
            sizes[f"{name}.{num_steps}" if is_sequence else name] = (following.shape[1], int(step_stride))
            maps, num_steps = following, num_steps + 1
        if num_steps:
            kept[name] = steps[:num_steps] if is_sequence else child
        if num_steps < len(steps):
            break
    model.train()
    return nn.Sequential(kept), sizes, maps


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
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Blocks, "0" to "11" say, "11.keys" and so on, "11.cls"; and "last", "last.cls" after the norm."""
        return block_layer_names(len(self.net.encoder.layers), facets=True, class_token=True)

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        blocks = list(self.net.encoder.layers)
        with tapped(blocks, names, attention_name="self_attention", facet_of=_packed_facet) as tokens:
            last = self._tokens(clip)
        return token_maps(
            {**tokens, "last": last, "last.cls": last},
            names,
            batch_size=len(clip),
            grid=(1, *patch_grid(clip, self.multiple)),
        )

    def _tokens(self, clip: Tensor) -> Tensor:
        """All tokens of every frame after the norm: (B, T, 3, H, W) -> (B * T, 1 + h * w, D)."""
        grid = patch_grid(clip, self.multiple)
        side = self.net.image_size // self.net.patch_size
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        tokens = rearrange(self.net.conv_proj(frames), "b d h w -> b (h w) d")
        tokens = torch.cat((repeat(self.net.class_token, "1 1 d -> b 1 d", b=len(tokens)), tokens), dim=1)
        transformer = self.net.encoder
        tokens = tokens + resize_position_embedding(
            transformer.pos_embedding, grid=(side, side), new_grid=grid, rule=self.pos_embed
        )
        return transformer.ln(transformer.layers(transformer.dropout(tokens)))


def _packed_facet(attention: nn.MultiheadAttention, tokens: Tensor, facet: Facet) -> Tensor:
    """Queries, keys or values of all heads of PyTorch's own attention: (N, L, D) -> (N, L, D)."""
    assert attention.in_proj_weight is not None and attention.in_proj_bias is not None
    number = FACETS.index(facet)
    return F.linear(tokens, attention.in_proj_weight.chunk(3)[number], attention.in_proj_bias.chunk(3)[number])

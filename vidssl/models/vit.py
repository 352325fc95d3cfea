"""Vision transformers of timm as dense encoders, for frames of any size."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .layers import block_layer_names, has_qkv, tapped, token_maps
from .sizes import named_sizes

PositionRule = Literal["timm", "dino"]


def resize_position_embedding(
    embedding: Tensor, *, grid: tuple[int, int], new_grid: tuple[int, int], rule: PositionRule
) -> Tensor:
    """Interpolate absolute position embeddings from one grid of patches to another.

    Args:
        embedding: (1, prefix + rows * columns, D), prefix tokens (class, registers) first; they are kept.
        grid: Rows and columns the embedding was made for.
        new_grid: Rows and columns wanted.
        rule: "timm" is timm's (bicubic with antialias, to the size). "dino" is DINO's and DINOv2's
            (vision_transformer.py, `interpolate_pos_encoding`): bicubic without antialias and by a scale factor
            computed from the new size + 0.1, which shifts the sampling points. The two differ in every patch.
            DINOv2 with registers was released with the former (hub/backbones.py: `interpolate_antialias=True`).

    Returns:
        (1, prefix + new rows * new columns, D).
    """
    # timm's own function left a table as it was where the number of patches was the same, whatever their layout
    # (up to 1.0.28).
    if new_grid == grid:
        return embedding
    num_prefix = embedding.shape[1] - grid[0] * grid[1]
    prefix, patches = embedding[:, :num_prefix], embedding[:, num_prefix:]
    patches = rearrange(patches, "1 (h w) d -> 1 d h w", h=grid[0])
    if rule == "timm":
        resized = F.interpolate(patches.float(), size=new_grid, mode="bicubic", antialias=True).to(patches.dtype)
    else:
        scale = [(new + 0.1) / old for new, old in zip(new_grid, grid, strict=True)]
        resized = F.interpolate(patches, scale_factor=scale, mode="bicubic")
    return torch.cat((prefix, rearrange(resized, "1 d h w -> 1 (h w) d")), dim=1)


def patch_grid(clip: Tensor, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of a clip (..., H, W).

    Raises:
        ValueError: Height or width is no multiple of the patch size.
    """
    height, width = clip.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"frames of {height} x {width} pixels (height x width) do not divide into patches of {patch_size}; "
            f"resize them to multiples of {patch_size}, e.g. {max(height // patch_size, 1) * patch_size} x "
            f"{max(width // patch_size, 1) * patch_size}"
        )
    return height // patch_size, width // patch_size


class _TokensOf(nn.Module):
    """Gives `forward_features` of a timm model to `functional_call`, which calls `forward`."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, frames: Tensor) -> Tensor:
        return self.net.forward_features(frames)


class ViT(Encoder):
    """A timm vision transformer: tokens of the last block after the final norm, class and register tokens dropped.

    Args:
        name: As in `timm.list_models()`; plain transformers (ViT, DeiT, DINOv2) and rotary ones (EVA-02, DINOv3).
        img_size: Side in pixels the position embeddings are stored for; None is the model's own.
        num_heads: Of the attention; None is the model's own. No file of weights tells it: the ViT-S of MoCo v3
            has 12 where timm's, DeiT's and DINO's have 6, and loads without complaint.
        pos_embed: How stored position embeddings are brought to other frame sizes, see
            `resize_position_embedding`. Rotary embeddings need no resizing; neither rule changes them.
        mean: Per RGB channel. ImageNet's by default: whoever trained the weights decides, not the architecture.
        std: Per RGB channel.

    Raises:
        ValueError: `name` is no vision transformer that this class can run at any size.
    """

    def __init__(
        self,
        name: str = "vit_small_patch16_224",
        *,
        img_size: int | None = None,
        num_heads: int | None = None,
        pos_embed: PositionRule = "timm",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        import timm
        from timm.models.eva import Eva
        from timm.models.vision_transformer import VisionTransformer

        if pos_embed not in ("timm", "dino"):
            raise ValueError(f"pos_embed is {pos_embed!r}, expected 'timm' or 'dino'")
        rotary = timm.models.is_model_in_modules(name, ["eva"])
        changes = {"img_size": img_size, "num_heads": num_heads}
        given: dict[str, Any] = {option: value for option, value in changes.items() if value is not None}
        # timm resizes rotary embeddings itself; stored ones are resized here, by either rule.
        net: Any = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=rotary, **given)
        if not isinstance(net, VisionTransformer | Eva):
            raise ValueError(f"timm's {name} is a {type(net).__name__}, not a plain vision transformer")
        rows, columns = net.patch_embed.patch_size
        if rows != columns:
            raise ValueError(
                f"timm's {name} has patches of {rows} x {columns} pixels; only square ones are handled"
            )
        super().__init__(
            dim=net.num_features,
            stride=rows,
            mean=mean,
            std=std,
            multiple=rows,
            architecture={
                "family": "vit",
                "name": name,
                "img_size": img_size,
                "pos_embed": pos_embed,
                **({} if num_heads is None else {"num_heads": num_heads}),
            },
            unused_keys=("head.", "head_dist."),
        )
        self.net: Any = net
        self.has_own_positions = rotary or net.pos_embed is None
        self.pos_embed = pos_embed
        if not rotary:
            net.patch_embed.strict_img_size = False

    def features(self, clip: Tensor) -> Tensor:
        """Encode every frame by itself: (B, T, 3, H, W) in [0, 1] -> (B, T, D, H / patch, W / patch)."""
        return self._layers(clip, ["last"])["last"]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Blocks, "0" to "11" say, "11.keys" and so on, "11.cls"; and "last", "last.cls" after the norm."""
        blocks = self.net.blocks
        return block_layer_names(
            len(blocks), facets=has_qkv(blocks), class_token=getattr(self.net, "cls_token", None) is not None
        )

    def _layers(self, clip: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        with named_sizes(f"timm's {self.architecture['name']}", clip), tapped(self.net.blocks, names) as tokens:
            last = self._tokens(clip)
        return token_maps(
            {**tokens, "last": last, "last.cls": last},
            names,
            batch_size=len(clip),
            grid=(1, *patch_grid(clip, self.multiple)),
        )

    def _tokens(self, clip: Tensor) -> Tensor:
        """All tokens of every frame after the norm: (B, T, 3, H, W) -> (B * T, prefix + h * w, D)."""
        grid = patch_grid(clip, self.multiple)
        frames = (rearrange(clip, "b t c h w -> (b t) c h w") - self.mean) / self.std
        if self.has_own_positions:
            tokens = self.net.forward_features(frames)
        else:
            position = resize_position_embedding(
                self.net.pos_embed, grid=self.net.patch_embed.grid_size, new_grid=grid, rule=self.pos_embed
            )
            tokens = functional_call(_TokensOf(self.net), {"net.pos_embed": position}, (frames,))
        # Identity, except in models that pool before their norm.
        return self.net.fc_norm(tokens)

"""How networks are drawn before they learn, where that is not the library's way."""

import math

import torch
from torch import Tensor, nn

from .video_vit import space_embedding
from .vit import ViT


@torch.no_grad()
def truncated_normal_(weight: Tensor, *, std: float) -> Tensor:
    """Fill a weight from a normal distribution of mean 0 that is cut at -2 and 2, as `torch.nn.init` did up to 2.11.

    The inverse of the distribution function at uniform draws: the numbers, for a seed, do not depend on the version of
    PyTorch, of which later ones draw otherwise.

    Args:
        weight: Of any shape; it is written into, and returned.
        std: Of the distribution before it is cut.
    """
    share = math.erf(2 / std / math.sqrt(2))  # of the distribution between the cuts
    uniform = weight.uniform_(-share, share)
    return uniform.erfinv_().mul_(std * math.sqrt(2)).clamp_(-2, 2)


@torch.no_grad()
def begin_as_moco_v3(encoder: ViT, *, freeze_patches: bool = True) -> None:
    """Draw a vision transformer as MoCo v3 does (arXiv:2104.02057, Sec. 4; authors' vits.py), and keep its patches.

    Linear layers by Glorot's rule, queries, keys and values each by itself; the patch projection likewise, over the
    values of a patch; positions are sines and cosines of column and row, and stay. Where the projection is trained, its
    gradients have spikes that cost a large ViT up to several points (Sec. 4.2).

    Args:
        encoder: Written into. One whose positions are stored, with no tokens beside patches but a class token.
        freeze_patches: Whether the patch projection stays as it is drawn here.
    """
    net = encoder.net
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            num_parts = 3 if name.endswith("qkv") else 1
            bound = math.sqrt(6 / (module.out_features // num_parts + module.in_features))
            module.weight.uniform_(-bound, bound)
            if module.bias is not None:
                module.bias.zero_()
    projection = net.patch_embed.proj
    bound = math.sqrt(6 / (projection.weight[0].numel() + encoder.dim))
    projection.weight.uniform_(-bound, bound)
    projection.bias.zero_()
    projection.requires_grad_(not freeze_patches)
    net.cls_token.normal_(std=1e-6)
    cells = space_embedding((1, *net.patch_embed.grid_size), encoder.dim)
    num_prefix = net.pos_embed.shape[1] - len(cells)
    net.pos_embed.copy_(torch.cat([cells.new_zeros(num_prefix, encoder.dim), cells])[None])
    net.pos_embed.requires_grad_(False)

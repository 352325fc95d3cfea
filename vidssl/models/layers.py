"""Inner layers of encoders: tokens that blocks put out, keys, queries and values of attention, class tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from .encoder import Encoder

Facet = Literal["queries", "keys", "values"]
FACETS: tuple[Facet, ...] = ("queries", "keys", "values")


def block_layer_names(num_blocks: int, *, facets: bool, class_token: bool) -> tuple[str, ...]:
    """Name the layers of a transformer: "0", "0.queries", "0.keys", "0.values", "0.cls", "1", ..., "last", "last.cls".

    Args:
        num_blocks: Of the transformer.
        facets: Whether queries, keys and values can be had.
        class_token: Whether there is a class token.
    """
    kinds = ["", *([f".{facet}" for facet in FACETS] if facets else []), *([".cls"] if class_token else [])]
    inner = [f"{number}{kind}" for number in range(num_blocks) for kind in kinds]
    return (*inner, "last", *(["last.cls"] if class_token else []))


@contextmanager
def tapped(
    blocks: Sequence[nn.Module],
    names: Sequence[str],
    *,
    attention_name: str = "attn",
    facet_of: Callable[[Any, Tensor, Facet], Tensor] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Record inner layers of a transformer while it runs inside the `with` block.

    Args:
        blocks: Of the transformer, in order.
        names: Layers wanted, as `block_layer_names` names them; those of "last" are left to the caller.
        attention_name: What a block calls its attention.
        facet_of: (attention, its input (N, L, D), which facet) -> that facet (N, L, D); `qkv_facet` by default.

    Yields:
        Name -> tokens (N, L, D) with all prefix tokens, filled once the transformer has run.
    """
    facet_of = facet_of or qkv_facet
    taken: dict[str, Tensor] = {}

    def take_input(attention: nn.Module, inputs: tuple[Any, ...], *, name: str, facet: Facet) -> None:
        taken[name] = facet_of(attention, inputs[0], facet)

    def take_output(block: nn.Module, inputs: tuple[Any, ...], output: Any, *, name: str) -> None:
        taken[name] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as stack:
        for name in names:
            number, _, kind = name.partition(".")
            if number == "last":
                continue
            block = blocks[int(number)]
            facet = next((facet for facet in FACETS if facet == kind), None)
            if facet is None:
                handle = block.register_forward_hook(partial(take_output, name=name))
            else:
                attention = block.get_submodule(attention_name)
                handle = attention.register_forward_pre_hook(partial(take_input, name=name, facet=facet))
            stack.callback(handle.remove)
        yield taken
    missing = [name for name in names if not name.startswith("last") and name not in taken]
    if missing:
        raise ValueError(
            f"layers {', '.join(missing)} cannot be had: the network does not call its blocks or their attention as "
            "modules; ask for other layers"
        )


def has_qkv(blocks: Sequence[Any]) -> bool:
    """Tell whether every block has an attention that `qkv_facet` can read."""
    return all(
        getattr(getattr(block, "attn", None), "qkv", None) is not None
        or getattr(getattr(block, "attn", None), "q_proj", None) is not None
        for block in blocks
    )


def qkv_facet(attention: Any, tokens: Tensor, facet: Facet) -> Tensor:
    """Queries, keys or values of all heads, as an attention of timm, DINO or DINOv2 computes them.

    They are what the linear layer puts out, before any norm, scale or rotation (as in Amir et al. 2021,
    arXiv:2112.05814): (N, L, D) -> (N, L, D), head after head.
    """
    if attention.qkv is None:
        return attention.get_submodule({"queries": "q_proj", "keys": "k_proj", "values": "v_proj"}[facet])(tokens)
    joined = attention.qkv(tokens)
    if getattr(attention, "q_bias", None) is not None:  # EVA keeps the biases apart from the matrix
        joined = joined + torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    return joined.chunk(3, dim=-1)[FACETS.index(facet)]


def token_maps(
    tokens: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    batch_size: int,
    grid: tuple[int, int, int],
) -> dict[str, Tensor]:
    """Lay tokens out in space and time.

    Args:
        tokens: Name -> tokens (B * S, prefix + t * h * w, D), where S sequences make a clip (its frames, or 1).
        names: Which to give; of those that end in ".cls", the first token alone.
        batch_size: Number of clips B.
        grid: Time steps, rows and columns of a sequence. What a sequence has more than that are its class and
            register tokens, which come first.

    Returns:
        Name -> (B, S * t, D, h, w), with h = w = 1 for class tokens.
    """
    steps, rows, columns = grid
    maps = {}
    for name in names:
        if name.endswith(".cls"):
            maps[name] = rearrange(tokens[name][:, 0], "(b s) d -> b s d 1 1", b=batch_size)
        else:
            maps[name] = rearrange(
                tokens[name][:, tokens[name].shape[1] - steps * rows * columns :],
                "(b s) (t h w) d -> b (s t) d h w",
                b=batch_size,
                t=steps,
                h=rows,
                w=columns,
            )
    return maps


def layer_of(encoder: Encoder, name: str) -> Encoder:
    """Make one layer of an encoder an encoder of its own; "last" is the encoder as it is.

    Args:
        encoder: Any.
        name: One of its `layer_names`, such as "layer3" or "9.keys".

    Raises:
        ValueError: The encoder has no such layer.
    """
    encoder.check_layers([name])
    return encoder if name == "last" else LayerOf(encoder, name)


class LayerOf(Encoder):
    """An encoder whose features are an inner layer of another one; see `layer_of`.

    Its own mean and standard deviation, equal to those of the other at first, are those the pixels are normalised
    with.

    Args:
        encoder: The other one.
        name: Of the layer.
    """

    def __init__(self, encoder: Encoder, name: str) -> None:
        dim, stride = encoder.layer_size(name)
        super().__init__(
            dim=dim,
            stride=stride,
            mean=tuple(encoder.mean.flatten().tolist()),
            std=tuple(encoder.std.flatten().tolist()),
            multiple=encoder.multiple,
            architecture={"family": "layer", "name": name, "of": encoder.architecture},
        )
        self.encoder = encoder
        self.name = name
        self.to(encoder.mean.device).train(encoder.training)

    def features(self, clip: Tensor) -> Tensor:
        """Encode densely: (B, T, 3, H, W) in [0, 1] -> (B, T', D, h, w) of that layer."""
        statistics = {"encoder.mean": self.mean, "encoder.std": self.std}
        return functional_call(_LayerCall(self.encoder, self.name), statistics, (clip,))


class _LayerCall(nn.Module):
    """Gives a layer of an encoder to `functional_call`, which calls `forward`."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.name = name

    def forward(self, clip: Tensor) -> Tensor:
        return self.encoder.layers(clip, [self.name])[self.name]


def transformer_blocks(network: nn.Module) -> list[nn.Module]:
    """Blocks of timm's transformers (`ViT`, `VideoViT` and its decoders) in a network, at any depth."""
    from timm.models.eva import EvaBlock
    from timm.models.vision_transformer import Block

    return [module for module in network.modules() if isinstance(module, Block | EvaBlock)]


def checkpoint_blocks(network: nn.Module) -> int:
    """Let every transformer block keep only its input, and be computed again in the backward pass (Chen et al. 2016).

    arXiv:1604.06174. Loss and gradients keep their bits, dropout included. Only blocks of timm's transformers (`ViT`,
    `VideoViT` and its decoders) are wrapped: a block with batch norm would count every batch twice.

    Args:
        network: Whose blocks, at any depth.

    Returns:
        Number of blocks.

    Raises:
        ValueError: There is no such block.
    """
    blocks = transformer_blocks(network)
    if not blocks:
        raise ValueError(
            f"{type(network).__name__} has no transformer block whose activations could be computed again; drop "
            "--checkpoint-activations, and use --accumulate for less memory"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(blocks)


def drop_paths(transformer: nn.Module, *, rate: float) -> int:
    """Let a transformer leave out branches of its blocks at random in training (Huang et al. 2016, arXiv:1603.09382).

    Each sample by itself; the chance rises linearly from 0 in the first block to `rate` in the last, and what is kept
    is scaled up. A teacher made of it before (vidssl.ops.ema) leaves out nothing, one made after does. Draws come from
    torch's generator.

    Args:
        transformer: With the blocks of one transformer of timm (`ViT`, `VideoViT`).
        rate: In [0, 1).

    Returns:
        Number of blocks.

    Raises:
        ValueError: There is no such block, or the rate is no share.
    """
    from timm.layers import DropPath

    blocks: list[Any] = transformer_blocks(transformer)
    if not blocks or not 0 <= rate < 1:
        raise ValueError(
            f"drop path of rate {rate} in {len(blocks)} transformer blocks of {type(transformer).__name__}; expected a "
            "rate in [0, 1) and blocks of timm's transformers"
        )
    for block, share in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist(), strict=True):
        block.drop_path1, block.drop_path2 = DropPath(share), DropPath(share)
    return len(blocks)

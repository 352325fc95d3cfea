"""Continuing from released weights: an encoder that is to be trained, and its teacher, start from a trained one."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from einops import rearrange
from torch import Tensor, nn

from .evaluate.provenance import fingerprint
from .method import Method
from .models import Encoder, HuggingFaceEncoder, VideoViT, ViT, encoder_family, load_encoder
from .models.load import network_of
from .models.weights import matched

logger = logging.getLogger(__name__)

# Options of one network that its weights leave open: an encoder is loaded as the method has them.
_OPEN = ("stride", "layer", "padding_mode", "pos_embed")
# The largest difference of features, as a share of the largest feature, that rounding makes.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Start:
    """What a method was initialised from.

    Args:
        spec: Of the encoder, as `load_encoder` reads it; its class where it was given as such.
        weights: File that went with the spec.
        sha256: Over architecture, mean, standard deviation and weights of the encoder that was loaded
            (`vidssl.evaluate.provenance.fingerprint`).
        modules: Which parts of the method took them: "encoder", and its teacher where there is one.
        left_out: Tensors of the encoder that was loaded which the method's does not have.
        mean: Of the pixels, which goes with the weights, per channel.
        std: Likewise.
    """

    spec: str
    weights: str | None
    sha256: str
    modules: list[str]
    left_out: list[str]
    mean: list[float]
    std: list[float]


class Misfit(ValueError):
    """An encoder that does not fit a method's; `differences` are options: name -> (there, here)."""

    def __init__(self, message: str, differences: Mapping[str, tuple[Any, Any]]) -> None:
        super().__init__(message)
        self.differences = differences


def init_from(method: Method, source: str | Path | Encoder, *, weights: str | Path | None = None) -> Start:
    """Give the encoder of a method, and every copy of it (a teacher), the weights of one that was trained before.

    Its mean and standard deviation of the pixels come with them. Heads, predictors and decoders stay as they were
    drawn. Stride, last layer, padding and the rule for position embeddings stay those of the method: no weight
    depends on them. All else has to be the same network: where names and shapes fit but descriptions differ, both are
    shown a clip, and have to make the same features of it.

    Args:
        method: Its encoders are changed, everything else is not.
        source: An encoder, or what `load_encoder` takes: a run, an exported file, "torchvision:NAME", "timm:NAME",
            "hub:FOLDER:ENTRY", "hf:FOLDER".
        weights: File for "torchvision:", "timm:" and "hub:".

    Returns:
        What was done. A run that goes on from a checkpoint has the weights of that, and needs `set_colors` alone.

    Raises:
        Misfit: The method builds another network.
        ValueError: The source cannot be loaded, has random weights, or the method encodes no frames.
    """
    target = method.encoder
    if not isinstance(target, Encoder):
        raise ValueError(
            f"{type(method).__name__} trains a {type(target).__name__}, which encodes no frames; load its weights "
            "with load_state_dict before training"
        )
    if isinstance(source, Encoder):
        if weights is not None:
            raise ValueError(f"an encoder brings its own weights; drop the weights file {weights}")
        encoder, spec = source, type(source).__name__
    else:
        encoder, spec = _loaded(str(source), weights, target), str(source)
    what = spec if weights is None else f"{spec} with {weights}"
    differences = _differences(encoder, target)
    match = matched(network_of(target), _tensors(encoder, target), what=what, unused_keys=target.unused_keys)
    if match.problems:
        raise _misfit(what, method, differences, "; ".join(match.problems))
    if differences and (reason := _disagreement(encoder, target, match.found)):
        raise _misfit(what, method, differences, f"all tensors fit by name and shape, but {reason}")
    copies = encoders(method)
    start = Start(
        spec=spec,
        weights=None if weights is None else str(weights),
        sha256=fingerprint(encoder),
        modules=list(copies),
        left_out=match.left_out,
        mean=encoder.mean.flatten().tolist(),
        std=encoder.std.flatten().tolist(),
    )
    for each in copies.values():
        network_of(each).load_state_dict(match.found, strict=False)
    set_colors(method, mean=start.mean, std=start.std)
    logger.info(
        "%s of %s from %s, mean %s and std %s with them%s",
        " and ".join(copies),
        type(method).__name__,
        what,
        start.mean,
        start.std,
        f"; left out, as the encoder does not have them: {', '.join(match.left_out)}" if match.left_out else "",
    )
    return start


def encoders(method: Method) -> dict[str, Encoder]:
    """Name -> the encoder of a method, and all networks in it that are built alike: its teachers."""
    return {
        name: module
        for name, module in method.named_modules()
        if isinstance(module, Encoder) and module.architecture == method.encoder.architecture
    }


def set_colors(method: Method, *, mean: list[float], std: list[float]) -> None:
    """Let all encoders of a method normalise pixels by a mean and standard deviation, which checkpoints do not hold.

    Args:
        method: As its recipe built it.
        mean: Per channel, on the scale [0, 1].
        std: Likewise.
    """
    for each in encoders(method).values():
        each.mean = each.mean.new_tensor(mean).view(-1, 1, 1)
        each.std = each.std.new_tensor(std).view(-1, 1, 1)


def _loaded(spec: str, weights: str | Path | None, target: Encoder) -> Encoder:
    """Load what a spec names, with those options of the method's encoder that its weights leave open."""
    if spec.startswith("random:"):
        raise ValueError(f"{spec} has random weights, and every run starts with such; drop it, or drop random:")
    if weights is None and spec.startswith(("torchvision:", "timm:", "hub:")):
        raise ValueError(
            f"{spec} names a network and not its weights, and nothing is downloaded; name their file by --weights FILE"
        )
    kept = {name: target.architecture[name] for name in _OPEN if name in target.architecture}
    is_same_family = encoder_family(spec) == target.architecture.get("family")
    return load_encoder(spec, weights=weights, **(kept if is_same_family else {}))


def _is_videomae(encoder: Encoder) -> TypeGuard[HuggingFaceEncoder]:
    return isinstance(encoder, HuggingFaceEncoder) and encoder.architecture["config"]["model_type"] == "videomae"


def _tensors(source: Encoder, target: Encoder) -> dict[str, Tensor]:
    """Weights of an encoder; those of VideoMAE of the package transformers by the names of `VideoViT`, for one."""
    tensors = network_of(source).state_dict()
    if not (_is_videomae(source) and isinstance(target, VideoViT)):
        return tensors
    projection = tensors["embeddings.patch_embeddings.projection.weight"]
    found = {
        "embed.weight": rearrange(projection, "d c f y x -> d (f y x c)"),
        "embed.bias": tensors["embeddings.patch_embeddings.projection.bias"],
        # Models that were fine-tuned have none.
        **{f"norm.{name[10:]}": value for name, value in tensors.items() if name.startswith("layernorm.")},
    }
    parts = {
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
    }
    zeros = torch.zeros(source.dim)
    for number in range(source.num_blocks):
        there, here = f"encoder.layer.{number}.", f"blocks.{number}."
        for name, own in parts.items():
            found |= {f"{here}{own}.{kind}": tensors[f"{there}{name}.{kind}"] for kind in ("weight", "bias")}
        attention = f"{there}attention.attention."
        found[f"{here}attn.qkv.weight"] = torch.cat(
            [tensors[f"{attention}{name}.weight"] for name in ("query", "key", "value")]
        )
        # Keys have no bias, and with some options nothing has; transformers 4 keeps biases apart from the matrices.
        query, value = (
            tensors.get(f"{attention}{old}", tensors.get(f"{attention}{new}", zeros))
            for old, new in (("q_bias", "query.bias"), ("v_bias", "value.bias"))
        )
        found[f"{here}attn.qkv.bias"] = torch.cat([query, zeros, value])
    return found


def _differences(source: Encoder, target: Encoder) -> dict[str, tuple[Any, Any]]:
    """Options in which two networks differ, beyond what weights leave open: name -> (there, here)."""
    there, here = source.architecture, target.architecture
    if there.get("family") != here.get("family"):
        return {"family": (there.get("family"), here.get("family"))}
    return {
        name: (there.get(name), here.get(name))
        for name in {**there, **here}
        if name not in _OPEN and there.get(name) != here.get(name)
    }


@torch.no_grad()
def _disagreement(source: Encoder, target: Encoder, tensors: dict[str, Tensor]) -> str | None:
    """Tell how the features of a clip of noise differ once `target` has the tensors; None where they are equal."""
    source, twin = (copy.deepcopy(encoder).cpu().eval() for encoder in (source, target))
    network_of(twin).load_state_dict(tensors, strict=False)
    twin.mean, twin.std = source.mean, source.std
    # Where positions are those of one size, that size, so that no rule of resizing them comes in.
    num_frames, height, width = 4, 64, 64
    if isinstance(target, ViT) and not target.has_own_positions:
        height, width = (cells * target.multiple for cells in target.net.patch_embed.grid_size)
    if _is_videomae(source):
        settings = source.net.config
        num_frames, height, width = settings.num_frames, settings.image_size, settings.image_size
    height, width = (-(-side // target.multiple) * target.multiple for side in (height, width))
    clip = torch.rand(1, num_frames, 3, height, width, generator=torch.Generator().manual_seed(0))
    there, here = source.features(clip), twin.features(clip)
    if there.shape != here.shape:
        return f"the features of a clip are {tuple(there.shape)}, expected {tuple(here.shape)}"
    share = float((there - here).abs().max() / there.abs().max())
    return f"the features of a clip differ, by {share:.1%} of the largest" if share > _ROUNDING else None


def _misfit(what: str, method: Method, differences: dict[str, tuple[Any, Any]], reason: str) -> Misfit:
    """Say what does not fit, and which encoders would."""
    target: nn.Module = method.encoder
    here = method.encoder.architecture
    options = ", ".join(f"{name} {there} there, {own} here" for name, (there, own) in differences.items())
    fits = ["the encoder of a run of the same recipe and options"]
    if here.get("family") == "resnet" and (here["color"], here["width"]) == ("rgb", 64):
        fits.append(f"torchvision:resnet{here['depth']} --weights FILE")
    if here.get("family") == "video_vit" and here.get("positions") == "order":
        fits.append("hf:FOLDER of a VideoMAE")
    if here.get("family") in ("vit", "timm_conv"):
        fits.append(f"timm:{here['name']} --weights FILE")
    return Misfit(
        f"{what} does not fit the {type(target).__name__} of {type(method).__name__}"
        f"{f' ({options})' if options else ''}. {reason}. What fits it: {', or '.join(fits)}",
        differences,
    )

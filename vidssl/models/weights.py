"""Weights on disk: state dicts inside the checkpoints of other people's training code, and the files a run exports."""

import argparse
import contextlib
import io
import json
import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import __version__
from ..files import replacing
from .resnet import ResNet

logger = logging.getLogger(__name__)

# Where training code keeps the network inside a checkpoint, in the order we look.
_CONTAINERS = ("teacher", "student", "state_dict", "model")
# Names of those who wrap a network. MoCo v1 and v2 keep what is evaluated as encoder_q, MoCo v3 as base_encoder.
_PREFIXES = ("module.", "backbone.", "base_encoder.", "encoder_q.", "encoder.", "model.", "net.")
_MARKERS = ("backbone.", "encoder.", "encoder_q.")
# Heads that training code keeps beside the layers of a bare network: SwAV's, and the decoder of MAE.
_HEADS = ("projection_head.", "prototypes.", "decoder_", "mask_token")


def write_weights(tensors: Mapping[str, Tensor], description: dict[str, Any], path: Path) -> None:
    """Write `path` (.safetensors) and the json beside it; each file is replaced as a whole.

    Raises:
        ValueError: `path` does not end in .safetensors.
    """
    from safetensors.torch import save_file

    if path.suffix != ".safetensors":
        raise ValueError(f"cannot export to {path}: the name must end in .safetensors")
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # of any new file; safetensors gives its own to its owner alone
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, temporary)
        temporary.chmod(mode)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(description, indent=2))


def write_module(module: nn.Module, path: Path) -> None:
    """Write the weights of a network that is no `Encoder`, of text or of shape; its class is named beside them."""
    kind = type(module)
    description = {"class": f"{kind.__module__}.{kind.__qualname__}", "vidssl": __version__}
    write_weights(module.state_dict(), description, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the state dict that a weights file holds, whatever it is wrapped in."""
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"weights file {path} is damaged or no safetensors file: {error}") from error
    try:
        # Namespaces hold the options of a training run, beside the weights of CRW, DINO and MAE; they run no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights file {path} is no file of tensors only, or is damaged. Reading Python objects from it could "
            f"run code of whoever wrote it, so it is refused. If you trust its source, read it once without that "
            f"safeguard and save its state dict alone. (torch says: {str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"weights file {path} is damaged: {error}") from error
    while isinstance(content, Mapping):
        inner = [name for name in _CONTAINERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        logger.info("%s: using the weights under %r", path, inner[0])
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"weights file {path} holds no state dict; expected one, or a checkpoint with one under "
            f"{', '.join(_CONTAINERS)}"
        )
    return dict(content)


class Match(NamedTuple):
    """What of a state dict fits a network; see `matched`."""

    found: dict[str, Tensor]
    left_out: list[str]
    problems: list[str]
    """What is missing, unexpected and of another shape; none where all fits."""


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    path: Path,
    architecture: dict[str, Any],
    unused_keys: tuple[str, ...] = (),
) -> None:
    """Copy weights into a network, strictly; what is left out (`matched`) is named in the log.

    Args:
        network: To fill.
        tensors: Name -> tensor.
        path: Where they come from, for messages.
        architecture: Of the network, for messages.
        unused_keys: How the names begin that the network has no use for.

    Raises:
        ValueError: Something is missing, unexpected, there twice or of another shape.
    """
    match = matched(network, tensors, what=f"weights file {path}", unused_keys=unused_keys)
    if match.problems:
        raise ValueError(f"weights file {path} does not fit {architecture}. {'; '.join(match.problems)}")
    if match.left_out:
        logger.info(
            "%s: left out %d tensors that the encoder does not have: %s",
            path,
            len(match.left_out),
            ", ".join(match.left_out),
        )
    network.load_state_dict(match.found, strict=False)


def matched(
    network: nn.Module, tensors: Mapping[str, Tensor], *, what: str, unused_keys: tuple[str, ...] = ()
) -> Match:
    """Bring weights to the names of a network, and tell what does not fit; the network is not changed.

    Left out: what `unused_keys` name (the classifier, later layers), heads of other people's training code, and, where
    a checkpoint marks its encoder by a prefix (`backbone.`, `encoder_q.`), everything outside of it, momentum copies
    included.

    Args:
        network: That they are for.
        tensors: Name -> tensor.
        what: They are, for messages.
        unused_keys: How the names begin that the network has no use for.

    Raises:
        ValueError: A tensor is there twice.
    """
    expected = network.state_dict()
    split = {name: _split_prefix(name, expected.keys()) for name in tensors}
    has_marked_encoder = any(_is_marked(prefix) for prefix, _ in split.values())
    found: dict[str, Tensor] = {}
    ignored = []
    for name, (prefix, bare_name) in split.items():
        if has_marked_encoder and not _is_marked(prefix):
            ignored.append(name)
        elif bare_name in found:
            raise ValueError(f"{what} holds {bare_name} twice under different prefixes (once {name})")
        else:
            found[bare_name] = tensors[name]
    found = _in_names_of_ours(found, network)
    unused = [name for name in found if name not in expected and name.startswith((*unused_keys, *_HEADS))]
    found = {name: value for name, value in found.items() if name not in unused}

    # Files older than PyTorch 0.4.1 lack the batch counters; they play no part in eval mode.
    missing = sorted(name for name in expected.keys() - found.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & found.keys())
        if found[name].shape != expected[name].shape
    ]
    problems = [
        f"{kind} ({len(names)}): {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    return Match(found=found, left_out=[*ignored, *unused], problems=problems)


def check_finite(network: nn.Module, *, what: str) -> None:
    """Refuse a network of weights that are no numbers, whose features and figures mean nothing.

    Args:
        network: Its parameters and stored statistics are looked at.
        what: It is, for the message.

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    floats = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    broken = [name for name, value in floats.items() if not value.isfinite().all()]
    if broken:
        num_broken = int((~floats[broken[0]].isfinite()).sum())
        raise ValueError(
            f"{what} has weights that are NaN or infinite, in {len(broken)} of {len(floats)} tensors; the first is "
            f"{broken[0]}, {num_broken} of {floats[broken[0]].numel()} values. What is measured with them means "
            "nothing: take an earlier checkpoint, or look for the step at which the loss was lost (metrics.jsonl)"
        )


def _is_marked(prefix: str) -> bool:
    return any(marker in prefix for marker in _MARKERS)


def _in_names_of_ours(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Rename tensors of repositories whose networks are ours under other names: VFS, DINOv2, DINOv3."""
    if isinstance(network, ResNet) and "conv1.conv.weight" in tensors:
        return {_without_conv_modules(name): value for name, value in tensors.items()}
    if tensors.keys() & {"mask_token", "register_tokens", "storage_tokens"}:
        from timm.models import eva, vision_transformer

        with contextlib.redirect_stdout(io.StringIO()):  # it prints every bias that a network lacks
            if isinstance(network, eva.Eva):
                return eva.checkpoint_filter_fn(dict(tensors), network)
            if isinstance(network, vision_transformer.VisionTransformer):
                return vision_transformer.checkpoint_filter_fn(dict(tensors), network)
    return tensors


def _without_conv_modules(name: str) -> str:
    """Turn mmaction's name of a tensor of a ResNet, where convolution and norm are one module, into torchvision's."""
    name = re.sub(r"downsample\.conv\.", "downsample.0.", name)
    name = re.sub(r"downsample\.bn\.", "downsample.1.", name)
    return re.sub(r"conv(\d)\.bn\.", r"bn\1.", re.sub(r"conv(\d)\.conv\.", r"conv\1.", name))


def _split_prefix(name: str, known: Any) -> tuple[str, str]:
    """Split a tensor's name into the wrappers around the network (`module.backbone.`) and the name inside."""
    prefix = ""
    # Some networks have parts of their own called `encoder`.
    while name not in known and (found := next((p for p in _PREFIXES if name.startswith(p)), None)):
        prefix, name = prefix + found, name.removeprefix(found)
    return prefix, name

"""An encoder and the protocol it is measured by, from what was typed."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ..evaluate.propagate import CRW, DINO, DINOV3, VFS, Protocol
from ..models import Encoder, encoder_family, load_encoder

ProtocolName = Literal["dino", "crw", "vfs", "dinov3"]
PROTOCOLS: dict[str, Protocol] = {"dino": DINO, "crw": CRW, "vfs": VFS, "dinov3": DINOV3}


def model_and_protocol(
    spec: str, *, weights: Path | None, seed: int, protocol: str | None, encoder_options: Iterable[str]
) -> tuple[Encoder, str]:
    """Load an encoder as a protocol wants it.

    Without a protocol, vision transformers take `dino` and everything else `crw`: the ones they were published with.
    The protocol `dino` interpolates position embeddings as DINO's code does, unless `encoder_options` say otherwise.

    Returns:
        The encoder and the name of the protocol.
    """
    options = dict(_parsed(option) for option in encoder_options)
    family = encoder_family(spec)
    if family == "vit" and protocol in (None, "dino"):
        options = {"pos_embed": "dino", **options}
    encoder = load_encoder(spec, weights=weights, seed=seed, **options)
    is_transformer = encoder.architecture["family"] in ("vit", "torchvision_vit")
    return encoder, protocol or ("dino" if is_transformer else "crw")


def slug(text: str) -> str:
    """Turn a model's name into the name of a folder."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def _parsed(option: str) -> tuple[str, Any]:
    """Split NAME=VALUE; the value is a number, tuple or text."""
    name, equals, value = option.partition("=")
    if not equals:
        raise ValueError(f"--encoder-options takes NAME=VALUE, got {option!r}; for example stride=8")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value

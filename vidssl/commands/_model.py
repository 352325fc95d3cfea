"""An encoder and the protocol it is measured by, from what was typed."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..evaluate.propagate import PROTOCOLS, Protocol
from ..models import Encoder, encoder_family, load_encoder

TRANSFORMERS = ("vit", "torchvision_vit")


def model_and_protocol(
    spec: str, *, weights: Path | None, seed: int, protocol_name: str | None, encoder_options: Iterable[str]
) -> tuple[Encoder, Protocol]:
    """Load an encoder as a protocol wants it, with `encoder_options` (NAME=VALUE) over those of the protocol.

    Without a protocol, vision transformers take `dino` and everything else `crw`: those they were published with.
    """
    family = encoder_family(spec)
    options = dict(_parsed(option) for option in encoder_options)
    if family == "exported":  # it keeps the options it was trained with
        encoder = load_encoder(spec, seed=seed, weights=weights, **options)
        return encoder, _protocol(protocol_name, family=encoder.architecture["family"])
    protocol = _protocol(protocol_name, family=family)
    options = {**protocol.encoder_options(family), **options}
    return load_encoder(spec, seed=seed, weights=weights, **options), protocol


def _protocol(name: str | None, *, family: str) -> Protocol:
    name = name or ("dino" if family in TRANSFORMERS else "crw")
    return next(protocol for protocol in PROTOCOLS if protocol.name == name)


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

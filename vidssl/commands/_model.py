"""An encoder and the protocol it is measured by, from what was typed."""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..evaluate.propagation.protocols import PROTOCOLS, Protocol
from ..models import Encoder, encoder_family, layer_of, load_encoder

# Published with `dino`; everything else takes `crw`.
TRANSFORMERS = ("vit", "torchvision_vit")


def load_for(
    spec: str,
    *,
    protocol_of: Callable[[str], Protocol],
    weights: Path | None,
    seed: int,
    layer: str | None = None,
    encoder_options: Iterable[str] = (),
) -> tuple[Encoder, Protocol]:
    """Load an encoder as its protocol wants it.

    Args:
        spec: Of `load_encoder`.
        protocol_of: Family of the encoder -> protocol.
        weights: Of `load_encoder`.
        seed: Of random weights.
        layer: Layer or facet whose features are taken; None is the last.
        encoder_options: NAME=VALUE, over the options of the protocol.
    """
    family = encoder_family(spec)
    options = parsed_options(encoder_options)
    if family in ("exported", "hub", "hf"):  # they are what they are: no protocol changes their options
        encoder = load_encoder(spec, seed=seed, weights=weights, **options)
        protocol = protocol_of("vit" if encoder.multiple > 1 else encoder.architecture["family"])
    else:
        protocol = protocol_of(family)
        options = {**protocol.encoder_options(family), **options}
        encoder = load_encoder(spec, seed=seed, weights=weights, **options)
    return (encoder if layer is None else layer_of(encoder, layer)), protocol


def protocol_named(name: str | None) -> Callable[[str], Protocol]:
    """Choose a protocol by name; None is `dino` for vision transformers and `crw` for everything else."""

    def choose(family: str) -> Protocol:
        wanted = name or ("dino" if family in TRANSFORMERS else "crw")
        return next(protocol for protocol in PROTOCOLS if protocol.name == wanted)

    return choose


def parsed_options(texts: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE texts of the command line; values are numbers, tuples or text."""
    return dict(_parsed(text) for text in texts)


def _parsed(option: str) -> tuple[str, Any]:
    """Split NAME=VALUE; the value is a number, tuple or text."""
    name, equals, value = option.partition("=")
    if not equals:
        raise ValueError(f"--encoder-options takes NAME=VALUE, got {option!r}; for example stride=8")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value

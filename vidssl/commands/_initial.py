"""What a run starts from, where that is not random weights."""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config

if TYPE_CHECKING:
    from ..method import Method


def initialized(
    method: "Method",
    init_from: str | None,
    *,
    weights: Path | None,
    begun: Mapping[str, Any] | None,
    chosen: config.Config,
) -> dict[str, Any] | None:
    """Start a method from another encoder, if that is asked for.

    Args:
        method: As its recipe built it.
        init_from: Spec of `load_encoder`; None leaves the method as it is.
        weights: File that goes with the spec.
        begun: Record of the run if it goes on: its checkpoint has the weights, and their source is not read again.
        chosen: The recipe, for messages.

    Returns:
        What the run's record says of it; None for random weights.

    Raises:
        ValueError: The encoder cannot be loaded or does not fit, or weights are given for none.
    """
    if init_from is None:
        if weights is not None:
            raise ValueError(
                f"--weights {weights} is for --init-from, which is not given; add --init-from torchvision:NAME, "
                "timm:NAME or hub:FOLDER:ENTRY, or drop it"
            )
        return None
    from .. import initialize

    if begun is not None and (before := begun.get("initialized_from")):
        initialize.set_colors(method, mean=before["mean"], std=before["std"])
        return before
    try:
        return dataclasses.asdict(initialize.init_from(method, init_from, weights=weights))
    except initialize.Misfit as error:
        own = inspect.signature(chosen.run).parameters
        fixes = [
            f"--{name.replace('_', '-')} {there}" for name, (there, _) in error.differences.items() if name in own
        ]
        hint = f", or {' '.join(fixes)} of {chosen.name}" if fixes else ""
        raise ValueError(f"--init-from: {error}{hint}") from error

"""Encoders up to their last stage: what recognition measures, where propagation wants the finer cells before it."""

from pathlib import Path
from typing import Any

from .encoder import Encoder
from .load import encoder_family, load_encoder
from .resnet import LAYERS


def load_last_stage(
    spec: str | Path, *, weights: str | Path | None = None, seed: int = 0, **options: Any
) -> Encoder:
    """`load_encoder`, but convolutional networks of timm and torchvision go to their last stage, at its own stride.

    torchvision's ResNet-18 gives the 512 numbers of its layer4, not the 256 of the layer3 that labels are propagated
    with. Runs and exported encoders stay what was trained; those of hub: and hf:, and vision transformers, are whole
    anyhow.

    Args:
        spec: Of `load_encoder`.
        weights: Likewise.
        seed: Likewise.
        options: Likewise; they go before what is said here. `layer` of a ResNet without `stride` keeps the stride
            that torchvision gives that layer.
    """
    family = encoder_family(spec)
    if family == "resnet":
        layer = options.get("layer", LAYERS[-1])
        own = {"layer": layer, "stride": 4 * 2 ** LAYERS.index(layer)} if layer in LAYERS else {}
    else:
        own = {"stride": None} if family in ("timm_conv", "torchvision_conv", "torchvision_video") else {}
    return load_encoder(spec, weights=weights, seed=seed, **{**own, **options})

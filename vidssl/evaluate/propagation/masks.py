"""Masks on disk: indexed PNG files with the colours of DAVIS, as the official evaluation reads them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...data.published.masks import davis_palette, read_mask
from ...files import replacing

__all__ = ["davis_palette", "read_mask", "write_mask"]


def write_mask(path: str | Path, mask: Tensor) -> None:
    """Write object ids, uint8 (H, W), as an indexed PNG; a crash leaves the old file or the new one.

    Raises:
        ValueError: The mask has another shape or type.
    """
    if mask.dtype != torch.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is uint8 (H, W), got {mask.dtype} of shape {tuple(mask.shape)}")
    image = Image.fromarray(np.ascontiguousarray(mask.cpu().numpy()))
    image.putpalette(davis_palette().tobytes())
    with replacing(Path(path)) as temporary:
        image.save(temporary, format="PNG")

"""What networks of libraries say to frames of a size that they do not take, as errors for people."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def named_sizes(network: str, clip: Tensor) -> Iterator[None]:
    """Turn an assertion or an error about shapes inside the block into one that names the network and the size.

    Args:
        network: As people know it, "timm's halonet26t".
        clip: What it is given, (..., T, 3, H, W).

    Raises:
        ValueError: The network does not take the size.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:
        said = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not re.search(
            r"\b(sizes?|shapes?|dimensions?)\b", said, re.IGNORECASE
        ):
            raise
        num_frames, height, width = clip.shape[-4], *clip.shape[-2:]
        of_clip = f"clips of {num_frames} " if num_frames > 1 else ""
        raise ValueError(
            f"{network} does not take {of_clip}frames of {height} x {width} pixels (height x width); give them another "
            f"size. It says: {said[:300] or 'nothing, an assertion failed'}"
        ) from error

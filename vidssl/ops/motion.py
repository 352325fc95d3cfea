"""Where something moves: choosing clips whose order in time can be seen."""

import torch
from torch import Tensor

from .draws import uniform

# Added to every energy, on the scale [0, 1]: clips that all stand still are equally likely.
_STILL = 1e-6


def motion_energy(video: Tensor) -> Tensor:
    """Mean absolute difference of successive frames: uint8 (..., T, C, H, W), T > 1 -> float32 (...) in [0, 1].

    Floats on another scale give energies on that scale.
    """
    frames = video.float() / 255 if video.dtype == torch.uint8 else video.float()
    return frames.diff(dim=-4).abs().mean(dim=(-4, -3, -2, -1))


def pick_by_motion(clips: Tensor, seed: Tensor, *, stream: int = 0) -> Tensor:
    """Draw one of the clips of each sample, with a probability proportional to its motion energy.

    Args:
        clips: uint8 (B, K, T, C, H, W).
        seed: One per sample, int64 (B,).
        stream: Of the draw (vidssl.ops.draws).

    Returns:
        The clips drawn, (B, T, C, H, W).
    """
    cumulative = (motion_energy(clips) + _STILL).cumsum(1)  # (B, K)
    level = uniform(seed, 1, stream=stream) * cumulative[:, -1:]
    index = (level >= cumulative).sum(1).clamp(max=clips.shape[1] - 1)  # rounding may bring the level to the top
    return clips[torch.arange(len(clips), device=clips.device), index]


def take_frames(clips: Tensor, index: Tensor) -> Tensor:
    """Put frames of every clip into an order of its own: (B, T, C, H, W), int64 (B, n) -> (B, n, C, H, W)."""
    return clips[torch.arange(len(clips), device=clips.device)[:, None], index]

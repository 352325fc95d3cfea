"""Views of sound: how loud it is. Loudness is the camera's distance and gain, and goes with what a frame looks like."""

import torch
from torch import Tensor, nn

from ..ops import draws

# Largest magnitude of a silent waveform, -80 dB of full scale, as `Entry.audio_silent` has it.
SILENCE = 1e-4


def audible(waveform: Tensor) -> Tensor:
    """Tell which waveforms are not silent: (B, S) -> bool (B,)."""
    return waveform.abs().amax(dim=1) > SILENCE


def at_loudness(waveform: Tensor, loudness_db: Tensor | float) -> Tensor:
    """Scale each waveform to a loudness, in decibels of full scale of its root mean square: (B, S) -> (B, S).

    A loudness as a tensor is (B,). Silence stays as it is; peaks may exceed 1: cutting them would tell how loud they
    had been.
    """
    wanted = 10 ** (torch.as_tensor(loudness_db, device=waveform.device) / 20)
    loudness = waveform.square().mean(dim=1).sqrt()
    gain = torch.where(audible(waveform), wanted / loudness.clamp(min=1e-9), 1.0)
    return waveform * gain[:, None]


class RandomLoudness(nn.Module):
    """Scale each waveform to a loudness that is drawn, whatever it was: loudness tells nothing.

    Args:
        low_db: Softest, root mean square in decibels of full scale.
        high_db: Loudest.
    """

    def __init__(self, *, low_db: float = -30.0, high_db: float = -15.0) -> None:
        super().__init__()
        self.low_db = low_db
        self.high_db = high_db

    def forward(self, waveform: Tensor, seed: Tensor) -> Tensor:
        """Return each waveform at a loudness drawn from its seed: (B, S), int64 (B,) -> (B, S)."""
        return at_loudness(waveform, self.low_db + (self.high_db - self.low_db) * draws.uniform(seed))

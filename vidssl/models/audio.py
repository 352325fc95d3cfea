"""Sound in, features out: log-mel spectrogram and a 2-D convolutional network over it.

The encoder of sound is the listening half of audio-visual methods. It is no `Encoder` of clips; it is exported and
loaded beside the encoder of pictures (`vidssl.models.load_audio_encoder`).
"""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..batch import Batch

# Mean and deviation of the log-mel energies of everyday sound (dogs, rain, speech, films); they differ by less than
# a third between sampling rates and between window lengths.
LOG_MEL_MEAN = -4.0
LOG_MEL_STD = 5.0


def waveform_of(batch: Batch) -> Tensor:
    """Give the sound of single-clip batches: (B, 1, S) -> (B, S).

    Raises:
        ValueError: The batch has no sound.
    """
    if batch.audio is None:
        raise ValueError(
            "the batch has no sound, this method listens; build the dataset with audio_seconds=1.0 or so"
        )
    return rearrange(batch.audio, "b 1 s -> b s")


class Spectrogram(nn.Module):
    """Power of short-time Fourier transforms: (..., S) -> (..., n_fft // 2 + 1, S // hop + 1).

    Args:
        n_fft: Samples of a window (Hann).
        hop_samples: Samples from one window to the next.
    """

    window: Tensor

    def __init__(self, *, n_fft: int, hop_samples: int) -> None:
        super().__init__()
        self.hop_samples = hop_samples
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform windows centred on multiples of the hop, the ends mirrored."""
        n_fft = len(self.window)
        spectrum = torch.stft(
            waveform, n_fft, self.hop_samples, window=self.window, pad_mode="reflect", return_complex=True
        )
        return spectrum.abs().pow(2)


class MelScale(nn.Module):
    """Sums over overlapping triangles that are evenly spaced in mels, 2595 log10(1 + hz / 700) (O'Shaughnessy 1987).

    Args:
        sample_rate_hz: Of the waveform; the triangles go from 0 to half of it.
        n_fft: Samples of a window.
        num_mels: Triangles.
    """

    fb: Tensor

    def __init__(self, *, sample_rate_hz: int, n_fft: int, num_mels: int) -> None:
        super().__init__()
        highest_hz = sample_rate_hz // 2
        hz = torch.linspace(0, highest_hz, n_fft // 2 + 1)
        mels = torch.linspace(0, 2595 * math.log10(1 + highest_hz / 700), num_mels + 2)
        edges_hz = 700 * (10 ** (mels / 2595) - 1)
        widths_hz = edges_hz.diff()
        slopes = edges_hz[None] - hz[:, None]  # (frequencies, edges)
        falling, rising = -slopes[:, :-2] / widths_hz[:-1], slopes[:, 2:] / widths_hz[1:]
        self.register_buffer("fb", torch.minimum(falling, rising).clamp(min=0))  # (frequencies, mels)

    def forward(self, power: Tensor) -> Tensor:
        """Sum (..., frequencies, frames) -> (..., mels, frames)."""
        return (power.mT @ self.fb).mT


class LogMel(nn.Module):
    """Log-mel spectrogram: the logarithm of the energy in bands that are evenly spaced on the mel scale.

    Windows are centred on multiples of the hop, the sound is mirrored at its ends. Computed in float32 always.

    Args:
        sample_rate_hz: Of the waveform.
        n_fft: Samples of a window (Hann).
        hop_samples: Samples from one window to the next.
        num_mels: Bands, from 0 to half the sampling rate.
        floor: Smallest energy; a sine of full scale has n_fft**2 / 16.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16_000,
        n_fft: int = 400,
        hop_samples: int = 160,
        num_mels: int = 40,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        self.settings = {
            "sample_rate_hz": sample_rate_hz,
            "n_fft": n_fft,
            "hop_samples": hop_samples,
            "num_mels": num_mels,
            "floor": floor,
        }
        """Arguments that make it again."""
        # The names are those of torchaudio's MelSpectrogram, which older exports were made with.
        self.mel = nn.Sequential()
        self.mel.add_module("spectrogram", Spectrogram(n_fft=n_fft, hop_samples=hop_samples))
        self.mel.add_module("mel_scale", MelScale(sample_rate_hz=sample_rate_hz, n_fft=n_fft, num_mels=num_mels))
        self.n_fft = n_fft
        self.floor = floor

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform (B, S) in [-1, 1] to (B, 1, mels, frames), natural logarithm; frames = S // hop + 1.

        Raises:
            ValueError: The sound is shorter than a window.
        """
        if waveform.ndim != 2 or waveform.shape[1] < self.n_fft:
            raise ValueError(
                f"the waveform has shape {tuple(waveform.shape)}, expected (B, S) with at least one window of "
                f"{self.n_fft} samples; raise audio_seconds or lower n_fft"
            )
        # bfloat16 has no Fourier transform, and too few digits for energies.
        with torch.autocast(waveform.device.type, enabled=False):
            energy = self.mel(waveform.float())
            return rearrange(energy.clamp(min=self.floor).log(), "b m t -> b 1 m t")


class AudioEncoder(nn.Module):
    """3x3 convolutions with batch norm and ReLU over a log-mel spectrogram.

    The default is the audio network of Arandjelovic and Zisserman 2017 (arXiv:1705.08168, Sec. 2.1): four blocks of
    two convolutions, 64 to 512 channels; where it has a max pool the second convolution has stride 2 here.

    Args:
        log_mel: Waveform (B, S) -> (B, 1, mels, frames).
        widths: Channels of each convolution.
        strides: Stride of each convolution, in bands and frames.

    Attributes:
        dim: Feature width D, the last of `widths`.
        sample_rate_hz: Of the waveforms it takes.
        architecture: What `from_architecture` needs to build the same network again; JSON values only.

    Raises:
        ValueError: Not as many strides as widths.
    """

    def __init__(
        self,
        log_mel: LogMel,
        *,
        widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 512, 512),
        strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 2),
    ) -> None:
        super().__init__()
        if len(widths) != len(strides):
            raise ValueError(f"there are {len(widths)} widths {widths} but {len(strides)} strides {strides}")
        self.log_mel = log_mel
        self.dim = widths[-1]
        self.sample_rate_hz = log_mel.settings["sample_rate_hz"]
        self.architecture: dict[str, Any] = {
            "family": "audio",
            **log_mel.settings,
            "widths": list(widths),
            "strides": list(strides),
        }
        blocks: list[nn.Module] = []
        for channels, width, stride in zip((1, *widths), widths, strides, strict=False):
            blocks += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.net = nn.Sequential(*blocks)

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> "AudioEncoder":
        """Build a network with new weights from the `architecture` of another."""
        network = ("widths", "strides")
        settings = {name: value for name, value in architecture.items() if name not in ("family", *network)}
        return cls(LogMel(**settings), **{name: tuple(architecture[name]) for name in network})

    def features(self, waveform: Tensor) -> Tensor:
        """Encode densely: (B, S) in [-1, 1] -> (B, D, m, t), m bands of t frames."""
        return self.net((self.log_mel(waveform) - LOG_MEL_MEAN) / LOG_MEL_STD)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode a waveform as one vector, the mean over bands and frames: (B, S) in [-1, 1] -> (B, D)."""
        return self.features(waveform).mean(dim=(2, 3))

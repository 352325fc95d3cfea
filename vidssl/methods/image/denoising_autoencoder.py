"""Denoising autoencoder: draw a picture from a corrupted copy of it.

Vincent, Larochelle, Bengio and Manzagol 2008, "Extracting and composing robust features with denoising autoencoders",
ICML 2008.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ...data.clips import ClipSampler, random_clips
from ...models import Encoder
from ...ops import draws
from .autoencoder import Autoencoder

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)

# (clips (B, T, 3, H, W) in [0, 1], seeds int64 (B,)) -> corrupted clips of the same shape.
Corruption = Callable[[Tensor, Tensor], Tensor]


def masking_noise(video: Tensor, seed: Tensor, *, share: float = 0.5, value: float = 0.5) -> Tensor:
    """Put one value in the place of pixels drawn at random, each frame's own (Vincent et al. 2008, Sec. 2.3).

    Args:
        video: (B, T, 3, H, W).
        seed: int64 (B,).
        share: Probability of a pixel that is lost.
        value: What it shows; the middle of [0, 1], which many networks normalise to about 0.
    """
    lost = draws.uniform(seed, video.shape[1], 1, *video.shape[3:], stream=20) < share
    return torch.where(lost, value, video)


def gaussian_noise(video: Tensor, seed: Tensor, *, std: float = 0.2) -> Tensor:
    """Add noise to every number, which may leave [0, 1] (Vincent et al. 2010, JMLR 11, Sec. 4.1)."""
    return torch.add(video, draws.normal(seed, *video.shape[1:], stream=20), alpha=std)


class DenoisingAutoencoder(Autoencoder):
    """Undo a corruption: a copy of what is seen is wrong, so that no bottleneck is needed.

    Args:
        encoder: RGB (B, T, 3, H, W) -> features (B, T, D, h, w).
        decoder: Features (B, T, D, h, w) -> pictures (B, T, 3, H, W) on the scale [0, 1];
            models.pictures.decoder.PictureDecoder.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1]; H and W multiples of the stride.
        corrupt: What is lost: masking_noise or gaussian_noise of this file, with options bound.
        clips: Which frames; by default one.

    Differences from the paper: convolutional, and trained at once instead of layer by layer; the loss is the squared
    error; a pixel is lost with all its colours, independently of others instead of a fixed number of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        decoder: nn.Module,
        view: nn.Module,
        corrupt: Corruption = masking_noise,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__(encoder, decoder=decoder, view=view, clips=clips)
        self.corrupt = corrupt

    def shown(self, video: Tensor, seed: Tensor) -> Tensor:
        """Corrupted clips: (B, T, 3, H, W) in [0, 1], int64 (B,) -> the same shape."""
        return self.corrupt(video, seed)

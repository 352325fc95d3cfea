"""Autoencoder: squeeze a picture through a narrow code and draw it again.

Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", Science 313; as the baseline
of feature learning in Pathak et al. 2016, arXiv:1604.07379, Sec. 5.2.
"""

from functools import partial

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops.pictures import side_by_side

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class Autoencoder(Method):
    """Draw every picture from its own features; what keeps the task from being a copy is the decoder's bottleneck.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> features (B, T, D, h, w).
        decoder: Features (B, T, D, h, w) -> pictures (B, T, 3, H, W) on the scale [0, 1], such as
            nn.Sequential(Bottleneck(...), PictureDecoder(...)) of models.pictures.decoder.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1]; H and W multiples of the stride.
        clips: Which frames; by default one.

    Differences from the paper: convolutional, and trained at once instead of layer by layer by Boltzmann machines;
    the loss is the squared error.
    """

    decoder: nn.Module
    view: nn.Module

    def __init__(
        self, encoder: Encoder, *, decoder: nn.Module, view: nn.Module, clips: ClipSampler = CLIPS
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.view = view
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean squared error over pixels and clips; beside it, over that of drawing each picture's mean colour."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        loss = F.mse_loss(self.draw(video, batch.seed).float(), video)
        of_mean = video.var(dim=(3, 4), correction=0).mean()
        return {"loss": loss, "share_of_variance": loss.detach() / of_mean.clamp(min=1e-6)}

    def shown(self, video: Tensor, seed: Tensor) -> Tensor:
        """What the encoder sees: (B, T, 3, H, W) in [0, 1], int64 (B,) -> the same."""
        return video

    def draw(self, video: Tensor, seed: Tensor) -> Tensor:
        """Draw clips from their features: (B, T, 3, H, W) in [0, 1], int64 (B,) -> the same shape."""
        return self.decoder(self.encoder.features(self.shown(video, seed)))

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first picture as the encoder sees it, as it is drawn, and as it is."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        shown, drawn = (
            part(video[:1], batch.seed[:1]).float()[0, 0].clamp(0, 1) for part in (self.shown, self.draw)
        )
        return {"drawn": side_by_side([shown, drawn, video[0, 0]])}

"""MAE: hide three quarters of an image's patches and paint them from the rest.

He, Chen, Xie, Li, Dollar and Girshick 2021, "Masked autoencoders are scalable vision learners", arXiv:2111.06377.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import VideoViT
from ...models.video_vit import Grid, TokenPredictor
from ...ops.masks import Split, random_split, restore, take
from ...ops.pictures import side_by_side

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class MAE(Method):
    """Regress the pixels of hidden patches; the encoder sees the visible patches alone.

    In a clip of several frames, patches are hidden in space and time at random (Feichtenhofer et al. 2022,
    arXiv:2205.09113); encoder and decoder have positions="space_time" then, and the paper's, "space", for images.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] and the tokens to keep (B, V) -> (B, V, D). Its mean and deviation
            normalise the colours of the targets as well.
        decoder: Visible tokens -> hidden patches, (B, M, encoder.patch_values); its mask token starts with deviation
            0.02 in the authors' code.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        mask_ratio: Share of the patches that are hidden (75 %, Sec. 4.1).
        normalize: Standardise each patch of the target (Sec. 4.2); else regress the plain pixels.
        clips: Which frames; by default one.

    Differences from the paper: there is no class token. The decoder computes its output for hidden patches only (the
    others had no loss). Plain pixels are those in [0, 1], not normalised ones. The number of visible patches is
    rounded, not cut off. Crops are scaled bilinearly (augment.RandomResizedCrop), theirs bicubically.
    """

    encoder: VideoViT
    view: nn.Module

    def __init__(
        self,
        encoder: VideoViT,
        *,
        decoder: TokenPredictor,
        view: nn.Module,
        mask_ratio: float = 0.75,
        normalize: bool = True,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.view = view
        self.mask_ratio = mask_ratio
        self.normalize = normalize
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean squared error of the pixels of hidden patches; normalised, always predicting 0 scores about 1."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        visible, hidden = self.split(batch.seed, self.encoder.grid(video))
        predicted = self.predict(video, visible, hidden)
        return {"loss": F.mse_loss(predicted.float(), take(self.targets(video), hidden))}

    def split(self, seed: Tensor, grid: Grid) -> Split:
        """Draw which tokens are visible and which hidden: seeds (B,) -> int64 (B, V) and (B, M)."""
        return random_split(seed, math.prod(grid), hidden_share=self.mask_ratio)

    def predict(self, video: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Paint hidden patches: (B, T, 3, H, W), (B, V), (B, M) -> target pixels (B, M, patch_values)."""
        tokens = self.encoder.tokens(video, visible)
        return self.decoder(tokens, visible=visible, hidden=hidden, grid=self.encoder.grid(video))

    def targets(self, video: Tensor) -> Tensor:
        """Pixels to regress, normalised by the statistics of their patch: (B, T, 3, H, W) -> (B, N, patch_values)."""
        if not self.normalize:
            return self.encoder.patches(video).flatten(2)
        mean, std = self.statistics(video)
        return ((self.encoder.patches(video) - mean) / std).flatten(2)

    def statistics(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each patch over all its values, as colours of each channel, (B, N, 1, 3) each.

        They are taken of the colours that the encoder sees, normalised channel by channel (the authors' models_mae.py,
        `forward_loss`), and brought back to pixels in [0, 1].
        """
        colors = self.encoder.normalized_patches(video)
        variance, mean = torch.var_mean(colors, dim=(2, 3), keepdim=True)
        of_channel = self.encoder.std.flatten()
        return self.encoder.mean.flatten() + of_channel * mean, of_channel * (variance + 1e-6).sqrt()

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """First frame: what is visible, what is painted with the true mean and contrast of each patch, the truth."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)[:1]
        grid = self.encoder.grid(video)
        visible, hidden = self.split(batch.seed[:1], grid)
        patches, (mean, std) = self.encoder.patches(video), self.statistics(video)
        painted = self.predict(video, visible, hidden).float().unflatten(2, patches.shape[2:])
        if self.normalize:
            painted = painted * take(std, hidden) + take(mean, hidden)
        shown = take(patches, visible)
        frames = [
            self.encoder.assemble(restore(shown, visible, filled, hidden), grid)[0, 0].clamp(0, 1)
            for filled in (torch.full_like(painted, 0.5), painted)
        ]
        return {"painted": side_by_side([*frames, video[0, 0]])}

"""VideoMAE: hide nine tenths of a clip in tubes and paint them from the rest.

Tong, Song, Wang and Wang 2022, "VideoMAE: Masked autoencoders are data-efficient learners for self-supervised video
pre-training", arXiv:2203.12602.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ...data.clips import ClipSampler, random_clips
from ...models import VideoViT
from ...models.video_vit import Grid, TokenPredictor
from ...ops.masks import Split, random_split, tubes
from ..image.mae import MAE

# 16 frames, 4 apart: about two seconds (Sec. 4.1, Kinetics).
CLIPS = partial(random_clips, num_frames=16, stride_frames=4)


class VideoMAE(MAE):
    """MAE on clips, with the same patches hidden in every frame: what stands still cannot be copied in time.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] and the tokens to keep (B, V) -> (B, V, D).
        decoder: Visible tokens -> hidden patches, (B, M, encoder.patch_values).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        mask_ratio: Share of the patches of a frame that are hidden (90 %, Sec. 3.3).
        normalize: Standardise each colour of each patch of the target; else regress the plain pixels.
        clips: Which frames; by default 16, 4 apart.

    Differences from the paper: where the authors' code differs from MAE's, this is as MAE's: the map from encoder to
    decoder has a bias, patches are embedded by a map drawn by Glorot's rule, and the mask token (`mask_token_std`) is
    not cut off at one deviation and has weight decay.
    """

    def __init__(
        self,
        encoder: VideoViT,
        *,
        decoder: TokenPredictor,
        view: nn.Module,
        mask_ratio: float = 0.9,
        normalize: bool = True,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__(
            encoder, decoder=decoder, view=view, mask_ratio=mask_ratio, normalize=normalize, clips=clips
        )

    def split(self, seed: Tensor, grid: Grid) -> Split:
        """Draw tubes (Sec. 3.3): seeds (B,) -> visible and hidden tokens, int64 (B, V) and (B, M)."""
        steps, height, width = grid
        split = random_split(seed, height * width, hidden_share=self.mask_ratio)
        visible, hidden = (tubes(cells, num_steps=steps, num_cells=height * width) for cells in split)
        return visible, hidden

    def statistics(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each colour channel of each patch, (B, N, 1, 3) each."""
        std, mean = torch.std_mean(self.encoder.patches(video), dim=2, keepdim=True)
        return mean, std + 1e-6

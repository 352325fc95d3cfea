"""VICReg: bring two views of a clip together, keep every dimension varying, and keep dimensions apart.

Bardes, Ponce and LeCun 2021, "VICReg: variance-invariance-covariance regularization for self-supervised learning",
arXiv:2105.04906.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.heads import mlp
from ...ops import draws
from ...ops.correlation import covariance, off_diagonal

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class VICReg(Method):
    """Three terms, of which each alone is met by embeddings that tell nothing.

    Without variance all embeddings become equal ("std" to 0, where 1 is wanted); without covariance dimensions repeat
    one another ("effective_rank" of the monitors, which look at the embeddings).

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        views: Two operators (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.byol(224, view=0) and (224, view=1).
        expander_dim: Width of the expander's three layers.
        invariance_weight: lambda of Eq. 6.
        variance_weight: mu.
        covariance_weight: nu.
        clips: Which frames; by default one.

    Differences from the paper: as in the authors' code, the invariance is a mean over dimensions (a sum in Eq. 5) and
    the variance term the mean of both views (a sum in Eq. 6). Batch norm of the networks sees the batch of its own
    process unless `fit` synchronises it; variance and covariance are those of all processes in any case.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        views: tuple[nn.Module, nn.Module],
        expander_dim: int = 8192,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = nn.ModuleList(views)
        self.expander = mlp(encoder.dim, expander_dim, expander_dim, expander_dim)
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Weighted sum of invariance, variance and covariance (Eq. 6), over the batch of all processes."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = (draws.mix(batch.host_seed, number) for number in range(2))
        views = (view(video, seed, *batch.stretch) for view, seed in zip(self.views, seeds, strict=True))
        first, second = (self.expander(self.encoder(view)) for view in views)
        invariance = F.mse_loss(first.float(), second.float())
        both = torch.stack([covariance(first), covariance(second)])
        std = (both.diagonal(dim1=1, dim2=2) + 1e-4).sqrt()  # (2, E); 1e-4: Eq. 1
        variance = F.relu(1 - std).mean()
        redundancy = torch.stack([off_diagonal(one).square().sum() for one in both]).sum() / std.shape[1]
        return {
            "loss": (
                self.invariance_weight * invariance
                + self.variance_weight * variance
                + self.covariance_weight * redundancy
            ),
            "invariance": invariance,
            "std": std.mean(),
            "covariance": redundancy,
        }

    def embed(self, batch: Batch) -> Tensor:
        """Expand the first clip of each sample, (B, expander_dim): a collapse begins here."""
        return self.expander(super().embed(batch))

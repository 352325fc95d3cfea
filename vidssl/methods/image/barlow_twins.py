"""Barlow Twins: let each dimension agree in two views of a clip and tell what no other dimension tells.

Zbontar, Jing, Misra, LeCun and Deny 2021, "Barlow Twins: self-supervised learning via redundancy reduction",
arXiv:2103.03230.
"""

from functools import partial
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.heads import mlp
from ...ops import draws
from ...ops.correlation import cross_correlation, off_diagonal

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class BarlowTwins(Method):
    """Bring the correlation of two views' embeddings, over the batch of all processes, towards the identity.

    "diagonal" goes to 1; at 0 the embeddings tell nothing that both views share. "off_diagonal" goes to 0; near 1 all
    dimensions tell the same.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        views: Two operators (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.byol(224, view=0) and (224, view=1).
        projector_dim: Width of the projector's three layers.
        projector: Features (B, D) -> embeddings (B, E), in place of those.
        redundancy_weight: lambda of Eq. 1.
        bias_lr_scale: Learning rate of biases and norms over that of matrices: 0.0048 / 0.2 in Sec. 2.2.
        clips: Which frames; by default one.

    Differences from the paper: batch norm of the networks sees the batch of its own process unless `fit` synchronises
    it; the correlation is that of all processes in any case.
    """

    projector: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        views: tuple[nn.Module, nn.Module],
        projector_dim: int = 8192,
        projector: nn.Module | None = None,
        redundancy_weight: float = 0.0051,
        bias_lr_scale: float = 0.024,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = nn.ModuleList(views)
        self.projector = projector or mlp(encoder.dim, projector_dim, projector_dim, projector_dim)
        self.redundancy_weight = redundancy_weight
        self.bias_lr_scale = bias_lr_scale
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Squared distance of the correlation from the identity, off the diagonal weighted (Eq. 1 and 2): a sum."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = (draws.mix(batch.host_seed, number) for number in range(2))
        views = (view(video, seed, *batch.stretch) for view, seed in zip(self.views, seeds, strict=True))
        first, second = (self.projector(self.encoder(view)) for view in views)
        correlation = cross_correlation(first, second)
        diagonal, rest = correlation.diagonal(), off_diagonal(correlation)
        loss = (1 - diagonal).square().sum() + self.redundancy_weight * rest.square().sum()
        num_pairs = len(rest) * (len(rest) - 1)
        return {"loss": loss, "diagonal": diagonal.mean(), "off_diagonal": rest.abs().sum() / num_pairs}

    def embed(self, batch: Batch) -> Tensor:
        """Project the first clip of each sample, (B, E): a collapse begins here."""
        return self.projector(super().embed(batch))

    def param_groups(self) -> list[dict[str, Any]]:
        """Biases and norms without weight decay and with a learning rate of their own (Sec. 2.2)."""
        matrices, vectors = super().param_groups()
        return [matrices, {**vectors, "lr_scale": self.bias_lr_scale}]

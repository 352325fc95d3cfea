"""SimSiam: predict the projection of another view by the same network, without negatives and without a teacher.

Chen and He 2020, "Exploring simple Siamese representation learning", arXiv:2011.10566.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.heads import mlp
from ...ops import draws

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class SimSiam(Method):
    """Predict each view's projection from the other's; what is predicted counts as a constant.

    Without that stop of the gradient the loss falls to -1 at once and all projections are equal (Sec. 4.1): watch
    "embedding_std" of the monitors, which look at the projections.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.moco_v2(224).
        projector: f after the encoder, features (B, D) -> projections (B, out_dim); by default three layers, hidden
            ones of D, with batch norm on all (Sec. 3). Two layers for CIFAR-10: mlp(D, out_dim, out_dim,
            last_norm=True).
        out_dim: Width of the projections.
        hidden_dim: Of the predictor h; a quarter of out_dim in the paper.
        constant_predictor_lr: The predictor keeps the first learning rate.
        clips: Which frames; by default one.

    Differences from the paper: every process normalises its own batch unless `fit` synchronises batch norm.
    """

    view: nn.Module
    projector: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        projector: nn.Module | None = None,
        out_dim: int = 2048,
        hidden_dim: int = 512,
        constant_predictor_lr: bool = True,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.projector = projector or mlp(encoder.dim, encoder.dim, encoder.dim, out_dim, last_norm=True)
        self.predictor = mlp(out_dim, hidden_dim, out_dim, last_bias=True)
        self.constant_predictor_lr = constant_predictor_lr
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Negative cosine of predictions and targets, mean over both ways and clips (Eq. 4), in [-1, 1]."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        views = (self.view(video, draws.mix(batch.host_seed, number), *batch.stretch) for number in range(2))
        first, second = (self.projector(self.encoder(view)) for view in views)
        one_way = negative_cosine(self.predictor(first), self.target(second))
        other_way = negative_cosine(self.predictor(second), self.target(first))
        return {"loss": (one_way + other_way).mean() / 2}

    def target(self, projection: Tensor) -> Tensor:
        """Stop the gradient (Eq. 3): (B, out_dim) -> (B, out_dim)."""
        return projection.detach()

    def embed(self, batch: Batch) -> Tensor:
        """Project the first clip of each sample, (B, out_dim): a collapse begins here."""
        return self.projector(super().embed(batch))

    def param_groups(self) -> list[dict[str, Any]]:
        """All with weight decay; the predictor keeps the first learning rate (authors' main_simsiam.py, fix_pred_lr).

        It should follow the projections, which move all the time (Sec. 4.2).
        """
        projecting = [*self.encoder.parameters(), *self.projector.parameters()]
        return [
            {"params": [parameter for parameter in projecting if parameter.requires_grad]},
            {"params": list(self.predictor.parameters()), "constant_lr": self.constant_predictor_lr},
        ]


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Minus the cosine of the two directions (Eq. 1): (B, E), (B, E) -> (B,)."""
    return -F.cosine_similarity(prediction.float(), target.float(), dim=1)

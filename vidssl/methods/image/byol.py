"""BYOL: predict what a slow copy of the network makes of another view, without negatives.

Grill et al. 2020, "Bootstrap your own latent: a new approach to self-supervised learning", arXiv:2006.07733.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.ema import cosine_momentum, momentum_by_progress, move_teacher, teacher_of

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class BYOL(Method):
    """Regress the teacher's projection of each view from the student's of the other.

    Nothing but the predictor and the teacher, which gets no gradient, keeps the projections from being all equal:
    watch "embedding_std" of the monitors, which look at the projections.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        views: Two operators (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.byol(224, view=0) and (224, view=1).
        hidden_dim: Width of projector and predictor.
        out_dim: Width of the projections.
        momentum: Of the teacher by progress in [0, 1], or at the start (tau_base): it then rises to 1 along a cosine
            (Sec. 3.2).
        clips: Which frames; by default one.

    Differences from the paper: the teacher starts as a copy of the student, and every process normalises its own
    batch unless `fit` synchronises batch norm.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        views: tuple[nn.Module, nn.Module],
        hidden_dim: int = 4096,
        out_dim: int = 256,
        momentum: float | Callable[[float], float] = 0.99,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = nn.ModuleList(views)
        self.projector = _mlp(encoder.dim, hidden_dim, out_dim)
        self.predictor = _mlp(out_dim, hidden_dim, out_dim)
        self.teacher = teacher_of(nn.Sequential(self.encoder, self.projector))
        self.momentum = momentum_by_progress(momentum, rise=cosine_momentum)
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Squared distance of normalised predictions and targets, both ways (Eq. 2), mean over clips."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = (draws.mix(batch.host_seed, number) for number in range(2))
        first, second = (view(video, seed, *batch.stretch) for view, seed in zip(self.views, seeds, strict=True))
        with torch.no_grad():
            first_target, second_target = self.teacher(first), self.teacher(second)
        loss = distance(self.predict(first), second_target) + distance(self.predict(second), first_target)
        return {"loss": loss.mean()}

    def predict(self, clips: Tensor) -> Tensor:
        """Predict the teacher's projection of another view: (B, T, 3, H, W) -> (B, out_dim)."""
        return self.predictor(self.projector(self.encoder(clips)))

    def after_step(self, progress: float) -> None:
        """Move the teacher (Eq. 1); batch norm keeps statistics of its own."""
        move_teacher(
            self.teacher,
            nn.Sequential(self.encoder, self.projector),
            momentum=self.momentum(progress),
        )

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Momentum of the teacher."""
        return {"momentum": self.momentum}

    def networks(self) -> dict[str, nn.Module]:
        """The student's encoder, which the paper evaluates, and the teacher's."""
        return {"student": self.encoder, "teacher": self.teacher[0]}

    def embed(self, batch: Batch) -> Tensor:
        """Project the first clip of each sample, (B, out_dim): a collapse begins here."""
        return self.projector(super().embed(batch))


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the two directions, 2 - 2 cos: (B, E), (B, E) -> (B,), in [0, 4]."""
    return 2 - 2 * (F.normalize(prediction.float(), dim=1) * F.normalize(target.float(), dim=1)).sum(1)


def _mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """One hidden layer with batch norm, none and no bias on the last one (the authors' networks.py, `MLP`)."""
    return nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, out_dim, bias=False),
    )

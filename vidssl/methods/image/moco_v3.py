"""MoCo v3: find the key that a slow copy of the encoder made of a clip's other view among those of the batch.

Chen, Xie and He 2021, "An empirical study of training self-supervised vision transformers", arXiv:2104.02057.
"""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.heads import mlp
from ...ops import draws
from ...ops.contrast import cosine_logits, info_nce, same_source
from ...ops.ema import cosine_momentum, momentum_by_progress, move_teacher, teacher_of
from ...ops.gather import gather, rank

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class MoCoV3(Method):
    """Contrast each view's prediction with the keys of the other views of all clips of the batch, of every process.

    A ViT trains stably only if its patch projection stays as it was drawn (Sec. 4.2):
    models.initial.begin_as_moco_v3(encoder), before the method is built.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        views: Two operators (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.moco_v3(224, view=0) and (224, view=1).
        num_projector_layers: 3 for a ViT, 2 for a ResNet.
        hidden_dim: Of projector and predictor.
        out_dim: Width of keys and predictions.
        normalize_predictions: Whether batch norm follows the predictor: for a ViT, not for a ResNet.
        temperature: tau of Eq. 1: 0.2 for a ViT, 1 for a ResNet.
        momentum: Of the key encoder by progress in [0, 1], or at the start: it then rises to 1 along a cosine.
        clips: Which frames; by default one.

    Differences from the paper: features are the mean over cells instead of the class token; clips of one source
    (batch.source_id) are no negatives of each other; every process normalises its own batch unless `fit` synchronises
    batch norm.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        views: tuple[nn.Module, nn.Module],
        num_projector_layers: int = 3,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        normalize_predictions: bool = True,
        temperature: float = 0.2,
        momentum: float | Callable[[float], float] = 0.99,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = nn.ModuleList(views)
        hidden = [hidden_dim] * (num_projector_layers - 1)
        self.projector = mlp(encoder.dim, *hidden, out_dim, last_norm=True)
        self.predictor = mlp(out_dim, hidden_dim, out_dim, last_norm=normalize_predictions)
        self.teacher = teacher_of(nn.Sequential(self.encoder, self.projector))
        self.temperature = temperature
        self.momentum = momentum_by_progress(momentum, rise=cosine_momentum)
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Sum of both ways (Algorithm 1), mean over clips."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = (draws.mix(batch.host_seed, number) for number in range(2))
        first, second = (view(video, seed, *batch.stretch) for view, seed in zip(self.views, seeds, strict=True))
        with torch.no_grad():
            first_key, second_key = self.teacher(first), self.teacher(second)
        one_way, logged = self.contrast(self.predict(first), second_key, batch.source_id)
        other_way, _ = self.contrast(self.predict(second), first_key, batch.source_id)
        return {"loss": one_way + other_way, **logged}

    def predict(self, clips: Tensor) -> Tensor:
        """Predict the key of another view: (B, T, 3, H, W) -> (B, out_dim)."""
        return self.predictor(self.projector(self.encoder(clips)))

    def contrast(self, query: Tensor, key: Tensor, source_id: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE of queries against the keys of all processes, times 2 tau (Eq. 1): (B, E), (B, E), int64 (B,)."""
        logits = cosine_logits(query, gather(key), temperature=self.temperature)
        positive = rank() * len(query) + torch.arange(len(query), device=query.device)
        exclude = same_source(source_id, None if source_id is None else gather(source_id))
        loss, logged = info_nce(logits, positive, exclude=exclude)
        return 2 * self.temperature * loss, logged

    def after_step(self, progress: float) -> None:
        """Move the key encoder; batch norm keeps statistics of its own."""
        move_teacher(self.teacher, nn.Sequential(self.encoder, self.projector), momentum=self.momentum(progress))

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Momentum of the key encoder."""
        return {"momentum": self.momentum}

    def networks(self) -> dict[str, nn.Module]:
        """The encoder, which the paper evaluates, and that of the keys."""
        return {"student": self.encoder, "teacher": self.teacher[0]}

"""DINO: match the teacher's distribution over prototypes, from small crops as well as from large ones.

Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv:2104.14294.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.initial import truncated_normal_
from ...ops import draws
from ...ops.contrast import cosine_logits, usage_entropy
from ...ops.ema import cosine_momentum, momentum_by_progress, move_teacher, teacher_of
from ...ops.gather import gather

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class DINOHead(nn.Module):
    """Layers to a narrow unit vector, three in all, then its cosine to each prototype (App. C).

    Args:
        dim: Width of the features.
        num_prototypes: K.
        hidden_dim: Width of the hidden layers.
        num_hidden_layers: Their number, two in the paper.
        bottleneck_dim: Width of the unit vector.
        batch_norm: Normalise the hidden layers, an option of the released code; small encoders need it.
        norm_last_layer: Keep prototypes at length 1; else their lengths are learned, from 1 on, which the released code
            finds better but stable for small encoders alone (its README).
    """

    def __init__(
        self,
        dim: int,
        *,
        num_prototypes: int = 65_536,
        hidden_dim: int = 2048,
        num_hidden_layers: int = 2,
        bottleneck_dim: int = 256,
        batch_norm: bool = False,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (dim, *[hidden_dim] * (num_hidden_layers - 1)):
            layers += [nn.Linear(width, hidden_dim)]
            layers += [nn.BatchNorm1d(hidden_dim)] if batch_norm else []
            layers += [nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden_dim, bottleneck_dim))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                truncated_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        # As nn.Linear draws them: AdamW turns a direction the slower, the longer the weights are.
        bound = bottleneck_dim**-0.5
        self.prototypes = nn.Parameter(torch.empty(num_prototypes, bottleneck_dim).uniform_(-bound, bound))
        # A matrix, or it would have no weight decay (utils.py, `get_params_groups`).
        self.lengths = None if norm_last_layer else nn.Parameter(torch.ones(num_prototypes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Score the prototypes, float32: (B, D) -> (B, K), in [-1, 1] where lengths are 1."""
        scores = cosine_logits(self.mlp(features), self.prototypes, temperature=1.0)
        return scores if self.lengths is None else scores * self.lengths.float().T

    def last_layer(self) -> list[nn.Parameter]:
        """Prototypes, and their lengths where they are learned."""
        return [self.prototypes] if self.lengths is None else [self.prototypes, self.lengths]


class DINO(Method):
    """Cross-entropy between the teacher's distribution of a large crop and the student's of every other crop.

    Two collapses are held off: centring alone would end in the uniform distribution, sharpening (a low temperature
    of the teacher) alone in one prototype for all. "teacher_entropy" near 1 is the first, "cluster_entropy" near 0
    the second.

    Args:
        encoder: The student's: RGB (B, T, 3, H, W) in [0, 1] of either size -> pooled features (B, D).
        global_views: Two operators (uint8 clips (B, T, 3, H, W), seeds (B,)) -> large float clips in [0, 1], for
            example augment.recipes.dino_global(224, view=0) and (224, view=1).
        local_view: The same for small clips, for example augment.recipes.dino_local(96).
        num_local_views: Small crops of each clip.
        head: Features (B, D) -> scores of the prototypes (B, K).
        student_temperature: tau_s.
        teacher_temperature: tau_t by progress in [0, 1].
        center_momentum: m of Eq. 4.
        momentum: Of the teacher by progress in [0, 1], or at the start: it then rises to 1 along a cosine.
        frozen_steps: Steps at the start in which the last layer of the head stays as it is; in the authors' code it
            thaws after the first epoch of 100 or more.
        clips: Which frames; by default one.

    Differences from the paper: features are the mean over cells instead of the class token.
    """

    center: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        global_views: tuple[nn.Module, nn.Module],
        local_view: nn.Module,
        num_local_views: int = 8,
        head: DINOHead | None = None,
        student_temperature: float = 0.1,
        teacher_temperature: Callable[[float], float] = lambda progress: 0.04,
        center_momentum: float = 0.9,
        momentum: float | Callable[[float], float] = 0.996,
        frozen_steps: int = 0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        head = head or DINOHead(encoder.dim)
        self.student = nn.Sequential(encoder, head)
        self.teacher = teacher_of(self.student)
        self.global_views = nn.ModuleList(global_views)
        self.local_view = local_view
        self.num_local_views = num_local_views
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.center_momentum = center_momentum
        self.momentum = momentum_by_progress(momentum, rise=cosine_momentum)
        self.frozen_steps = frozen_steps
        self.clips = clips
        self.register_buffer("center", torch.zeros(len(head.prototypes)))

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The teacher's, which is the better one throughout training (Sec. 5.2)."""
        encoder = self.teacher[0]
        assert isinstance(encoder, Encoder)
        return encoder

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy, mean over clips and pairs of different crops (Eq. 3); the teacher sees the large ones."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        large = [
            view(video, draws.mix(batch.host_seed, n), *batch.stretch) for n, view in enumerate(self.global_views)
        ]
        seeds = [draws.mix(batch.host_seed, 2 + n) for n in range(self.num_local_views)]
        small = [self.local_view(video, seed, *batch.stretch) for seed in seeds]
        with torch.no_grad():
            scores = self.teacher(torch.cat(large)).unflatten(0, (2, -1))  # (2, B, K)
            target = ((scores - self.center) / self.teacher_temperature(progress)).softmax(-1)
        crops = [self.student(torch.cat(group)) for group in (large, small) if group]
        prediction = (torch.cat(crops) / self.student_temperature).log_softmax(-1)
        prediction = rearrange(prediction, "(v b) k -> v b k", b=len(video))
        pairs = [(t, v) for t in range(2) for v in range(len(prediction)) if t != v]
        losses = [-(target[t] * prediction[v]).sum(-1).mean() for t, v in pairs]
        if self.training:
            self.move_center(scores)
        entropy = -torch.special.xlogy(target, target).sum(-1).mean()
        return {
            "loss": torch.stack(losses).mean(),
            "cluster_entropy": usage_entropy(target.flatten(0, 1)),
            "teacher_entropy": entropy / math.log(target.shape[-1]),
        }

    @torch.no_grad()
    def move_center(self, scores: Tensor) -> None:
        """Move the centre to the mean score over crops and clips of all processes (Eq. 4): (2, B, K)."""
        mean = gather(scores.mean(dim=(0, 1))[None]).mean(0)
        self.center.lerp_(mean, 1 - self.center_momentum)

    def before_step(self, step: int, progress: float) -> None:
        """Cancel the gradient of a last layer that is frozen, as the authors' code does after clipping.

        Not a gradient of zero, which Adam's counter and moments would take in: the first steps after it would be
        several times too large.
        """
        if step < self.frozen_steps:
            head = self.student[1]
            assert isinstance(head, DINOHead)
            for parameter in head.last_layer():
                parameter.grad = None

    def after_step(self, progress: float) -> None:
        """Move the teacher: encoder and head, not the statistics of a batch norm."""
        move_teacher(self.teacher, self.student, momentum=self.momentum(progress))

    def schedules(self) -> dict[str, Callable[[float], float]]:
        """Momentum and temperature of the teacher."""
        return {"momentum": self.momentum, "teacher_temperature": self.teacher_temperature}

    def networks(self) -> dict[str, nn.Module]:
        """The teacher's encoder, which the paper evaluates, and the student's."""
        return {"teacher": self.encoder, "student": self.student[0]}

"""SwAV: assign the views of a clip to prototypes, and predict the assignment of one view from another.

Caron, Misra, Mairal, Goyal, Bojanowski and Joulin 2020, "Unsupervised learning of visual features by contrasting
cluster assignments", arXiv:2006.09882.
"""

from functools import partial
from typing import Any

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
from ...ops.contrast import usage_entropy
from ...ops.gather import gather, own_rows
from ...ops.pictures import nearest_to_each
from ...ops.precision import in_single_precision
from ...ops.sinkhorn import sinkhorn

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class SwAV(Method):
    """Cross-entropy between the code of a large crop and the scores of every other crop of the same clip.

    A code shares the samples of all processes out over the prototypes evenly, or all would be assigned to one:
    "cluster_entropy" near 0. A loss that stays at ln(num_prototypes) has learned nothing.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] of either size -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> large float clips in [0, 1], for example
            augment.recipes.swav_global(224).
        local_view: The same for small clips, for example augment.recipes.swav_local(96).
        num_local_views: Small crops of each clip.
        num_prototypes: K.
        hidden_dim: Of the projector.
        out_dim: Width of the embeddings.
        temperature: tau of Eq. 2.
        sinkhorn_temperature: epsilon of Eq. 3.
        num_queued: Clips of earlier steps that codes are found together with, where a step holds fewer than there are
            prototypes; 3840 for steps of 256 (Sec. 4.1), 0 for none. At least the clips of a step in all processes.
        queue_after: Progress in [0, 1] from which on they are used: 15 of the paper's 200 epochs.
        frozen_steps: Steps at the start in which the prototypes stay where they are.
        clips: Which frames; by default one.

    Differences from the paper: the queue is filled from the first step on, and full when it is first used.
    """

    view: nn.Module
    queue: Tensor
    pointer: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        local_view: nn.Module,
        num_local_views: int = 6,
        num_prototypes: int = 3000,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        temperature: float = 0.1,
        sinkhorn_temperature: float = 0.05,
        num_queued: int = 0,
        queue_after: float = 0.0,
        frozen_steps: int = 0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.local_view = local_view
        self.num_local_views = num_local_views
        self.projector = mlp(encoder.dim, hidden_dim, out_dim, last_bias=True)
        self.prototypes = nn.Linear(out_dim, num_prototypes, bias=False)
        self.temperature = temperature
        self.sinkhorn_temperature = sinkhorn_temperature
        self.queue_after = queue_after
        self.frozen_steps = frozen_steps
        self.clips = clips
        # Two large crops of each clip; directions at random until real ones have replaced them.
        self.register_buffer("queue", F.normalize(torch.randn(num_queued, 2, out_dim), dim=2))
        self.register_buffer("pointer", torch.tensor(0))
        self.after_step(0.0)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy, mean over clips and pairs of a code and another crop (Eq. 2, Sec. 3.2)."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = [draws.mix(batch.host_seed, number) for number in range(2 + self.num_local_views)]
        large = [self.view(video, seed, *batch.stretch) for seed in seeds[:2]]
        small = [self.local_view(video, seed, *batch.stretch) for seed in seeds[2:]]
        features = torch.cat([self.encoder(torch.cat(group)) for group in (large, small) if group])
        embeddings, scores = (part.unflatten(0, (-1, len(video))) for part in self.score(features))
        code = self.codes(scores[:2], progress)
        prediction = (scores / self.temperature).log_softmax(-1)  # (V, B, K)
        pairs = [(t, v) for t in range(2) for v in range(len(prediction)) if t != v]
        losses = [-(code[t] * prediction[v]).sum(-1).mean() for t, v in pairs]
        if self.training:
            self.push(embeddings[:2])
        return {"loss": torch.stack(losses).mean(), "cluster_entropy": usage_entropy(code.flatten(0, 1))}

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embed features and compare with the prototypes, float32: (N, D) -> unit vectors (N, E), cosines (N, K)."""
        embeddings = F.normalize(self.projector(features).float(), dim=1)
        return embeddings, in_single_precision(self.prototypes, embeddings)

    @torch.no_grad()
    def codes(self, scores: Tensor, progress: float) -> Tensor:
        """Share samples out over the prototypes, each crop by itself (Eq. 3 to 5): (2, B, K) -> (2, B, K)."""
        together = scores
        if len(self.queue) and progress >= self.queue_after:
            # Every process adds its part of the queue, or the sum over processes would count it several times.
            queued = in_single_precision(self.prototypes, own_rows(self.queue)).transpose(0, 1)
            together = torch.cat([queued, scores], dim=1)
        codes = [sinkhorn(crop, temperature=self.sinkhorn_temperature) for crop in together]
        return torch.stack(codes)[:, -scores.shape[1] :]

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Replace the oldest clips of the queue by those of all processes: (2, B, E).

        Raises:
            ValueError: They are more than the queue holds.
        """
        if not len(self.queue):
            return
        rows = gather(embeddings.transpose(0, 1).contiguous())
        if len(rows) > len(self.queue):
            raise ValueError(
                f"a step has {len(rows)} clips but the queue holds {len(self.queue)}; raise num_queued, lower the "
                "batch size, or do without a queue: num_queued=0"
            )
        places = (self.pointer + torch.arange(len(rows), device=rows.device)) % len(self.queue)
        self.queue[places] = rows
        self.pointer.copy_((self.pointer + len(rows)) % len(self.queue))

    def before_step(self, step: int, progress: float) -> None:
        """Cancel the gradient of prototypes that are frozen, so that no counter or moment takes it in."""
        if step < self.frozen_steps:
            self.prototypes.weight.grad = None

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Bring the prototypes back to length 1."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    def param_groups(self) -> list[dict[str, Any]]:
        """All with weight decay: the authors' main_swav.py."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def embed(self, batch: Batch) -> Tensor:
        """Embed the first clip of each sample, (B, out_dim): a collapse begins here."""
        return self.score(super().embed(batch))[0]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """First frames nearest to each of four prototypes, a row each."""
        assert batch.video is not None
        scores = self.score(super().embed(batch))[1]
        return {"prototypes": nearest_to_each(batch.video[:, 0, 0].float() / 255, scores)}

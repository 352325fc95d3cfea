"""MoCo: find the key of a clip's other view among a queue of keys that a slow copy of the encoder made.

He, Fan, Wu, Xie and Girshick 2020, "Momentum contrast for unsupervised visual representation learning",
arXiv:1911.05722; version 2: Chen, Fan, Girshick and He 2020, arXiv:2003.04297.
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
from ...ops import draws
from ...ops.contrast import cosine_logits, info_nce, same_source
from ...ops.ema import move_teacher, teacher_of
from ...ops.gather import gather

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class MoCo(Method):
    """Contrast each query with its key and with the keys of earlier steps.

    Query and key must not be normalised by the statistics of one batch, or these give the key away (Sec. 3.3,
    shuffling BN): batch norm looks at groups, and the keys' groups are made up in another order.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.moco_v2(224).
        projector: Features (B, D) -> embeddings (B, out_dim); by default that of version 2, a hidden layer of D and
            ReLU. Version 1: nn.Linear(encoder.dim, 128).
        out_dim: Width of a key.
        num_keys: K, length of the queue; at least the clips of a step in all processes.
        temperature: tau of Eq. 1: 0.2 in version 2, 0.07 in version 1.
        momentum: m of Eq. 2.
        num_groups: Parts of the batch that batch norm sees, per process; the paper's eight devices are eight groups.
            Batch norms of encoder and projector are told so, in place (`normalize_in_groups`).
        symmetric: Each view is the query once and the key once; the loss is the mean of both ways, and the queue takes
            the keys of both afterwards (the authors' MoCo for CIFAR-10; MoCo v3).
        clips: Which frames; by default one.

    Differences from the paper: the keys' order is drawn within each process; clips of one source (batch.source_id)
    are no negatives of each other, those in the queue included; biases and norms have no weight decay.
    """

    queue: Tensor
    queue_source_id: Tensor
    pointer: Tensor
    view: nn.Module
    projector: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        projector: nn.Module | None = None,
        out_dim: int = 128,
        num_keys: int = 65_536,
        temperature: float = 0.2,
        momentum: float = 0.999,
        num_groups: int = 8,
        symmetric: bool = False,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.projector = projector or nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim), nn.ReLU(), nn.Linear(encoder.dim, out_dim)
        )
        normalize_in_groups(nn.Sequential(self.encoder, self.projector), num_groups)
        self.teacher = teacher_of(nn.Sequential(self.encoder, self.projector))
        self.temperature = temperature
        self.momentum = momentum
        self.symmetric = symmetric
        self.clips = clips
        # Directions at random, of no source, until real keys have replaced them: the same in every process, however
        # it was seeded.
        self.register_buffer("queue", F.normalize(draws.normal(torch.arange(num_keys), out_dim), dim=1))
        self.register_buffer("queue_source_id", torch.full((num_keys,), -1))
        self.register_buffer("pointer", torch.tensor(0))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """InfoNCE of each query against its key and the queue (Eq. 1); then, in training, the queue takes the keys."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = [draws.mix(batch.host_seed, number) for number in range(2)]
        first, second = (self.view(video, seed, *batch.stretch) for seed in seeds)
        ways = [(first, second), (second, first)][: 2 if self.symmetric else 1]
        queries = [self.projector(self.encoder(view)) for view, _ in ways]
        keys = [self.keys(view, draws.uniform(batch.seed).argsort()) for _, view in ways]
        found = [self.contrast(query, key, batch.source_id) for query, key in zip(queries, keys, strict=True)]
        if self.training:
            for key in keys:
                self.push(key, batch.source_id)
        losses = [{"loss": loss, **logged} for loss, logged in found]
        return {name: torch.stack([each[name] for each in losses]).mean(0) for name in losses[0]}

    @torch.no_grad()
    def keys(self, view: Tensor, order: Tensor) -> Tensor:
        """Unit keys (B, E) of a view (B, T, 3, H, W), of which batch norm sees groups in another order, (B,)."""
        return F.normalize(self.teacher(view[order])[order.argsort()].float(), dim=1)

    def contrast(self, query: Tensor, key: Tensor, source_id: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of queries and their keys, (B, E) each, of sources int64 (B,); candidate 0 is the key."""
        with torch.autocast(query.device.type, enabled=False):
            to_key = (F.normalize(query.float(), dim=1) * key).sum(1, keepdim=True) / self.temperature
        # The product keeps a normalised copy: the queue itself changes before the backward pass.
        to_queue = cosine_logits(query, self.queue, temperature=self.temperature)
        exclude = same_source(source_id, self.queue_source_id)
        return info_nce(
            torch.cat([to_key, to_queue], dim=1),
            torch.zeros(len(query), dtype=torch.int64, device=query.device),
            exclude=None if exclude is None else F.pad(exclude, (1, 0)),
        )

    @torch.no_grad()
    def push(self, key: Tensor, source_id: Tensor | None) -> None:
        """Replace the oldest keys of the queue by those of all processes: (B, E), int64 (B,).

        Raises:
            ValueError: They are more than the queue holds.
        """
        key = gather(key)
        if len(key) > len(self.queue):
            raise ValueError(
                f"a step makes {len(key)} keys but the queue holds {len(self.queue)}; raise num_keys or lower the "
                "batch size"
            )
        rows = (self.pointer + torch.arange(len(key), device=key.device)) % len(self.queue)
        self.queue[rows] = key.to(self.queue.dtype)
        self.queue_source_id[rows] = -1 if source_id is None else gather(source_id)
        self.pointer.copy_((self.pointer + len(key)) % len(self.queue))

    def after_step(self, progress: float) -> None:
        """Move the teacher (Eq. 2); batch norm keeps statistics of its own."""
        move_teacher(self.teacher, nn.Sequential(self.encoder, self.projector), momentum=self.momentum)

    def networks(self) -> dict[str, nn.Module]:
        """The encoder of queries, which the paper evaluates, and that of keys."""
        return {"student": self.encoder, "teacher": self.teacher[0]}


class GroupedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalise a batch part by part, each by its own statistics; in evaluation by the stored ones, as always.

    Parts are consecutive samples, as `Tensor.chunk` cuts them, and move the stored statistics one after the other:
    what a network puts out is what it would for each part by itself, but its other layers see the whole batch at once.
    """

    num_groups: int

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        if not self.training:
            return super().forward(rows)
        return torch.cat([super(GroupedBatchNorm, self).forward(part) for part in rows.chunk(self.num_groups)])


_GROUPED: dict[type[nn.Module], Any] = {
    norm: type(f"Grouped{norm.__name__}", (GroupedBatchNorm, norm), {})
    for norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}


def normalize_in_groups(network: nn.Module, num_groups: int) -> None:
    """Let every batch norm of a network look at `num_groups` parts of a batch.

    In place: parameters, statistics and their names stay what they were, modules change their class.
    """
    for module in network.modules():
        if type(module) in _GROUPED:
            module.__class__ = _GROUPED[type(module)]
        if isinstance(module, GroupedBatchNorm):
            module.num_groups = num_groups

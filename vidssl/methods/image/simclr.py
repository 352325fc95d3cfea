"""SimCLR: two views of one clip attract each other and repel all other clips of the batch.

Chen, Kornblith, Norouzi and Hinton 2020, "A simple framework for contrastive learning of visual representations",
arXiv:2002.05709.
"""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.contrast import cosine_logits, info_nce, same_source
from ...ops.gather import gather, rank

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class SimCLR(Method):
    """Find the other view of a clip among both views of all clips of the batch, of every process.

    Colour distortion is what keeps histograms from solving the task (Sec. 3.1): a falling loss alone tells nothing.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.simclr(224).
        projector: Features (B, D) -> embeddings (B, E); by default `projection_head(encoder.dim)`.
        temperature: tau of Eq. 1.
        clips: Which frames; by default one.

    Differences from the paper: clips of one source (batch.source_id) are no negatives of each other, and every
    process normalises its own batch. The authors' code (objective.py) adds the losses of both views, where Eq. 1 and
    this take their mean: its loss is twice as large, and so are its steps, but for those of LARS on matrices.
    """

    view: nn.Module
    projector: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        projector: nn.Module | None = None,
        temperature: float = 0.1,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.projector = projector or projection_head(encoder.dim)
        self.temperature = temperature
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """NT-Xent (Eq. 1), mean over both views of all clips."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = [draws.mix(batch.host_seed, number) for number in range(2)]
        views = torch.cat([self.view(video, seed, *batch.stretch) for seed in seeds])
        first, second = self.projector(self.encoder(views)).chunk(2)
        loss, logged = self.nt_xent(first, second, batch.source_id)
        return {"loss": loss, **logged}

    def nt_xent(self, first: Tensor, second: Tensor, source_id: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of two views' embeddings (B, E) each, of sources int64 (B,), against those of all processes."""
        candidates = torch.cat([gather(first), gather(second)])  # (2N, E), N clips in all processes
        num_clips = len(candidates) // 2
        own = rank() * len(first) + torch.arange(len(first), device=first.device)
        own, positive = torch.cat([own, own + num_clips]), torch.cat([own + num_clips, own])
        exclude = own[:, None] == torch.arange(2 * num_clips, device=own.device)
        if source_id is not None:
            same = same_source(source_id, gather(source_id))
            assert same is not None
            exclude = exclude | same.repeat(2, 2)
        logits = cosine_logits(torch.cat([first, second]), candidates, temperature=self.temperature)
        return info_nce(logits, positive, exclude=exclude)


def projection_head(dim: int, *, out_dim: int = 128) -> nn.Sequential:
    """One hidden layer; batch norm follows both layers, the last one scales but does not shift (Sec. 4.2).

    As the authors' code has it (model_util.py, `projection_head` with two layers), but for its weights, which start
    from N(0, 0.01^2) there: batch norm takes their scale out.

    Args:
        dim: Width of the features and of the hidden layer.
        out_dim: Width of the embeddings.
    """
    last_norm = nn.BatchNorm1d(out_dim)
    last_norm.bias.requires_grad_(False)
    return nn.Sequential(
        nn.Linear(dim, dim, bias=False),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Linear(dim, out_dim, bias=False),
        last_norm,
    )

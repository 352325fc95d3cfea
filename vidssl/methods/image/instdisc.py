"""Instance discrimination: every image is a class of its own, whose weights are the features it had before.

Wu, Xiong, Yu and Lin 2018, "Unsupervised feature learning via non-parametric instance discrimination",
arXiv:1805.01978.
"""

import math
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.contrast import info_nce, same_source
from ...ops.gather import gather, sum_over_ranks, world_size

# An image, or a random frame of a video: all frames of a video are one instance.
CLIPS = partial(random_clips, num_frames=1)


class InstDisc(Method):
    """Find each sample's own row in a bank of the embeddings that all samples had when they were last seen.

    The probability of row i is exp(v_i f / tau) / Z (Eq. 2). There are three losses:

    - num_negatives K and estimator "nce": K rows drawn at random are noise, and Z is a constant, estimated from the
      first batch (Eq. 4 to 8).
    - num_negatives None and "softmax": cross-entropy over all rows (Eq. 2; the authors' choice for CIFAR-10).
    - num_negatives K and "softmax": cross-entropy over the own row and K drawn ones, the memory bank that MoCo compares
      its queue with (He et al. 2020, arXiv:1911.05722, Fig. 2b).

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.moco_v1(224), which are this paper's.
        num_samples: Of the dataset, n: rows of the bank, found by `batch.index`.
        out_dim: Width of a row.
        num_negatives: K, rows drawn for each sample; None takes all.
        estimator: How the loss is normalised.
        temperature: tau; 0.1 on CIFAR-10.
        bank_momentum: Share of the old row in the new one.
        clips: Which frames; by default one.

    Differences from the paper: rows move by a momentum, as in the authors' code, where the paper replaces them and
    pulls new features to old ones (Eq. 9); clips of one source (batch.source_id) are no negatives of each other, nor is
    a sample of itself when it is drawn as noise; biases and norms have no weight decay.
    """

    bank: Tensor
    bank_source_id: Tensor
    normalizer: Tensor
    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        num_samples: int,
        out_dim: int = 128,
        num_negatives: int | None = 4096,
        estimator: Literal["nce", "softmax"] = "nce",
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        if num_negatives is None and estimator == "nce":
            raise ValueError('estimator "nce" needs num_negatives, the rows drawn as noise; got None')
        self.encoder = encoder
        self.view = view
        self.projector = nn.Linear(encoder.dim, out_dim)
        self.num_negatives = num_negatives
        self.estimator = estimator
        self.temperature = temperature
        self.bank_momentum = bank_momentum
        self.clips = clips
        # Directions at random until samples are seen (Sec. 3.1): the same in every process, however it was seeded.
        self.register_buffer("bank", F.normalize(draws.normal(torch.arange(num_samples), out_dim), dim=1))
        self.register_buffer("bank_source_id", torch.full((num_samples,), -1))
        # Z, 0 until the first batch.
        self.register_buffer("normalizer", torch.zeros(()))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Loss of each embedding and the bank; then, in training, the bank takes the embeddings."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        embedding = F.normalize(self.projector(self.encoder(video)).float(), dim=1)
        logits, exclude, own = self.score(embedding, batch)
        if self.estimator == "nce":
            loss, logged = self.noise_contrast(logits, exclude)
        else:
            loss, logged = info_nce(logits, own, exclude=exclude)
        if self.training:
            self.update(embedding, batch)
        return {"loss": loss, **logged}

    def score(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Compare unit vectors (B, E) with rows of the bank.

        Returns:
            v f / tau (B, M); which rows are no negatives (B, M), None where sources are unknown; the column of the own
            row (B,): the first, or of all rows the sample's.
        """
        assert batch.seed is not None
        exclude = same_source(batch.source_id, self.bank_source_id)
        with torch.autocast(embedding.device.type, enabled=False):
            if self.num_negatives is None:
                # Times 1/tau makes a copy: the bank itself changes before the backward pass.
                return embedding @ (self.bank / self.temperature).T, exclude, batch.index
            drawn = draws.integers(batch.seed, len(self.bank), self.num_negatives)
            rows = torch.cat([batch.index[:, None], drawn], dim=1)
            logits = torch.einsum("be, bme -> bm", embedding, self.bank[rows]) / self.temperature
        of_drawn = None if exclude is None else F.pad(exclude.gather(1, drawn), (1, 0))
        return logits, of_drawn, torch.zeros_like(batch.index)

    def noise_contrast(self, logits: Tensor, exclude: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Tell the own row, in the first column, from the noise in the others: Eq. 6 and 7, summed over the noise."""
        if exclude is not None:
            logits = logits.masked_fill(exclude, -torch.inf)
        # Eq. 8, over the processes.
        estimate = sum_over_ranks(logits.detach().exp().mean()) / world_size() * len(self.bank)
        normalizer = torch.where(self.normalizer > 0, self.normalizer, estimate)
        if self.training:
            self.normalizer.copy_(normalizer)
        # h = P / (P + K / n) of Eq. 6 is the sigmoid of log P - log(K / n).
        num_noise = logits.shape[1] - 1
        margin = logits - normalizer.log() - math.log(num_noise / len(self.bank))
        found, refused = F.logsigmoid(margin[:, 0]), F.logsigmoid(-margin[:, 1:])
        return -(found + refused.sum(1)).mean(), {
            "accuracy": (logits.argmax(1) == 0).float().mean(),
            "normalizer": normalizer,
            "probability": (logits[:, 0].detach().exp() / normalizer).mean(),
        }

    @torch.no_grad()
    def update(self, embedding: Tensor, batch: Batch) -> None:
        """Move the rows of the samples of all processes to their embeddings, unit vectors (B, E)."""
        index, embedding = gather(batch.index), gather(embedding)
        moved = F.normalize(torch.lerp(embedding, self.bank[index], self.bank_momentum), dim=1)
        # Of a sample that is in the batch more than once the last one counts, in whatever order rows are written.
        place = torch.arange(len(index), device=index.device)
        last = torch.where(index[:, None] == index, place, -1).amax(1)
        self.bank[index] = moved[last]
        if batch.source_id is not None:
            self.bank_source_id[index] = gather(batch.source_id)

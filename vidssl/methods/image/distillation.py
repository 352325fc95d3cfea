"""Distillation: bring a student's features to those of a network that has learned already.

Cell by cell as Romero et al. 2015, "FitNets: hints for thin deep nets", arXiv:1412.6550; between samples as Park, Kim,
Lu and Cho 2019, "Relational knowledge distillation", arXiv:1904.05068.
"""

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
from ...models.heads import FrameHead
from ...ops.gather import gather

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class Distillation(Method):
    """Predict the teacher's features of the same view, and keep samples as far apart as they are for the teacher.

    Teacher and student may be of any kind, width and stride: a linear layer brings the student's cells to the teacher's
    width, and the teacher's cells are averaged into the student's grid.

    Args:
        encoder: The student: RGB (B, T, 3, H, W) in [0, 1] -> cells (B, T', D, h, w).
        teacher: Anything that models.load_encoder gives; it stays as it is.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], of a size that both take.
        difference: Of two cells: "cosine", one minus the cosine, or "l2", half the squared distance (FitNets, Eq. 3)
            over the width.
        feature_weight: Of the differences between cells, a mean.
        relation_weight: Of the differences between relations, a mean; RKD has 25 for metric learning.
        clips: Which frames; by default one.

    Differences from the paper: cells of the last layer of both; relations are distances of pooled features, without
    the angles of all triples.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        teacher: Encoder,
        view: nn.Module,
        difference: Literal["cosine", "l2"] = "cosine",
        feature_weight: float = 1.0,
        relation_weight: float = 1.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.teacher = teacher.requires_grad_(False)
        self.view = view
        self.head = FrameHead(encoder.dim, teacher.dim)
        self.difference = {"cosine": cosine_difference, "l2": squared_difference}[difference]
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.clips = clips

    def train(self, mode: bool = True) -> "Distillation":
        """Set the mode of all but the teacher: what it says of a sample must not depend on the others."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Weighted sum of the differences between cells and between relations."""
        clips = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        with torch.no_grad():
            wanted = self.teacher.features(clips).float()
        cells = self.encoder.features(clips)
        features = self.difference(self.head(cells).float(), on_grid(wanted, cells)).mean()
        pooled, wanted_pooled = (values.float().mean(dim=(1, 3, 4)) for values in (cells, wanted))
        relations = relation_difference(gather(pooled), gather(wanted_pooled))
        loss = self.feature_weight * features + self.relation_weight * relations
        return {"loss": loss, "feature_difference": features, "relation_difference": relations}


def on_grid(cells: Tensor, other: Tensor) -> Tensor:
    """Average cells into the grid of others: (B, T, D, h, w), (B, T', D', h', w') -> (B, T', D, h', w')."""
    grid = (other.shape[1], *other.shape[3:])
    return F.adaptive_avg_pool3d(cells.transpose(1, 2), grid).transpose(1, 2)


def cosine_difference(found: Tensor, wanted: Tensor) -> Tensor:
    """One minus the cosine of cells: twice (B, T, D, h, w) -> (B, T, h, w), in [0, 2]."""
    return 1 - F.cosine_similarity(found, wanted, dim=2)


def squared_difference(found: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared distance of cells, over the width: twice (B, T, D, h, w) -> (B, T, h, w)."""
    return (found - wanted).square().mean(2) / 2


def relation_difference(found: Tensor, wanted: Tensor) -> Tensor:
    """Huber loss of all distances of two samples, in units of their mean (RKD, Sec. 3.2.1): (N, D), (N, E) -> ()."""
    first, second = (F.pdist(points) for points in (found, wanted))
    return F.smooth_l1_loss(first / first.mean().clamp(min=1e-12), second / second.mean().clamp(min=1e-12))

"""DeepCluster: cluster the features of the corpus, learn the clusters as if they were classes, and again.

Caron, Bojanowski, Joulin and Douze 2018, "Deep clustering for unsupervised learning of visual features",
arXiv:1807.05520.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Epoch, Method
from ...models import Encoder
from ...ops.agreement import normalized_mutual_information
from ...ops.contrast import usage_entropy
from ...ops.gather import gather_rows, own_rows, sum_over_ranks
from ...ops.kmeans import kmeans, nearest

# An image, or a frame of a video: the first one where it is clustered, a random one where it is learned.
CLIPS = partial(random_clips, num_frames=1)


class DeepCluster(Method):
    """Before every pass over the data: features, PCA, whitening, unit length, k-means; then learn the clusters.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D). Without colour ("gray"), or clusters are
            made of colours (Sec. 3.4 takes Sobel filters for that).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        num_samples: Of the dataset, N.
        num_clusters: k; the paper finds 10 times the number of classes best (Sec. 4.1).
        num_components: Of the PCA, at most D (256, Sec. 3.4).
        epochs_per_clustering: Passes over the data between clusterings.
        clips: Which frames; by default one.

    Differences from the paper: samples are not drawn evenly from all clusters, their losses are weighted by the
    inverse of the cluster's size, which is the same in the mean over a pass; grey input instead of Sobel filters;
    k-means starts from k-means++, and moves an empty cluster to the point farthest from its centre, where the authors'
    (faiss) splits a large one; features are pooled, without the paper's fully connected layers and their dropout. The
    classifier has a bias and no momentum, as in the authors' code, which gives it an SGD of its own.
    """

    view: nn.Module
    assignment: Tensor
    sizes: Tensor
    agreement: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        num_samples: int,
        num_clusters: int = 10_000,
        num_components: int = 256,
        epochs_per_clustering: int = 1,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.classifier = nn.Linear(encoder.dim, num_clusters)
        self.num_components = num_components
        self.epochs_per_clustering = epochs_per_clustering
        self.clips = clips
        self.register_buffer("assignment", torch.zeros(num_samples, dtype=torch.int64))
        self.register_buffer("sizes", torch.ones(num_clusters, dtype=torch.int64))
        # NMI of the newest clusters with those before, 0 while there are none.
        self.register_buffer("agreement", torch.zeros(()))

    def before_epoch(self, epoch: Epoch) -> None:
        """Cluster the corpus anew; the classifier, whose classes are new, starts anew.

        Raises:
            ValueError: The dataset has another size than the method was built for.
        """
        if epoch.number % self.epochs_per_clustering:
            return
        features = epoch.extract(self.embed)
        if len(features) != len(self.assignment):
            raise ValueError(
                f"the dataset has {len(features)} samples but the method was built with "
                f"num_samples={len(self.assignment)}"
            )
        assignment = self.cluster(features)
        self.agreement.fill_(normalized_mutual_information(self.assignment, assignment))
        self.assignment.copy_(assignment)
        self.sizes.copy_(torch.bincount(assignment, minlength=len(self.sizes)))
        nn.init.normal_(self.classifier.weight, std=0.01)  # as the authors' code
        nn.init.zeros_(self.classifier.bias)
        epoch.forget(self.classifier.parameters())

    def cluster(self, features: Tensor) -> Tensor:
        """Name the cluster of each sample: (N, D), the same in every process -> int64 (N,), likewise.

        Each process works on its part of the samples.
        """
        points = F.normalize(whiten(own_rows(features).float(), self.num_components, shared=True), dim=1)
        centers = kmeans(points, len(self.sizes), num_iterations=20, shared=True)  # 20: as the authors' code
        return gather_rows(nearest(points, centers))

    def param_groups(self) -> list[dict[str, Any]]:
        """All with weight decay, the classifier without momentum: the authors' main.py."""
        return [
            {"params": list(self.encoder.parameters())},
            {"params": list(self.classifier.parameters()), "momentum": 0.0},
        ]

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the clusters (Eq. 2), every cluster with the same weight (Sec. 3.3)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        label = self.assignment[batch.index]
        logits = self.classifier(self.encoder(video))
        num_filled = (self.sizes > 0).sum()
        # What a sample that is drawn with probability 1 / (clusters * size) counts, over one drawn with 1 / N.
        weight = len(self.assignment) / (num_filled * self.sizes[label])
        loss = (weight * F.cross_entropy(logits.float(), label, reduction="none")).mean()
        return {
            "loss": loss,
            "accuracy": (logits.argmax(1) == label).float().mean(),
            "cluster_entropy": usage_entropy(self.sizes[None] / self.sizes.sum()),
            "largest_cluster": self.sizes.max() / self.sizes.sum(),
            "nmi_with_previous": self.agreement,
        }


def whiten(features: Tensor, num_components: int, *, shared: bool = False) -> Tensor:
    """Keep the principal components and bring each to deviation 1: (N, D) -> (N, min(num_components, D)).

    Args:
        features: Of any number of samples.
        num_components: At most.
        shared: Whether every process holds samples of its own, all of which are looked at.
    """
    total = sum_over_ranks if shared else lambda value: value
    num_samples = total(torch.tensor(len(features), device=features.device))
    centered = features - total(features.sum(0)) / num_samples
    variances, axes = torch.linalg.eigh(total(centered.T @ centered) / num_samples)  # in rising order
    # A direction in which nothing varies holds rounding errors; without the floor whitening would blow them up.
    floor = variances[-1] * 1e-6
    kept = slice(-min(num_components, features.shape[1]), None)
    return centered @ axes[:, kept] / variances[kept].clamp(min=floor).sqrt()

"""DeepCluster v2: cluster the embeddings of the last pass by direction, learn the clusters, and again.

Caron, Misra, Mairal, Goyal, Bojanowski and Joulin 2020, arXiv:2006.09882, Sec. 4.1 and App. C; DeepCluster is of Caron,
Bojanowski, Joulin and Douze 2018, arXiv:1807.05520.
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
from ...models.heads import mlp
from ...ops import draws
from ...ops.agreement import normalized_mutual_information
from ...ops.contrast import usage_entropy
from ...ops.gather import gather, gather_rows, own_rows
from ...ops.kmeans import kmeans, nearest
from ...ops.pictures import nearest_to_each

# An image, or a random frame of a video; the first one where there is nothing to cluster yet.
CLIPS = partial(random_clips, num_frames=1)


class DeepClusterV2(Method):
    """Name the cluster of a clip from each of its crops; centroids are the prototypes, so that nothing starts anew.

    What is clustered are embeddings that training made anyway, of the two large crops of the last pass. Several heads,
    clustered each by itself, from one crop and the other in turn.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] of either size -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> large float clips in [0, 1], for example
            augment.recipes.swav_global(160).
        local_view: The same for small clips, for example augment.recipes.swav_local(96).
        num_samples: Of the dataset, N.
        num_local_views: Small crops of each clip.
        num_clusters: K, of each head.
        num_heads: H.
        hidden_dim: Of the projector.
        out_dim: Width of the embeddings.
        temperature: Of the cosines.
        num_iterations: Of k-means.
        clips: Which frames; by default one.

    Differences from the authors' code (main_deepclusterv2.py): the first embeddings are those of un-augmented clips; an
    empty cluster moves to the embedding farthest from its centroid; the prototypes are centroids throughout, where some
    of their recipes train them from step 300 000 on.
    """

    view: nn.Module
    bank: Tensor
    prototypes: Tensor
    assignment: Tensor
    sizes: Tensor
    agreement: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        local_view: nn.Module,
        num_samples: int,
        num_local_views: int = 4,
        num_clusters: int = 3000,
        num_heads: int = 3,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        temperature: float = 0.1,
        num_iterations: int = 10,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.local_view = local_view
        self.num_local_views = num_local_views
        self.projector = mlp(encoder.dim, hidden_dim, out_dim, last_bias=True)
        self.temperature = temperature
        self.num_iterations = num_iterations
        self.clips = clips
        self.register_buffer("bank", torch.zeros(num_samples, 2, out_dim))  # of the two large crops
        self.register_buffer("prototypes", torch.zeros(num_heads, num_clusters, out_dim))
        self.register_buffer("assignment", torch.zeros(num_heads, num_samples, dtype=torch.int64))
        # Of the first head: clips in each cluster, and NMI with the clusters before, 0 while there are none.
        self.register_buffer("sizes", torch.ones(num_clusters, dtype=torch.int64))
        self.register_buffer("agreement", torch.zeros(()))

    def before_epoch(self, epoch: Epoch) -> None:
        """Cluster the embeddings anew.

        Raises:
            ValueError: The dataset has another size than the method was built for, or fewer samples than clusters.
        """
        if epoch.number == 0:
            embeddings = epoch.extract(self.embed)
            if len(embeddings) != len(self.bank):
                raise ValueError(
                    f"the dataset has {len(embeddings)} samples but the method was built with "
                    f"num_samples={len(self.bank)}"
                )
            self.bank.copy_(embeddings[:, None].expand(-1, 2, -1))
        before = self.assignment[0].clone()
        num_heads, num_clusters, _ = self.prototypes.shape
        for head in range(num_heads):
            points = self.bank[:, head % 2]
            start = points[torch.randperm(len(points), device=points.device)[:num_clusters]]
            own = own_rows(points)
            centers = kmeans(
                own, num_clusters, num_iterations=self.num_iterations, start=start, spherical=True, shared=True
            )
            self.prototypes[head] = centers
            self.assignment[head] = gather_rows(nearest(own, centers))
        self.sizes.copy_(torch.bincount(self.assignment[0], minlength=len(self.sizes)))
        self.agreement.fill_(normalized_mutual_information(before, self.assignment[0]))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the clusters, mean over heads, crops and clips."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        seeds = [draws.mix(batch.host_seed, number) for number in range(2 + self.num_local_views)]
        large = [self.view(video, seed, *batch.stretch) for seed in seeds[:2]]
        small = [self.local_view(video, seed, *batch.stretch) for seed in seeds[2:]]
        embeddings = self.project(torch.cat([self.encoder(torch.cat(group)) for group in (large, small) if group]))
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = torch.einsum("ne, hke -> hnk", embeddings, self.prototypes) / self.temperature
        label = self.assignment[:, batch.index].repeat(1, len(seeds))  # (H, V B)
        loss = F.cross_entropy(scores.flatten(0, 1), label.flatten())
        if self.training:
            self.remember(batch.index, embeddings.unflatten(0, (-1, len(video)))[:2])
        return {
            "loss": loss,
            "accuracy": (scores.argmax(2) == label).float().mean(),
            "cluster_entropy": usage_entropy(self.sizes[None] / self.sizes.sum()),
            "nmi_with_previous": self.agreement,
        }

    def project(self, features: Tensor) -> Tensor:
        """Embed features as unit vectors, float32: (N, D) -> (N, E)."""
        return F.normalize(self.projector(features).float(), dim=1)

    @torch.no_grad()
    def remember(self, index: Tensor, embeddings: Tensor) -> None:
        """Put embeddings of all processes into the bank: int64 (B,), (2, B, E)."""
        self.bank[gather(index)] = gather(embeddings.transpose(0, 1).contiguous())

    def param_groups(self) -> list[dict[str, Any]]:
        """All with weight decay: the authors' main_deepclusterv2.py."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def embed(self, batch: Batch) -> Tensor:
        """Embed the first clip of each sample as a unit vector, (B, out_dim)."""
        return self.project(super().embed(batch))

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """First frames nearest to each of four clusters of the first head, a row each."""
        assert batch.video is not None
        scores = self.embed(batch) @ self.prototypes[0].T
        return {"clusters": nearest_to_each(batch.video[:, 0, 0].float() / 255, scores)}

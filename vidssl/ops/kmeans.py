"""k-means clustering (Lloyd 1982; seeding of Arthur and Vassilvitskii 2007, k-means++)."""

import torch
from torch import Tensor

# Points whose distances are held at once: 64 MB of float32 at 256 clusters.
BLOCK = 65_536


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Index of the nearest centre (Euclidean): (N, D), (K, D) -> int64 (N,)."""
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, of which the first term is the same for all centres.
    norms = centers.square().sum(1)
    return torch.cat([torch.addmm(norms, block, centers.T, alpha=-2).argmin(1) for block in points.split(BLOCK)])


def kmeans(points: Tensor, num_clusters: int, *, num_iterations: int = 50) -> Tensor:
    """Cluster points into `num_clusters`; draws from torch's generator.

    An empty cluster is moved to the point that lies farthest from its centre.

    Args:
        points: (N, D), float, N >= num_clusters.
        num_clusters: K.
        num_iterations: Upper bound; stops when no point changes its cluster.

    Returns:
        Centres, (K, D).

    Raises:
        ValueError: There are fewer points than clusters.
    """
    if len(points) < num_clusters:
        raise ValueError(f"{len(points)} points cannot be put into {num_clusters} clusters")
    centers = _plus_plus(points, num_clusters)
    assignment = nearest(points, centers)
    for _ in range(num_iterations):
        sums = torch.zeros_like(centers).index_add(0, assignment, points)
        counts = torch.bincount(assignment, minlength=num_clusters)
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            distance = (points - centers[assignment]).square().sum(1)
            centers = centers.index_copy(0, empty, points[distance.topk(len(empty)).indices])
        previous, assignment = assignment, nearest(points, centers)
        if not len(empty) and torch.equal(previous, assignment):
            break
    return centers


def _plus_plus(points: Tensor, num_clusters: int) -> Tensor:
    """Draw initial centres one by one, with probability proportional to the squared distance to the nearest."""
    chosen = [torch.randint(len(points), (1,), device=points.device)]
    distance = (points - points[chosen[0]]).square().sum(1)
    for _ in range(num_clusters - 1):
        # Where every point coincides with a centre (fewer distinct points than clusters), any point will do.
        weights = distance if distance.sum() > 0 else torch.ones_like(distance)
        # multinomial takes at most 2^24 categories; the cumulative sum takes any number.
        cumulative = weights.double().cumsum(0)
        draw = torch.rand(1, dtype=torch.float64, device=points.device) * cumulative[-1]
        chosen.append(torch.searchsorted(cumulative, draw, right=True).clamp(max=len(points) - 1))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
    return points[torch.cat(chosen)]

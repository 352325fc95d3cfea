"""k-means clustering (Lloyd 1982; seeding of Arthur and Vassilvitskii 2007, k-means++)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .gather import gather_rows, rank, sum_over_ranks

Collective = Callable[[Tensor], Tensor]

# Distances held at once: 8 MB of float32 stay in the processor's caches, a GPU has enough to do.
_BLOCK_DISTANCES = {"cpu": 2**21, "cuda": 2**26}

_RUN = 64  # distances; the fastest on a CPU of 16 to 512


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Index of the nearest centre (Euclidean), under autocast as well: (N, D), (K, D) -> int64 (N,)."""
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, of which the first term is the same for all centres.
    missing = -len(centers) % _RUN
    norms = F.pad(centers.square().sum(1), (0, missing), value=torch.inf)
    centers = F.pad(centers, (0, 0, 0, missing))
    rows = max(1, _BLOCK_DISTANCES.get(points.device.type, 2**21) // len(centers))
    with torch.autocast(points.device.type, enabled=False):
        blocks = (torch.addmm(norms, block, centers.T, alpha=-2) for block in points.split(rows))
        return torch.cat([_place_of_least(block) for block in blocks])


def _place_of_least(values: Tensor) -> Tensor:
    """First place of the least value of each row: (N, K), K a multiple of _RUN -> int64 (N,)."""
    # The least value alone is found ten times faster on a CPU than together with its place: places are looked for
    # among the least values of runs, then in one run.
    runs = values.unflatten(1, (-1, _RUN))
    run = runs.amin(2).min(1).indices
    inside = runs[torch.arange(len(runs), device=values.device), run].min(1).indices
    return run * _RUN + inside


def kmeans(
    points: Tensor,
    num_clusters: int,
    *,
    num_iterations: int = 50,
    start: Tensor | None = None,
    spherical: bool = False,
    shared: bool = False,
) -> Tensor:
    """Cluster points into `num_clusters`; draws from torch's generator, and is deterministic otherwise.

    An empty cluster is moved to the point that lies farthest from its centre.

    Args:
        points: (N, D), float, N >= num_clusters.
        num_clusters: K.
        num_iterations: Upper bound; stops when no point changes its cluster.
        start: Initial centres (K, D); None draws them by k-means++.
        spherical: Whether centres are brought to length 1 after every iteration: for points of length 1, the
            nearest centre is then the one of the largest cosine.
        shared: Whether every process holds points of its own (or none), all of which are clustered: sums go over
            the processes, points stay where they are. Generators must be in one state on all of them.

    Returns:
        Centres, (K, D), the same on every process.

    Raises:
        ValueError: There are fewer points than clusters, or the start is not (K, D).
    """
    joined, total = (gather_rows, sum_over_ranks) if shared else (_alone, _alone)
    num_points = int(total(torch.tensor(len(points), device=points.device)))
    if num_points < num_clusters:
        raise ValueError(
            f"{num_points} points cannot be put into {num_clusters} clusters; lower the number of clusters, or give as "
            "many points"
        )
    centers = _plus_plus(points, num_clusters, num_points, joined, total) if start is None else start
    if centers.shape != (num_clusters, points.shape[1]):
        raise ValueError(f"start has shape {tuple(centers.shape)}, expected ({num_clusters}, {points.shape[1]})")
    previous = None
    for _ in range(num_iterations):
        assignment = nearest(points, centers)
        if previous is not None and total((previous != assignment).sum()) == 0:
            break
        sums, counts = (total(part) for part in _cluster_sums(points, assignment, num_clusters))
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            distance = (points - centers[assignment]).square().sum(1)
            own = distance.topk(min(len(empty), len(points)))
            farthest = joined(own.values).topk(len(empty)).indices
            centers = centers.index_copy(0, empty, joined(points[own.indices])[farthest])
        if spherical:
            centers = F.normalize(centers, dim=1)
        previous = None if len(empty) else assignment
    return centers


def _alone(value: Tensor) -> Tensor:
    """What one process knows is all there is."""
    return value


def _cluster_sums(points: Tensor, assignment: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Sum (K, D) and number (K,) of the points of each cluster, in the order of the points on every device."""
    counts = torch.bincount(assignment, minlength=num_clusters)
    if points.device.type == "cpu":
        return points.new_zeros(num_clusters, points.shape[1]).index_add(0, assignment, points), counts
    # On a GPU index_add would add in any order.
    order = assignment.argsort(stable=True)
    return torch.segment_reduce(points[order], "sum", lengths=counts), counts


def _plus_plus(
    points: Tensor, num_clusters: int, num_points: int, joined: Collective, total: Collective
) -> Tensor:
    """Draw initial centres one by one, with probability proportional to the squared distance to the nearest."""
    norms = points.square().sum(1)
    distance = torch.full_like(norms, torch.inf)
    ends = joined(torch.tensor([len(points)], dtype=torch.float64, device=points.device)).cumsum(0)
    draw = torch.randint(num_points, (1,), device=points.device).double()
    numbers = torch.arange(len(points), device=points.device)
    cumulative = numbers.double() + 1
    chosen = []
    while True:
        # Processes hold consecutive pieces of the cumulative sum; the one that the draw falls into gives the point.
        place = rank() if len(ends) > 1 else 0
        is_mine = torch.searchsorted(ends, draw, right=True).clamp(max=len(ends) - 1) == place
        before = ends[place - 1] if place > 0 else 0.0
        index = torch.searchsorted(cumulative, draw - before, right=True).clamp(max=max(len(points) - 1, 0))
        center = total((points if len(points) else points.new_zeros(1, points.shape[1]))[index] * is_mine)
        chosen.append(center)
        if len(chosen) == num_clusters:
            return torch.cat(chosen)
        # Squared distances by a matrix product; exactly 0 to itself.
        squared = norms - 2 * (points @ center.T).squeeze(1) + center.square().sum()
        squared = squared.clamp(min=0)
        distance = torch.minimum(distance, squared.where(~is_mine | (numbers != index), 0))
        # Where every point coincides with a centre (fewer distinct points than clusters), any point will do.
        weights = distance if total(distance.sum()) > 0 else torch.ones_like(distance)
        # multinomial takes at most 2^24 categories; the cumulative sum takes any number.
        cumulative = weights.double().cumsum(0)
        ends = joined(F.pad(cumulative, (1, 0))[-1:]).cumsum(0)  # 0 of a process without points
        draw = torch.rand(1, dtype=torch.float64, device=points.device) * ends[-1]

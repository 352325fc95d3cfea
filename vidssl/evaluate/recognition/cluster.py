"""Clusters of features against classes: what k-means finds without a single label."""

import torch
from torch import Tensor

from ...ops.kmeans import kmeans
from ...ops.kmeans import nearest as nearest_center
from ..metrics.clustering import adjusted_rand_index, hungarian_accuracy, normalized_mutual_information, purity
from ..metrics.interval import Intervals, intervals_of, uncertainty
from .class_counts import check_classes
from .outcome import Outcome, Samples, unit_means
from .predictions import Column


def evaluate_clusters(
    samples: Samples,
    *,
    num_clusters: int | None = None,
    num_restarts: int = 10,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Cluster samples by k-means on vectors of length 1, and compare the clusters with the classes.

    Of several restarts the one of the lowest inertia counts, which no label decides.

    Args:
        samples: What to cluster.
        num_clusters: K; None is the number of classes that the samples hold.
        num_restarts: Draws of initial centres.
        seed: Of those draws.
        device: Where to cluster.

    Returns:
        figures: "nmi" (normalised mutual information, arithmetic mean), "ari" (adjusted Rand index, about 0 by
            chance, can be negative), "purity" (share of the samples that are of their cluster's most frequent class;
            grows with K), "hungarian_accuracy" (share under the best one-to-one assignment of clusters to classes).
        parts: The same and "inertia" (mean squared distance to the centre) of "restart 0", ...
        chosen: "num_clusters", "restart", "inertia", "num_samples".
        predicted: The cluster of each sample.

    Raises:
        ValueError: There are fewer samples than clusters, no restart, or one class.
    """
    if num_restarts < 1:
        raise ValueError(f"num_restarts is {num_restarts}, expected at least 1")
    check_classes(samples.label.tolist(), what="clustered")
    num_clusters = len(samples.label.unique()) if num_clusters is None else num_clusters
    points = unit_means(samples.values).float().to(device)
    parts: dict[str, dict[str, float]] = {}
    clusters: list[Tensor] = []
    for number in range(num_restarts):
        with torch.random.fork_rng():
            torch.manual_seed(seed * num_restarts + number)
            centers = kmeans(points, num_clusters)
        cluster = nearest_center(points, centers)
        clusters.append(cluster.cpu())
        inertia = (points - centers[cluster]).double().square().sum(1).mean().item()
        parts[f"restart {number}"] = {**agreement(clusters[-1], samples.label), "inertia": inertia}
    best = min(range(num_restarts), key=lambda number: parts[f"restart {number}"]["inertia"])
    figures = dict(parts[f"restart {best}"])
    inertia = figures.pop("inertia")
    return Outcome(
        figures=figures,
        parts=parts,
        chosen={"num_clusters": num_clusters, "restart": best, "inertia": inertia, "num_samples": len(samples)},
        predicted=clusters[best],
        uncertainty=uncertainty(
            _intervals(clusters[best], samples.label, samples.source),
            num_units=len(samples.source.unique()),
            num_samples=len(samples),
            note="of these clusters: k-means is not run again for each draw",
        ),
        columns=(Column("cluster", clusters[best]),),
    )


def _intervals(cluster: Tensor, label: Tensor, source: Tensor) -> Intervals:
    _, unit = source.unique(return_inverse=True)

    def agreements(counts: Tensor) -> dict[str, Tensor]:
        rows = [agreement(*(one.repeat_interleave(row[unit]) for one in (cluster, label))) for row in counts]
        return {name: torch.tensor([row[name] for row in rows]).double() for name in rows[0]}

    return intervals_of(agreements, int(unit.max()) + 1)


def agreement(cluster: Tensor, label: Tensor) -> dict[str, float]:
    """All measures of agreement of clusters with classes, int64 (N,) each."""
    return {
        "nmi": normalized_mutual_information(cluster, label),
        "ari": adjusted_rand_index(cluster, label),
        "purity": purity(cluster, label),
        "hungarian_accuracy": hungarian_accuracy(cluster, label),
    }

import pytest
import torch

from vidssl.ops.kmeans import kmeans, nearest


def test_nearest_equals_the_loop():
    points, centers = torch.randn(50, 3), torch.randn(7, 3)
    slow = [min(range(7), key=lambda k: float((point - centers[k]).norm())) for point in points]
    assert nearest(points, centers).tolist() == slow


def test_kmeans_finds_separated_groups():
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = (means[:, None] + 0.3 * torch.randn(4, 200, 2)).flatten(0, 1)
    centers = kmeans(points, 4)
    order = nearest(means, centers)
    assert order.unique().numel() == 4
    expected = points.view(4, 200, 2).mean(1)
    torch.testing.assert_close(centers[order], expected, atol=1e-5, rtol=0)


def test_kmeans_ends_where_lloyd_ends():
    points = torch.rand(300, 2, dtype=torch.float64)
    centers = kmeans(points, 5, num_iterations=500)
    assignment = nearest(points, centers)
    means = torch.stack([points[assignment == k].mean(0) for k in range(5)])
    torch.testing.assert_close(centers, means, atol=1e-12, rtol=0)


def test_kmeans_with_fewer_distinct_points_than_clusters():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(10, 1)
    centers = kmeans(points, 4)
    assert (torch.cdist(points, centers).min(1).values == 0).all()


def test_an_empty_cluster_moves_to_the_farthest_point(monkeypatch):
    # Both initial centres coincide, so one cluster is empty; the outlier must get it.
    points = torch.tensor([[0.0], [0.1], [0.2], [50.0]])
    monkeypatch.setattr("vidssl.ops.kmeans._plus_plus", lambda points, num: torch.tensor([[0.0], [0.0]]))
    assert sorted(kmeans(points, 2).flatten().tolist()) == pytest.approx([0.1, 50.0])


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="3 points cannot be put into 4 clusters"):
        kmeans(torch.zeros(3, 2), 4)

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


def test_an_empty_cluster_moves_to_the_farthest_point():
    # Both initial centres coincide, so one cluster is empty; the outlier must get it.
    points = torch.tensor([[0.0], [0.1], [0.2], [50.0]])
    start = torch.tensor([[0.0], [0.0]])
    assert sorted(kmeans(points, 2, start=start).flatten().tolist()) == pytest.approx([0.1, 50.0])


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="3 points cannot be put into 4 clusters; lower the number"):
        kmeans(torch.zeros(3, 2), 4)


def lloyd(points, centers, *, num_iterations, spherical=False):
    """k-means as the textbook writes it, cluster by cluster."""
    for _ in range(num_iterations):
        assignment = torch.cdist(points, centers).argmin(1)
        centers = torch.stack([points[assignment == k].mean(0) for k in range(len(centers))])
        if spherical:
            centers = centers / centers.norm(dim=1, keepdim=True)
    return centers


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("num_iterations", [1, 3, 200])
def test_a_given_start_is_moved_as_lloyd_moves_it(spherical, num_iterations):
    points = torch.randn(400, 6, dtype=torch.float64)
    if spherical:
        points = torch.nn.functional.normalize(points, dim=1)
    start = points[::50]
    centers = kmeans(points, 8, num_iterations=num_iterations, start=start, spherical=spherical)
    expected = lloyd(points, start, num_iterations=num_iterations, spherical=spherical)
    torch.testing.assert_close(centers, expected, atol=1e-12, rtol=0)


def test_blocks_change_nothing(monkeypatch):
    points, centers = torch.randn(1000, 5), torch.randn(12, 5)
    whole = nearest(points, centers)
    monkeypatch.setattr("vidssl.ops.kmeans._BLOCK_DISTANCES", {"cpu": 100})
    assert torch.equal(nearest(points, centers), whole)


def test_seeds_are_drawn_with_probability_proportional_to_the_squared_distance():
    # From the first of three points, at 0, 1 and 3, far from the origin: 1 and 3 follow with 1 / 10 and 9 / 10.
    points = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64) + 100
    counts = torch.zeros(3, 3)
    for seed in range(600):
        torch.manual_seed(seed)
        first, second = kmeans(points, 2, num_iterations=0).flatten().sub(100).round().long().tolist()
        counts[{0: 0, 1: 1, 3: 2}[first], {0: 0, 1: 1, 3: 2}[second]] += 1
    shares = counts / counts.sum(1, keepdim=True)
    expected = torch.tensor([[0, 0.1, 0.9], [0.2, 0, 0.8], [9 / 13, 4 / 13, 0]])
    assert (shares - expected).abs().max() < 0.08


def test_equal_draws_give_equal_centres():
    points = torch.randn(300, 4)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(kmeans(points, 30))
    assert torch.equal(*runs)


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"start has shape \(2, 3\), expected \(4, 3\)"):
        kmeans(torch.rand(9, 3), 4, start=torch.zeros(2, 3))

import pytest
import torch

from vidssl.ops.sinkhorn import sinkhorn


def as_swav_writes_it(scores, *, temperature, num_iterations):
    """Scalings in turn, as the paper's listing has them (Caron et al. 2020, Algorithm 1)."""
    shares = (scores.double() / temperature).exp().T
    shares = shares / shares.sum()
    num_prototypes, num_samples = shares.shape
    for _ in range(num_iterations):
        shares = shares / shares.sum(1, keepdim=True) / num_prototypes
        shares = shares / shares.sum(0, keepdim=True) / num_samples
    return (shares * num_samples).T


@pytest.mark.parametrize("num_iterations", [1, 3, 20])
def test_it_equals_the_listing(num_iterations):
    scores = torch.randn(30, 7).clamp(-1, 1)
    expected = as_swav_writes_it(scores, temperature=0.05, num_iterations=num_iterations)
    found = sinkhorn(scores, num_iterations=num_iterations)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_all_prototypes_are_used_equally_in_the_end():
    shares = sinkhorn(torch.rand(64, 8), num_iterations=500)
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    torch.testing.assert_close(shares.sum(0), torch.full((8,), 8.0), atol=1e-3, rtol=0)


def test_scores_that_overflow_as_exponentials_do_not():
    scores = torch.rand(12, 5)
    assert torch.isinf(((scores + 64) / 0.05).exp()).all()
    torch.testing.assert_close(sinkhorn(scores + 64), sinkhorn(scores), atol=1e-3, rtol=0)
    assert torch.equal(sinkhorn(scores.bfloat16()), sinkhorn(scores.bfloat16().float()))


def test_the_order_of_samples_and_prototypes_is_no_matter():
    scores, rows, columns = torch.rand(12, 5), torch.randperm(12), torch.randperm(5)
    torch.testing.assert_close(sinkhorn(scores[rows][:, columns]), sinkhorn(scores)[rows][:, columns])

import math

import pytest
import torch
from allocations import Allocations

from vidssl.ops.contrast import cosine_logits, info_nce, same_source, usage_entropy


def test_info_nce_equals_the_sum_written_out():
    torch.manual_seed(0)
    logits, positive = 3 * torch.randn(6, 9), torch.randint(9, (6,))
    exclude = torch.rand(6, 9) < 0.4
    exclude[0, positive[0]] = True  # a positive that is asked to be left out stays
    loss, logged = info_nce(logits, positive, exclude=exclude)
    losses, hits, counts = [], [], []
    for query in range(6):
        right = int(positive[query])
        candidates = [c for c in range(9) if c == right or not exclude[query, c]]
        total = sum(math.exp(float(logits[query, c])) for c in candidates)
        losses.append(-math.log(math.exp(float(logits[query, right])) / total))
        hits.append(max(candidates, key=lambda c: float(logits[query, c])) == right)
        counts.append(len(candidates))
    assert float(loss) == pytest.approx(sum(losses) / 6, abs=1e-5)
    assert float(logged["accuracy"]) == pytest.approx(sum(hits) / 6)
    assert float(logged["nce_over_chance"]) == pytest.approx(sum(losses) / 6 / math.log(sum(counts) / 6), abs=1e-5)


def test_equal_logits_are_chance():
    loss, logged = info_nce(torch.full((4, 7), 2.0), torch.tensor([0, 1, 2, 6]))
    assert float(loss) == pytest.approx(math.log(7), abs=1e-6)
    assert float(logged["nce_over_chance"]) == pytest.approx(1, abs=1e-6)


def test_what_is_left_out_gets_no_gradient():
    logits = torch.zeros(1, 4, requires_grad=True)
    loss, _ = info_nce(logits, torch.tensor([0]), exclude=torch.tensor([[False, True, False, False]]))
    loss.backward()
    # Softmax over three candidates less the positive.
    torch.testing.assert_close(logits.grad, torch.tensor([[1 / 3 - 1, 0, 1 / 3, 1 / 3]]))


def test_half_precision_logits_are_summed_in_single():
    logits = torch.tensor([[11.0, 0.0]], dtype=torch.float16)
    loss, _ = info_nce(logits, torch.tensor([0]))
    assert float(loss) == pytest.approx(math.log1p(math.exp(-11)), rel=1e-2)  # 1.7e-5; zero in half precision


def test_same_source():
    same = same_source(torch.tensor([4, 7]), torch.tensor([7, 4, 7]))
    assert same.tolist() == [[False, True, False], [True, False, True]]
    assert same_source(None, torch.tensor([1])) is None and same_source(torch.tensor([1]), None) is None


@pytest.mark.parametrize(
    ("probabilities", "entropy"),
    [
        ([[1.0, 0, 0, 0], [1, 0, 0, 0]], 0.0),
        ([[1.0, 0, 0, 0], [0, 1, 0, 0]], 0.5),  # two of four clusters: log 2 / log 4
        ([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], 1.0),
        ([[0.25, 0.25, 0.25, 0.25]], 1.0),  # a single undecided sample looks even too
    ],
)
def test_usage_entropy(probabilities, entropy):
    assert float(usage_entropy(torch.tensor(probabilities))) == pytest.approx(entropy, abs=1e-6)


def test_cosine_logits_ignore_length():
    queries, candidates = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.5, 0.0], [0.0, 9.0]])
    expected = torch.tensor([[1, 0], [0.5**0.5, 0.5**0.5]]) / 0.1
    torch.testing.assert_close(cosine_logits(queries, candidates, temperature=0.1), expected)


def test_nothing_larger_than_the_logits_is_made():
    logits, positive = torch.randn(30, 50, requires_grad=True), torch.randint(50, (30,))
    with Allocations() as made:
        loss, _ = info_nce(logits, positive, exclude=torch.rand(30, 50) < 0.1)
        loss.backward()
    assert max(made.sizes_bytes) == 30 * 50 * 4

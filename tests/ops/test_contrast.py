import math

import pytest
import torch
from allocations import Allocations

from vidssl.ops.contrast import cosine_logits, info_nce, map_nce, same_source, usage_entropy


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


def map_oracle(sources: torch.Tensor, maps: torch.Tensor, source_id: list[int], clip: float):
    """Each cell of the own map against all cells of clips of other sources: loss and mean square of raw scores."""
    num_clips, dim, num_cells = maps.shape
    raw = [
        [[sources[b] @ maps[m, :, cell] / math.sqrt(dim) for cell in range(num_cells)] for m in range(num_clips)]
        for b in range(num_clips)
    ]
    total = 0.0
    for b in range(num_clips):
        for cell in range(num_cells):
            own = (clip * torch.tanh(raw[b][b][cell] / clip)).exp()
            others = 0.0
            for m in range(num_clips):
                if source_id[m] != source_id[b]:
                    for other in range(num_cells):
                        others = others + (clip * torch.tanh(raw[b][m][other] / clip)).exp()
            total = total - (own / (own + others)).log()
    squares = [score.square() for lines in raw for line in lines for score in line]
    return total / (num_clips * num_cells), sum(squares) / len(squares)


@pytest.mark.parametrize("source", [None, [4, 4, 2, 3]])
def test_loss_and_gradient_equal_the_sum_written_out(source):
    sources = (3 * torch.randn(4, 5)).requires_grad_()
    maps = (3 * torch.randn(4, 5, 2, 3)).requires_grad_()
    ids = source or [0, 1, 2, 3]
    expected, expected_size = map_oracle(sources, maps.flatten(2), ids, 6.0)
    gradients = torch.autograd.grad(expected + expected_size, (sources, maps))
    exclude = None if source is None else torch.tensor(ids)[:, None] == torch.tensor(ids)
    loss, size, _ = map_nce(sources, maps, tanh_clip=6.0, exclude=exclude)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert size.item() == pytest.approx(expected_size.item(), rel=1e-5)
    found = torch.autograd.grad(loss + size, (sources, maps))
    torch.testing.assert_close(found, gradients, atol=1e-5, rtol=1e-4)


def test_equal_maps_score_chance():
    """The own cell against six cells of each of two other clips."""
    loss, _, _ = map_nce(torch.ones(3, 4), torch.ones(3, 4, 6), tanh_clip=20.0)
    assert loss.item() == pytest.approx(math.log(1 + 2 * 6), abs=1e-5)


def test_other_cells_of_the_own_map_are_no_negatives():
    maps = torch.randn(2, 4, 3)
    loss, _, accuracy = map_nce(maps[:, :, 0], 50 * maps[:, :, :1].expand(-1, -1, 3), tanh_clip=20.0)
    other = maps[0, :, 0] @ maps[1, :, 0]
    if float(other) < float(maps[:, :, 0].square().sum(1).min()):
        assert accuracy.item() == 1.0
    single, _, _ = map_nce(maps[:, :, 0], 50 * maps[:, :, :1], tanh_clip=20.0)
    # Three equal cells count three times as negatives of the others, and not at all as their own.
    assert loss.item() >= single.item()
    assert loss.item() <= single.item() + math.log(3) + 1e-6


def test_scores_are_bent_below_the_limit():
    """However far apart, the loss of a wrong pair is at most twice the limit above that of a right one."""
    sources, maps = 100 * torch.eye(2), -100 * torch.eye(2)[..., None]
    loss, size, _ = map_nce(sources, maps, tanh_clip=5.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(5.0)), abs=1e-4)
    assert size.item() == pytest.approx((100 * 100 / math.sqrt(2)) ** 2 / 2, rel=1e-5)

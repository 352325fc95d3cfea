import math

import pytest
import torch

from vidssl.ops.monitors import collapse_monitors, is_collapsed


def test_equal_embeddings_are_a_collapse():
    figures = collapse_monitors(torch.tensor([[0.3, -2.0, 1.0]]).expand(5, -1))
    assert float(figures["embedding_std"]) == pytest.approx(0, abs=1e-6)
    assert float(figures["mean_cosine"]) == pytest.approx(1, abs=1e-6)


def test_a_collapse_but_for_rounding_has_no_rank_to_speak_of():
    # One direction in the differences: rank 1, however small they are.
    line = torch.tensor([1.0, 0, 0]) + torch.tensor([[0.0], [1e-3], [2e-3]]) * torch.tensor([0.0, 1, 0])
    assert float(collapse_monitors(line)["effective_rank"]) == pytest.approx(1, abs=0.01)


def test_orthogonal_embeddings():
    figures = collapse_monitors(torch.eye(4))
    # Each dimension is (1, 0, 0, 0): variance 0.75 / 3, deviation 0.5, times sqrt(4). Centred they span 3 dimensions.
    assert float(figures["embedding_std"]) == pytest.approx(1, abs=1e-6)
    assert float(figures["effective_rank"]) == pytest.approx(3, abs=1e-4)
    assert float(figures["mean_cosine"]) == pytest.approx(0, abs=1e-6)


def test_opposite_embeddings():
    figures = collapse_monitors(torch.tensor([[2.0, 0], [-3.0, 0]]))
    # Unit vectors 1 and -1: deviation sqrt(2) in one of two dimensions.
    assert float(figures["embedding_std"]) == pytest.approx(math.sqrt(2) / 2 * math.sqrt(2), abs=1e-6)
    assert float(figures["effective_rank"]) == pytest.approx(1, abs=1e-5)
    assert float(figures["mean_cosine"]) == pytest.approx(-1, abs=1e-6)


def test_figures_equal_loops_and_ignore_scale():
    embeddings = torch.randn(7, 5) + 1
    figures = collapse_monitors(embeddings)
    unit = [[float(x) / math.sqrt(sum(float(y) ** 2 for y in row)) for x in row] for row in embeddings]
    pairs = [(a, b) for a in range(7) for b in range(7) if a != b]
    cosine = sum(sum(x * y for x, y in zip(unit[a], unit[b], strict=True)) for a, b in pairs) / len(pairs)
    deviations = []
    for dimension in range(5):
        column = [row[dimension] for row in unit]
        mean = sum(column) / 7
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / 6))
    assert float(figures["mean_cosine"]) == pytest.approx(cosine, abs=1e-5)
    assert float(figures["embedding_std"]) == pytest.approx(sum(deviations) / 5 * math.sqrt(5), abs=1e-5)
    scaled = collapse_monitors(embeddings * torch.rand(7, 1).add(0.5))
    for name, value in figures.items():
        assert float(scaled[name]) == pytest.approx(float(value), abs=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_embeddings_that_are_not_finite_are_nan_in_the_log_and_no_collapse(bad):
    embeddings = torch.randn(6, 4)
    embeddings[3, 2] = bad
    figures = collapse_monitors(embeddings)
    assert {name: math.isnan(float(value)) for name, value in figures.items()} == dict.fromkeys(figures, True)
    assert set(figures) == {"embedding_std", "effective_rank", "mean_cosine"} and not is_collapsed(figures)


def test_an_svd_that_does_not_converge_is_nan(monkeypatch):
    def diverge(matrix):
        raise torch.linalg.LinAlgError("the algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "svdvals", diverge)
    figures = collapse_monitors(torch.eye(3))
    assert math.isnan(float(figures["effective_rank"])) and float(figures["mean_cosine"]) == pytest.approx(0)

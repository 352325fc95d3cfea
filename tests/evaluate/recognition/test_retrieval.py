import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from tiny_features import chance_band, clouds, perfect

from vidssl.evaluate.recognition import retrieval
from vidssl.evaluate.recognition.outcome import Samples
from vidssl.evaluate.recognition.retrieval import (
    align_ridge,
    counterpart_ranks,
    evaluate_instance_retrieval,
    evaluate_retrieval,
    retrieval_grid,
)

TEST = {"seed": 1, "first_source": 10_000}


def test_perfect_features_score_one_and_random_ones_chance():
    assert set(evaluate_retrieval(perfect(100), perfect(50, first_source=200)).figures.values()) == {1.0}
    noise = evaluate_retrieval(clouds(1000, distance=0), clouds(1000, distance=0, **TEST))
    for rank in (1, 5, 10, 20):  # five classes: a fifth of the draws miss each time
        expected = 1 - 0.8**rank
        deviation = 3 * (expected * (1 - expected) / 1000) ** 0.5
        assert noise.figures[f"R@{rank}"] == pytest.approx(expected, abs=deviation + 1e-3)


def test_ranks_by_loops():
    gallery, queries = clouds(60, distance=0.6), clouds(40, distance=0.6, **TEST)
    hits = dict.fromkeys((1, 3, 10), 0)
    for query, truth in zip(queries.values[:, 0], queries.label.tolist(), strict=True):
        cosine = torch.cosine_similarity(query[None], gallery.values[:, 0])
        order = sorted(range(60), key=lambda number: -float(cosine[number]))
        for rank in hits:
            hits[rank] += truth in {int(gallery.label[number]) for number in order[:rank]}
    outcome = evaluate_retrieval(gallery, queries, ranks=[1, 3, 10])
    assert outcome.figures == {f"R@{rank}": pytest.approx(count / 40) for rank, count in hits.items()}
    assert 0 < hits[1] < hits[3] < hits[10]
    # Classes have eight queries each: their mean is the whole.
    assert np.mean([part["R@1"] for part in outcome.parts.values()]) == pytest.approx(outcome.figures["R@1"])
    assert outcome.figures["R@1"] == (outcome.predicted == queries.label).double().mean()


def test_the_own_recording_is_not_found_again():
    samples = perfect(10, num_classes=10)  # one sample of each class: by itself each would be right
    assert evaluate_retrieval(samples, samples).figures == {"R@1": 0, "R@5": 0, "R@10": 0, "R@20": 0}
    others = dataclasses.replace(samples, source=samples.source + 100)
    assert evaluate_retrieval(others, samples).figures["R@1"] == 1


def test_a_class_that_the_gallery_lacks_is_wrong():
    queries = Samples(torch.eye(2)[:, None], torch.tensor([0, 7]), torch.tensor([50, 51]))
    outcome = evaluate_retrieval(Samples(torch.eye(2)[:, None], torch.tensor([0, 1]), torch.arange(2)), queries)
    assert outcome.figures == {"R@1": 0.5, "R@5": 0.5, "R@10": 0.5, "R@20": 0.5}
    assert outcome.parts["class 7"]["R@20"] == 0
    with pytest.raises(ValueError, match="expected numbers from 1"):
        evaluate_retrieval(queries, queries, ranks=[0])
    with pytest.raises(ValueError, match="all 9 training samples are of class 0: there is nothing to tell apart"):
        evaluate_retrieval(clouds(9, num_classes=1), clouds(9))


def instances(num_samples: int, *, noise: float, dim: int = 16, seed: int = 0) -> tuple[Samples, Samples]:
    """Two noisy looks at the same random vectors."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(num_samples, 1, dim, generator=generator)
    looks = [truth + noise * torch.randn(truth.shape, generator=generator) for _ in range(2)]
    label, source = torch.zeros(num_samples, dtype=torch.int64), torch.arange(num_samples)
    return Samples(looks[0], label, source), Samples(looks[1], label, source)


def test_counterparts_by_loops(monkeypatch):
    first, second = instances(40, noise=1.0)
    cosine = torch.cosine_similarity(first.values.double(), second.values[:, 0].double()[None], dim=2)
    expected = [sum(float(row[j]) >= float(row[i]) for j in range(40)) for i, row in enumerate(cosine)]
    monkeypatch.setattr(retrieval, "_BLOCK", 120)  # three queries at once
    assert counterpart_ranks(first, second).tolist() == expected
    outcome = evaluate_instance_retrieval(first, second)
    ranks = np.array(expected)
    assert outcome.figures["video to audio R@5"] == pytest.approx((ranks <= 5).mean())
    assert outcome.figures["video to audio median_rank"] == np.median(ranks)
    back = [sum(float(row[j]) >= float(row[i]) for j in range(40)) for i, row in enumerate(cosine.T)]
    assert outcome.parts["audio to video"]["R@1"] == pytest.approx((np.array(back) == 1).mean())
    assert back != expected and 1 < np.median(ranks) < 20


def test_perfect_instances_are_first_and_random_ones_in_the_middle():
    same = evaluate_instance_retrieval(*instances(50, noise=0.0))
    assert same.figures["video to audio R@1"] == same.figures["audio to video median_rank"] == 1
    first, second = clouds(1000, distance=0), clouds(1000, distance=0, seed=1)
    noise = evaluate_instance_retrieval(first, second).parts["video to audio"]
    # Uniform on 1..1000: the median has a deviation of about 1000 / (2 sqrt(1000)).
    assert noise["median_rank"] == pytest.approx(500, abs=3 * 16)
    assert noise["R@20"] == pytest.approx(20 / 1000, abs=chance_band(50, 1000))


@pytest.mark.parametrize("value", [1.0, 0.1, 0.0])
def test_a_collapsed_encoder_is_last(value):
    samples = Samples(torch.full((70, 1, 7), value), torch.zeros(70, dtype=torch.int64), torch.arange(70))
    assert counterpart_ranks(samples, samples).tolist() == [70] * 70


def test_rounding_decides_no_rank():
    values = torch.rand(40, 1, 1) * torch.randn(7)  # of different length, all in one direction
    samples = Samples(values, torch.zeros(40, dtype=torch.int64), torch.arange(40))
    assert counterpart_ranks(samples, samples).tolist() == [40] * 40


def test_other_parts_of_the_recording_do_not_compete():
    values = torch.eye(4)[torch.tensor([0, 0, 1, 2])][:, None]  # the first two look alike
    label = torch.zeros(4, dtype=torch.int64)
    apart, together = (Samples(values, label, torch.tensor(source)) for source in ([0, 1, 2, 3], [0, 0, 2, 3]))
    assert counterpart_ranks(apart, apart).tolist() == [2, 2, 1, 1]
    assert counterpart_ranks(together, together).tolist() == [1, 1, 1, 1]


def test_what_cannot_be_compared_is_refused():
    first, second = clouds(10, dim=8), clouds(10, dim=9)
    with pytest.raises(ValueError, match=r"width 8, of audio 9.*align_ridge"):
        evaluate_instance_retrieval(first, second)
    with pytest.raises(ValueError, match="10 samples of clip and 9 of sound"):
        evaluate_instance_retrieval(first, clouds(9), names=("clip", "sound"))
    with pytest.raises(ValueError, match="not the same recordings"):
        evaluate_instance_retrieval(first, clouds(10, first_source=1))


def test_alignment_is_ridge_regression():
    source, target = torch.randn(60, 7) * torch.logspace(-2, 2, 7) + 3, torch.randn(60, 4) - 1
    for units in (1.0, 1e-6):
        mapped = align_ridge(units * source, target, penalty=0.1)(units * source)
        scale = float(source.double().var(0, correction=0).mean())
        oracle = Ridge(alpha=0.1 * scale * 60).fit(source.double(), target.double())
        assert np.abs(mapped.numpy() - oracle.predict(source.double())).max() < 1e-5
    with pytest.raises(ValueError, match="expected pairs"):
        align_ridge(source, target[:5], penalty=0.1)
    with pytest.raises(ValueError, match="penalty above 0"):
        align_ridge(source, target, penalty=0.0)
    constant = align_ridge(torch.ones(5, 3), target[:5], penalty=0.1)(torch.ones(2, 3))
    assert torch.allclose(constant, target[:5].mean(0).expand(2, 4), atol=1e-6)


def test_a_map_between_two_widths_finds_counterparts():
    hidden = torch.randn(300, 6)
    views = [hidden @ torch.randn(6, width) + 0.02 * torch.randn(300, width) for width in (12, 20)]
    mapped = align_ridge(views[0][:200], views[1][:200], penalty=1e-3)(views[0][200:])
    center = views[1][:200].mean(0)
    label, number = torch.zeros(100, dtype=torch.int64), torch.arange(100)
    first, second = (Samples((one - center)[:, None], label, number) for one in (mapped, views[1][200:]))
    assert evaluate_instance_retrieval(first, second).figures["video to audio R@1"] > 0.95


def test_frames_of_the_grid_tell_right_from_wrong():
    gray = torch.full((3, 20, 40), 128, dtype=torch.uint8)
    grid = np.asarray(
        retrieval_grid(
            [gray, gray],
            [[gray, gray], [gray]],
            right=[[True, False], [False]],
            query_titles=["a", "b"],
            neighbour_titles=[["c", "d"], ["e"]],
            tile_px=50,
        )
    )
    frame, gap, line = retrieval._FRAME_PX, retrieval._GAP_PX, retrieval._LINE_PX
    step = 50 + 2 * frame + gap
    top = [gap + row * (step + line) + line for row in range(2)]
    left = [gap, 2 * gap + step, 2 * gap + 2 * step]
    assert grid.shape == (2 * (step + line) + gap, 3 * step + 2 * gap, 3)
    colors = [[tuple(grid[top[row], left[column]].tolist()) for column in range(3)] for row in range(2)]
    white = (255, 255, 255)
    assert colors == [
        [retrieval._GREY, retrieval._GREEN, retrieval._RED],
        [retrieval._GREY, retrieval._RED, white],
    ]
    # A picture twice as wide as high keeps its shape: black above and below.
    column = grid[top[0] + frame : top[0] + frame + 50, left[0] + frame + 25, 0]
    assert (column == 0).sum() == 25 and (column == 128).sum() == 25
    with pytest.raises(ValueError, match="2 queries, 1 rows"):
        retrieval_grid([gray, gray], [[gray]], right=[[True]], query_titles=["a"], neighbour_titles=[["b"]])
    with pytest.raises(ValueError, match="0 queries"):
        retrieval_grid([], [], right=[], query_titles=[], neighbour_titles=[])

import math
import statistics
from functools import partial

import pytest
import torch
from tiny_features import chance_band, clouds, perfect

from vidssl.evaluate.recognition.knn import evaluate_knn
from vidssl.evaluate.recognition.linear import evaluate_linear
from vidssl.evaluate.recognition.lowshot import draw_recordings, evaluate_lowshot, recordings_per_class
from vidssl.evaluate.recognition.outcome import Outcome, Samples

TEST = {"seed": 1, "first_source": 10_000}
CLASSIFIERS = [evaluate_knn, partial(evaluate_linear, penalties=[1e-2])]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_perfect_features_need_one_sample_and_random_ones_score_chance(classifier):
    train, test = perfect(102, num_classes=6), perfect(60, num_classes=6, first_source=200)
    outcome = evaluate_lowshot(train, test, classifier=classifier, shots=[1])
    assert {name for name in outcome.figures if not name.endswith("std")} == {
        "1% top1", "1% top5", "10% top1", "10% top5", "1-shot top1", "1-shot top5"
    }  # fmt: skip
    for name, value in outcome.figures.items():
        assert value == (0 if name.endswith("std") else 1)
    few = evaluate_lowshot(perfect(100), perfect(50, first_source=200), classifier=classifier, shots=[1])
    assert not any("top5" in name for figures in (few.figures, *few.parts.values()) for name in figures)
    noise = evaluate_lowshot(
        clouds(100, distance=0), clouds(600, distance=0, **TEST), classifier=classifier, shots=[4]
    )
    for part in noise.parts.values():
        assert part["top1"] == pytest.approx(1 / 5, abs=chance_band(5, 600))


def test_more_labels_are_better():
    outcome = evaluate_lowshot(
        clouds(200, distance=0.7),
        clouds(200, distance=0.7, **TEST),
        classifier=CLASSIFIERS[1],
        fractions=[0.5],
        shots=[1, 4, 16],
        num_draws=3,
    )
    means = [outcome.figures[f"{shot}-shot top1"] for shot in (1, 4, 16)]
    assert means == sorted(means) and means[-1] > means[0] + 0.15
    assert outcome.parts["50% draw 0"]["num_samples"] == 100


def test_mean_and_spread_over_draws():
    outcome = evaluate_lowshot(
        clouds(100), clouds(100, **TEST), classifier=evaluate_knn, fractions=[], shots=[2], num_draws=3
    )
    values = [outcome.parts[f"2-shot draw {number}"]["top1"] for number in range(3)]
    assert len(set(values)) > 1
    assert outcome.figures["2-shot top1"] == pytest.approx(sum(values) / 3)
    assert outcome.figures["2-shot top1 std"] == pytest.approx(statistics.stdev(values))
    again = evaluate_lowshot(
        clouds(100), clouds(100, **TEST), classifier=evaluate_knn, fractions=[], shots=[2], num_draws=3
    )
    assert again == outcome
    single = evaluate_lowshot(
        clouds(100), clouds(100, **TEST), classifier=evaluate_knn, fractions=[], shots=[2], num_draws=1
    )
    assert math.isnan(single.figures["2-shot top1 std"])
    other = evaluate_lowshot(
        clouds(100), clouds(100, **TEST), classifier=evaluate_knn, fractions=[], shots=[2], num_draws=3, seed=1
    )
    assert other.parts != outcome.parts


@pytest.mark.parametrize(("amount", "expected"), [(2, 2), (0.25, 2), (0.01, 1), (1.0, 8)])
def test_whole_recordings_of_every_class_are_drawn(amount, expected):
    samples = clouds(120, per_source=3)  # 8 recordings of 3 samples in each of 5 classes
    assert recordings_per_class(samples).tolist() == [8] * 5
    index = draw_recordings(samples, amount, seed=0)
    drawn = samples.source[index]
    assert torch.bincount(samples.label[index]).tolist() == [3 * expected] * 5
    assert all((drawn == number).sum() == 3 for number in drawn.unique())
    assert torch.equal(index, index.sort().values)


def test_draws_of_one_seed_are_nested_and_of_two_seeds_differ():
    samples = clouds(120, per_source=3)
    few, more = (set(draw_recordings(samples, shot, seed=0).tolist()) for shot in (2, 4))
    assert few < more
    assert few != set(draw_recordings(samples, 2, seed=1).tolist())


def test_every_recording_is_drawn_equally_often():
    samples = clouds(40, per_source=1)
    counts = sum(torch.bincount(draw_recordings(samples, 2, seed=seed), minlength=40) for seed in range(400))
    # 2 of 8 in each of 400 draws: 100 with a deviation of 8.7.
    assert (counts - 100).abs().max() < 4 * 8.7


def test_classes_of_different_size_keep_their_shares():
    label = torch.tensor([0] * 40 + [1] * 10 + [2])
    samples = Samples(torch.randn(51, 1, 4), label, torch.arange(51))
    assert torch.bincount(label[draw_recordings(samples, 0.1, seed=0)]).tolist() == [4, 1, 1]


def test_shots_that_a_class_has_not_enough_recordings_for_are_named():
    seen = []

    def count(train: Samples, test: Samples) -> Outcome:
        seen.append(len(train))
        return Outcome({"top1": 0.5, "top5": 1.0}, {}, {})

    outcome = evaluate_lowshot(
        clouds(30), clouds(5), classifier=count, fractions=[], shots=[1, 6, 7, 16], num_draws=2
    )
    assert outcome.chosen["shots_left_out"] == [7, 16] and outcome.chosen["fewest_recordings"] == 6
    assert seen == [5, 5, 30, 30]
    with pytest.raises(ValueError, match="a class has 6 recordings"):
        evaluate_lowshot(clouds(30), clouds(5), classifier=count, fractions=[], shots=[7])
    with pytest.raises(ValueError, match="all 9 training samples are of class 0"):
        evaluate_lowshot(clouds(9, num_classes=1), clouds(5), classifier=count)
    for wrong in ({"fractions": [0.0]}, {"fractions": [1.5]}, {"shots": [0]}, {"num_draws": 0}):
        with pytest.raises(ValueError, match="must be in"):
            evaluate_lowshot(clouds(30), clouds(5), classifier=count, **wrong)

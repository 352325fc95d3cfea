import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tiny_features import chance_band, clouds, perfect

from vidssl.evaluate.recognition import knn
from vidssl.evaluate.recognition.knn import evaluate_knn
from vidssl.evaluate.recognition.outcome import Samples
from vidssl.evaluate.recognition.probe import knn_accuracy

TEST = {"seed": 1, "first_source": 10_000}


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("temperature", [0.07, 0.5, math.inf])
def test_predictions_are_those_of_scikit_learn(count, temperature):
    train, test = clouds(300, distance=0.6, num_classes=7), clouds(250, distance=0.6, num_classes=7, **TEST)

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance.astype(np.float64)) / temperature)

    oracle = KNeighborsClassifier(
        count, metric="cosine", algorithm="brute", weights="uniform" if math.isinf(temperature) else weights
    )
    expected = oracle.fit(train.values[:, 0], train.label).predict(test.values[:, 0])
    assert 0.2 < (expected == test.label.numpy()).mean() < 0.8  # there is something to disagree on
    found = knn._classify(train, test, [count], [temperature], "cpu")[count, temperature]
    assert np.array_equal(found[:, 0].numpy(), expected)


def test_the_conventional_setting_is_the_quick_probe():
    train, test = clouds(300, distance=0.6), clouds(200, distance=0.6, **TEST)
    outcome = evaluate_knn(train, test, num_neighbours=[20, 50], temperatures=[0.07, 1.0])
    for count, temperature in ((20, 0.07), (50, 1.0)):
        expected = knn_accuracy(
            train.values[:, 0], train.label, test.values[:, 0], test.label, k=count, temperature=temperature
        )
        assert outcome.parts[f"k={count} t={temperature:g}"]["top1"] == pytest.approx(expected, abs=1e-6)
    assert outcome.figures["conventional_top1"] == outcome.parts["k=20 t=0.07"]["top1"]


def test_perfect_features_score_one_and_random_ones_chance():
    assert evaluate_knn(perfect(100), perfect(50, first_source=200)).figures["top1"] == 1
    noise = evaluate_knn(clouds(1000, distance=0), clouds(1000, distance=0, **TEST))
    for part in noise.parts.values():
        assert part["top1"] == pytest.approx(1 / 5, abs=chance_band(5, 1000))


def test_the_setting_is_chosen_on_training_samples_alone():
    # Class means are told from afar: many neighbours are better than one, by training and by test samples.
    train, test = clouds(300, distance=0.5), clouds(300, distance=0.5, **TEST)
    outcome = evaluate_knn(train, test)
    best = max(part["held_out_top1"] for part in outcome.parts.values())
    chosen = outcome.chosen
    assert chosen["held_out_top1"] == best > outcome.parts["k=1 t=0.07"]["held_out_top1"] + 0.05
    # Whatever the test labels are, the choice stays.
    shuffled = dataclasses.replace(test, label=test.label.roll(1))
    other = evaluate_knn(train, shuffled)
    assert other.chosen == chosen and other.figures != outcome.figures
    assert outcome.figures["top1"] == (outcome.predicted == test.label).double().mean()


def test_leave_one_out_leaves_the_whole_recording_out():
    # Two copies of every sample: by itself or its copy each would be right, by all others none.
    label = torch.arange(6).repeat_interleave(2)
    values = torch.randn(6, 4).repeat_interleave(2, dim=0)[:, None]
    train = Samples(values, label, label)
    outcome = evaluate_knn(train, perfect_other(values), num_neighbours=[1])
    assert outcome.chosen["held_out_top1"] == 0
    assert outcome.parts["k=1 t=0.07"]["top1"] == 1  # of other recordings, they may be found


def perfect_other(values: torch.Tensor) -> Samples:
    return Samples(values[::2], torch.arange(6), torch.arange(100, 106))


def test_neighbours_of_the_same_recording_have_no_vote():
    train = Samples(torch.tensor([[1.0, 0], [0.5, 1]])[:, None], torch.tensor([0, 1]), torch.tensor([3, 4]))
    query = torch.tensor([[1.0, 0]])[:, None]
    for source, expected in ((3, 1), (4, 0), (5, 0)):
        test = Samples(query, torch.tensor([0]), torch.tensor([source]))
        assert evaluate_knn(train, test, num_neighbours=[1]).predicted.tolist() == [expected]


def test_a_query_without_neighbours_is_wrong():
    train = Samples(torch.eye(2)[:, None], torch.tensor([0, 1]), torch.tensor([3, 3]))
    outcome = evaluate_knn(train, Samples(torch.eye(2)[:1, None], torch.tensor([0]), torch.tensor([3])))
    assert outcome.predicted.tolist() == [-1]
    assert outcome.figures["top1"] == outcome.figures["mean_class"] == 0
    assert (outcome.chosen["num_neighbours"], outcome.chosen["temperature"]) == (2, 0.07)


def test_a_single_vote_names_a_single_class():
    # Six classes, one neighbour: four of the others are not "among the best five".
    train, test = (clouds(num, distance=0, num_classes=6, **how) for num, how in ((300, {}), (400, TEST)))
    outcome = evaluate_knn(train, test, num_neighbours=[1, 200])
    assert outcome.parts["k=1 t=0.07"]["top5"] == outcome.parts["k=1 t=0.07"]["top1"]
    assert 0.7 < outcome.parts["k=200 t=0.07"]["top5"] < 1


@pytest.mark.parametrize(("num_classes", "has_top5"), [(5, False), (6, True)])
def test_five_guesses_among_five_classes_are_no_figure(num_classes, has_top5):
    train, test = (clouds(60, num_classes=num_classes, **how) for how in ({}, TEST))
    outcome = evaluate_knn(train, test)
    for figures in (outcome.figures, *outcome.parts.values()):
        assert ("top5" in figures) == has_top5
    assert ("conventional_top5" in outcome.figures) == has_top5
    assert set(outcome.uncertainty["intervals"]) == set(outcome.figures)


def test_length_and_order_do_not_matter():
    train, test = clouds(200, distance=0.6), clouds(100, distance=0.6, **TEST)
    outcome = evaluate_knn(train, test)
    order = torch.randperm(200)
    longer = torch.rand(100, 1, 1) + 1e-3
    other = evaluate_knn(train.take(order), dataclasses.replace(test, values=test.values * 1000 * longer))
    assert other.parts == outcome.parts and torch.equal(other.predicted, outcome.predicted)


def test_views_are_averaged():
    one, other = clouds(60, num_views=3), clouds(60, num_views=3, **TEST)
    averaged = [
        dataclasses.replace(
            samples, values=torch.nn.functional.normalize(samples.values, dim=2).mean(1, keepdim=True)
        )
        for samples in (one, other)
    ]
    assert evaluate_knn(one, other).parts == evaluate_knn(*averaged).parts
    single = [dataclasses.replace(samples, values=samples.values[:, :1]) for samples in (one, other)]
    assert evaluate_knn(one, other).figures["top1"] > evaluate_knn(*single).figures["top1"]


def test_degenerate_data():
    # A class that nobody was trained on is never found; fewer samples than neighbours are enough.
    train = perfect(10)
    test = Samples(torch.eye(5)[:, None], torch.tensor([0, 1, 2, 3, 9]), torch.arange(50, 55))
    outcome = evaluate_knn(train, test)
    assert outcome.figures["top1"] == 4 / 5
    assert {name.split()[0] for name in outcome.parts} == {"k=1", "k=5", "k=10"}
    with pytest.raises(ValueError, match="all 9 training samples are of class 0: there is nothing to tell apart"):
        evaluate_knn(perfect(9, num_classes=1), perfect(4, num_classes=1, first_source=20))
    constant = evaluate_knn(
        dataclasses.replace(clouds(100), values=torch.ones(100, 1, 8)),
        dataclasses.replace(clouds(100, **TEST), values=torch.ones(100, 1, 8)),
    )
    assert constant.figures["top1"] == 1 / 5  # all samples look alike: one class for all
    with pytest.raises(ValueError, match="must be above 0"):
        evaluate_knn(train, test, temperatures=[0.0])

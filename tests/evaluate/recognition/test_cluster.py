import dataclasses

import pytest
import torch
from sklearn.cluster import KMeans
from tiny_features import clouds, perfect

from vidssl.evaluate.recognition.cluster import evaluate_clusters
from vidssl.evaluate.recognition.outcome import Samples, unit_means


def test_perfect_features_score_one_and_random_ones_chance():
    assert evaluate_clusters(perfect(100)).figures == {
        "nmi": pytest.approx(1), "ari": 1, "purity": 1, "hungarian_accuracy": 1
    }  # fmt: skip
    noise = evaluate_clusters(clouds(2000, distance=0), num_restarts=2).figures
    assert noise["ari"] == pytest.approx(0, abs=0.01) and noise["nmi"] == pytest.approx(0, abs=0.01)
    # The best assignment and the majority take the luckiest of many shares of 1/5.
    assert 0.2 < noise["hungarian_accuracy"] < noise["purity"] < 0.2 + 0.05


def test_the_restart_of_lowest_inertia_counts():
    samples = clouds(300, num_classes=10, distance=1.2)
    outcome = evaluate_clusters(samples)
    inertias = [outcome.parts[f"restart {number}"]["inertia"] for number in range(10)]
    assert outcome.chosen["inertia"] == min(inertias) < max(inertias)
    assert outcome.chosen["restart"] == inertias.index(min(inertias))
    part = outcome.parts[f"restart {outcome.chosen['restart']}"]
    assert outcome.figures == {name: value for name, value in part.items() if name != "inertia"}
    # As low as another implementation finds, to 1 %.
    points = unit_means(samples.values)
    oracle = KMeans(10, n_init=10, random_state=0).fit(points)
    assert outcome.chosen["inertia"] == pytest.approx(oracle.inertia_ / 300, rel=0.01)
    # Labels do not decide.
    shuffled = dataclasses.replace(samples, label=samples.label[torch.randperm(300)])
    assert torch.equal(evaluate_clusters(shuffled).predicted, outcome.predicted)


def test_length_does_not_matter_and_draws_are_left_alone():
    samples = clouds(100)
    state = torch.get_rng_state()
    outcome = evaluate_clusters(samples)
    assert torch.equal(torch.get_rng_state(), state)
    longer = dataclasses.replace(samples, values=samples.values * 2 ** torch.randint(8, (100, 1, 1)))
    assert evaluate_clusters(longer).figures == outcome.figures


def test_degenerate_data():
    with pytest.raises(ValueError, match="10 points cannot be put into 11 clusters"):
        evaluate_clusters(clouds(10), num_clusters=11)
    with pytest.raises(ValueError, match="num_restarts is 0"):
        evaluate_clusters(clouds(10), num_restarts=0)
    with pytest.raises(ValueError, match="all 6 clustered samples are of class 0: there is nothing to tell apart"):
        evaluate_clusters(perfect(6, num_classes=1))
    # Features that are all alike end up in one cluster: a fifth of them are of its most frequent class.
    flat = Samples(torch.ones(20, 1, 3), torch.arange(20) % 5, torch.arange(20))
    figures = evaluate_clusters(flat).figures
    assert figures == {"nmi": pytest.approx(0), "ari": 0, "purity": 0.2, "hungarian_accuracy": 0.2}
    # More clusters than classes: each has a class of its own at most.
    many = evaluate_clusters(perfect(20), num_clusters=20).figures
    assert many["purity"] == 1 and many["hungarian_accuracy"] <= 1

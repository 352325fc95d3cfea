"""What guessing scores, against guessing."""

import itertools
import math

import pytest
import torch

from vidssl.evaluate.recognition.chance import (
    classification_chance,
    cluster_chance,
    instance_retrieval_chance,
    retrieval_chance,
)
from vidssl.evaluate.recognition.knn import evaluate_knn
from vidssl.evaluate.recognition.linear import evaluate_linear
from vidssl.evaluate.recognition.outcome import Samples
from vidssl.evaluate.recognition.retrieval import evaluate_instance_retrieval, evaluate_retrieval


def test_classification():
    columns = ["top1", "conventional_top5", "mean_class", "1-shot top5", "1-shot top1 std"]
    found = classification_chance(columns, num_classes=20)
    assert [found[column] for column in columns[:4]] == [0.05, 0.25, 0.05, 0.25] and math.isnan(found[columns[4]])
    assert classification_chance(["top5"], num_classes=3) == {"top5": 1.0}


def test_retrieval_counts_all_ways_to_draw():
    # Class and recording; recording "b" is that of a query, so its samples are never drawn.
    gallery = [(0, "a"), (0, "b"), (1, "b"), (1, "c"), (2, "d")]
    queries = [(0, "b"), (1, "x")]
    for rank in (1, 2, 3):
        expected = 0.0
        for label, recording in queries:
            allowed = [own for own, source in gallery if source != recording]
            draws = list(itertools.combinations(allowed, rank))
            expected += sum(label in draw for draw in draws) / len(draws) / len(queries)
        assert retrieval_chance(gallery, queries, ranks=[rank]) == {f"R@{rank}": pytest.approx(expected)}
    assert retrieval_chance(gallery, queries, ranks=[50]) == {"R@50": 1.0}


def test_instances():
    assert instance_retrieval_chance(["a to b R@1", "b to a R@20"], num_samples=10) == {
        "a to b R@1": 0.1,
        "b to a R@20": 1.0,
    }


def test_clusters():
    labels = [number % 4 for number in range(400)]
    found = cluster_chance(labels, num_clusters=4)
    assert abs(found["ari"]) < 0.01 and found["nmi"] < 0.03 and 0.25 < found["purity"] < 0.35


def labelled_noise(*, num_samples, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(num_samples) % 5
    return torch.randn(num_samples, 1, 16, generator=generator), label


def test_perfect_features_score_the_maximum_and_features_of_nothing_chance():
    num_train, num_test = 300, 600
    source = torch.arange(num_train + num_test)
    for seed, perfect in ((0, True), (1, False)):
        values, label = labelled_noise(num_samples=num_train + num_test, seed=seed)
        if perfect:
            values = torch.nn.functional.one_hot(label, 5)[:, None].float()
        both = Samples(values, label, source)
        train, test = both.take(source[:num_train]), both.take(source[num_train:])
        by_chance = retrieval_chance(
            list(zip(train.label.tolist(), train.source.tolist(), strict=True)),
            list(zip(test.label.tolist(), test.source.tolist(), strict=True)),
            ranks=[1, 5],
        )
        expected = {"top1": 0.2, "mean_class": 0.2, **by_chance}
        found = {
            **evaluate_retrieval(train, test, ranks=(1, 5)).figures,
            **evaluate_linear(train, test, penalties=(0.1,)).figures,
        }
        knn = evaluate_knn(train, test, num_neighbours=(20,)).figures
        for figures in (found, knn):
            for name, value in figures.items():
                name = name.removeprefix("conventional_")
                # Three deviations of a share of 600 draws.
                assert value == pytest.approx(1.0 if perfect else expected[name], abs=0 if perfect else 0.05), name
    values, label = labelled_noise(num_samples=200, seed=2)
    one, other = Samples(values, label, source[:200]), Samples(values.flip(0), label, source[:200])
    same = evaluate_instance_retrieval(one, one).figures
    assert same["video to audio R@1"] == same["audio to video R@1"] == 1.0
    assert evaluate_instance_retrieval(one, other, ranks=(20,)).figures["video to audio R@20"] < 0.2

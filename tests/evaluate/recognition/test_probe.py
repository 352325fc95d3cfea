import math

import pytest
import torch
import torch.nn.functional as F

from vidssl.evaluate.recognition.probe import knn_accuracy, linear_accuracy


def clouds(num_samples: int, *, distance: float, seed: int, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes around corners of a cube."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (num_samples,), generator=generator)
    return distance * torch.eye(dim)[label] + torch.randn(num_samples, dim, generator=generator), label


def knn_by_loops(train, train_label, test, test_label, *, k, temperature) -> float:
    right = 0
    for sample, truth in zip(test, test_label.tolist(), strict=True):
        similar = F.cosine_similarity(sample[None], train).tolist()
        cosines = list(zip(similar, train_label.tolist(), strict=True))
        votes = dict.fromkeys(range(3), 0.0)
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            votes[label] += math.exp(cosine / temperature)
        right += max(votes, key=votes.__getitem__) == truth
    return right / len(test)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (100, 0.07)])
def test_knn_equals_loops(k, temperature):
    train, train_label = clouds(40, distance=1.5, seed=0)
    test, test_label = clouds(60, distance=1.5, seed=1)
    expected = knn_by_loops(train, train_label, test, test_label, k=min(k, 40), temperature=temperature)
    assert 0.4 < expected < 1  # mistakes are made, so that there is something to agree on
    found = knn_accuracy(train, train_label, test, test_label, k=k, temperature=temperature)
    assert found == pytest.approx(expected, abs=1e-6)


def test_knn_ignores_length():
    train, test = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[100.0, 1], [0.01, 0.02]])
    assert knn_accuracy(train, torch.tensor([0, 1]), test, torch.tensor([0, 1]), k=1) == 1


def test_near_neighbours_outvote_many_far_ones():
    train = torch.tensor([[1.0, 0], [0.5, 1], [0.5, 1.1]])
    label = torch.tensor([1, 0, 0])
    test = torch.tensor([[1.0, 0.02]])
    assert knn_accuracy(train, label, test, torch.tensor([1]), k=3, temperature=0.07) == 1
    assert knn_accuracy(train, label, test, torch.tensor([1]), k=3, temperature=100.0) == 0


def test_classes_that_a_plane_separates_are_all_told_apart():
    train, train_label = clouds(90, distance=20, seed=0)
    test, test_label = clouds(60, distance=20, seed=1)
    # Units and offsets of the features are of no matter, and one that never changes does no harm.
    scale, shift = torch.tensor([1e-3, 1, 1e3, 1, 1, 0]), 100.0
    assert linear_accuracy(train * scale + shift, train_label, test * scale + shift, test_label) == 1


def test_labels_that_features_say_nothing_about_are_guessed():
    features, label = torch.randn(400, 6), torch.randint(3, (400,))
    assert linear_accuracy(features[:200], label[:200], features[200:], label[200:]) == pytest.approx(
        1 / 3, abs=0.1
    )


def test_the_classifier_is_the_optimum(monkeypatch):
    train, label = clouds(80, distance=1.5, seed=0)
    solved = []

    class Recording(torch.optim.LBFGS):
        def __init__(self, parameters, **options):
            solved.extend(parameters)
            super().__init__(solved, **options)

    monkeypatch.setattr(torch.optim, "LBFGS", Recording)
    accuracy = linear_accuracy(train, label, train, label, weight_decay=1e-2)
    weight, bias = (parameter.detach() for parameter in solved)
    # The objective is convex: where its gradient vanishes is the minimum. The gradient, written out:
    features = (train.double() - train.double().mean(0)) / train.double().std(0)
    error = (features @ weight + bias).softmax(1) - F.one_hot(label, 3)
    assert (features.T @ error / 80 + 1e-2 * weight).abs().max() < 1e-5
    assert error.mean(0).abs().max() < 1e-5  # the bias is free
    assert weight.abs().max() > 0.1
    assert accuracy == pytest.approx(float((((features @ weight) + bias).argmax(1) == label).double().mean()))

import itertools
import math

import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vidssl.evaluate.metrics.clustering import adjusted_rand_index, hungarian_accuracy, purity
from vidssl.evaluate.metrics.clustering import normalized_mutual_information as nmi

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2])


@pytest.mark.parametrize("names", [[0, 1, 2], [2, 0, 1], [5, 3, 9]])
def test_names_of_clusters_do_not_matter(names):
    assert nmi(torch.tensor(names)[LABELS], LABELS) == pytest.approx(1, abs=1e-12)


def test_independent_partitions_share_nothing():
    assert nmi(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)


def test_a_value_worked_out_by_hand():
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    # Entropies: of halves; of 3/4 and 1/4; of the pairs 1/2, 1/4, 1/4.
    one, two = math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    pairs = 1.5 * math.log(2)
    expected = (one + two - pairs) / ((one + two) / 2)
    assert expected == pytest.approx(0.3437, abs=1e-4)
    assert nmi(first, second) == pytest.approx(expected, abs=1e-12)
    assert nmi(second, first) == pytest.approx(expected, abs=1e-12)


def test_it_equals_counting_by_loops():
    first, second = torch.randint(4, (60,)), torch.randint(3, (60,))
    information, entropy = 0.0, [0.0, 0.0]
    for a in range(4):
        for b in range(3):
            share = float(((first == a) & (second == b)).double().mean())
            product = float((first == a).double().mean() * (second == b).double().mean())
            information += share * math.log(share / product) if share else 0.0
    for number, partition in enumerate((first, second)):
        for value in partition.unique():
            share = float((partition == value).double().mean())
            entropy[number] -= share * math.log(share)
    assert nmi(first, second) == pytest.approx(2 * information / sum(entropy), abs=1e-10)


def test_one_cluster_for_all():
    assert nmi(torch.zeros(7, dtype=torch.int64), LABELS) == pytest.approx(0, abs=1e-12)
    assert nmi(torch.zeros(7, dtype=torch.int64), torch.zeros(7, dtype=torch.int64)) == 1


@pytest.mark.parametrize(
    ("num_clusters", "num_classes", "num_samples"),
    [(4, 3, 60), (3, 4, 61), (20, 20, 25), (2, 50, 5000), (1, 3, 9)],
)
def test_they_equal_scikit_learn(num_clusters, num_classes, num_samples):
    label = torch.randint(num_classes, (num_samples,))
    noise = torch.randint(num_clusters, (num_samples,))
    for cluster in (noise, torch.where(torch.rand(num_samples) < 0.7, label % num_clusters, noise)):
        assert nmi(cluster, label) == pytest.approx(normalized_mutual_info_score(label, cluster), abs=1e-12)
        assert adjusted_rand_index(cluster, label) == pytest.approx(adjusted_rand_score(label, cluster), abs=1e-12)


def test_every_pair_of_partitions_of_four_equals_scikit_learn():
    partitions = [[0, *rest] for rest in itertools.product(range(2), range(3), range(4))]
    partitions = [
        torch.tensor(one) for one in partitions if all(x <= max(one[:i]) + 1 for i, x in enumerate(one) if i)
    ]
    assert len(partitions) == 15
    for first, second in itertools.product(partitions, repeat=2):
        assert adjusted_rand_index(first, second) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)


def test_a_single_sample_agrees_with_itself():
    assert adjusted_rand_index(torch.tensor([3]), torch.tensor([1])) == 1
    assert hungarian_accuracy(torch.tensor([3]), torch.tensor([1])) == 1


def test_purity_and_the_best_assignment_by_hand():
    cluster = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    label = torch.tensor([0, 0, 1, 0, 0, 2, 2, 2])
    # Clusters 0 and 1 both want class 0, which purity grants and an assignment does not: 2 + 1 + 2 at best.
    assert purity(cluster, label) == 6 / 8
    assert hungarian_accuracy(cluster, label) == 5 / 8


def test_the_best_assignment_is_the_best_of_all():
    cluster, label = torch.randint(5, (40,)), torch.randint(4, (40,))
    best = max(
        int((torch.tensor(names)[cluster] == label).sum()) for names in itertools.permutations([0, 1, 2, 3, 99])
    )
    assert hungarian_accuracy(cluster, label) == best / 40

import math

import pytest
import torch

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

import pytest
import torch
from tiny_features import clouds

from vidssl.evaluate.recognition import outcome
from vidssl.evaluate.recognition.outcome import (
    Samples,
    accuracies,
    class_accuracies,
    hold_out,
    nearest,
    top_classes,
    unit_means,
)


def test_features_that_are_not_finite_are_named():
    values = torch.zeros(3, 2, 4)
    values[1, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="features of sample 1 hold NaN"):
        Samples(values, torch.zeros(3, dtype=torch.int64), torch.arange(3))


def test_features_are_looked_at_to_the_end(monkeypatch):
    monkeypatch.setattr(outcome, "_BLOCK", 8)  # two samples at once
    values = torch.zeros(7, 1, 4)
    values[6, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="sample 6"):
        Samples(values, torch.zeros(7, dtype=torch.int64), torch.arange(7))


@pytest.mark.parametrize(
    ("values", "label", "message"),
    [
        (torch.zeros(3, 4), torch.arange(3), r"shape \(3, 4\), expected floating point"),
        (torch.zeros(0, 1, 4), torch.arange(0), r"shape \(0, 1, 4\)"),
        (torch.zeros(3, 1, 4), torch.arange(2), r"labels are torch.int64 of shape \(2,\), expected int64 \(3,\)"),
        (torch.zeros(3, 1, 4), torch.tensor([0, -1, 2]), "sample 1 has label -1"),
        (torch.zeros(3, 1, 4, dtype=torch.int64), torch.arange(3), "features are torch.int64"),
    ],
)
def test_what_is_no_samples_is_refused(values, label, message):
    with pytest.raises(ValueError, match=message):
        Samples(values, label, torch.arange(len(values)))


def test_every_view_has_the_same_say():
    # A view a hundred times as long turns the mean no further.
    values = torch.tensor([[[100.0, 0], [0, 1]]])
    assert unit_means(values).tolist() == [pytest.approx([2**-0.5, 2**-0.5])]


def test_nearest_skips_the_own_recording_and_runs_out():
    gallery = Samples(
        torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1.0]])[:, None], torch.tensor([0, 1, 2]), torch.tensor([7, 7, 8])
    )
    queries = Samples(torch.tensor([[2.0, 0], [2.0, 0]])[:, None], torch.tensor([0, 0]), torch.tensor([7, 9]))
    cosine, index = nearest(gallery, queries, count=5)
    assert index.tolist() == [[2, -1, -1], [0, 1, 2]]
    assert cosine[0].tolist() == [0, -torch.inf, -torch.inf]
    assert cosine[1].tolist() == pytest.approx([1, 0.9 / 0.82**0.5, 0])


def test_nearest_in_blocks_is_nearest_at_once(monkeypatch):
    gallery, queries = clouds(30, seed=0), clouds(20, seed=1, first_source=10)
    _, expected = nearest(gallery, queries, count=7)
    monkeypatch.setattr(outcome, "_BLOCK", 90)  # three queries at once
    assert torch.equal(nearest(gallery, queries, count=7)[1], expected)


def test_features_of_two_encoders_are_refused():
    with pytest.raises(ValueError, match="width 8 in one set and 9 in the other"):
        nearest(clouds(5, dim=8), clouds(5, dim=9), count=1)


def test_best_classes_and_ties():
    scores = torch.tensor([[0.2, 0.5, 0.5, -torch.inf], [-torch.inf] * 4])
    assert top_classes(scores, count=5).tolist() == [[1, 2, 0, -1, -1], [-1] * 5]


def test_accuracies_by_hand():
    ranked = torch.tensor([[0, 1, -1, -1, -1], [0, 2, 1, -1, -1], [2, 1, -1, -1, -1], [0, 1, 2, 3, 4]])
    label = torch.tensor([0, 0, 2, 4])
    expected = {"top1": 3 / 4, "top5": 1, "mean_class": pytest.approx((1 + 1 + 0) / 3)}
    assert accuracies(ranked, label, num_classes=6) == expected
    del expected["top5"]  # five guesses among five classes miss none
    assert accuracies(ranked, label, num_classes=5) == expected
    assert class_accuracies(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2])) == {0: 0.5, 2: 1.0}


def test_a_tenth_of_the_recordings_of_every_class_is_held_out():
    label = torch.arange(4).repeat_interleave(60)  # three samples of each of 20 recordings of each of four classes
    source = torch.arange(80).repeat_interleave(3)
    kept, held = hold_out(label, source, seed=3)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(240))
    assert torch.bincount(label[held]).tolist() == [6, 6, 6, 6]
    assert not set(source[kept].tolist()) & set(source[held].tolist())
    assert not torch.equal(hold_out(label, source, seed=4)[1], held)


def test_large_and_small_classes_give_the_same_share():
    label = torch.tensor([0] * 100 + [1] * 10 + [2] * 10)
    for seed in range(5):
        _, held = hold_out(label, torch.arange(120), seed=seed)
        assert torch.bincount(label[held]).tolist() == [10, 1, 1]


@pytest.mark.parametrize("order", [torch.arange(9), torch.tensor([8, 3, 1, 5, 0, 2, 7, 6, 4])])
def test_no_class_loses_its_last_recording(order):
    # Class 0 has a recording of its own and one that it shares with class 1, which has no other: neither can go.
    label = torch.tensor([0, 0, 1, 2, 2, 2, 2, 2, 2])[order]
    source = torch.tensor([0, 1, 1, 2, 3, 4, 5, 6, 7])[order]
    for seed in range(20):
        kept, held = hold_out(label, source, share=0.9, seed=seed)
        assert set(label[kept].tolist()) == {0, 1, 2}
        assert len(held) == 6  # recording 0 and all but one of class 2


def test_one_recording_per_class_can_spare_nothing():
    kept, held = hold_out(torch.arange(5), torch.arange(5))
    assert kept.tolist() == [0, 1, 2, 3, 4] and not len(held)

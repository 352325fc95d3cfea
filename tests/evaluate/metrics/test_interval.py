"""Intervals against closed forms: independent samples, samples that stand and fall together, coverage."""

import time

import pytest
import torch

from vidssl.evaluate.metrics import interval
from vidssl.evaluate.metrics.interval import intervals_of, mean_class_intervals, mean_intervals, resampled, wilson


def width(bounds):
    return bounds[1] - bounds[0]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_independent_samples_give_wilsons_interval(share):
    right = torch.arange(1000) < 1000 * share
    (found,) = mean_intervals({"top1": right}, torch.arange(1000)).values()
    assert found == pytest.approx(wilson(share, 1000), abs=0.005)
    assert wilson(share, 1000) == pytest.approx(
        {0.2: (0.1764, 0.2259), 0.5: (0.4691, 0.5309), 0.9: (0.8798, 0.9171)}[share], abs=1e-3
    )


def test_clips_of_one_recording_count_once():
    # 40 recordings of 25 clips that are all right or all wrong: as sure as 40 samples, not as 1000.
    recording_is_right = torch.arange(40) % 2 == 0
    right, source = recording_is_right.repeat_interleave(25), torch.arange(40).repeat_interleave(25)
    clustered = mean_intervals({"top1": right}, source)["top1"]
    assert clustered == mean_intervals({"top1": recording_is_right}, torch.arange(40))["top1"]
    assert clustered == pytest.approx(wilson(0.5, 40), abs=0.02)
    apart = mean_intervals({"top1": right}, torch.arange(1000))["top1"]
    assert width(clustered) / width(apart) == pytest.approx(25**0.5, rel=0.08)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    num_held = 0
    for seed in range(400):
        # 50 recordings of 1 to 6 clips, whose chance to be right is the recording's own; on average 0.6.
        size = torch.randint(1, 7, (50,), generator=generator)
        chance = (torch.rand(50, generator=generator) < 0.6).double() * 0.8 + 0.1
        chance = chance.repeat_interleave(size)  # mean 0.1 + 0.8 * 0.6 = 0.58
        right = torch.rand(len(chance), generator=generator) < chance
        source = torch.arange(50).repeat_interleave(size)
        low, high = mean_intervals({"x": right}, source, num_resamples=300, seed=seed)["x"]
        num_held += low <= 0.58 <= high
    assert 0.91 < num_held / 400 < 0.98  # clips drawn apart: about 0.70


def test_large_recordings_weigh_as_much_as_their_samples():
    # A ratio of two sums, by loops over the same draws.
    right, source = torch.tensor([1, 1, 1, 0, 1, 0]), torch.tensor([7, 7, 7, 7, 2, 5])
    shares = []
    for counts in torch.cat(list(resampled(3, num_resamples=200, seed=3))).tolist():
        of = dict(zip((2, 5, 7), counts, strict=True))
        weights = [of[one] for one in source.tolist()]
        shares.append(sum(w * r for w, r in zip(weights, right.tolist(), strict=True)) / sum(weights))
    expected = torch.tensor(shares).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    found = mean_intervals({"x": right}, source, num_resamples=200, seed=3)["x"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_mean_over_classes_by_loops():
    right = torch.tensor([1, 0, 1, 1, 0, 1, 0, 0])
    label, source = torch.tensor([0, 0, 0, 4, 4, 9, 9, 9]), torch.tensor([0, 1, 2, 3, 3, 4, 5, 6])
    means = []
    for counts in torch.cat(list(resampled(7, num_resamples=150, seed=1))).tolist():
        weights = [counts[one] for one in source.tolist()]
        shares = []
        for number in (0, 4, 9):
            own = [(w, r) for w, r, n in zip(weights, right.tolist(), label.tolist(), strict=True) if n == number]
            if total := sum(w for w, _ in own):
                shares.append(sum(w * r for w, r in own) / total)
        means.append(sum(shares) / len(shares))
    expected = torch.tensor(means).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    found = mean_class_intervals(right, label, source, num_resamples=150, seed=1)
    assert found == {"mean_class": pytest.approx(expected, abs=1e-6)}


def test_one_recording_gives_none_and_says_so():
    right, source = torch.tensor([1, 0, 1]), torch.tensor([4, 4, 4])
    assert mean_intervals({"top1": right}, source) == {} == mean_class_intervals(right, right, source)
    record = interval.uncertainty({}, num_units=1, num_samples=3)
    assert record["intervals"] == {} and record["note"].startswith("n is 1 recording: one tells nothing of others")


def test_nothing_but_right_answers_are_no_certainty():
    for value, expected in ((1, (0.7009, 1.0)), (0, (0.0, 0.2991))):
        found = mean_intervals({"top1": torch.full((9,), value)}, torch.arange(9))["top1"]
        assert found == pytest.approx(expected, abs=1e-3)  # Wilson's interval of 9 of 9
    halves = mean_intervals({"R": torch.full((9,), 0.5)}, torch.arange(9))["R"]
    assert halves == (0.5, 0.5)


def test_draws_are_those_of_the_seed_whatever_the_blocks(monkeypatch):
    right, source = torch.rand(60), torch.arange(60) // 3
    state = torch.get_rng_state()
    first = mean_intervals({"x": right}, source)
    assert torch.equal(torch.get_rng_state(), state)
    assert mean_intervals({"x": right}, source, seed=1) != first
    monkeypatch.setattr(interval, "_BLOCK", 100)  # five draws at once
    assert mean_intervals({"x": right}, source)["x"] == pytest.approx(first["x"], abs=1e-12)
    assert sum(len(block) for block in resampled(20)) == 1000


def test_draws_without_a_figure_are_left_out():
    found = intervals_of(lambda counts: {"x": torch.where(counts[:, 0] > 0, 0.25, torch.nan)}, 3)
    assert found == {"x": (0.25, 0.25)}


def test_fifty_thousand_recordings_take_seconds():
    source, right = torch.arange(50_000), torch.rand(50_000) < 0.7
    start = time.perf_counter()
    low, high = mean_intervals({"top1": right, "top5": right}, source)["top1"]
    assert time.perf_counter() - start < 20
    assert high - low == pytest.approx(2 * 1.96 * (0.21 / 50_000) ** 0.5, rel=0.15)

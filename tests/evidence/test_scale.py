"""The plan for many machines: the page says what is computed, and the simulation sees what it looks for."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from vidssl.data import loader, order
from vidssl.evidence.benchmark import plan

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
SMALL = plan.Plan(num_clips=100_003, clips_per_shard=100, num_gpus=16, gpus_per_node=4, batch_size=8)


def test_the_page_says_what_is_computed():
    text = PAGE.read_text()
    written = text[text.index(plan.BEGIN) + len(plan.BEGIN) : text.index(plan.END)]
    counted = [line for line in written.splitlines() if line.startswith("| samples visited exactly once")]
    assert [line.count("100,000,000 of 100,000,000") for line in counted] == [1, 1]
    sampled = [line for line in written.strip().splitlines() if line not in counted]
    assert sampled == plan.page(plan.Plan(), exhaustive=False).strip().splitlines()


def found(monkeypatch) -> dict[str, str]:
    monkeypatch.setattr(loader, "MAX_LISTED", 1000)
    return dict(plan.simulate_order(SMALL))


def test_the_simulation_finds_what_the_loader_promises(monkeypatch):
    rows = found(monkeypatch)
    assert rows["samples visited exactly once in an epoch"] == "100,003 of 100,003"
    assert rows["samples visited exactly once in an epoch with windows of 64 shards"] == "100,003 of 100,003"
    assert rows["samples that two ranks read in one of 8 steps"] == "0 of 1,024"
    assert rows["keys that differ with 8 or with 32 ranks"] == "0 of 2,048"
    assert rows["keys that differ when a run goes on in the middle of an epoch"] == "0 of 256"
    assert rows["requests per step of each machine"] == "32"


def test_the_simulation_sees_a_broken_order(monkeypatch):
    monkeypatch.setattr(order.Permutation, "at", lambda self, positions: positions // 2)
    rows = found(monkeypatch)
    assert rows["samples visited exactly once in an epoch"].split()[0] != "100,003"
    assert rows["samples that two ranks read in one of 8 steps"] != "0 of 1,024"


def test_the_simulation_sees_a_loader_that_forgets_something(monkeypatch):
    keys = loader.Loader.keys
    monkeypatch.setattr(
        loader.Loader, "keys", lambda self, step: [(seed + self.world_size, at) for seed, at in keys(self, step)]
    )
    assert found(monkeypatch)["keys that differ with 8 or with 32 ranks"] == "2048 of 2,048"
    asked = iter(range(10**6))
    monkeypatch.setattr(
        loader.Loader, "keys", lambda self, step: [(next(asked), at) for _, at in keys(self, step)]
    )
    rows = found(monkeypatch)
    assert rows["keys that differ when a run goes on in the middle of an epoch"] == "256 of 256"


def test_windows_are_counted(monkeypatch):
    monkeypatch.setattr(loader, "MAX_LISTED", 1000)
    one, every = plan.simulate_windows(replace(SMALL, num_clips=100_000), [1])
    # A batch of 128 lies in two or three shards of 100; none of its samples is alone there but at a border.
    assert one[0] == "1" and float(one[2]) <= 3 and float(one[3].split()[0]) <= 2
    # Of 1000 shards 128 draws meet 1000 (1 - 0.999^128) = 120, and each is alone with 0.999^127 = 88 %.
    assert every[0] == "all" and float(every[2]) == pytest.approx(120, abs=3)
    assert float(every[3].split()[0]) == pytest.approx(88, abs=3)


def test_arithmetic():
    ours = plan.Plan()
    assert dict(ours.corpus())["bytes of the corpus"] == "100 TB"
    # 12,800 clips of 1 MB in a second; 8 x 50 of them on a machine; 25 ms each.
    assert ours.reading(50) == ["50", "2.2 h", "12,800", "12.8 GB/s", "3.2 Gbit/s", "1.2", "10"]
    # 4 GB of gradients go around twice, at 50 GB/s; 16 clips at 50 a second.
    assert ours.gradients(50) == ["50", "8.0 GB", "0.16 s", "0.32 s", "3.1"]
    # Young: sqrt(2 x 16 s x 198 h) = 79 min.
    assert ours.checkpoints(50_700, is_sharded=False)[3:5] == ["16.0 s", "79 min"]
    assert 16_384 * 54 * 24 / 419 == pytest.approx(ours.gpu_hours_per_failure, rel=1e-3)


@pytest.mark.parametrize(("save", "between"), [(0.5, 700_000), (16, 70_000), (300, 10_000), (1000, 5000)])
def test_the_interval_between_checkpoints_loses_least(save, between):
    def time_per_work(interval: float) -> float:  # the complete model of Daly 2006, without constant factors
        return math.expm1((interval + save) / between) / interval

    best = minimize_scalar(
        time_per_work, bounds=(save / 10, 10 * between), method="bounded", options={"xatol": 1e-6}
    ).x
    ours = plan.save_interval(save_seconds=save, failure_seconds=between)
    assert ours == pytest.approx(best, rel=0.02)
    assert time_per_work(ours) == pytest.approx(time_per_work(best), rel=1e-4)
    assert time_per_work(ours) < np.mean([time_per_work(0.5 * ours), time_per_work(2 * ours)])

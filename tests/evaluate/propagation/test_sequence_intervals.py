"""Intervals over sequences against summaries of the drawn sequences, for every benchmark."""

import functools
import json
import logging

import numpy as np
import pytest
import torch
from tiny_davis import write_davis

from vidssl.evaluate.metrics.interval import NUM_RESAMPLES, resampled
from vidssl.evaluate.metrics.pck import VARIANTS
from vidssl.evaluate.metrics.tapvid import FIGURES
from vidssl.evaluate.propagation import davis, jhmdb, vip
from vidssl.evaluate.propagation.boxes import summarise_boxes
from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.propagation.sequence_intervals import (
    confusion_sums,
    joint_sums,
    sequence_uncertainty,
    weighted_means,
)
from vidssl.evaluate.propagation.tapvid import summarise_points

NUM = 7
rng = np.random.default_rng(0)


def davis_records():
    def values(num_frames):
        return {"J": rng.random(num_frames).tolist(), "F": rng.random(num_frames).tolist()}

    return [
        {
            "scored_frames": [1, 2],
            "objects": {str(one): values(12) for one in range(1, 2 + number % 3)},
            "absent_ids": [],
        }
        for number in range(NUM)
    ]


def grouped_records():
    records = davis_records()
    for number, record in enumerate(records):
        record["groups"] = {one: "seen" if (number + int(one)) % 2 else "unseen" for one in record["objects"]}
    return records


def joint_records():
    records = []
    for _ in range(NUM):
        counted = rng.integers(0, 9, 6)
        one = {
            variant: {"counted": counted.tolist(), "correct": rng.integers(0, counted + 1, (5, 6)).tolist()}
            for variant in VARIANTS
        }
        records.append({**one, "found": int(rng.integers(1, 9)), "present": 9})
    return records


def confusion_records():
    records = [{"confusion": rng.integers(0, 50, (4, 4)).tolist()} for _ in range(NUM)]
    records[0]["confusion"][3] = [0, 0, 0, 0]
    return records


def box_records(task):
    if task == "got10k":
        return [{"overlaps": rng.random(3 + number).tolist()} for number in range(NUM)]
    return [
        {"success_curve": rng.random(21).tolist(), "precision_curve": rng.random(51).tolist()} for _ in range(NUM)
    ]


def point_records():
    records = [{"figures": {name: rng.random() for name in FIGURES}, "num_queries": 3} for _ in range(NUM)]
    records[2]["figures"][FIGURES[0]] = None  # a video without it
    return records


def of_boxes(task):
    summarise = functools.partial(summarise_boxes, task=task)

    def sums(records):
        return weighted_means(records, summarise, weight=lambda more: more.get("num_scored_frames", 1))

    return box_records(task), summarise, sums


CASES = {
    "davis": lambda: (davis_records(), davis._summary, davis._sums),
    "youtubevos": lambda: (grouped_records(), davis._summary, davis._sums),
    "jhmdb": lambda: (
        joint_records(),
        functools.partial(jhmdb.summary, joint_names=[str(i) for i in range(6)], variant="uvc"),
        functools.partial(joint_sums, variant="uvc"),
    ),
    "vip": lambda: (confusion_records(), vip.summary, confusion_sums),
    "otb": lambda: of_boxes("otb"),
    "got10k": lambda: of_boxes("got10k"),
    "tapvid": lambda: (point_records(), summarise_points, lambda rows: weighted_means(rows, summarise_points)),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_are_those_of_summaries_of_the_drawn_sequences(case):
    records, summarise, sums = CASES[case]()
    records = [{"name": f"s{number}", "num_frames": 12, **record} for number, record in enumerate(records)]
    figures = summarise(records)[0]
    found = sequence_uncertainty(sums(records), figures)
    assert (found["n"], found["unit"], found["note"]) == (NUM, "sequence", "")
    assert set(found["intervals"]) == set(figures)
    drawn = []
    for counts in torch.cat(list(resampled(NUM))).tolist():
        again = [
            {**record, "name": f"{record['name']}-{time}"}
            for record, count in zip(records, counts, strict=True)
            for time in range(count)
        ]
        drawn.append(summarise(again)[0])
    assert len(drawn) == NUM_RESAMPLES
    for name, bounds in found["intervals"].items():
        # Draws without one of two groups have no mean of both.
        values = np.array([one.get(name, np.nan) for one in drawn], dtype=np.float64)
        expected = np.nanquantile(values, [0.025, 0.975])
        assert bounds == pytest.approx(expected.tolist(), abs=1e-9), name
        assert bounds[0] < figures[name] < bounds[1]


def test_figures_that_sums_do_not_give_have_no_interval_and_are_named():
    records = [{"x": value} for value in (0.2, 0.4, 0.9)]

    def summarise(rows):
        values = [row["x"] for row in rows]
        return {"mean": float(np.mean(values)), "median": float(np.median(values))}, {}, {}

    found = sequence_uncertainty(weighted_means(records, summarise), summarise(records)[0])
    assert set(found["intervals"]) == {"mean"}
    assert found["note"] == "no interval for median: it is no function of sums over sequences"


def test_davis_writes_and_prints_intervals_over_sequences(tmp_path, capsys):
    from vidssl.cli import main

    logging.getLogger("vidssl").setLevel(logging.INFO)
    root = write_davis(tmp_path / "davis", {"slow": 2, "fast": 6, "still": 0})
    out = tmp_path / "out"
    words = ["evaluate", "davis", "--root", root, "--model", "identity", "--out", out, "--no-overlays"]
    assert main([str(word) for word in words]) == 0
    result = json.loads((out / "result.json").read_text())
    low, high = result["uncertainty"]["intervals"]["J&F-Mean"]
    assert low < result["figures"]["J&F-Mean"] < high and result["uncertainty"]["n"] == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{100 * low:.1f}, {100 * high:.1f}]" in shown
    assert "n = 3 sequences; in brackets: 95 % intervals, by bootstrap over sequences" in shown


def test_one_sequence_has_no_interval_and_says_so(tmp_path):
    root = write_davis(tmp_path / "davis", {"slow": 2})
    result = evaluate_davis(None, root=root, out=tmp_path / "out", model_name="identity", overlays=False)
    sure = result.record["uncertainty"]
    assert sure["intervals"] == {} and sure["note"].startswith("n is 1 sequence: one tells nothing of others")

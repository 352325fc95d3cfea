"""What evaluations of recognition say beside their figures: n, intervals, and a row per test sample."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.cli import main
from vidssl.evaluate.metrics.interval import mean_intervals, wilson
from vidssl.models import ResNet, export_encoder

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLASSES = ("dark", "grey", "light")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "160")
    logging.getLogger("vidssl").setLevel(logging.INFO)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(1)
    export_encoder(ResNet(18, width=4), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def listed(tmp_path):
    """Noise that tells no class, listed with the recording each file was cut from: 5 test recordings of 4 files."""
    generator = np.random.default_rng(0)
    rows = "path,label,split,source\n"
    for split, num_recordings in (("train", 6), ("test", 5)):
        for number in range(4 * num_recordings):
            name = f"pictures/{split}{number}.png"
            (tmp_path / "pictures").mkdir(exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)
            recording = number // 4
            rows += f"{name},{CLASSES[recording % 3]},{split},{split}-film{recording}\n"
    (tmp_path / "list.csv").write_text(rows)
    return tmp_path / "list.csv"


def run(task, root, model, out, *more):
    words = ["evaluate", task, "--root", root, "--model", model, "--size-px", 16, "--num-workers", 0, "--out", out]
    assert main([str(word) for word in (*words, *more)]) == 0
    result = json.loads((out / "result.json").read_text())
    with (out / "predictions.csv").open() as file:
        return result, list(csv.DictReader(file))


OPTIONS = {
    "knn": [],
    "linear": ["--solver", "exact"],
    "finetune": ["--steps", 2, "--batch-size", 4],
    "lowshot": ["--classifier", "knn", "--shots", 1, "--fractions", "--num-draws", 2],
    "retrieval": ["--ranks", 1, 3],
}


@pytest.mark.parametrize("task", ["knn", "linear", "finetune"])
def test_recordings_are_drawn_and_rows_give_the_figures(listed, model, tmp_path, task, capsys):
    result, rows = run(task, listed, model, tmp_path / "out", *OPTIONS[task])
    assert [row["file"] for row in rows] == [f"pictures/test{number}.png" for number in range(20)]
    assert [row["recording"] for row in rows] == [f"test-film{number // 4}" for number in range(20)]
    assert [row["label"] for row in rows[::4]] == ["dark", "grey", "light", "dark", "grey"]
    right = torch.tensor([row["prediction"] == row["label"] for row in rows])
    assert result["figures"]["top1"] == pytest.approx(right.double().mean().item())
    for row in rows:
        scores = [float(row[f"score_{place}"]) for place in (1, 2, 3) if row.get(f"class_{place}")]
        assert row["class_1"] == row["prediction"] and scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-4) and "class_4" not in row
    sure = result["uncertainty"]
    assert (sure["n"], sure["num_samples"], sure["unit"], sure["level"]) == (5, 20, "recording", 0.95)
    by_recording = mean_intervals({"x": right}, torch.arange(20) // 4)["x"]
    assert sure["intervals"]["top1"] == pytest.approx(by_recording)
    assert sure["intervals"]["top1"] != pytest.approx(mean_intervals({"x": right}, torch.arange(20))["x"])
    assert set(sure["intervals"]) == set(result["figures"])
    shown = " ".join(capsys.readouterr().out.split())
    low, high = (f"{100 * bound:.1f}" for bound in by_recording)
    assert f"[{low}, {high}]" in shown
    assert "n = 5 recordings (20 samples); in brackets: 95 % intervals, by bootstrap over recordings" in shown


def test_lowshot_names_what_most_draws_say(listed, model, tmp_path):
    result, rows = run("lowshot", listed, model, tmp_path / "out", *OPTIONS["lowshot"])
    assert len(rows) == 20 and {row["prediction"] for row in rows} <= set(CLASSES)
    assert all(row["prediction"] == row["1-shot prediction"] for row in rows)
    assert {row["1-shot share of draws"] for row in rows} <= {"0.5", "1"}
    assert set(result["uncertainty"]["intervals"]) == {"1-shot top1"}
    low, high = result["uncertainty"]["intervals"]["1-shot top1"]
    assert low <= result["figures"]["1-shot top1"] <= high


def test_retrieval_writes_the_first_hits(listed, model, tmp_path):
    result, rows = run("retrieval", listed, model, tmp_path / "out", *OPTIONS["retrieval"])
    label_of = {line.split(",")[0]: line.split(",")[1] for line in listed.read_text().splitlines()}
    for row in rows:
        hits = [row[f"hit_{place}"] for place in (1, 2, 3)]
        assert [label_of[hit] for hit in hits] == [row[f"class_{place}"] for place in (1, 2, 3)]
        assert all(hit.startswith("pictures/train") for hit in hits) and "hit_4" not in row
        cosines = [float(row[f"cosine_{place}"]) for place in (1, 2, 3)]
        assert cosines == sorted(cosines, reverse=True)
    found = sum(row["label"] in [row[f"class_{place}"] for place in (1, 2, 3)] for row in rows) / 20
    assert result["figures"]["R@3"] == pytest.approx(found)
    assert set(result["uncertainty"]["intervals"]) == {"R@1", "R@3"}


def test_clusters_are_written_and_sure(listed, model, tmp_path):
    result, rows = run("cluster", listed, model, tmp_path / "out", "--samples", "test")
    assert len(rows) == 20 and {row["cluster"] for row in rows} == {"0", "1", "2"}
    sure = result["uncertainty"]
    assert sure["n"] == 5 and set(sure["intervals"]) == set(result["figures"])


def test_one_recording_gives_no_interval_and_says_so(listed, model, tmp_path, capsys):
    for number in range(1, 5):
        listed.write_text(listed.read_text().replace(f"test-film{number}", "test-film0"))
    result, _ = run("knn", listed, model, tmp_path / "out", "--no-baselines")
    assert result["uncertainty"]["intervals"] == {} and result["uncertainty"]["n"] == 1
    said = "n is 1 recording: one tells nothing of others, so there is no interval"
    assert result["uncertainty"]["note"] == said and said in " ".join(capsys.readouterr().out.split())


def test_predictions_that_are_gone_are_made_again(listed, model, tmp_path, caplog):
    out = tmp_path / "out"
    _, rows = run("knn", listed, model, out, "--no-baselines")
    caplog.clear()
    assert run("knn", listed, model, out, "--no-baselines")[1] == rows and "taken over" in caplog.text
    (out / "predictions.csv").unlink()
    caplog.clear()
    assert run("knn", listed, model, out, "--no-baselines")[1] == rows and "taken over" not in caplog.text


def test_a_test_file_that_cannot_be_read_has_no_row_and_no_say(listed, model, tmp_path):
    (tmp_path / "pictures/test7.png").write_bytes(b"no picture")
    for task in ("knn", "finetune"):
        more = [*OPTIONS[task], "--no-baselines", "--bad-file-budget", 0.1]
        result, rows = run(task, listed, model, tmp_path / task, *more)
        assert len(rows) == 19 == result["uncertainty"]["num_samples"] == result["chosen"]["num_test"]
        assert "pictures/test7.png" not in [row["file"] for row in rows]


def test_means_over_splits_carry_the_means_of_bounds():
    from vidssl.evaluate.metrics.interval import mean_uncertainty, uncertainty

    one = uncertainty({"top1": (0.2, 0.4), "top5": (0.5, 0.6)}, num_units=10, num_samples=30)
    other = uncertainty({"top1": (0.4, 0.8)}, num_units=5, num_samples=5)
    mean = mean_uncertainty([one, other])
    assert mean["intervals"] == {"top1": pytest.approx([0.3, 0.6])} and (mean["n"], mean["num_samples"]) == (
        15,
        35,
    )
    assert "2 splits" in mean["note"]
    alone = uncertainty({}, num_units=1, num_samples=3)
    assert mean_uncertainty([one, alone])["intervals"] == {}


def test_wilson_knows_its_limits():
    assert wilson(1.0, 3) == (pytest.approx(0.4385, abs=1e-3), 1.0)

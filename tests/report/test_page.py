"""The report: its figures, its independence of other files, and that names are text to it."""

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_davis import write_davis

from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.models import ResNet
from vidssl.report import charts, page
from vidssl.report.page import write_report

SCRIPT = "<script>alert(1)"


def write_run(folder: Path, *, num_lines: int = 40) -> Path:
    folder.mkdir()
    run = {
        "config": "video/some_config",
        "options": {"steps": 400, "root": "videos", "seed": 7, "precision": "float32"},
        "overrides": {"root": "videos"},
        "command": f"vidssl pretrain video/some_config --root '{SCRIPT}'",
        "num_videos": 12,
        "num_processes": 1,
        "git": "0123456789abcdef",
        "versions": {"vidssl": "0.1.0", "torch": "2.11.0"},
        "date": "2026-01-31T10:00:00+00:00",
        "device": "cpu",
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "config.py").write_text("def run(root: str): ...  # a < b\n")
    lines = [{"step": 10 * (n + 1), "loss": 3 - n / 20, "data_wait$_": 0.25} for n in range(num_lines)]
    lines[1:2] = [{**line, "loss": float("nan")} for line in lines[1:2]]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "pictures").mkdir(exist_ok=True)
    for step, value in ((100, 10), (400, 200)):
        Image.new("RGB", (8, 4), (value, 0, 0)).save(folder / "pictures" / f"copied_colors_{step:08d}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Write a run with two evaluations on three sequences, one of which has the name of a script."""
    folder = tmp_path_factory.mktemp("report")
    root = write_davis(folder / "davis", {SCRIPT: 1, "fast": 6, "still": 0})
    run = write_run(folder / "run")
    encoder = ResNet(18, width=8).eval().requires_grad_(False)
    for name, options in {
        "identity": {},
        "pretrained": {"protocol": dataclasses.replace(CRW, short_side=64)},
    }.items():
        evaluate_davis(
            encoder if options else None,
            root=root,
            out=run / "evaluate" / name,
            model_name="runs/x" if options else name,
            command=f"vidssl evaluate davis --model {name}",
            **options,
        )
    write_report(run)
    return run


def text_of(run: Path) -> str:
    return (run / "report.html").read_text()


def test_shows_the_figures_of_every_evaluation(run):
    text = text_of(run)
    for name, label in (("identity", "Identity"), ("pretrained", "Pretrained")):
        result = json.loads((run / "evaluate" / name / "result.json").read_text())
        figures = [f"{100 * value:.1f}" for value in result["figures"].values()]
        row = re.search(rf"<tr[^>]*><td[^>]*><span[^>]*></span>{label}</td>.*?</tr>", text)
        assert re.findall(r'<td class="number">([-\d.]+)</td>', row[0])[: len(figures)] == figures
        for sequence in ("fast", "still"):
            assert f"{100 * result['parts'][sequence]['J&F-Mean']:.1f}" in text
        assert f"vidssl evaluate davis --model {name}" in text
    for column in ("J&amp;F-Mean", "J-Recall", "F-Decay"):
        assert column in text


def test_says_what_pretraining_gained(run):
    pretrained, identity = (
        json.loads((run / "evaluate" / name / "result.json").read_text())["figures"]["J&F-Mean"]
        for name in ("pretrained", "identity")
    )
    gain = f"{100 * (pretrained - identity):+.1f} points of J&amp;F"
    assert f"<strong>{gain}</strong> against identity" in text_of(run)


def test_shows_the_run(run):
    text = text_of(run)
    for fact in ("video/some_config", "400 of 400 steps", "12 videos", "0123456789abcdef", "2.11.0", "a &lt; b"):
        assert fact in text
    assert "Last: 1.0500" in text  # 3 - 39 / 20


def test_needs_no_other_file_and_no_network(run):
    text = text_of(run)
    sources = re.findall(r'(?:src|href|data|poster|action)="([^"]*)"', text)
    assert len(sources) > 10 and all(source.startswith("data:") for source in sources)
    assert not re.search(r"https?:|url\(|@import|<script|<iframe|<link", text)


def test_names_are_text(run):
    text = text_of(run)
    assert "&lt;script&gt;alert(1)" in text and "<script" not in text
    # Nor do they mean anything in a chart, where a browser shows an SVG picture.
    for chart in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', text):
        assert "<script" not in base64.b64decode(chart).decode()


def test_shows_the_last_picture(run):
    (uri,) = re.findall(r'alt="copied_colors" src="data:image/png;base64,([^"]*)"', text_of(run))
    assert Image.open(io.BytesIO(base64.b64decode(uri))).getpixel((0, 0)) == (200, 0, 0)


def test_shows_best_median_and_worst(run):
    result = json.loads((run / "evaluate" / "pretrained" / "result.json").read_text())
    ranking = sorted(result["parts"], key=lambda name: -result["parts"][name]["J&F-Mean"])
    titles = re.findall(r"<h3>(Best|Median|Worst): ([^<]*)</h3>", text_of(run))
    assert [name.replace("&lt;", "<").replace("&gt;", ">") for _, name in titles] == ranking
    assert [title for title, _ in titles] == ["Best", "Median", "Worst"]
    assert ranking[-1] == "fast"


def test_failures_show_the_worst_frame(run):
    record = json.loads((run / "evaluate" / "pretrained" / "sequences" / "fast.json").read_text())
    scores = (np.array(record["objects"]["1"]["J"]) + np.array(record["objects"]["1"]["F"])) / 2
    worst = record["scored_frames"][int(scores.argmin())]
    assert f"<h3>fast, frame {worst}: J&amp;F {100 * scores.min():.1f}</h3>" in text_of(run)


def test_strips_are_the_masks_over_the_frames(run):
    """The right end of the identity's strip of `fast`: the mask is where the square was, not where it is."""
    strips = re.findall(
        r'<img alt="(Ground truth|Identity) of fast" src="data:image/jpeg;base64,([^"]*)"', text_of(run)
    )
    strip = {label: np.array(Image.open(io.BytesIO(base64.b64decode(uri)))).astype(int) for label, uri in strips}
    height, gap_px = page.STRIP_HEIGHT_PX, 3
    last = (height + gap_px) * 4  # 5 frames of 64 x 64 px; the last one starts here
    scale = height / 64
    row = round(32 * scale)
    column = {place: last + round((8 + place + 8) * scale) for place in (0, 24)}  # middles of the squares
    # The first object is red in DAVIS: red is far above green where it is drawn.
    redness = {
        (label, place): picture[row - 9 : row + 9, column[place] - 9 : column[place] + 9].mean(axis=(0, 1))
        for label, picture in strip.items()
        for place in (0, 24)
    }
    excess = {key: color[0] - color[1] for key, color in redness.items()}
    assert excess["Ground truth", 24] > 40 and excess["Identity", 0] > 40
    assert abs(excess["Ground truth", 0]) < 20 and abs(excess["Identity", 24]) < 20


def test_videos_past_the_limit_are_named(run, monkeypatch):
    assert text_of(run).count("<video") == 3
    total = sum(path.stat().st_size for path in (run / "evaluate/pretrained/overlays").glob("*.mp4"))
    monkeypatch.setattr(page, "MAX_VIDEO_BYTES", total - 1)
    write_report(run)
    assert text_of(run).count("<video") == 2 and "Too large for this page:" in text_of(run)
    monkeypatch.undo()
    write_report(run)


def test_a_run_without_anything_to_show_yet(tmp_path):
    run = write_run(tmp_path / "new")
    (run / "metrics.jsonl").unlink()
    text = write_report(run).read_text()
    assert "no evaluation yet" in text and f"--model {run}" in text and "<h2>Training" not in text


@pytest.mark.parametrize("torn", [b'{"step": 401, "lo', b"\0" * 40, b"\xff\xfe{", b"17"])
def test_a_torn_last_line_of_the_metrics_is_left_out(tmp_path, caplog, torn):
    whole = write_report(write_run(tmp_path / "whole")).read_text()
    run = write_run(tmp_path / "torn")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    text = write_report(run).read_text()
    assert "metrics.jsonl:41 is damaged and left out" in caplog.text
    assert len(re.findall("data:image/svg", text)) == len(re.findall("data:image/svg", whole)) > 0


def test_metrics_of_nothing_but_a_torn_line_are_no_training(tmp_path):
    run = write_run(tmp_path / "new")
    (run / "metrics.jsonl").write_text('{"step": 1')
    assert "<h2>Training" not in write_report(run).read_text()


def test_data_that_moved_is_said(run, tmp_path, caplog):
    moved = json.loads((run / "evaluate/identity/result.json").read_text())
    folder = write_run(tmp_path / "moved") / "evaluate" / "identity"
    (folder / "sequences").mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({**moved, "root": str(tmp_path / "gone")}))
    for name in moved["parts"]:
        source = run / "evaluate/identity/sequences" / f"{name}.json"
        (folder / "sequences" / source.name).write_bytes(source.read_bytes())
    text = write_report(tmp_path / "moved").read_text()
    assert "The pictures cannot be drawn" in text and "is not a folder" in text and "gone" in caplog.text


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run\.json, which `vidssl pretrain` writes"):
        write_report(tmp_path)


def test_running_mean_is_the_mean_of_the_window():
    values = [4.0, 1.0, float("nan"), 7.0, 3.0, float("inf")]
    expected = [np.mean([x for x in values[max(0, i - 2) : i + 3] if np.isfinite(x)]) for i in range(len(values))]
    np.testing.assert_allclose(charts.running_mean(values, width=2), expected, rtol=1e-12)
    assert np.isnan(charts.running_mean([float("nan")], width=1)).all()


@pytest.mark.parametrize(
    ("value", "sign", "text"), [(0.4123, False, "41.2"), (0.05, True, "+5.0"), (None, False, "\N{EN DASH}")]
)
def test_points(value, sign, text):
    assert page._points(value, sign=sign) == text

"""Tables of results, and what happens to damaged files."""

import io
import json
import math

from rich.console import Console
from tiny_davis import write_davis

from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.results import Result, per_cent, side_by_side


def printed(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_the_same_figures_in_wide_and_narrow_tables():
    mine = Result("x", {"top1": 0.5, "top1 std": 0.012, "top5": 0.98765}, {}, {})
    chance = Result("x", {"top1": 0.1, "top1 std": math.nan, "top5": math.nan}, {}, {})
    results = {"runs/a": mine, "chance": chance}
    wide = printed(side_by_side(results, title="knn", width=100), 100)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in wide.splitlines() if "│" in line]
    assert rows == [["runs/a", "50.0", "1.2", "98.8"], ["chance", "10.0", "-", "-"]]
    narrow = printed(side_by_side(results, title="knn", width=33), 40)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in narrow.splitlines() if "│" in line]
    assert rows == [["top1", "50.0 ± 1.2", "10.0"], ["top5", "98.8", "-"]]
    assert per_cent(0.12345) == "12.3" and per_cent(math.nan) == "-"


def test_a_damaged_record_is_made_again(tmp_path, caplog):
    root = write_davis(tmp_path / "davis", {"slow": 2})
    first = evaluate_davis(None, root=root, out=tmp_path / "out", model_name="identity", overlays=False)
    record = tmp_path / "out/sequences/slow.json"
    whole = json.loads(record.read_text())
    for damage in ("", '{"name": "slow"', "{}", "[]"):
        record.write_text(damage)
        again = evaluate_davis(None, root=root, out=tmp_path / "out", model_name="identity", overlays=False)
        assert again.figures == first.figures
        assert "slow is done again" in caplog.text and "slow.json is damaged" in caplog.text
        assert json.loads(record.read_text())["objects"] == whole["objects"]
        caplog.clear()


def test_results_are_whole_json(tmp_path):
    Result("x", {"a": math.nan, "b": 0.25}, {"p": {"a": 1.0}}, {"settings": {"k": 1}}).write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "task": "x", "figures": {"a": None, "b": 0.25}, "parts": {"p": {"a": 1.0}}, "settings": {"k": 1}
    }  # fmt: skip

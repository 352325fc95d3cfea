"""Kills at random moments, a minute of them; tools/torture.py does it for longer (docs/reliability.md)."""

import json
from pathlib import Path

import processes

ROOT = Path(__file__).resolve().parents[2]


def tortured(tmp_path: Path, *options: str) -> dict:
    """Figures of a process of its own: this one has threads, which a fork would lose."""
    out = tmp_path / "figures.json"
    process = processes.script(ROOT / "tools/torture.py", "--out", out, *options, said=tmp_path / "said")
    assert process.wait(600) == 0, process.said.read_text()
    return json.loads(out.read_text())


def test_kills_and_stops_in_training_change_nothing(tmp_path):
    figures = tortured(tmp_path, "--kills", "8", "--stops", "2", "--save-kills", "0", "--bytes-changed", "0")
    assert figures.pop("wrong") == 0
    hits = {name: (part["signal"], part["num_workers"], part["hits"]) for name, part in figures.items()}
    assert hits == {
        "kills_0_workers": ("SIGKILL", 0, 4),
        "kills_2_workers": ("SIGKILL", 2, 4),
        "stops_0_workers": ("SIGTERM", 0, 1),
        "stops_2_workers": ("SIGTERM", 2, 1),
    }
    for part in figures.values():
        assert part["steps_compared"] == 60 * part["runs"] > 0 and not any(part["wrong"].values())


def test_kills_in_a_save_and_rot_lose_nothing(tmp_path):
    figures = tortured(tmp_path, "--kills", "0", "--stops", "0", "--save-kills", "30", "--bytes-changed", "100")
    assert figures.pop("wrong") == 0
    saves = [part for name, part in figures.items() if name.startswith("kills_in_save")]
    assert sum(part["kills_inside"] for part in saves) >= 15 * len(saves)
    assert sum(part["leftovers_removed"] for part in saves) > 6  # the kills did meet half-written checkpoints
    assert figures["corruptions"]["bytes"] == 100

import json
import re

import pytest

from vidssl import catalog
from vidssl.evidence import proof

CONFIG = '''
"""A recipe."""

METHOD, PAPER, NEEDS = "Toy", "Someone 2020", "nothing"


def run(root: str):
    """Nothing."""
'''
PROOF = '''
"""A proof that draws one number."""
import torch
from vidssl.evidence.proof import Proof


def measure(seed, out):
    (out / "kept").mkdir(parents=True)
    drawn = float(torch.rand(()))
    return {"random": 10.0 + seed, "pretrained": 10.0 + 3 * seed, "drawn": drawn, "threads": torch.get_num_threads()}


def holds(means):
    return means["pretrained"] >= means["random"] + 5


PROOF = Proof(metric="points", line="5 above random", holds=holds, measure=measure)
'''


def test_the_page_shows_means_spreads_and_controls():
    record = {
        "name": "toy",
        "metric": "J&F",
        "line": "above random",
        "holds": False,
        "seeds": [0, 1, 2],
        "figures": {
            "random": [10.0, 12.0, 14.0],
            "pretrained": [30.0, 33.0, 30.0],
            "copy_error": [0.1, 0.2, 0.3],
        },
        "cpu_seconds": [60, 61, 62],
    }
    row = proof.results_page([record]).splitlines()[-1]
    # Mean 12, standard deviation 2; mean 31, standard deviation sqrt(3); mean 0.2, standard deviation 0.1.
    assert row == (
        "| toy | J&F | 12.0 +- 2.0 | 31.0 +- 1.7 | copy error 0.200 +- 0.100 | above random | no | 3 | 61 |"
    )


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A catalog of one config with a proof, in a folder of its own."""
    folder = tmp_path / "configs" / "pretrain"
    folder.mkdir(parents=True)
    (folder / "toy.py").write_text(CONFIG)
    (tmp_path / "configs" / "proofs").mkdir()
    (tmp_path / "configs" / "proofs" / "toy.py").write_text(PROOF)
    for name in ("results", "docs"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path / "vidssl")
    monkeypatch.setattr(catalog.entries, "__kwdefaults__", {"package": tmp_path / "vidssl"})
    monkeypatch.setattr(catalog.shared_folder, "__kwdefaults__", {"package": tmp_path / "vidssl"})
    monkeypatch.setattr(catalog, "find", lambda name: next(e for e in catalog.entries() if e.name == name))
    return tmp_path


def test_seeds_are_measured_apart_and_the_line_is_held_against_their_mean(toy, monkeypatch):
    # Other processes do not see the patched catalog: measure here, one job after the other.
    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

        def imap_unordered(self, function, jobs):
            return map(function, reversed(jobs))

    monkeypatch.setattr(
        proof, "get_context", lambda name: type("Here", (), {"Pool": lambda self, *a, **k: Pool()})()
    )
    (record,) = proof.prove(["toy"], seeds=(1, 2, 3), out=toy / "runs")
    assert record == json.loads((toy / "results" / "toy.json").read_text())
    assert record["figures"]["random"] == [11.0, 12.0, 13.0]
    assert record["figures"]["pretrained"] == [13.0, 16.0, 19.0]
    assert not record["holds"]  # 16 against 12: four points, not five
    assert len(set(record["figures"]["drawn"])) == 3 and record["figures"]["threads"] == [1, 1, 1]
    assert (toy / "runs" / "toy" / "seed2" / "kept").is_dir()
    assert "| toy | points | 12.0 +- 1.0 | 16.0 +- 3.0 |" in (toy / "docs" / "results.md").read_text()
    (record,) = proof.prove(["toy"], seeds=(2, 3, 4))
    assert record["holds"]  # 19 against 13
    with pytest.raises(ValueError, match="is not empty: a proof starts anew"):
        proof.prove(["toy"], seeds=(1, 2, 3), out=toy / "runs")


def test_mistakes_are_named(toy):
    with pytest.raises(ValueError, match=r"there is no proof 'tow'; perhaps you meant toy"):
        proof.prove(["tow"])
    with pytest.raises(ValueError, match="no spread"):
        proof.prove(["toy"], seeds=(0,))


def test_every_method_has_a_proof_and_what_was_measured_is_on_the_page():
    names = {entry.method for entry in catalog.entries() if entry.proof is not None}
    assert names >= {entry.method for entry in catalog.entries()}
    folder = catalog.shared_folder("results")
    page = (folder.parent / "docs" / "results.md").read_text()
    for record in catalog.proof_results(folder):
        assert re.search(rf"^\| {record['name']} \|", page, re.MULTILINE), f"{record['name']} is not on the page"
        assert record["holds"] in (True, False) and len(record["seeds"]) >= 3

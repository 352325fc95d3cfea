import json
import re
import runpy
from pathlib import Path

import pytest
import torch

from vidssl import catalog
from vidssl.evidence import proof
from vidssl.evidence.refutation import judge

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
from vidssl.evidence.refutation import Claim


def measure(seed, out):
    (out / "kept").mkdir(parents=True)
    drawn = float(torch.rand(()))
    return {"random": 10.0 + seed, "pretrained": 10.0 + 3 * seed, "drawn": drawn, "threads": torch.get_num_threads()}


PROOF = Proof(metric="points", claims=(Claim("pretrained", "above", "random", 5),), measure=measure)
'''


def test_the_page_shows_means_spreads_and_controls():
    record = {
        "name": "toy",
        "metric": "J&F",
        "claims": [
            {
                "figure": "pretrained",
                "comparison": "above",
                "control": "random",
                "margin": 20,
                "by": 19,
                "spread": 1.87,
                "refuted": True,
            }
        ],
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
        "| toy | J&F | 12.0 +- 2.0 | 31.0 +- 1.7 | copy error 0.200 +- 0.100 | "
        "pretrained above random by more than 20: 19 +- 1.9, REFUTED | no | 3 | 61 |"
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


@pytest.fixture
def in_process(monkeypatch):
    """Measure here, one job after the other: other processes do not see the patched catalog."""

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


def test_seeds_are_measured_apart_and_claims_are_held_against_their_mean(toy, in_process):
    (record,) = proof.prove(["toy"], seeds=(1, 2, 3), out=toy / "runs")
    assert record == json.loads((toy / "results" / "toy.json").read_text())
    assert record["figures"]["random"] == [11.0, 12.0, 13.0]
    assert record["figures"]["pretrained"] == [13.0, 16.0, 19.0]
    assert not record["holds"]  # 16 against 12: four points, not five
    assert len(set(record["figures"]["drawn"])) == 3 and record["figures"]["threads"] == [1, 1, 1]
    assert (toy / "runs" / "toy" / "seed2" / "kept").is_dir()
    assert "| toy | points | 12.0 +- 1.0 | 16.0 +- 3.0 |" in (toy / "docs" / "results.md").read_text()
    (record,) = proof.prove(["toy"], seeds=(2, 3, 4))
    assert record["holds"]  # 19 against 13, spreads of 3 and 1
    with pytest.raises(ValueError, match="is not empty: a proof starts anew"):
        proof.prove(["toy"], seeds=(1, 2, 3), out=toy / "runs")


@pytest.mark.parametrize(("gain", "status"), [(6.0, 0), (4.0, 1), (0.0, 1)])
def test_the_command_fails_where_a_control_does_as_well(toy, in_process, monkeypatch, capsys, gain, status):
    # Doctored: the figures of the method are the control's and a little more.
    doctored = {"random": 10.0, "pretrained": 10.0 + gain}
    monkeypatch.setattr(proof, "_measure", lambda job: (job[0], job[2], doctored, 1.0))
    main = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "prove.py"))["main"]
    with pytest.raises(SystemExit) as ended:
        main(("toy",))
    assert int(ended.value.code) == status
    said = (
        f"toy: {'DOES NOT HOLD' if status else 'holds'}\n  pretrained above random by more than 5: {gain:g} +- 0"
    )
    assert f"{said}{', REFUTED' if status else ''}\n" in capsys.readouterr().out


def test_a_recipe_as_shipped_keeps_its_optimizer_and_the_form_of_its_schedule(tmp_path):
    video = torch.randint(256, (5, 1, 3, 40, 40), dtype=torch.uint8)
    options = {"steps": 10, "crop_px": 32, "width": 4, "batch_size": 2}
    run = proof.shipped("image/rotation_resnet18", video, folder=tmp_path, highest_lr=0.5, **options)
    # A tenth of the rate at 0.3, 0.6 and 0.9 of the training.
    assert [run.learning_rate(at) for at in (0, 0.5, 0.95)] == pytest.approx([0.5, 0.05, 0.0005])
    assert run.dataset.video is video and (run.steps, run.batch_size, run.method.encoder.dim) == (10, 2, 32)
    optimizer = run.optimizer([{"params": list(run.method.parameters())}])
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["nesterov"]


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


@pytest.mark.parametrize(
    "record", catalog.proof_results(catalog.shared_folder("results")), ids=lambda one: one["name"]
)
def test_what_was_measured_is_judged_by_the_claims_that_stand_today(record):
    if record["name"] == proof.DEMO_PROOF:
        claims = proof.DEMO_CLAIMS
    else:
        claims = proof.proof_of(record["config"]).claims
    assert claims and record["claims"] == [judge(claim, record["figures"]) for claim in claims]
    assert record["holds"] == (not any(claim["refuted"] for claim in record["claims"]))

"""Checkpoints on disk: whole or not at all, known to be whole, read for ever."""

import json
import logging
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from tiny_run import STEPS, tiny_run, train
from tiny_training import file_size_limit

from vidssl import fit
from vidssl.evidence.torture import corrupt
from vidssl.train import checkpoint

pytestmark = pytest.mark.usefixtures("looked_at_here")

FIXTURES = Path(__file__).parents[1] / "fixtures"


def state(step: int) -> dict:
    return {"method": {"weight": torch.full((500,), float(step))}, "names": ["a", 1, None]}


def saved(folder: Path, *steps: int, **options) -> list[Path]:
    return [checkpoint.save(folder, state(step), step=step, **options) for step in steps]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_was_saved_comes_back(tmp_path):
    (path,) = saved(tmp_path, 12, recipe_sha256="abc")
    found = checkpoint.load(path)
    assert torch.equal(found["method"]["weight"], torch.full((500,), 12.0))
    assert found["names"] == ["a", 1, None] and found["step"] == 12 and found["recipe_sha256"] == "abc"
    manifest = json.loads((path / "manifest.json").read_text())
    assert names(path) == ["manifest.json", "state.pt"]
    assert manifest["files"]["state.pt"]["bytes"] == (path / "state.pt").stat().st_size
    assert manifest["format_version"] == 2 and manifest["versions"]["torch"] == torch.__version__


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    assert corrupt(tmp_path, num_bytes=1000, num_cuts=100, seed=1)["wrong"] == {
        "bytes_not_noticed": 0,
        "cuts_not_noticed": 0,
    }


def test_every_byte_of_a_manifest_counts(tmp_path):
    (path,) = saved(tmp_path, 3)
    file = path / "manifest.json"
    for place in range(file.stat().st_size):
        flip(file, place)
        with pytest.raises(checkpoint.Damaged, match=r"step_00000003 is damaged: its manifest\.json"):
            checkpoint.check(path)
        flip(file, place)
    checkpoint.check(path)


def test_a_damaged_one_is_told_and_the_one_before_is_used(tmp_path, caplog):
    saved(tmp_path, 2, 4)
    flip(tmp_path / "step_00000004" / "state.pt", 700)
    found = checkpoint.recover(tmp_path)
    assert found == tmp_path / "step_00000002"
    assert "step_00000004 is damaged: the sha256 of state.pt is not that of its manifest.json" in caplog.text
    assert "the run goes on from" in caplog.text and caplog.records[-1].levelno == logging.ERROR
    assert names(tmp_path) == ["damaged-1_step_00000004", "step_00000002"]  # kept, but no checkpoint any more
    # What is written next neither counts the damaged one nor stumbles over it.
    saved(tmp_path, 4, 6)
    assert names(tmp_path) == ["damaged-1_step_00000004", "step_00000004", "step_00000006"]


def test_without_a_whole_one_nothing_begins_anew_by_itself(tmp_path):
    saved(tmp_path, 2, 4)
    for step in (2, 4):
        (tmp_path / f"step_{step:08d}" / "state.pt").unlink()
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints in .* is whole.*--restart"):
        checkpoint.recover(tmp_path)
    assert checkpoint.recover(tmp_path / "absent") is None


def test_a_half_written_folder_with_the_newest_number_is_ignored(tmp_path):
    saved(tmp_path, 2)
    (tmp_path / "step_00000009").mkdir()
    (tmp_path / "step_00000009" / "state.pt").write_bytes(b"PK\x03\x04 half of it")
    assert checkpoint.recover(tmp_path) == tmp_path / "step_00000002"


def test_a_renamed_checkpoint_is_no_newer_one(tmp_path):
    saved(tmp_path, 2, 4)
    (tmp_path / "step_00000004").rename(tmp_path / "step_00000011")
    with pytest.raises(checkpoint.Damaged, match="it is the checkpoint of step 4"):
        checkpoint.check(tmp_path / "step_00000011")
    assert checkpoint.recover(tmp_path) == tmp_path / "step_00000002"


def test_leftovers_of_dead_processes_go_those_of_living_ones_stay(tmp_path):
    saved(tmp_path, 2)
    process = subprocess.Popen(["true"])
    process.wait()
    dead = process.pid
    for pid in (dead, os.getppid()):
        (tmp_path / f".step_00000004.{pid}.tmp").mkdir()
        (tmp_path / f".step_00000004.{pid}.tmp" / "state.pt").write_bytes(b"half")
    checkpoint.recover(tmp_path)
    assert names(tmp_path) == [f".step_00000004.{os.getppid()}.tmp", "step_00000002"]


@pytest.mark.parametrize("num_kept", [1, 2, 3])
def test_the_newest_few_stay(tmp_path, num_kept):
    saved(tmp_path, 1, 2, 3, 4, 5, num_kept=num_kept)
    assert names(tmp_path) == [f"step_{step:08d}" for step in range(6 - num_kept, 6)]


def test_the_old_one_goes_only_after_the_new_one_was_read_again(tmp_path, monkeypatch):
    saved(tmp_path, 1, num_kept=1)

    def lying_disk(path: Path) -> None:
        """Stands for a disk that reports success and keeps other bytes."""
        if path.name == "state.pt":
            flip(path, 900)

    monkeypatch.setattr(checkpoint, "flush", lying_disk)
    with pytest.raises(checkpoint.Damaged, match="the sha256 of state"):
        saved(tmp_path, 2, num_kept=1)
    assert names(tmp_path) == ["step_00000001"]
    assert checkpoint.recover(tmp_path) == tmp_path / "step_00000001"


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 1500, 1500))
    with pytest.raises(
        OSError, match=r"1,500 bytes are free; a checkpoint needs 6\d,\d\d\d bytes: .*step_00000002"
    ):
        saved(tmp_path, 2)
    assert names(tmp_path) == ["step_00000001"]


def test_a_disk_that_fills_up_while_writing_costs_nothing_old(tmp_path):
    saved(tmp_path, 1)
    with (
        file_size_limit(1000),
        pytest.raises(OSError, match=r"File too large; a checkpoint needs .*step_00000002"),
    ):
        saved(tmp_path, 2)
    assert names(tmp_path) == ["step_00000001"]
    saved(tmp_path, 2)
    assert checkpoint.recover(tmp_path) == tmp_path / "step_00000002"


def test_the_bytes_asked_for_are_enough(tmp_path):
    shared = torch.zeros(4000)
    content = {"a": shared, "b": shared[:10], "many": [torch.tensor(number) for number in range(300)]}
    path = checkpoint.save(tmp_path, content, step=1)
    size = sum(file.stat().st_size for file in path.iterdir())
    assert size <= checkpoint._size(content) < 16_000 + 302 * 1100 + 70_000


# Training.


def test_training_outlives_a_disk_that_is_full_for_a_while(tmp_path, caplog):
    run = tiny_run()
    forward = run.method.forward

    def full_at_step_2(batch, progress):
        # Checkpoints are due after steps 2, 4 and 6; the disk is full from step 1 to step 3.
        limit = 2000 if 1 <= round(progress * STEPS) <= 2 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return forward(batch, progress)

    run.method.forward = full_at_step_2
    with file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[0]):
        checkpoint_names = names_after_fit(run, tmp_path)
    assert checkpoint_names == ["step_00000004", "step_00000006"]
    assert "the state of step 2 is not saved" in caplog.text and "failure 1, it stops at 3" in caplog.text
    train(tmp_path / "whole")
    first, second = (
        checkpoint.load(folder / "checkpoints" / "step_00000006") for folder in (tmp_path, tmp_path / "whole")
    )
    assert torch.equal(first["method"]["head.1.weight"], second["method"]["head.1.weight"])


def names_after_fit(run, out: Path) -> list[str]:
    fit(run, out=out, log_every=1, save_every=2, picture_every=100)
    return names(out / "checkpoints")


def test_training_ends_after_three_saves_that_fail(tmp_path, caplog):
    train(tmp_path, steps=2)
    with file_size_limit(4000), pytest.raises(OSError, match=r"a checkpoint needs .*step_00000008"):
        train(tmp_path, steps=20)
    assert "failure 1, it stops at 3" in caplog.text and "failure 2, it stops at 3" in caplog.text
    assert names(tmp_path / "checkpoints") == ["step_00000002"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_training_outlives_a_disk_that_keeps_other_bytes_once(tmp_path, monkeypatch, caplog):
    def lies_once(path: Path) -> None:
        if path.name == "state.pt" and "failure" not in caplog.text:
            flip(path, 900)

    monkeypatch.setattr(checkpoint, "flush", lies_once)
    train(tmp_path)
    assert "the state of step 2 is not saved" in caplog.text and "failure 2" not in caplog.text
    assert names(tmp_path / "checkpoints") == ["step_00000004", "step_00000006"]


def test_the_last_save_must_succeed(tmp_path):
    with file_size_limit(4000), pytest.raises(OSError, match=r"step_00000001"):
        train(tmp_path, steps=1)


def test_a_checkpoint_of_other_options_is_refused(tmp_path):
    train(tmp_path, steps=2, recipe_sha256="one")
    train(tmp_path, steps=2, recipe_sha256="one")
    with pytest.raises(ValueError, match=r"step_00000002 was written by a run with other options"):
        train(tmp_path, steps=2, recipe_sha256="two")


def test_a_run_goes_on_after_its_newest_checkpoint_rotted(tmp_path):
    whole, rotten = tmp_path / "whole", tmp_path / "rotten"
    train(whole)
    train(rotten, steps=4)
    flip(rotten / "checkpoints" / "step_00000004" / "state.pt", 3000)
    train(rotten)
    first, second = (checkpoint.load(folder / "checkpoints" / "step_00000006") for folder in (whole, rotten))
    assert torch.equal(first["method"]["head.1.weight"], second["method"]["head.1.weight"])
    assert first["optimizer"]["state"][0]["exp_avg"].equal(second["optimizer"]["state"][0]["exp_avg"])
    assert torch.equal(first["random"][0]["cpu"], second["random"][0]["cpu"])
    steps = [json.loads(line)["step"] for line in (rotten / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 7))


# Formats: these files were written by the release that brought the format (tests/tiny_run.py, three of six steps), and
# must be read by all later ones.


@pytest.mark.parametrize("version", [1, 2])
def test_checkpoints_of_every_format_are_gone_on_from(tmp_path, version):
    whole = train(tmp_path / "whole")
    shutil.copytree(FIXTURES / f"checkpoints_{version}", tmp_path / "old" / "checkpoints")
    continued = train(tmp_path / "old")
    # Another processor or version of PyTorch rounds otherwise.
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(continued.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    logged = [json.loads(line)["step"] for line in (tmp_path / "old" / "metrics.jsonl").read_text().splitlines()]
    assert logged == [4, 5, 6]  # it went on, and did not begin anew
    assert names(tmp_path / "old" / "checkpoints") == ["step_00000004", "step_00000006"]


def test_a_changed_byte_of_format_1_is_noticed_or_means_nothing(tmp_path):
    (source,) = (FIXTURES / "checkpoints_1").iterdir()
    expected, content = checkpoint.load(source), source.read_bytes()
    file = tmp_path / source.name
    num_noticed = 0
    for place in range(0, len(content), 17):
        file.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
        try:
            found = checkpoint.load(file)
        except ValueError:
            num_noticed += 1
        else:  # names and dates inside of the archive have no checksum, and no effect
            assert torch.equal(found["method"]["head.1.weight"], expected["method"]["head.1.weight"])
            assert torch.equal(found["random"][0]["cpu"], expected["random"][0]["cpu"])
    assert num_noticed > 0.5 * len(range(0, len(content), 17))


def test_a_format_of_the_future_is_no_damage(tmp_path):
    saved(tmp_path, 2, 4)
    path = tmp_path / "step_00000004" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    path.write_bytes(checkpoint._manifest_bytes({**manifest, "format_version": 4}))
    with pytest.raises(ValueError, match=r"has checkpoint format 4, this version of vidssl reads up to 3"):
        checkpoint.recover(tmp_path)
    assert names(tmp_path) == ["step_00000002", "step_00000004"]  # not set aside


def test_python_objects_are_refused(tmp_path):
    (path,) = saved(tmp_path, 2)

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    shutil.rmtree(path)
    path.mkdir()
    manifest = {"format_version": 2, "step": 2, "recipe_sha256": None, "versions": {}}
    manifest["files"] = {"state.pt": checkpoint._write_state(path / "state.pt", {"step": 2, "bomb": Bomb()})}
    (path / "manifest.json").write_bytes(checkpoint._manifest_bytes(manifest))
    with pytest.raises(ValueError, match="is refused: it holds Python objects"):
        checkpoint.load(path)
    assert not (tmp_path / "exploded").exists()

"""What a power cut may not lose is on the disk before anything relies on it: every fsync has its place in an order."""

import re

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video
from test_files import Calls
from tiny_run import train

from vidssl.data.corpus.prepare import prepare
from vidssl.evaluate.recognition.features.cache import Store
from vidssl.train import distcp
from vidssl.train.logbook import Logbook


def test_the_log_is_on_the_disk_before_a_checkpoint_that_knows_of_it(tmp_path, monkeypatch):
    with Logbook(tmp_path, first_step=0, num_steps=3) as log:
        calls = Calls(monkeypatch, tmp_path)
        log.scalars(1, {"loss": 0.5})
        assert calls.seen == []
        log.flush()
        assert ("fsync", "metrics.jsonl") in calls.seen


def test_a_training_flushes_its_log_before_it_saves(tmp_path, monkeypatch):
    calls = Calls(monkeypatch, tmp_path)
    train(tmp_path, steps=2, save_every=1)
    seen = [call for call in calls.seen if call == ("fsync", "metrics.jsonl") or call[-1].endswith("state.pt")]
    saved = [("fsync", f"checkpoints/.step_0000000{step}.tmp/state.pt") for step in (1, 2)]
    assert seen == [("fsync", "metrics.jsonl"), saved[0], ("fsync", "metrics.jsonl"), saved[1]]


@pytest.mark.filterwarnings("ignore:torch.distributed is")  # a single process
def test_parts_of_a_state_that_is_cut_are_on_the_disk_before_their_list(tmp_path, monkeypatch):
    """Written by torch, whose option it is."""
    (tmp_path / "parts").mkdir()
    calls = Calls(monkeypatch, tmp_path)
    distcp.write(tmp_path / "parts", {"weight": torch.ones(3)})
    seen = [call for call in calls.seen if call[0] == "fsync" or call[-1] == "parts/.metadata"]
    assert seen[0] == ("fsync", "parts/__0_0.distcp")
    assert seen[-2:] == [("fsync", "parts/.metadata.tmp"), ("rename", "parts/.metadata.tmp", "parts/.metadata")]


def test_features_are_on_the_disk_before_the_line_that_vouches_for_them(tmp_path, monkeypatch):
    store = Store(tmp_path / "key", num_rows=4, chunk_size=2)
    store.begin({"version": 1})
    calls = Calls(monkeypatch, tmp_path / "key")
    rows = {number: {"last": np.ones(3, dtype=np.float32)} for number in range(4)}
    store.write(0, ["last"], rows, {})
    header, content, line = (
        [("fsync", "last.npy"), ("fsync", ".")],
        [("fsync", "last.npy")],
        [("fsync", "journal.jsonl")],
    )
    assert calls.seen == [*header, *content, *line, ("fsync", ".")]
    calls.seen.clear()
    store.write(1, ["last"], rows, {})
    assert calls.seen == [*content, *line, ("fsync", ".")]
    assert Store(tmp_path / "key", num_rows=4, chunk_size=2).missing(["last"]) == {}


@pytest.mark.usefixtures("looked_at_here")
def test_prepared_files_are_on_the_disk_before_they_are_packed_and_shards_before_their_files_go(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(2):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving_square(6, seed=number))
    calls = Calls(monkeypatch, tmp_path)
    prepare(tmp_path / "videos", out=tmp_path / "out", shards=True, num_timed_clips=0, progress=False)
    seen = [call for call in calls.seen if call[-1].startswith("out")]
    encoded = "out/.prepare/encoded"
    place = [number for number, call in enumerate(seen) if call[0] == "rename" and call[2].startswith(encoded)]
    assert [seen[number][2] for number in place] == [f"{encoded}/0.mp4", f"{encoded}/1.mp4"]
    for number in place:  # whole before it has its name, and the name on the disk after it
        assert seen[number - 1] == ("fsync", seen[number][1]) and seen[number + 1] == ("fsync", encoded)
    ledger, shard = (
        seen.index(("fsync", "out/.prepare/done.jsonl")),
        seen.index(next(call for call in seen if call[0] == "rename" and re.fullmatch(r"out/\d+\.tar", call[2]))),
    )
    assert place[-1] < ledger < shard < seen.index(("fsync", "out/.prepare/shards.jsonl"))

"""The disk of a corpus goes away during training: it is waited for, no file is blamed, and the state is saved."""

import itertools
import json
import re
import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import moving_square, write_video

from vidssl import Run, fit, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan, vanished
from vidssl.data.clips import frame_tuple
from vidssl.data.loader import Loader
from vidssl.data.vanished import CorpusGone
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.models.heads import FrameHead

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLIPS = partial(frame_tuple, offsets_frames=(0, 2, 5))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vanished, "WAITS_SECONDS", (0.1, 0.2, 0.3))
    monkeypatch.setattr(vanished, "_HEARTBEAT_SECONDS", 0.05)
    for number in range(8):
        write_video(tmp_path / "corpus" / f"{number}.mp4", moving_square(12, seed=number))
    return tmp_path / "corpus"


def dataset(root: Path) -> VideoDataset:
    return VideoDataset(scan(root, progress=False, num_workers=1), clips=CLIPS, size_px=48)


def train(data: VideoDataset, out: Path, *, steps: int, num_workers: int = 0, **options: Any) -> list[float]:
    """Train a small network; return the losses."""
    torch.manual_seed(0)
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=4)
    view = RandomResizedCrop(32, scale=(0.5, 1.0))
    method = VideoColorization(encoder, head=FrameHead(encoder.dim, 16), view=view, clips=CLIPS, num_colors=4)
    run = Run(
        method=method,
        dataset=data,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        learning_rate=optim.constant(1e-3),
        steps=steps,
        batch_size=4,
    )
    fit(run, out=out, num_workers=num_workers, log_every=1, picture_every=1000, **options)
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


class Leaving(VideoDataset):
    """Renames its root before a sample is read for the `number`-th time."""

    number = 13
    count = 0

    def read(self, index: int, **options: Any) -> Any:
        self.count += 1
        if self.count == self.number:
            self.corpus.root.rename(self.corpus.root.with_name("elsewhere"))
        return super().read(index, **options)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_root_that_stays_away_ends_the_run_with_its_state_saved(
    root: Path, tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = Leaving(dataset(root).corpus, clips=CLIPS, size_px=48)
    # In this process the 13th sample is the first of step 3; processes read ahead.
    with pytest.raises(
        CorpusGone, match=r"8 of 8 files looked for in .*corpus are gone.*0\.6 s.*state of step \d is"
    ) as gone:
        train(data, tmp_path / "run", steps=6, num_workers=num_workers)
    if not num_workers:  # what processes log is not heard here
        assert re.findall(r"8 of 8 files .* are gone; looking again in (\S+) s", caplog.text) == [
            "0.1",
            "0.2",
            "0.3",
        ]
    step = int(re.search(r"state of step (\d)", str(gone.value))[1])
    # Colours are chosen before the first step, for which a checkpoint of its own is written.
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step*"))[-1] == f"step_0000000{step}"
    assert step > 0
    assert not (tmp_path / "run/bad_samples.jsonl").exists()
    (tmp_path / "elsewhere").rename(root)
    losses = train(dataset(root), tmp_path / "run", steps=6)
    assert losses == train(dataset(root), tmp_path / "whole", steps=6) and len(losses) == 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_root_that_comes_back_changes_no_sample(
    root: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vanished, "WAITS_SECONDS", (1.0, 2.0, 30.0))
    whole = [batch.video for batch in Loader(dataset(root), batch_size=4).batches(0, 6)]
    data = dataset(root)
    root.rename(root.with_name("elsewhere"))
    root.mkdir()  # a place where nothing is mounted

    def come_back() -> None:
        time.sleep(1.5)
        root.rmdir()
        root.with_name("elsewhere").rename(root)

    thread = threading.Thread(target=come_back)
    thread.start()
    # Waiting for longer than a sample may take is no hanging.
    loader = Loader(data, batch_size=4, num_workers=num_workers, timeout_seconds=0.9)
    again = [batch.video for batch in loader.batches(0, 6)]
    thread.join()
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True)) and not loader.bad


def test_waits_grow_and_outlast_a_server_that_starts_again() -> None:
    waits = vanished.WAITS_SECONDS
    assert all(later == min(2 * wait, 60) for wait, later in itertools.pairwise(waits))
    assert waits[0] == 1 and sum(waits) > 120


def test_single_files_that_are_gone_are_bad_as_before(root: Path) -> None:
    data = dataset(root)
    for name in ("2.mp4", "5.mp4"):
        (root / name).unlink()
    loader = Loader(data, batch_size=4, bad_file_budget=0.5)
    start = time.perf_counter()
    assert len(list(loader.batches(0, 4))) == 4
    assert {Path(path).name for path in loader.bad} == {"2.mp4", "5.mp4"}
    assert time.perf_counter() - start < 20
    shutil.rmtree(root)
    with pytest.raises(CorpusGone, match="8 of 8 files looked for"):
        list(Loader(data, batch_size=4, bad_file_budget=1.0).batches(0, 4))

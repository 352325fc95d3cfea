"""The loop: exact resume, stops, epochs, bad files, two processes."""

import math
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import Process
from tiny_training import assert_equal, colorization, log, state
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vidssl import Run, fit, load_encoder, optim
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.method import Method
from vidssl.stop import Stopped

pytestmark = pytest.mark.usefixtures("looked_at_here")

KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_training import colorization
from vidssl import fit
if __name__ == "__main__":
    fit(colorization(Path(sys.argv[2])), out=Path(sys.argv[3]), seed=5, num_workers=int(sys.argv[4]),
        log_every=1, save_every=2, picture_every=4)
"""


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_run_continues_bit_for_bit(small_corpus, tmp_path, num_workers):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(colorization(small_corpus), out=whole, seed=5, log_every=1, save_every=100, picture_every=4)

    arguments = (Path(__file__).parents[1], small_corpus, killed, str(num_workers))
    process = Process(KILLED, *arguments, said=tmp_path / "said")
    while not (killed / "checkpoints" / "step_00000004").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "checkpoints" / "step_00000010").exists()

    method = fit(
        colorization(small_corpus),
        out=killed,
        seed=5,
        num_workers=num_workers,
        log_every=1,
        save_every=2,
        picture_every=4,
    )
    assert_equal(state(whole, 10), state(killed, 10))
    assert log(whole) == log(killed)
    assert [line["step"] for line in log(killed)] == list(range(1, 11))
    exported = load_encoder(str(killed))
    clip = torch.rand(1, 2, 3, 32, 32)
    assert torch.equal(exported.features(clip), method.encoder.eval().features(clip))


def test_another_seed_gives_another_run(small_corpus, tmp_path):
    fit(colorization(small_corpus, steps=2), out=tmp_path / "a", seed=5, log_every=1)
    fit(colorization(small_corpus, steps=2), out=tmp_path / "b", seed=6, log_every=1)
    assert log(tmp_path / "a")[0]["loss"] != log(tmp_path / "b")[0]["loss"]


def test_a_signal_stops_after_the_step_with_a_checkpoint(small_corpus, tmp_path):
    run = colorization(small_corpus)
    forward = run.method.forward

    def interrupted(batch, progress):
        if progress == 0.3:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(batch, progress)

    run.method.forward = interrupted
    with pytest.raises(Stopped) as stopped:
        fit(run, out=tmp_path, seed=5, log_every=1)
    assert stopped.value.code == 143
    assert state(tmp_path, 4)["step"] == 4
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


class Counting(Method):
    """Records what the loop does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 1)
        self.encoder.architecture = {}
        self.clips = partial(frame_tuple, offsets_frames=(0, 1))
        self.calls: list = []
        self.broken_steps: set[int] = set()

    def forward(self, batch, progress):
        self.calls.append(("forward", round(progress * 100), sorted(batch.index.tolist())))
        loss = self.encoder(torch.ones(1, 1)).sum() ** 2
        return {"loss": loss * float("nan") if round(progress * 12) in self.broken_steps else loss}

    def embed(self, batch):
        torch.rand(())  # must not shift the draws of the training
        return batch.index[:, None] * torch.tensor([1.0, 0.0]) + torch.tensor([0.0, 1.0])

    def after_step(self, progress):
        self.calls.append(("after", round(progress * 100)))

    def before_epoch(self, epoch):
        self.calls.append(("epoch", epoch.number, float(torch.rand(()))))
        means = epoch.extract(lambda batch: batch.video.float().mean(dim=(1, 2, 3, 4, 5))[:, None])
        again = epoch.extract(lambda batch: batch.index[:, None].float(), 5)
        self.calls.append(("extract", len(means), again.flatten().tolist()))


@pytest.fixture
def counting(small_corpus, monkeypatch):
    monkeypatch.setattr("vidssl.train.keeper.export_encoders", lambda method, out, network: None)
    method = Counting()
    corpus = scan(small_corpus, cache=None, progress=False)
    return Run(
        method=method,
        dataset=VideoDataset(corpus, clips=method.clips, size_px=32),
        optimizer=partial(torch.optim.SGD, lr=1.0),
        learning_rate=optim.linear(0.01, 0.0),
        steps=12,
        batch_size=2,
    )


def test_every_epoch_visits_every_sample_once(counting, tmp_path):
    fit(counting, out=tmp_path, seed=1)
    calls = counting.method.calls
    epochs = [call for call in calls if call[0] == "epoch"]
    assert [call[1] for call in epochs] == [0, 1] and epochs[0][2] != epochs[1][2]
    assert [call[1:] for call in calls if call[0] == "extract"] == [(12, [0.0, 1.0, 2.0, 3.0, 4.0])] * 2
    seen = [call[2] for call in calls if call[0] == "forward"]
    for epoch in (seen[:6], seen[6:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(12))
    assert seen[:6] != seen[6:]
    assert sum(call[0] == "after" for call in calls) == 12


def test_collapse_monitors_are_logged_of_the_batch(counting, tmp_path):
    fit(counting, out=tmp_path, seed=1, log_every=1)
    seen = [call[2] for call in counting.method.calls if call[0] == "forward"]
    for line, (first, second) in zip(log(tmp_path), seen, strict=True):
        # Cosine of the embeddings (first, 1) and (second, 1).
        cosine = (first * second + 1) / ((first**2 + 1) * (second**2 + 1)) ** 0.5
        assert line["mean_cosine"] == pytest.approx(cosine, abs=1e-5)
        assert line["effective_rank"] == pytest.approx(1.0, abs=1e-3)  # two points lie on a line


def test_the_schedule_reaches_the_optimizer(counting, tmp_path):
    fit(counting, out=tmp_path, seed=1, log_every=1)
    rates = [line["learning_rate"] for line in log(tmp_path)]
    assert rates == pytest.approx([0.01 * (1 - step / 12) for step in range(12)])


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(counting, tmp_path, caplog):
    counting.method.broken_steps = {3, 4}
    fit(counting, out=tmp_path, seed=1)
    assert torch.isfinite(counting.method.encoder.weight).all()
    assert sum(call[0] == "after" for call in counting.method.calls) == 10
    assert "step 3 is skipped" in caplog.text and "step 4 is skipped" in caplog.text


def test_a_diverged_run_ends(counting, tmp_path):
    counting.method.broken_steps = set(range(12))
    with pytest.raises(FloatingPointError, match="not finite in 11 steps"):
        fit(counting, out=tmp_path, seed=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_run_ends_by_the_guard_not_in_a_monitor(counting, tmp_path, monkeypatch, bad):
    counting.method.broken_steps = set(range(12))
    monkeypatch.setattr(Counting, "embed", lambda self, batch: torch.full((len(batch), 3), bad))
    with pytest.raises(FloatingPointError, match="not finite in 11 steps"):
        fit(counting, out=tmp_path, seed=1, log_every=1)
    lines = log(tmp_path)
    assert len(lines) == 10 and all(math.isnan(line["effective_rank"]) for line in lines)


def test_a_checkpoint_of_another_method_is_refused(counting, small_corpus, tmp_path):
    fit(counting, out=tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"step_00000012 is the state of another method"):
        fit(colorization(small_corpus), out=tmp_path, seed=1)


def replica(root: Path, out: Path) -> None:
    """One of two processes; their weights are drawn alike, their data is each one's own."""
    torch.set_num_threads(1)
    run = colorization(root, steps=3)
    run.method.head = nn.Identity()
    method = fit(run, out=out, seed=5, log_every=1)
    parameters = {name: value for name, value in method.state_dict().items() if "running" not in name}
    torch.save(parameters, out / f"rank{os.environ['RANK']}.pt")


def test_two_processes_stay_replicas(small_corpus, tmp_path):
    # As torchrun starts them, from a server that has imported everything.
    two = LaunchConfig(
        1, 1, 2, run_id="two", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="forkserver"
    )
    elastic_launch(two, replica)(small_corpus, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert_equal(first, second)
    torch.manual_seed(3)
    initial = colorization(small_corpus).method.state_dict()
    assert not torch.equal(first["encoder.conv1.weight"], initial["encoder.conv1.weight"])
    assert len(state(tmp_path, 3)["random"]) == 2

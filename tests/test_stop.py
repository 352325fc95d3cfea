"""Signals: the first asks, the second insists; every long loop looks, and what was stopped goes on exactly."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import Process
from tiny_davis import write_davis
from tiny_run import Tiny, tiny_run, train
from tiny_training import assert_equal

from vidssl import fit
from vidssl.data import ArrayDataset
from vidssl.evaluate.propagation.davis import evaluate_davis
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evaluate.propagation.video import propagate_video
from vidssl.models import Encoder
from vidssl.stop import SIGNALS, StopFlag, Stopped, check, stoppable
from vidssl.train import checkpoint

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGHUP: 129}


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _not_under_nohup():
    """Where the suite itself runs under nohup, SIGHUP is ignored, in its processes as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_what_asks_for_a_stop():
    assert set(SIGNALS) == CODES.keys()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_insists(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, StopFlag() as stop:
        check()
        send(number)
        assert stop.received == number
        check()
    assert stopped.value.code == CODES[number] and signal.getsignal(number) is before
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as insisted, StopFlag():
        send(signal.SIGTERM)
        send(number)
    assert not isinstance(insisted.value, Stopped)
    assert number == signal.SIGINT or insisted.value.code == CODES[number]


def test_the_echo_of_torchrun_is_no_second_signal(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(Stopped), StopFlag() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        stop.check()
    monkeypatch.setattr("vidssl.stop.ECHO_SECONDS", 0.01)
    with pytest.raises(SystemExit) as insisted, StopFlag():
        send(signal.SIGTERM)
        time.sleep(0.05)
        send(signal.SIGTERM)
    assert not isinstance(insisted.value, Stopped)


def test_a_terminal_that_is_closed_tells_twice_and_asks_once(monkeypatch):
    with pytest.raises(Stopped) as stopped, StopFlag() as stop:
        send(signal.SIGHUP)
        send(signal.SIGHUP)  # of the shell, and of the kernel
        stop.check()
    assert stopped.value.code == 129
    monkeypatch.setattr("vidssl.stop.ECHO_SECONDS", 0.01)
    with pytest.raises(SystemExit) as insisted, StopFlag():
        send(signal.SIGHUP)
        time.sleep(0.05)
        send(signal.SIGHUP)
    assert not isinstance(insisted.value, Stopped) and insisted.value.code == 129


def test_nohup_goes_on(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopFlag() as stop:
            send(signal.SIGHUP)
            assert stop.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_saves_like_a_scheduler(tmp_path, monkeypatch):
    """SIGHUP in the third step: the state of that step is saved, and the run goes on to the same end."""
    whole = train(tmp_path / "whole", save_every=100)
    forward, seen = Tiny.forward, []

    def hangs(self, batch, progress):
        seen.append(progress)
        if len(seen) == 3:
            send(signal.SIGHUP)
        return forward(self, batch, progress)

    with monkeypatch.context() as patched, pytest.raises(Stopped) as stopped:
        patched.setattr(Tiny, "forward", hangs)
        train(tmp_path / "run", save_every=100)
    assert stopped.value.code == 129
    assert (
        checkpoint.latest(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step_00000003"
    )
    assert_equal(train(tmp_path / "run", save_every=100).state_dict(), whole.state_dict())


def test_a_flag_inside_of_another_is_the_same():
    @stoppable
    def inner():
        send(signal.SIGTERM)

    with pytest.raises(Stopped), StopFlag() as outer:
        inner()
        assert outer.received == signal.SIGTERM
        outer.check()


def test_a_signal_after_the_last_look_is_not_forgotten():
    @stoppable
    def work():
        send(signal.SIGUSR1)
        return "done"

    with pytest.raises(Stopped) as stopped:
        work()
    assert stopped.value.code == 138


# Training.


def outcome(out: Path) -> tuple[list[dict], dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("samples_per_second", "data_wait")} for line in lines]
    state = checkpoint.load(checkpoint.latest(out / "checkpoints"))
    return kept, {name: value for name, value in state.items() if name != "evaluation_pending"}


def evaluation(*, stops_at: int | None = None):
    """A long evaluation that looks for stops; its number `stops_at` meets one."""
    calls = []

    def evaluate(encoder):
        calls.append(len(calls))
        torch.rand(3)
        for part in range(3):
            if part == 1 and calls[-1] == stops_at:
                send(signal.SIGTERM)
            check()
        weight = next(encoder.parameters())
        return {"measured": float(weight.sum())}, {}

    return evaluate


@pytest.mark.parametrize("save_every", [2, 100])
@pytest.mark.parametrize("stopped_in", [0, 1, 2])
def test_an_evaluation_that_is_stopped_is_done_again(tmp_path, stopped_in, save_every):
    options = {"evaluate_every": 2, "save_every": save_every}
    train(tmp_path / "whole", evaluate=evaluation(), **options)
    with pytest.raises(Stopped) as stopped:
        train(tmp_path / "stopped", evaluate=evaluation(stops_at=stopped_in), **options)
    assert stopped.value.code == 143
    assert checkpoint.latest(tmp_path / "stopped/checkpoints").name == f"step_{2 * stopped_in + 2:08d}"
    with pytest.raises(Stopped):  # again, in the same one
        train(tmp_path / "stopped", evaluate=evaluation(stops_at=0), **options)
    train(tmp_path / "stopped", evaluate=evaluation(), **options)
    whole, stopped = outcome(tmp_path / "whole"), outcome(tmp_path / "stopped")
    assert [line["step"] for line in whole[0] if "measured" in line] == [2, 4, 6]
    assert_equal(whole[0], stopped[0])
    assert_equal(whole[1], stopped[1])


def test_an_evaluation_done_again_by_a_run_that_is_killed_is_logged_once(tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, evaluate=evaluation(stops_at=0), evaluate_every=2, save_every=100)
    run = tiny_run()
    run.method.forward = lambda batch, progress: 1 / 0  # stands for a kill, after the evaluation
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fit(run, out=tmp_path, evaluate=evaluation(), evaluate_every=2, log_every=1, save_every=100)
    train(tmp_path, evaluate=evaluation(), evaluate_every=2, save_every=100)
    log, _ = outcome(tmp_path)
    assert [line["step"] for line in log if "measured" in line] == [2, 4, 6]
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3, 4, 5, 6]


class StopsInOrder(ArrayDataset):
    """Asks for a stop while it is read in its order for the second time: before the second pass."""

    num_read = 0

    def sample(self, key, **options):
        if key[0] is None:
            StopsInOrder.num_read += 1
            if StopsInOrder.num_read == 11:
                send(signal.SIGTERM)
        return super().sample(key, **options)


def test_a_pass_over_the_data_is_stopped_at_once_and_done_again(tmp_path):
    train(tmp_path / "whole", extracts=True, save_every=100)
    StopsInOrder.num_read = 0
    with pytest.raises(Stopped) as stopped:
        fit(tiny_run(extracts=True, dataset=StopsInOrder), out=tmp_path / "stopped", log_every=1, save_every=100)
    assert stopped.value.code == 143 and StopsInOrder.num_read == 12  # the batch of the signal was the last
    # Nothing was due to be saved, but the pass began with a checkpoint: no step is lost.
    assert checkpoint.latest(tmp_path / "stopped/checkpoints").name == "step_00000004"
    train(tmp_path / "stopped", extracts=True, save_every=100)
    whole, continued = outcome(tmp_path / "whole"), outcome(tmp_path / "stopped")
    assert_equal(whole[0], continued[0])
    assert_equal(whole[1], continued[1])


def test_a_second_signal_ends_the_training_between_nothing(tmp_path):
    run = tiny_run()
    forward = run.method.forward

    def impatient(batch, progress):
        if progress == 0.5:
            send(signal.SIGTERM)
            send(signal.SIGTERM)
        return forward(batch, progress)

    run.method.forward = impatient
    with pytest.raises(SystemExit) as ended:
        fit(run, out=tmp_path / "out", log_every=1, save_every=2)
    assert ended.value.code == 143 and not isinstance(ended.value, Stopped)
    assert checkpoint.latest(tmp_path / "out/checkpoints").name == "step_00000002"
    train(tmp_path / "whole")
    train(tmp_path / "out")
    assert_equal(outcome(tmp_path / "whole")[1], outcome(tmp_path / "out")[1])


class Slow(ArrayDataset):
    def sample(self, key, **options):
        time.sleep(0.02)
        return super().sample(key, **options)


STOPPED = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_stop import Slow, fit, tiny_run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also under nohup
if __name__ == "__main__":
    fit(tiny_run(steps=100_000, dataset=Slow), out=Path(sys.argv[2]), num_workers=2, log_every=1, save_every=10**6)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_workers_too_stops_as_well(tmp_path, number):
    """As Ctrl-C in a terminal, its end and a scheduler send it: to every process of the group."""
    out = tmp_path / "out"
    process = Process(STOPPED, Path(__file__).parent, out, said=tmp_path / "said")
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None, process.said.read_text()
        time.sleep(0.02)
    os.killpg(process.pid, number)
    assert process.wait() == CODES[number] and "Traceback" not in process.said.read_text()
    logged = outcome(out)[0][-1]["step"]
    assert 0 < logged < 1000 and checkpoint.load(checkpoint.latest(out / "checkpoints"))["step"] == logged


# Two processes, forked from one that has imported everything: the second one alone is asked to stop, in a step and
# while data is read before a pass.
RANKS = """
import json, os, signal, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_stop import *
import torch
torch.set_num_threads(1)
tiny_run().optimizer([{"params": [torch.zeros(1, requires_grad=True)]}])
import torch.utils.tensorboard

def ranks(out, **options):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    pids = []
    for rank in range(2):
        if not (pid := os.fork()):
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            code = 1
            try:
                code = one_rank(out, rank, **options)
            finally:
                os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

def one_rank(out, rank, *, stop_in=None):
    run = tiny_run(steps=8, extracts=True)
    forward = run.method.forward
    if rank == 1 and stop_in is not None:
        count = 0
        def counted(batch, progress):
            if stop_in == "step" and progress == 0.375:
                send(signal.SIGTERM)
            return forward(batch, progress)
        run.method.forward = counted
        item = run.dataset.sample
        def read(key, **options):
            nonlocal count
            count += key[0] is None
            if stop_in == "pass" and count == 6:
                send(signal.SIGTERM)
            return item(key, **options)
        run.dataset.sample = read
    try:
        method = fit(run, out=out, log_every=1, save_every=100)
    except Stopped as stopped:
        return stopped.code
    torch.save(method.state_dict(), out / f"rank{rank}.pt")
    return 0

out = Path(sys.argv[2])
answer = {"whole": ranks(out / "whole")}
for stop_in in ("step", "pass"):
    answer[stop_in] = ranks(out / stop_in, stop_in=stop_in)
    answer[f"{stop_in} stands at"] = checkpoint.latest(out / stop_in / "checkpoints").name
    answer[f"{stop_in} goes on"] = ranks(out / stop_in)
print(json.dumps(answer))
"""


def test_a_signal_to_one_of_two_processes_stops_both_at_one_step(tmp_path):
    process = Process(RANKS, Path(__file__).parent, tmp_path, said=tmp_path / "said")
    assert process.wait(300) == 0, process.said.read_text()
    assert json.loads(process.said.read_text().splitlines()[-1]) == {
        "whole": [0, 0],
        "step": [143, 143],
        "step stands at": "step_00000004",  # asked in the forward pass of the fourth step
        "step goes on": [0, 0],
        "pass": [143, 143],
        "pass stands at": "step_00000002",  # of eight samples, four a step: before the second pass
        "pass goes on": [0, 0],
    }
    whole = outcome(tmp_path / "whole")
    for stopped in ("step", "pass"):
        log, state = outcome(tmp_path / stopped)
        assert_equal(log, whole[0])
        assert_equal(state, whole[1])
        for rank in range(2):
            end = torch.load(tmp_path / f"{stopped}/rank{rank}.pt", weights_only=True)
            assert_equal(end, torch.load(tmp_path / f"whole/rank{rank}.pt", weights_only=True))
    assert [line["step"] for line in whole[0]] == list(range(1, 9))
    first, second = (torch.load(tmp_path / f"whole/rank{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["head.1.weight"], second["head.1.weight"])
    means = [end["encoder.net.1.running_mean"] for end in (first, second)]
    assert not torch.equal(*means)  # every process has batch norm's statistics of its own samples
    assert len(whole[1]["random"]) == 2
    assert not torch.equal(whole[1]["random"][0]["cpu"], whole[1]["random"][1]["cpu"])


# Measuring.


class Asking(Encoder):
    """Grey values, twice smaller; asks for a stop when it has seen so many frames."""

    def __init__(self, num_frames: int):
        super().__init__(dim=1, stride=2, architecture={"family": "asking"})
        self.num_frames = num_frames

    def features(self, clip):
        self.num_frames -= clip.shape[0] * clip.shape[1]
        if self.num_frames == 0:
            send(signal.SIGTERM)
        return torch.nn.functional.avg_pool2d(clip.mean(2), 2)[:, :, None]


def test_an_evaluation_of_sequences_stops_after_the_frame(tmp_path):
    root = write_davis(tmp_path / "davis", {"still": 0, "fast": 4}, num_frames=6)
    options = {"root": root, "out": tmp_path / "out", "protocol": CRW, "model_name": "grey", "overlays": False}
    with pytest.raises(Stopped) as stopped:
        evaluate_davis(Asking(9), **options)
    assert stopped.value.code == 143
    assert len(list((tmp_path / "out/sequences").iterdir())) == 1  # the finished one is kept
    assert not (tmp_path / "out/result.json").exists()
    result = evaluate_davis(Asking(-1), **options)
    assert result.figures == evaluate_davis(Asking(-1), **(options | {"out": tmp_path / "whole"})).figures


def test_propagation_stops_after_the_frame(tmp_path):
    root = write_davis(tmp_path / "davis", {"fast": 4}, num_frames=6)
    video, mask = root / "JPEGImages/480p/fast", root / "Annotations/480p/fast/00000.png"
    with pytest.raises(Stopped) as stopped:
        propagate_video(video, mask, Asking(4), protocol=CRW, out=tmp_path / "out", model_name="grey")
    assert stopped.value.code == 143
    assert len(list((tmp_path / "out/masks").iterdir())) < 6 and not (tmp_path / "out/labels.json").exists()

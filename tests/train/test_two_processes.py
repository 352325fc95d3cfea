"""Two processes of one training: one is stopped, killed, or computes what is no number, and the other follows."""

import json
import logging
import math
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from processes import context
from tiny_training import assert_equal, colorization, log, state

from vidssl import fit

NUM_STEPS, BAD_STEP = 8, 2


def train(rank: int, port: int, root: Path, out: Path, orders: dict[int, signal.Signals]) -> None:
    """One of two processes; its orders are signals that it sends to itself in the forward pass of a step.

    In one step the loss of rank 1 is no number, though its gradient is: nothing but an agreement tells rank 0.
    """
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    logging.basicConfig(filename=out / f"rank{rank}.log")
    run = colorization(root, steps=NUM_STEPS)
    forward, seen, losses_seen = run.method.forward, {}, []

    def followed(batch, progress):
        step = round(progress * NUM_STEPS)
        if run.method.training:
            seen[step] = {name: value.clone() for name, value in run.method.state_dict().items()}
        if step in orders:
            os.kill(os.getpid(), orders[step])
        losses = forward(batch, progress)
        if (step, rank) == (BAD_STEP, 1):
            losses = {**losses, "loss": losses["loss"] + math.nan}
        losses_seen.append({name: value.detach() for name, value in losses.items()})
        return losses

    run.method.forward = followed
    with (out / f"rank{rank}.out").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        fit(run, out=out, seed=5, log_every=1, save_every=1, picture_every=100)
    torch.save({"seen": seen, "losses": losses_seen, "end": run.method.state_dict()}, out / f"rank{rank}.pt")


def together(
    root: Path, out: Path, orders: dict[int, dict[int, signal.Signals]]
) -> tuple[list[int | None], float]:
    """Train with two processes: rank -> step -> signal. Exit codes, and seconds until the last one ended."""
    out.mkdir(exist_ok=True)
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        port = connection.getsockname()[1]
    started = time.monotonic()
    processes = [
        context.Process(target=train, args=(rank, port, root, out, orders.get(rank, {}))) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
        process.join()
    assert not alive, "a process did not end within 60 seconds"
    return [process.exitcode for process in processes], time.monotonic() - started


@pytest.fixture(scope="module")
def undisturbed(small_corpus, tmp_path_factory) -> Path:
    """A run of two processes from the first step to the last."""
    out = tmp_path_factory.mktemp("undisturbed")
    codes, _ = together(small_corpus, out, {})
    assert codes == [0, 0]
    return out


def ranks(out: Path) -> list[dict]:
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def weights(values: dict) -> dict:
    """What is equal on both: not the statistics of batch norm, which are every process's own."""
    return {name: value for name, value in values.items() if not name.endswith(("mean", "var", "tracked"))}


def test_a_loss_that_is_no_number_on_one_changes_nothing_on_both(undisturbed):
    for rank, result in enumerate(ranks(undisturbed)):
        assert_equal(dict(result["seen"][BAD_STEP]), dict(result["seen"][BAD_STEP + 1]))
        for step in (BAD_STEP - 1, BAD_STEP + 1):
            before, after = (result["seen"][number]["encoder.conv1.weight"] for number in (step, step + 1))
            assert not torch.equal(before, after)
        assert f"step {BAD_STEP} is skipped" in (undisturbed / f"rank{rank}.log").read_text()
    first, second = ranks(undisturbed)
    assert_equal(weights(first["end"]), weights(second["end"]))
    records = (undisturbed / "nonfinite" / f"step_{BAD_STEP:08d}").iterdir()
    assert sorted(path.name for path in records) == ["method.pt", "rank0.pt", "rank1.pt"]


def test_what_is_logged_is_the_mean_over_both(undisturbed):
    first, second = (result["losses"] for result in ranks(undisturbed))
    records = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == len(first) == len(second) == NUM_STEPS
    for step, record in enumerate(records):
        assert math.isnan(record["loss"]) == (step == BAD_STEP)
        for name in first[step]:
            mine, other = float(first[step][name]), float(second[step][name])
            assert record[name] == pytest.approx((mine + other) / 2, rel=1e-6, nan_ok=True)
        assert step == BAD_STEP or first[step]["loss"] != second[step]["loss"]


def test_a_signal_or_a_death_of_one_ends_both_and_the_run_goes_on_bit_for_bit(undisturbed, small_corpus, tmp_path):
    codes, _ = together(small_corpus, tmp_path, {1: {3: signal.SIGTERM}})
    assert codes == [128 + signal.SIGTERM] * 2
    assert state(tmp_path, 4)["step"] == 4 and len(log(tmp_path)) == 4

    codes, seconds = together(small_corpus, tmp_path, {1: {6: signal.SIGKILL}})
    assert codes == [1, -signal.SIGKILL] and seconds < 60
    assert "process 0 of 2 lost the others: one of them ended" in (tmp_path / "rank0.out").read_text()

    codes, _ = together(small_corpus, tmp_path, {})
    assert codes == [0, 0]
    assert_equal(state(undisturbed, NUM_STEPS), state(tmp_path, NUM_STEPS))
    assert log(undisturbed) == log(tmp_path)
    for whole, continued in zip(ranks(undisturbed), ranks(tmp_path), strict=True):
        assert_equal(weights(whole["end"]), weights(continued["end"]))

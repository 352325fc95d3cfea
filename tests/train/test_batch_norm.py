"""Batch norm over two processes against torch's on the joined batch."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_contract import VIDEOS, mae, simclr
from tiny_training import assert_equal, log
from torch import nn

from vidssl import Run, fit, optim
from vidssl.data import ArrayDataset
from vidssl.train.batch_norm import synchronize
from vidssl.train.processes import leave

STEPS = 3
KINDS = {
    "1d": (nn.BatchNorm1d, (8, 4)),
    "of_sequences": (nn.BatchNorm1d, (8, 4, 5)),
    "2d": (nn.BatchNorm2d, (8, 4, 3, 5)),
    "3d": (nn.BatchNorm3d, (8, 4, 2, 3, 2)),
    "mean_over_all_steps": (partial(nn.BatchNorm1d, momentum=None), (8, 4)),
    "plain": (partial(nn.BatchNorm2d, affine=False), (8, 4, 3, 5)),
    "stateless": (partial(nn.BatchNorm2d, track_running_stats=False), (8, 4, 3, 5)),
    "channels_last": (nn.BatchNorm2d, (8, 4, 3, 5)),
    "bfloat16": (nn.BatchNorm2d, (8, 4, 3, 5)),
}
ROWS = (slice(0, 3), slice(3, 8))  # the processes have batches of 3 and of 5


def data(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs whose mean is large beside their spread, and what the loss multiplies outputs with."""
    _, shape = KINDS[kind]
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(shape, generator=generator) * 2 + 8
    weights = torch.randn(shape, generator=generator)
    if kind == "channels_last":
        values = values.contiguous(memory_format=torch.channels_last)
    return values, weights


def normalized(kind: str, rows: slice, *, synchronized: bool) -> dict:
    """Two training steps' worth of outputs, gradients and statistics, and an output in evaluation."""
    build, shape = KINDS[kind]
    norm = build(shape[1])
    if norm.affine:
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(2))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(3))
    if synchronized:
        network = nn.Sequential(norm)
        assert synchronize(network) == synchronize(network) == 1 and network[0] is norm
    values, weights = data(kind)
    found = {}
    for number in range(2):
        inputs = (values[rows] * (1 + number)).to(torch.bfloat16 if kind == "bfloat16" else torch.float32)
        inputs.requires_grad_()
        output = norm(inputs)
        (output.float() * weights[rows]).sum().backward()
        found |= {f"output{number}": output.detach(), f"inputs{number}": inputs.grad}
    norm.eval()
    found["evaluated"] = norm(values[rows]).detach()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return found | {"gradients": gradients, "state": norm.state_dict()}


def train(out: Path, *, batch_size: int, **options):
    torch.manual_seed(0)
    method = simclr()
    run = Run(
        method=method,
        dataset=ArrayDataset(VIDEOS, clips=method.clips),
        optimizer=partial(torch.optim.SGD, lr=0.02, momentum=0.9),
        learning_rate=optim.constant(0.02),
        steps=STEPS,
        batch_size=batch_size,
    )
    return fit(run, out=out, log_every=1, picture_every=100, **options)


def process(rank: int, root: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    output = (root / f"rank{rank}.out").open("w")
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    dist.init_process_group("gloo", init_method=f"file://{root}/first", rank=rank, world_size=2)
    found = {kind: normalized(kind, ROWS[rank], synchronized=True) for kind in KINDS}
    torch.save(found, root / f"rank{rank}.pt")
    dist.destroy_process_group()
    for name in ("apart", "together"):
        dist.init_process_group("gloo", init_method=f"file://{root}/{name}.store", rank=rank, world_size=2)
        method = train(root / name, batch_size=2, sync_batch_norm=name == "together")
        torch.save(method.state_dict(), root / f"{name}{rank}.pt")
    leave()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("batch_norm")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["vidssl.testing"])
    processes = [context.Process(target=process, args=(rank, root)) for rank in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0, 0], (root / "rank0.out").read_text()[-3000:]
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one_with_the_joined_batch(root, kind):
    halves = [torch.load(root / f"rank{rank}.pt", weights_only=True)[kind] for rank in range(2)]
    expected = normalized(kind, slice(0, 8), synchronized=False)
    close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
    if kind == "bfloat16":
        close = partial(torch.testing.assert_close, rtol=2e-2, atol=2e-2)
    # Without stored statistics each process evaluates by those of its own batch.
    for name in ("output0", "output1", "inputs0", "inputs1", *["evaluated"] * (kind != "stateless")):
        joined = torch.cat([half[name] for half in halves])
        assert joined.dtype == expected[name].dtype
        close(joined, expected[name], msg=lambda text, name=name: f"{name}: {text}")
    for name, gradient in expected["gradients"].items():
        close(halves[0]["gradients"][name] + halves[1]["gradients"][name], gradient, rtol=1e-5, atol=1e-5)
    for half in halves:
        assert half["state"].keys() == expected["state"].keys()
        for name, value in expected["state"].items():
            close(half["state"][name], value)


def test_two_processes_train_as_one_with_the_joined_batch(root, tmp_path):
    whole = train(tmp_path, batch_size=4).state_dict()
    first, second = (torch.load(root / f"together{rank}.pt", weights_only=True) for rank in range(2))
    assert_equal(first, second)
    assert first.keys() == whole.keys() and any(name.endswith("running_var") for name in first)
    for name, value in whole.items():
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
    pairs = list(zip(log(root / "together"), log(tmp_path), strict=True))
    for line, other in pairs:
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
    apart = torch.load(root / "apart0.pt", weights_only=True)
    assert max(float((apart[name] - value).abs().max()) for name, value in whole.items()) > 1e-4


def test_one_process_computes_as_before():
    for kind in KINDS:
        first, second = (normalized(kind, slice(0, 8), synchronized=flag) for flag in (True, False))
        assert_equal({**first, "state": dict(first["state"])}, {**second, "state": dict(second["state"])})


def test_what_has_no_batch_norm_of_torch_is_refused(tmp_path):
    from timm.layers import BatchNormAct2d

    with pytest.raises(ValueError, match=r"Linear has no batch norm .* drop --sync-batch-norm"):
        synchronize(nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"1 of Sequential is a BatchNormAct2d, .* expected BatchNorm1d, BatchNorm2d"
    ):
        synchronize(nn.Sequential(nn.ReLU(), BatchNormAct2d(4)))
    method = mae()
    run = Run(method, ArrayDataset(VIDEOS, clips=method.clips), torch.optim.AdamW, optim.constant(1e-3), 1, 2)
    with pytest.raises(ValueError, match="MAE has no batch norm"):
        fit(run, out=tmp_path, sync_batch_norm=True)

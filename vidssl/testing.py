"""check_method: what every method must hold to, ours and yours.

from vidssl.testing import check_method

def build():
    return MyMethod(ResNet(18, width=8), view=RandomResizedCrop(32))

check_method(build, clips=torch.randint(256, (4, 8, 3, 32, 32), dtype=torch.uint8))
"""

import contextlib
import io
import logging
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from .batch import Batch
from .data.arrays import ArrayDataset
from .data.loader import Loader
from .method import Epoch, Method
from .ops.monitors import is_collapsed
from .train.guard import Guard
from .train.loop import fit
from .train.processes import replicated
from .train.run import Run

TOLERANCE = 1e-5

PRELOADED = ["vidssl.testing", "vidssl.methods", "torchvision", "torch._dynamo", "torch.utils.tensorboard"]
"""What a server of processes imports before it forks them: all that training needs, several CPU seconds of it."""


def check_method(
    build: Callable[[], Method],
    *,
    clips: Tensor,
    audio: Tensor | None = None,
    audio_seconds: float = 1.0,
    sample_rate_hz: int = 16_000,
    overfit_steps: int = 30,
    overfit_lr: float = 5e-3,
    overfit_share: float = 0.8,
    replicas: bool = True,
) -> None:
    """Check a method against the contract of `vidssl.Method`; takes seconds with small networks.

    The loss is finite. Every trainable parameter gets a gradient and is in exactly one group of the optimizer. Equal
    seeds give equal losses and gradients. The state survives a checkpoint that loads with `weights_only=True`.
    Training that was stopped goes on bit for bit. A few steps on one batch lower the loss. bfloat16 autocast stays
    finite. Two processes (gloo) keep equal parameters, and the mean of their losses and gradients on two halves
    of a batch equals those of one process on the whole batch. Where the loss of one of them is not finite, parameters
    and buffers of both keep their bits.

    Args:
        build: Makes the method with small networks; importable (a function of a module, or a partial of one), so
            that other processes can call it. It is called after `torch.manual_seed`.
        clips: Videos to sample from, uint8 (N, F, 3, H, W), N even and at least 4; F frames at 25 per second.
        audio: Their sound, float32 (N, samples) in [-1, 1], for methods that listen.
        audio_seconds: Length of the sound of each clip.
        sample_rate_hz: Of the sound.
        overfit_steps: Steps of Adam on one batch.
        overfit_lr: Learning rate of those.
        overfit_share: The loss must come down to this share of the first; for losses that start near 0, or fall
            below 0, the fall must be (1 - share) of the first loss's size.
        replicas: Whether to check with two processes.

    Raises:
        AssertionError: What does not hold, in words.
    """
    make_dataset = partial(
        ArrayDataset, clips, audio=audio, audio_seconds=audio_seconds, sample_rate_hz=sample_rate_hz
    )
    method = _build(build)
    dataset = make_dataset(clips=method.clips)
    batch = _batch(dataset, len(clips))
    _check_forward(method, batch)
    _check_groups(method)
    _check_determinism(build, batch)
    _check_state(build, batch)
    _check_resume(build, make_dataset)
    _check_bfloat16(build, batch)
    _check_overfit(build, batch, overfit_steps, overfit_lr, overfit_share)
    if replicas:
        _check_replicas(build, batch)


def _build(build: Callable[[], Method], seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build().train()


def _batch(dataset: ArrayDataset, size: int) -> Batch:
    return next(Loader(dataset, batch_size=size).batches(0, 1))


def prepare(method: Method, batch: Batch) -> Method:
    """Let a method prepare its first epoch on the samples of one batch; returns the method."""
    inverse = batch.index.argsort()
    ordered = _rows(batch, inverse)

    def extract(function: Callable[[Batch], Tensor], num_samples: int | None = None) -> Tensor:
        method.eval()
        with torch.no_grad():
            values = function(ordered)[:num_samples]
        method.train()
        return values

    torch.manual_seed(1)
    method.before_epoch(Epoch(number=0, extract=extract, forget=lambda parameters: None))
    return method


def _rows(batch: Batch, index: Tensor | slice) -> Batch:
    return replace(batch, **{name: value[index] for name, value in batch.tensors().items()})


def _trainable(method: Method) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}


def _step(method: Method, batch: Batch, *, seed: int = 2) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one forward pass under a seed."""
    method.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    loss = method(batch, 0.5)["loss"]
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in _trainable(method).items() if p.grad is not None}
    return loss.item(), gradients


def _check_forward(method: Method, batch: Batch) -> None:
    prepare(method, batch)
    logged = method(batch, 0.0)
    for name, value in logged.items():
        assert value.shape == (), f"forward returns {name} of shape {tuple(value.shape)}, expected a scalar"
        assert torch.isfinite(value), f"{name} is {value}"
    assert logged["loss"].requires_grad, "the loss depends on no parameter"
    logged["loss"].backward()
    for name, parameter in _trainable(method).items():
        assert parameter.grad is not None, f"{name} gets no gradient; freeze it or use it"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
    frozen = [name for name, p in method.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not frozen, f"frozen parameters get gradients: {frozen}"
    encoder = list(method.encoder.parameters())
    assert encoder, "the encoder has no parameters"
    first = next(iter(method.networks().values()))
    assert first is method.encoder, "the first of networks() is not the encoder, which is exported by default"
    for name, value in method.monitors(batch).items():
        assert torch.isfinite(value), f"monitor {name} is {value}"


def _check_groups(method: Method) -> None:
    grouped = [id(parameter) for group in method.param_groups() for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)), "a parameter is in two groups of param_groups()"
    names = {id(parameter): name for name, parameter in _trainable(method).items()}
    missing = [name for key, name in names.items() if key not in set(grouped)]
    assert not missing, f"param_groups() leaves out {missing}"
    assert set(grouped) <= set(names), "param_groups() names parameters that are not trained"


def _check_determinism(build: Callable[[], Method], batch: Batch) -> None:
    first = _step(prepare(_build(build), batch), batch)
    second = _step(prepare(_build(build), batch), batch)
    assert first[0] == second[0], f"two runs under one seed give the losses {first[0]} and {second[0]}"
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name]), f"two runs under one seed differ in the gradient of {name}"


def _check_state(build: Callable[[], Method], batch: Batch) -> None:
    method = prepare(_build(build), batch)
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    _step(method, batch)
    method.before_step(0, 0.5)
    optimizer.step()
    method.after_step(0.5)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other = _build(build, seed=9)
    other.load_state_dict(torch.load(file, weights_only=True))
    expected, found = _step(method, batch)[0], _step(other, batch)[0]
    assert expected == found, f"after loading the state the loss is {found}, it was {expected}: state is missing"


def _check_resume(build: Callable[[], Method], make_dataset: Callable[..., ArrayDataset]) -> None:
    def run() -> Run:
        method = _build(build)
        dataset = make_dataset(clips=method.clips)
        return Run(
            method=method,
            dataset=dataset,
            optimizer=partial(torch.optim.AdamW, lr=1e-3),
            learning_rate=lambda progress: 1e-3,
            steps=4,
            batch_size=max(2, len(dataset) // 2),
        )

    with tempfile.TemporaryDirectory() as name, _quietly():
        once, stopped = Path(name, "once"), Path(name, "stopped")
        whole = fit(run(), out=once, save_every=1, picture_every=100)
        # As if it had been killed after the third step, in the middle of the second epoch.
        shutil.copytree(once / "checkpoints" / "step_00000003", stopped / "checkpoints" / "step_00000003")
        resumed = fit(run(), out=stopped, save_every=1, picture_every=100)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), f"{name} differs after stopping and continuing"


def _check_bfloat16(build: Callable[[], Method], batch: Batch) -> None:
    method = prepare(_build(build), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logged = method(batch, 0.5)
    logged["loss"].backward()
    assert all(torch.isfinite(value) for value in logged.values()), f"under bfloat16 forward gives {logged}"
    for name, parameter in _trainable(method).items():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), f"under bfloat16: {name}"


def _check_overfit(build: Callable[[], Method], batch: Batch, steps: int, lr: float, share: float) -> None:
    method = prepare(_build(build), batch)
    optimizer = torch.optim.Adam(method.param_groups(), lr=lr)
    losses = []
    for number in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = method(batch, number / steps)["loss"]
        loss.backward()
        method.before_step(number, number / steps)
        optimizer.step()
        method.after_step(number / steps)
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)), f"training on one batch diverges: {losses}"
    figures = _look(method, batch)
    assert not is_collapsed(figures), f"after {steps} steps the embeddings of all samples are equal: {figures}"
    last, wanted = min(losses[-5:]), losses[0] - (1 - share) * abs(losses[0])
    assert last <= wanted, (
        f"{steps} steps on one batch bring the loss from {losses[0]:.4f} to {last:.4f}, expected {wanted:.4f} or less"
    )


def _look(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Read the monitors as fit does."""
    method.eval()
    with torch.no_grad():
        figures = method.monitors(batch)
    method.train()
    return figures


# Statistics of batch norm are every process's own (fit saves those of the first).
_OWN_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def _check_replicas(build: Callable[[], Method], batch: Batch) -> None:
    whole = prepare(_build(build), batch).eval()  # batch norm by stored statistics: samples do not mix in it
    loss, gradients = _step(whole, batch)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "job.pt")
        torch.save({"batch": batch.tensors()}, file)
        # A server process that has imported everything forks the replicas: cheap, and safe with threads.
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        processes = [
            context.Process(target=_replica, args=(build, rank, _free_port(file), folder)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        codes = [process.exitcode for process in processes]
        assert codes == [0, 0], f"two processes end with exit codes {codes}; see their traceback above"
        first, second = (torch.load(Path(folder, f"rank{rank}.pt"), weights_only=True) for rank in range(2))
    joined = (first["loss"] + second["loss"]) / 2
    assert abs(joined - loss) <= TOLERANCE * max(1, abs(loss)), (
        f"two processes with half of the batch each give the mean loss {joined}, one with all of it gives {loss}: "
        "gather what the loss compares (vidssl.ops.gather), and draw from batch.seed alone"
    )
    for name, gradient in gradients.items():
        scale = max(float(gradient.abs().max()), 1e-3)
        error = float((first["gradients"][name] - gradient).abs().max())
        assert error <= 1e-4 * scale, f"the gradient of {name} by two processes is off by {error} of {scale}"
    for number, result in enumerate((first, second)):
        changed = result["changed_by_a_bad_step"]
        assert not changed, f"after a step that is not finite on process 1, {changed} changed on process {number}"
    for name, value in first["state"].items():
        if not name.endswith(_OWN_BUFFERS):
            assert torch.equal(value, second["state"][name]), (
                f"after two steps {name} differs between the processes"
            )


def _free_port(file: Path) -> int:
    """Choose a port once for both processes."""
    path = file.with_name("port")
    if not path.exists():
        with socket.socket() as connection:
            connection.bind(("127.0.0.1", 0))
            path.write_text(str(connection.getsockname()[1]))
    return int(path.read_text())


def _replica(build: Callable[[], Method], rank: int, port: int, folder: str) -> None:
    """One of two processes: its half of the batch, once without and twice with training."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    batch = Batch(**torch.load(Path(folder, "job.pt"), weights_only=True)["batch"])
    half = len(batch) // 2
    mine = _rows(batch, slice(rank * half, (rank + 1) * half))

    def replica() -> tuple[Method, nn.Module]:
        method = prepare(_build(build), batch)
        return method, replicated(method, 2)

    method, network = replica()
    method.eval()
    torch.manual_seed(2)
    loss = network(mine, 0.5)["loss"]
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in _trainable(method).items()}
    method, network = replica()
    optimizer = torch.optim.AdamW(method.param_groups(), lr=1e-3)
    torch.manual_seed(rank)
    for number in range(2):
        network(mine, 0.5)["loss"].backward()
        method.before_step(number, 0.5)
        optimizer.step()
        method.after_step(0.5)
        optimizer.zero_grad(set_to_none=True)
    result = {
        "loss": loss.item(),
        "gradients": gradients,
        "state": method.state_dict(),
        "changed_by_a_bad_step": _changed_by_a_bad_step(method, network, mine, Path(folder), is_bad=rank == 1),
    }
    torch.save(result, Path(folder, f"rank{rank}.pt"))
    del network
    dist.barrier()
    dist.destroy_process_group()


def _changed_by_a_bad_step(
    method: Method, network: nn.Module, batch: Batch, out: Path, *, is_bad: bool
) -> list[str]:
    """Take a step in which the encoder of one process puts out what is no number; names of what then differs."""
    before = {name: value.clone() for name, value in method.state_dict().items()}
    logging.disable()
    guard = Guard(method, out=out)
    guard.note()
    layers = [
        module for module in method.encoder.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
    ]
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: output * math.nan) for layer in layers * is_bad
    ]
    losses, grad_norm = guard.backward(network, batch, 0.5)
    for hook in hooks:
        hook.remove()
    if guard.agrees(losses["loss"], grad_norm):
        return ["nothing, for the step was taken for a good one: what"]
    guard.refuse(0, batch, 0.5, losses)
    # Equal bits: numbers that are not finite are equal to nothing, not even to themselves.
    return [name for name, value in method.state_dict().items() if not torch.equal(value, before[name])]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No progress bars of runs that last three steps."""
    level = logging.root.level
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    logging.root.setLevel(level)

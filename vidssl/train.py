"""fit: the only training loop. It knows no method; anything fancier is a copy of it."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import checkpoint, processes
from .batch import Batch
from .data.datasets import ArrayDataset, VideoDataset, sample_seed
from .data.loader import Loader, on_device
from .logbook import Logbook
from .method import Epoch, Method
from .models import Encoder, export_encoders
from .ops.gather import gather_rows
from .optim import Schedule
from .stop import StopFlag

# A single bad batch must not end a month of training; a diverged run must not burn the rest of it.
MAX_SKIPPED_STEPS = 10


@dataclass(frozen=True)
class Run:
    """What a config's `run` returns: everything that decides what is learned.

    Args:
        method: Networks and loss.
        dataset: What to learn from.
        optimizer: Parameter groups -> optimizer, for example `partial(torch.optim.AdamW, weight_decay=0.05)`.
        learning_rate: Schedule of the learning rate; a group's `lr_scale` multiplies it.
        steps: Number of optimizer steps.
        batch_size: Samples per step and process.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    method: Method
    dataset: VideoDataset | ArrayDataset
    optimizer: Callable[[list[dict[str, Any]]], Optimizer]
    learning_rate: Schedule
    steps: int
    batch_size: int
    max_grad_norm: float = float("inf")


def fit(
    run: Run,
    *,
    out: Path,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
    num_workers: int = 0,
    log_every: int = 10,
    save_every: int = 500,
    picture_every: int = 500,
    bad_file_budget: float = 0.01,
    evaluate: Callable[[Encoder], tuple[dict[str, float], dict[str, Tensor]]] | None = None,
    evaluate_every: int = 1000,
) -> Method:
    """Train, or continue the training that `out` holds, exactly where its newest checkpoint stands.

    Writes metrics.jsonl, tensorboard/, pictures/, checkpoints/, encoder.safetensors and encoder.json, and
    audio_encoder.* where the method listens. Under torchrun every process takes its part of each batch. SIGINT,
    SIGTERM and SIGUSR1 end it after the step, with a checkpoint.

    Args:
        run: What to train.
        out: Run folder.
        seed: Decides the order of the data and every draw; the weights were drawn when the method was built.
        device: Where to compute.
        precision: Of matrix products; bfloat16 uses autocast.
        num_workers: Decoding processes.
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints.
        picture_every: Steps between pictures.
        bad_file_budget: Share of the files that may turn out unreadable.
        evaluate: Encoder -> figures and pictures to log (vidssl.evaluate.online), on the first process alone.
        evaluate_every: Steps between such evaluations.

    Returns:
        The trained method.

    Raises:
        Stopped: A signal ended the training (a SystemExit with code 128 + signal); its state is saved.
        ValueError: Too many unreadable files, or a checkpoint of another run.
        FloatingPointError: The loss was not finite for many steps in succession.
    """
    device = torch.device(device)
    rank, world_size = processes.join()
    method = run.method.to(device).train()
    optimizer = run.optimizer(method.param_groups())
    loader = Loader(
        run.dataset,
        batch_size=run.batch_size,
        seed=seed,
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
        bad_file_budget=bad_file_budget,
        pin_memory=device.type == "cuda",
    )
    torch.manual_seed(sample_seed(seed, rank))
    step = _resume(out / "checkpoints", method, optimizer, rank)
    network: nn.Module = method
    if world_size > 1:
        # Queues, assignments and centres are buffers: re-sending them every step would be slow and wrong.
        network = nn.parallel.DistributedDataParallel(method, broadcast_buffers=False)

    def save() -> None:
        states = processes.random_states(device, world_size)
        if rank == 0:
            state = {"method": method.state_dict(), "optimizer": optimizer.state_dict(), "random": states}
            checkpoint.save(out / "checkpoints", state, step=step)
            export_encoders(method, out)

    num_skipped = 0
    batches = on_device(loader.batches(step, run.steps), device)
    with Logbook(out if rank == 0 else None, first_step=step, num_steps=run.steps) as log, StopFlag() as stop:
        while step < run.steps:
            if step % loader.steps_per_epoch == 0:
                _before_epoch(method, optimizer, loader, step // loader.steps_per_epoch, seed, device)
            asked = time.perf_counter()
            batch = next(batches)
            waited_seconds = time.perf_counter() - asked

            progress = step / run.steps
            learning_rate = run.learning_rate(progress)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get("lr_scale", 1.0)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                losses = network(batch, progress)
            losses["loss"].backward()
            grad_norm = nn.utils.clip_grad_norm_(method.parameters(), run.max_grad_norm)
            if torch.isfinite(grad_norm):  # averaged over ranks, so all ranks decide the same
                optimizer.step()
                method.after_step(progress)
                num_skipped = 0
            else:
                num_skipped += 1
                logging.getLogger(__name__).warning("step %d is skipped: its gradient is not finite", step)
                if num_skipped > MAX_SKIPPED_STEPS:
                    raise FloatingPointError(
                        f"the gradient was not finite in {num_skipped} steps up to step {step}; lower the "
                        "learning rate or use float32"
                    )
            optimizer.zero_grad(set_to_none=True)
            step += 1

            log.count(num_samples=len(batch) * world_size, waited_seconds=waited_seconds)
            if step % log_every == 0 or step == run.steps:
                scalars = {name: value.detach() for name, value in losses.items()}
                scalars |= _look(method, lambda: method.monitors(batch))  # noqa: B023
                log.scalars(step, {**scalars, "grad_norm": grad_norm, "learning_rate": learning_rate})
            if rank == 0 and (step % picture_every == 0 or step == run.steps):
                log.pictures(step, _look(method, lambda: method.pictures(batch)))  # noqa: B023
            if evaluate is not None and rank == 0 and (step % evaluate_every == 0 or step == run.steps):
                log.evaluation(step, *_look(method, lambda: evaluate(method.encoder)))
            stop.received = processes.agree(stop.received, device, world_size)
            if step % save_every == 0 or step == run.steps or stop.received is not None:
                save()
            stop.check()
    if rank == 0:
        export_encoders(method, out)  # also of a run that was complete already
    del network  # a group cannot be destroyed under a living DistributedDataParallel
    processes.leave()
    return method


def _look(method: Method, function: Callable[[], Any]) -> Any:
    """Call a function in evaluation mode, without gradient; random state and method stay as they are."""
    method.eval()
    with torch.no_grad(), torch.random.fork_rng():
        value = function()
    method.train()
    return value


def _before_epoch(
    method: Method, optimizer: Optimizer, loader: Loader, number: int, seed: int, device: torch.device
) -> None:
    def extract(function: Callable[[Batch], Tensor], num_samples: int | None = None) -> Tensor:
        def rows() -> tuple[Tensor, Tensor]:
            batches = on_device(loader.in_order(num_samples or len(loader.dataset)), device)
            values, index = zip(*((function(batch), batch.index) for batch in batches), strict=True)
            return torch.cat(values), torch.cat(index)

        values, index = _look(method, rows)
        return gather_rows(values)[gather_rows(index).argsort(stable=True)]

    def forget(parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            optimizer.state.pop(parameter, None)

    # One seed for all ranks: a head drawn anew or a clustering must come out equal, or replicas diverge.
    with torch.random.fork_rng():
        torch.manual_seed(sample_seed(seed, -2, number))
        method.before_epoch(Epoch(number=number, extract=extract, forget=forget))


def _resume(folder: Path, method: Method, optimizer: Optimizer, rank: int) -> int:
    """Load the newest checkpoint, if there is one; return the number of steps it stands at."""
    path = checkpoint.latest(folder)
    if path is None:
        return 0
    state = checkpoint.load(path)
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is the state of another method ({error}); choose another run folder") from error
    if rank < len(state["random"]):
        torch.set_rng_state(state["random"][rank]["cpu"])
        if "cuda" in state["random"][rank]:
            torch.cuda.set_rng_state(state["random"][rank]["cuda"])
    logging.getLogger(__name__).info("continuing from %s", path)
    return state["step"]

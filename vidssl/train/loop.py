"""fit: the only training loop. It knows no method; anything fancier is a copy of it."""

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..data.loader import Loader, on_device
from ..data.samples import sample_seed
from ..data.vanished import CorpusGone
from ..method import Method
from ..models import Encoder
from ..models.layers import checkpoint_blocks, transformer_blocks
from ..ops.gather import mean_over_ranks
from ..optim import fuse
from ..stop import StopFlag, Stopped
from . import processes
from .batch_norm import synchronize
from .epochs import before_epoch, look
from .guard import Guard, Precision, deterministic
from .keeper import Keeper
from .logbook import Logbook
from .pace import Pace, told
from .run import Run

logger = logging.getLogger(__name__)


def fit(
    run: Run,
    *,
    out: Path,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    accumulate: int = 1,
    halve_on_oom: bool = False,
    checkpoint_activations: bool = False,
    sharded: bool = False,
    sync_batch_norm: bool = False,
    compile: bool = False,
    reproducible: bool = False,
    num_workers: int = 0,
    log_every: int = 10,
    save_every: int = 500,
    picture_every: int = 500,
    bad_file_budget: float = 0.01,
    shard_window: int | None = None,
    evaluate: Callable[[Encoder], tuple[dict[str, float], dict[str, Tensor]]] | None = None,
    evaluate_every: int = 1000,
    export: str | None = None,
    recipe_sha256: str | None = None,
    lock: bool = True,
) -> Method:
    """Train, or continue the training that `out` holds, exactly where its newest checkpoint stands.

    Writes metrics.jsonl, tensorboard/, pictures/, checkpoints/, encoder.safetensors and encoder.json, and
    audio_encoder.* where the method listens. Under torchrun every process takes its part of each batch, and what is
    logged is the mean over the processes. SIGINT, SIGTERM, SIGUSR1 and SIGHUP end it after the step, with a
    checkpoint, also within an evaluation or a clustering. One process at a time may train into `out`.

    Args:
        run: What to train.
        out: Run folder.
        seed: Decides the order of the data and every draw; the weights were drawn when the method was built.
        device: Where to compute.
        precision: Of matrix products; bfloat16 uses autocast.
        accumulate: Parts in which the batch of a process is computed, one after the other, before the optimizer
            steps: less memory, the same number of samples (guard.backward says what is equal and what is not).
        halve_on_oom: When the device runs out of memory, go on in twice as many parts; for a single process.
        checkpoint_activations: Compute transformer blocks again in the backward pass instead of keeping what is
            inside them: less memory, a third more time, equal bits.
        sharded: Cut parameters, gradients and optimizer state over the processes (FSDP2), instead of keeping all
            of them in each: less memory, more talk. Transformer blocks are gathered one at a time.
        sync_batch_norm: Let batch norm normalise by the statistics of all processes' batches together
            (batch_norm.synchronize).
        compile: Compile the method's forward pass (torch.nn.Module.compile).
        reproducible: Allow only kernels that give the same bits twice (they do on a CPU in any case).
        num_workers: Decoding processes.
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints.
        picture_every: Steps between pictures.
        bad_file_budget: Share of the files that may turn out unreadable; bad_samples.jsonl names them.
        shard_window: Shards that are shuffled together; None is all, see `Loader`.
        evaluate: Encoder -> figures and pictures to log (vidssl.evaluate.propagation.online), on the first
        process alone. evaluate_every: Steps between such evaluations.
        export: Name of the network that is exported and evaluated, of the method's `networks`; None is its choice.
        recipe_sha256: Hash of what the run was asked to do, written into checkpoints and compared with theirs.
        lock: Take the lock of `out` (vidssl.files.locked); False where the caller has it.

    Returns:
        The trained method; with `sharded` each process has its part of it.

    Raises:
        Stopped: A signal ended the training (a SystemExit with code 128 + signal); its state is saved.
        ValueError: Too many unreadable files, a checkpoint of another run, or another process trains into `out`; a
            method without batch norm is to synchronise it; there is no network of the name `export`.
        OSError: Checkpoints could not be written several times in succession; or most files of the corpus are gone
            (CorpusGone): a single process has saved its state.
        FloatingPointError: Loss or gradient was not finite for many steps in succession.
        MemoryError: The device has too little memory for a step.
        ConnectionAbortedError: Another process of the training ended, or answers no more.
    """
    device = torch.device(device)
    rank, world_size = processes.join()
    method = run.method.to(device).train()
    if sync_batch_norm:
        synchronize(method)
    if sharded:
        processes.sharded(method, transformer_blocks(method), device, world_size)
    groups = method.param_groups()
    pace = Pace(method, groups, learning_rate=run.learning_rate, weight_decay=run.weight_decay)
    optimizer = fuse(run.optimizer(groups))
    loader = Loader(
        run.dataset,
        batch_size=run.batch_size,
        seed=seed,
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
        bad_file_budget=bad_file_budget,
        bad_samples=out / "bad_samples.jsonl",
        pin_memory=device.type == "cuda",
        shard_window=shard_window,
    )
    torch.manual_seed(sample_seed(seed, rank))
    keeper = Keeper(
        method,
        optimizer,
        out=out,
        device=device,
        rank=rank,
        world_size=world_size,
        recipe_sha256=recipe_sha256,
        export=export,
    )
    step = first_step = keeper.resume(lock=lock)
    if checkpoint_activations:
        checkpoint_blocks(method)
    if compile:
        method.compile()
    network = method if sharded else processes.replicated(method, world_size, accumulate=accumulate)
    guard = Guard(
        method,
        out=out,
        precision=precision,
        max_grad_norm=run.max_grad_norm,
        clip_parts=run.clip_parts,
        num_parts=accumulate,
        halve_on_oom=halve_on_oom,
    )

    def save(random: dict[str, Tensor] | None = None) -> None:
        log.flush()
        keeper.save(step, random=random, is_last=step == run.steps)

    def measure() -> None:
        if evaluate is not None:
            keeper.evaluation_pending = True
            with contextlib.suppress(Stopped):  # what a signal ends is done again when the run goes on
                found = look(method, lambda: evaluate(keeper.exported) if rank == 0 else ({}, {}))
                log.evaluation(step, *found)
                keeper.evaluation_pending = False

    batches = on_device(loader.batches(step, run.steps), device)
    with (
        keeper,
        Logbook(
            out if rank == 0 else None,
            first_step=step,
            num_steps=run.steps,
            drop_evaluation=keeper.evaluation_pending,
        ) as log,
        StopFlag() as stop,
        deterministic(reproducible),
        processes.watched(),
    ):
        if keeper.evaluation_pending:
            measure()
            stop.received = processes.agree(stop.received, device, world_size)
            stop.check()
        if step == run.steps:
            keeper.export()  # of a run that was complete already; every other one exports with its last checkpoint
        while step < run.steps:
            if step % loader.steps_per_epoch == 0:
                number = step // loader.steps_per_epoch
                before_epoch(
                    method, optimizer, loader, number=number, seed=seed, device=device, save=save, stop=stop
                )
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except CorpusGone as error:
                if world_size > 1:
                    raise  # the others wait within a step, and a checkpoint takes all
                save()
                raise CorpusGone(
                    f"{error}; the state of step {step} is saved, and the same command goes on from there"
                ) from error
            waited_seconds = time.perf_counter() - asked

            progress = step / run.steps
            figures = pace.set(optimizer, progress)
            if step == first_step:
                logger.info("%s", told(step + 1, figures))
            guard.note()
            losses, grad_norm = guard.backward(network, batch, progress)
            if guard.agrees(losses["loss"], grad_norm):
                method.before_step(step, progress)
                optimizer.step()
                method.after_step(progress)
            else:
                guard.refuse(step, batch, progress, losses)
            optimizer.zero_grad(set_to_none=True)
            step += 1

            log.count(num_samples=len(batch) * world_size, waited_seconds=waited_seconds)
            if step % log_every == 0 or step == run.steps:
                scalars = mean_over_ranks({**losses, **look(method, lambda: method.monitors(batch))})  # noqa: B023
                guard.watch(step, scalars)
                log.scalars(step, {**scalars, "grad_norm": grad_norm, **figures})
            if step % picture_every == 0 or step == run.steps:
                log.pictures(step, look(method, lambda: method.pictures(batch) if rank == 0 else {}))  # noqa: B023
            if step % evaluate_every == 0 or step == run.steps:
                measure()
            stop.received = processes.agree(stop.received, device, world_size)
            if step % save_every == 0 or step == run.steps or stop.received is not None:
                save()
            stop.check()
    del network  # a group cannot be destroyed under a living DistributedDataParallel
    processes.leave()
    return method

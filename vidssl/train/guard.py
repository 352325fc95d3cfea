"""What stands between a bad number and the weights: a step is taken whole, on every process, or leaves nothing behind.

    guard.note()                                     # before the forward pass: what it may change can be put back
    losses, grad_norm = guard.backward(network, batch, progress)
    if guard.agrees(losses["loss"], grad_norm):      # one answer on all processes
        optimizer.step()
        ...
    else:
        guard.refuse(step, batch, progress, losses)  # puts it back, keeps the batch for `vidssl replay`

Deciding before the optimizer steps means that the host waits for the gradient once a step, for one number. It has
nothing else to do: what it could have queued ahead is the optimizer's step and the teacher's, a few launches (fused,
foreach), and the next forward pass is queued while those run.
"""

import contextlib
import itertools
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..batch import Batch
from ..files import replacing
from ..method import Method
from ..ops.gather import rank, whole, whole_parameters, world_size
from ..ops.monitors import is_collapsed
from ..optim import Parts, as_one

# A single bad batch must not end a month of training; a diverged run must not burn the rest of it.
MAX_SKIPPED_STEPS = 10
# A record is as large as the weights; the first ones tell what went wrong.
MAX_RECORDS = 3

Precision = Literal["float32", "bfloat16"]

logger = logging.getLogger(__name__)


def backward(
    network: nn.Module, batch: Batch, progress: float, *, num_parts: int = 1, precision: Precision = "float32"
) -> dict[str, Tensor]:
    """Compute the losses of a batch and add their gradients to those of the parameters.

    In parts, one after the other, activations of one part alone are in memory. For a loss that is a mean over
    samples, loss and gradients are those of the whole batch; a loss that compares samples compares those of a part,
    batch norm normalises each part, and a queue takes the keys of each part in turn.

    Args:
        network: The method, or the method in a DistributedDataParallel, whose processes then talk once.
        batch: Samples of this process.
        progress: Of the training, in [0, 1].
        num_parts: Into which the batch is cut.
        precision: Of matrix products.

    Returns:
        What the method returns, detached, the mean over samples.
    """
    parts = batch.split(num_parts)
    total: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        share, is_last = len(part) / len(batch), number == len(parts) - 1
        talk_later = isinstance(network, DistributedDataParallel) and not is_last
        with network.no_sync() if talk_later else contextlib.nullcontext():  # type: ignore[operator]
            with torch.autocast(part.index.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                losses = network(part, progress)
            (losses["loss"] * share).backward()
        for name, value in losses.items():
            total[name] = total.get(name, 0) + share * value.detach()
    return total


def clip_gradients(parts: list[list[nn.Parameter]], max_norm: float) -> Tensor:
    """Scale the gradient of each part down to a norm; return the norm that all of them had together.

    An infinite bound costs no pass over the gradients.
    """
    with_gradient = [[parameter for parameter in part if parameter.grad is not None] for part in parts]
    if math.isinf(max_norm):
        with_gradient = [list(itertools.chain(*with_gradient))]
    norms = []
    for part in filter(None, with_gradient):  # a part that is frozen has none
        norm = whole(nn.utils.get_total_norm([parameter.grad for parameter in part if parameter.grad is not None]))
        if math.isfinite(max_norm):
            nn.utils.clip_grads_with_norm_(part, max_norm, norm)
        norms.append(norm)
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


@dataclass(frozen=True)
class RandomState:
    """States of torch's generators: what a step draws from."""

    cpu: Tensor
    cuda: Tensor | None = None

    @classmethod
    def now(cls, device: torch.device) -> "RandomState":
        """Read the generators, without waiting for the device."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    def restore(self, device: torch.device) -> None:
        """Set the generators."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


class Guard:
    """Keeps a step with a loss or gradient that is not finite from weights, teachers, queues and statistics.

    The optimizer and `after_step` do not run then, so parameters stay; buffers, which the forward pass has changed by
    then (statistics of batch norm, queues, centres), are copied before it, and copied back.

    Args:
        method: What is trained.
        out: Run folder, for records of such steps.
        precision: Of matrix products.
        max_grad_norm: Gradients are scaled down to this norm.
        clip_parts: Method -> parts of its parameters, the gradient of each of which is scaled down by itself.
        num_parts: Parts in which a batch is computed (`backward`).
        halve_on_oom: When memory runs out, compute the step again in twice as many parts, and go on with these.

    Raises:
        ValueError: There are less than 1 parts.
    """

    def __init__(
        self,
        method: Method,
        *,
        out: Path,
        precision: Precision = "float32",
        max_grad_norm: float = math.inf,
        clip_parts: Parts = as_one,
        num_parts: int = 1,
        halve_on_oom: bool = False,
    ) -> None:
        if num_parts < 1:
            raise ValueError(f"--accumulate is {num_parts}, expected the number of parts of a batch, at least 1")
        self.method = method
        self.out = out
        self.precision: Precision = precision
        self.max_grad_norm = max_grad_norm
        self.num_parts = num_parts
        self.halve_on_oom = halve_on_oom
        self.clip_parts = clip_parts(method)
        self.device = next(method.parameters()).device
        self.shadow = [buffer.clone() for buffer in method.buffers()]
        self.random = RandomState.now(self.device)
        self.num_skipped = 0
        self.num_collapsed = 0

    def note(self) -> None:
        """Copy what a forward pass may change."""
        if self.shadow:
            torch._foreach_copy_(self.shadow, list(self.method.buffers()))
        self.random = RandomState.now(self.device)

    def restore(self) -> None:
        """Put buffers back as they were noted, and drop the gradients."""
        if self.shadow:
            torch._foreach_copy_(list(self.method.buffers()), self.shadow)
        self.method.zero_grad(set_to_none=True)

    def backward(self, network: nn.Module, batch: Batch, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """Losses, and the norm of the gradients, which are clipped.

        Raises:
            MemoryError: The device has too little memory; the message gives the sizes and what to lower.
        """
        while True:
            try:
                losses = backward(network, batch, progress, num_parts=self.num_parts, precision=self.precision)
                return losses, clip_gradients(self.clip_parts, self.max_grad_norm)
            except torch.OutOfMemoryError as error:
                reason = str(error)
            # Outside of the handler, whose traceback holds the activations.
            self._halve(batch, reason)

    def _halve(self, batch: Batch, reason: str) -> None:
        size = -(-len(batch) // self.num_parts)
        if not self.halve_on_oom or size == 1 or world_size() > 1:
            raise MemoryError(_out_of_memory(batch, size, reason))
        self.restore()
        self.random.restore(self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.num_parts *= 2
        logger.warning(
            "out of memory with %s at once: steps are now computed in %d parts (--accumulate %d starts with them)",
            _sizes(batch, size),
            self.num_parts,
            self.num_parts,
        )

    def agrees(self, loss: Tensor, grad_norm: Tensor) -> bool:
        """Whether loss and gradient are finite on every process: one answer for all."""
        finite = torch.isfinite(loss + grad_norm).float()
        if world_size() > 1:
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        if not finite:
            return False
        self.num_skipped = 0
        return True

    def refuse(self, step: int, batch: Batch, progress: float, losses: dict[str, Tensor]) -> None:
        """Put back what the forward pass changed, and keep the step for `vidssl replay`.

        Raises:
            FloatingPointError: It is one of many such steps in succession.
        """
        self.restore()
        self.num_skipped += 1
        with whole_parameters(self.method):
            recorded = self._record(step, batch, progress, losses)
        logger.warning(
            "step %d is skipped: its loss or gradient is not finite (here the loss is %g); %s",
            step,
            losses["loss"].item(),
            recorded,
        )
        if self.num_skipped > MAX_SKIPPED_STEPS:
            raise FloatingPointError(
                f"loss or gradient was not finite in {self.num_skipped} steps up to step {step}; lower the learning "
                f"rate, set max_grad_norm or use float32, and look at {self.out / 'nonfinite'} with `vidssl replay`"
            )

    def _record(self, step: int, batch: Batch, progress: float, losses: dict[str, Tensor]) -> str:
        """Write OUT/nonfinite/step_N: the weights by the first process, its own samples and draws by each."""
        folder = self.out / "nonfinite" / f"step_{step:08d}"
        if len(list(folder.parent.glob("step_*"))) >= MAX_RECORDS and not folder.exists():
            return f"{folder.parent} holds {MAX_RECORDS} records of such steps and takes no more"
        record = {
            "step": step,
            "rank": rank(),
            "progress": progress,
            "precision": self.precision,
            "num_parts": self.num_parts,
            "losses": {name: float(value) for name, value in losses.items()},
            "random": {name: state for name, state in vars(self.random).items() if state is not None},
            "batch": batch.tensors(),
        }
        try:
            if rank() == 0:
                with replacing(folder / "method.pt") as temporary:
                    torch.save(self.method.state_dict(), temporary)
            with replacing(folder / f"rank{rank()}.pt") as temporary:
                torch.save(record, temporary)
        except OSError as error:  # a full disk must not end what a skipped step does not
            return f"it could not be recorded ({error})"
        return f"`vidssl replay {self.out} --step {step}` computes it again"

    def watch(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Warn, once, if the monitors say for the second time in succession that the embeddings have collapsed."""
        self.num_collapsed = self.num_collapsed + 1 if is_collapsed(scalars) else 0
        if self.num_collapsed == 2:
            logger.warning(
                "step %d: the embeddings of different samples are nearly equal (embedding_std %.4f, mean_cosine "
                "%.4f): they have collapsed, or are about to; a teacher's momentum, a stop-gradient, the learning "
                "rate or the loss itself are the usual causes. This is said once",
                step,
                scalars["embedding_std"],
                scalars["mean_cosine"],
            )


def _sizes(batch: Batch, num_samples: int) -> str:
    text = f"{num_samples} samples"
    if batch.video is not None:
        clips, frames, _, height, width = batch.video.shape[1:]
        text += f" x {clips} clips x {frames} frames of {height} x {width} px"
    if batch.audio is not None:
        text += f", {batch.audio.shape[1]} x {batch.audio.shape[2]} samples of sound"
    if batch.text is not None:
        text += f", {batch.text.shape[1]} sentences of {batch.text.shape[2]} tokens"
    if batch.points is not None:
        text += f", {batch.points.shape[1]} points"
    return text


def _out_of_memory(batch: Batch, num_samples: int, reason: str) -> str:
    advice = "a larger --accumulate, or --halve-on-oom, computes as many samples a step in smaller parts"
    if world_size() > 1:
        advice = "a larger --accumulate computes as many samples a step in smaller parts"
    if num_samples == 1:
        advice = "one sample alone is too much"
    return (
        f"out of memory with {_sizes(batch, num_samples)} at once ({reason.splitlines()[0]}); {advice}; "
        "--checkpoint-activations, --precision bfloat16, fewer or smaller frames and a smaller network need less"
    )


@dataclass(frozen=True)
class Replay:
    """What a recorded step computes when it is computed again.

    Args:
        losses: By name.
        recorded: The losses as they were.
        grad_norm: Norm of the gradients.
        modules: Names of the modules that put out the first numbers that are not finite, innermost first.
        parameters: Names of the parameters whose gradients are not finite.
    """

    losses: dict[str, float]
    recorded: dict[str, float]
    grad_norm: float
    modules: list[str]
    parameters: list[str]


def replay(method: Method, folder: Path, *, rank: int = 0, device: torch.device | str = "cpu") -> Replay:
    """Compute a step again that was recorded as not finite, in this process alone.

    Args:
        method: Built as for the run; its weights are those of the record.
        folder: OUT/nonfinite/step_N.
        rank: Whose samples.
        device: Where to compute.
    """
    device = torch.device(device)
    record = torch.load(folder / f"rank{rank}.pt", map_location="cpu", weights_only=True)
    method.load_state_dict(torch.load(folder / "method.pt", map_location="cpu", weights_only=True))
    method = method.to(device).train()
    method.zero_grad(set_to_none=True)
    RandomState(**record["random"]).restore(device)
    modules: list[str] = []

    def look(name: str, output: Any) -> None:
        tensors = output if isinstance(output, tuple | list) else [output]
        tensors = [value for value in tensors if isinstance(value, Tensor) and value.is_floating_point()]
        if not all(torch.isfinite(value).all() for value in tensors):
            modules.append(name)

    for name, module in method.named_modules():
        if module is not method:
            module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
    batch = Batch(**record["batch"]).to(device)
    losses = backward(
        method, batch, record["progress"], num_parts=record["num_parts"], precision=record["precision"]
    )
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return Replay(
        losses={name: float(value) for name, value in losses.items()},
        recorded=record["losses"],
        grad_norm=float(nn.utils.get_total_norm(list(gradients.values()))),
        modules=list(dict.fromkeys(modules)),
        parameters=[name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()],
    )


@contextlib.contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Let torch choose only kernels that give the same bits twice, and refuse what has none."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS promises nothing
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]

"""Keeper: the state of a training, gathered for a checkpoint and put back from one."""

import contextlib
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..files import locked, remove_leftovers, temporary_beside
from ..method import Method
from ..models import Encoder, export_encoders
from ..ops.gather import is_cut, whole_parameters
from . import checkpoint, processes

# A disk that is full for a while must not end a month of training; one that stays full must not go unnoticed.
MAX_FAILED_SAVES = 3

logger = logging.getLogger(__name__)


class Keeper:
    """Writes checkpoints and exported encoders of one training, and puts its state back. All processes have one.

    The state is all that decides the following steps: parameters and buffers, the optimizer, the step, and of every
    process the random generators and the statistics of batch norm. The data needs none: its order and draws are
    functions of (seed, step). What is cut over the processes (processes.sharded) each of them writes and reads for
    itself; a state that was cut goes on where nothing is, or with another number of processes, and the other way round.

    Args:
        method: What is trained.
        optimizer: What trains it.
        out: Run folder.
        device: Where the method is.
        rank: Of this process; the first one writes.
        world_size: Number of processes.
        export: Of the method's `networks`, which is exported; None is the first.
        recipe_sha256: Hash of what the run was asked to do: checkpoints carry it, and one with another is refused.

    Raises:
        ValueError: The method has no network of that name to export.
    """

    def __init__(
        self,
        method: Method,
        optimizer: Optimizer,
        *,
        out: Path,
        device: torch.device,
        rank: int,
        world_size: int,
        recipe_sha256: str | None,
        export: str | None = None,
    ) -> None:
        self.method = method
        self.exported = chosen_network(method, export)
        self.optimizer = optimizer
        self.out = out
        self._folder = out / "checkpoints"
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self.recipe_sha256 = recipe_sha256
        self.saved_step: int | None = None
        self.num_failed = 0
        self.evaluation_pending = False  # whether an evaluation of the step was stopped and is to be done again
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def resume(self, *, lock: bool) -> int:
        """Put back the newest checkpoint that is whole; return the number of steps it stands at, 0 without one.

        Args:
            lock: Take the lock of the run folder, until the context of this keeper ends.

        Raises:
            ValueError: Checkpoints are there but none is whole, they are those of another run, or another process
                uses the folder.
        """
        if self.rank == 0:
            if lock:
                self._lock.enter_context(locked(self.out))
            remove_leftovers(self.out)
        # The first process chooses for all: two that judged by themselves might go on from different steps.
        found = checkpoint.recover(self._folder) if self.rank == 0 else None
        path = processes.of_first(found, self.world_size)
        if path is None:
            return 0
        state = checkpoint.load(path)
        if (
            None not in (self.recipe_sha256, state["recipe_sha256"])
            and self.recipe_sha256 != state["recipe_sha256"]
        ):
            raise ValueError(
                f"{path} was written by a run with other options or another config than {self.out / 'run.json'} and "
                "config.py tell; choose another --out, or begin anew by --restart"
            )
        if state["shards"] is not None or is_cut(self.method):
            from . import distcp  # half a second of imports that few runs need

            state = distcp.joined(state, self.method, self.optimizer)
        try:
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} is the state of another method ({error}); choose another run folder"
            ) from error
        if self.rank < len(state["random"]):
            processes.set_random_state(state["random"][self.rank], self.device)
        if self.rank < len(state.get("batch_norm", [])):
            self.method.load_state_dict(state["batch_norm"][self.rank], strict=False)
        self.saved_step = state["step"]
        self.evaluation_pending = state.get("evaluation_pending", False)
        logger.info("continuing from %s", path)
        return state["step"]

    def save(self, step: int, *, random: dict[str, Tensor] | None = None, is_last: bool = False) -> None:
        """Write a checkpoint, unless that of this step is there, and the encoders. Every process must call it.

        Args:
            step: Of the training.
            random: State of the generators of this process, if not that of now.
            is_last: Nothing comes after it, so that a failure is raised at once.

        Raises:
            OSError: It could not be written, nor could those before it.
            Damaged: It was, but reads otherwise.
        """
        if step == self.saved_step:
            return
        states = processes.gathered(random or processes.random_state(self.device), self.world_size)
        statistics = processes.gathered(_batch_norm(self.method), self.world_size) if self.world_size > 1 else []
        self.saved_step = step
        cut = is_cut(self.method)
        if self.rank != 0 and not cut:
            return
        state: dict[str, Any] = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": states,
            "batch_norm": statistics,
        }
        if self.evaluation_pending:
            state["evaluation_pending"] = True
        shards = processes.of_first(temporary_beside(self._folder / "shards"), self.world_size) if cut else None
        try:
            files: dict[str, dict[str, Any]] = {}
            if shards is not None:
                state, files = self._write_shards(state, shards)
            with whole_parameters(self.method):
                if self.rank == 0:
                    checkpoint.save(
                        self._folder,
                        state,
                        step=step,
                        recipe_sha256=self.recipe_sha256,
                        shards=shards,
                        shard_files=files,
                    )
                    export_encoders(self.method, self.out, network=self.exported)
        except (OSError, checkpoint.Damaged) as error:
            if self.rank != 0:
                return  # the first process tells, and decides
            self.num_failed += 1
            if is_last or self.num_failed == MAX_FAILED_SAVES:
                raise
            logger.error(
                "the state of step %d is not saved: %s; the checkpoint before stays, training goes on and tries "
                "again at the next one (failure %d, it stops at %d)",
                step,
                error,
                self.num_failed,
                MAX_FAILED_SAVES,
            )
        else:
            self.num_failed = 0
        finally:
            if self.rank == 0 and shards is not None:
                shutil.rmtree(shards, ignore_errors=True)

    def _write_shards(
        self, state: dict[str, Any], folder: Path
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Let every process write what it has of a state.

        Returns:
            The rest of the state; name -> size and hash of every file, measured by the process that wrote it.

        Raises:
            OSError: One process could not; raised in all of them.
        """
        from . import distcp

        rest, parts = distcp.take_parts(state)
        answer: OSError | dict[str, dict[str, Any]] | None = None
        if self.rank == 0:
            try:
                folder.mkdir(parents=True)
                checkpoint.check_room(folder, sum(part.nbytes for part in parts.values()))
            except OSError as error:
                answer = error
        answer = processes.of_first(answer, self.world_size)
        if isinstance(answer, OSError):
            raise answer
        distcp.write(folder, parts)
        try:
            answer = {path.name: checkpoint.measure(path) for path in distcp.files_of(folder, self.rank)}
        except OSError as error:
            answer = error
        files: dict[str, dict[str, Any]] = {}
        for each in processes.gathered(answer, self.world_size):
            if isinstance(each, OSError):
                raise each
            files |= each or {}
        return rest, files

    def export(self) -> None:
        """Write the encoders as they are. Every process must call it."""
        with whole_parameters(self.method):
            if self.rank == 0:
                export_encoders(self.method, self.out, network=self.exported)


def chosen_network(method: Method, name: str | None) -> Encoder:
    """The network of a method that is exported, by its name; None is the one that the method chooses.

    Raises:
        ValueError: The method has none of that name.
    """
    networks = method.networks()
    if name is None:
        name = next(iter(networks))
    if name not in networks:
        raise ValueError(
            f"--export is {name!r}, expected one of the networks that {type(method).__name__} can export: "
            f"{', '.join(networks)}"
        )
    return cast(Encoder, networks[name])


def _batch_norm(method: Method) -> dict[str, Tensor]:
    """Statistics of batch norm, which every process has of its own; all other buffers are equal in all of them."""
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {name: value.cpu() for name, value in method.named_buffers() if name.rpartition(".")[2] in names}

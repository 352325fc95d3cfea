"""vidssl slurm: write the sbatch file of a training that stops in time, queues itself again and goes on.

SLURM itself starts a process per GPU and tells each its rank; they meet as those of torchrun do (torch's c10d
rendezvous on the first node). No torchrun stands between: it would kill the processes 30 seconds after a signal,
which may be too soon for a large checkpoint, and end by SIGUSR1 itself.
"""

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import options
from ..files import replacing
from .pretrain import parsed

USAGE = "usage: vidssl slurm NAME|FILE --root DIR [OPTIONS]"
STOPPED = 128 + signal.SIGUSR1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlurmOptions:
    """Options of the job; all others are those of `vidssl pretrain NAME`."""

    nodes: int = 1
    """Machines."""
    gpus: int = 1
    """GPUs of each machine, with a process each; 0 is one process without a GPU."""
    cpus_per_process: int = 8
    """Cores of each process: decoding takes all but one."""
    hours: float = 24.0
    """Longest time that the job runs before it is stopped and queued again."""
    memory_gb: int | None = None
    """Memory of each machine; None is what the cluster gives."""
    partition: str | None = None
    """Partition of the cluster; None is its default."""
    account: str | None = None
    """Account that the job is charged to; None is your default."""
    notice_seconds: int = 300
    """Time between the signal that asks for a stop and the end of the job: enough for a step and a checkpoint."""
    script: Path | None = None
    """File to write. None is the run folder with .sbatch behind."""
    submit: bool = False
    """Submit the job at once, by submitit, and write no file."""


def slurm(words: list[str]) -> None:
    """Write the sbatch file for `vidssl pretrain` with these words, or submit it."""
    import tyro

    if not words or words[0].startswith("-"):
        if words[:1] not in (["-h"], ["--help"]):
            raise ValueError(f"the config comes first. {USAGE}")
        text = (
            f"{USAGE}\n\n`vidssl slurm NAME --help` lists the options of the job, `vidssl pretrain NAME --help` all "
            "others."
        )
        return Console().print(text, markup=False, highlight=False, soft_wrap=True)
    job, rest = options.parse(
        SlurmOptions,
        words[1:],
        prog=f"vidssl slurm {words[0]}",
        config=(tyro.conf.DisallowNone,),
        return_unknown_args=True,
    )
    training = [words[0], *rest]
    chosen, _, fit_options = parsed(training)  # what is wrong with them should show now, not when the job starts
    if fit_options.restart:
        raise ValueError(
            "--restart would begin anew each time the job is queued again; move the run folder aside yourself"
        )
    out = fit_options.out or Path("runs") / chosen.path.stem
    if job.submit:
        submit(training, job, name=chosen.path.stem, folder=out.with_name(f"{out.name}.jobs"))
        return
    script = job.script or out.with_name(f"{out.name}.sbatch")
    with replacing(script) as temporary:
        temporary.write_text(
            sbatch(training, job, name=chosen.path.stem), encoding="utf-8", errors="surrogateescape"
        )
    logger.info("`sbatch %s` submits it", shlex.quote(str(script)))


def sbatch(training: Sequence[str], job: SlurmOptions, *, name: str) -> str:
    """Text of the sbatch file.

    Args:
        training: Words behind `vidssl pretrain`.
        job: What to ask SLURM for.
        name: Of the job.

    Raises:
        ValueError: A number or a name cannot be.
    """
    _check(job)
    wanted = {
        "job-name": re.sub(r"[^\w.-]", "_", name, flags=re.ASCII),
        "nodes": job.nodes,
        "ntasks-per-node": max(1, job.gpus),
        "gpus-per-node": job.gpus or None,
        "cpus-per-task": job.cpus_per_process,
        "mem": f"{job.memory_gb}G" if job.memory_gb else None,
        "time": max(1, round(60 * job.hours)),  # minutes
        "partition": job.partition,
        "account": job.account,
        # To the processes of the job step, which save and end with code 138.
        "signal": f"USR1@{job.notice_seconds}",
        "open-mode": "append",
    }
    lines = [f"#SBATCH --{option}={value}" for option, value in wanted.items() if value is not None]
    command = shlex.join([sys.executable, "-m", "vidssl.cli", "pretrain", *training])
    environment = "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "#SBATCH --requeue",
            "",
            'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))  # jobs that share a machine meet at ports of their own",
            "export MASTER_ADDR MASTER_PORT",
            f"srun --kill-on-bad-exit=1 bash -c '{environment}; exec \"$@\"' vidssl \\",
            f"    {command}",
            "code=$?",
            "# Stopped because its time is over: the same command goes on where it was.",
            f'if [ "$code" -eq {STOPPED} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
            'exit "$code"',
            "",
        ]
    )


def _check(job: SlurmOptions) -> None:
    for name in ("nodes", "gpus", "cpus_per_process", "hours", "memory_gb", "notice_seconds"):
        options.check(name, getattr(job, name))
    for name in ("partition", "account"):
        value = getattr(job, name)
        # They stand in lines that SLURM reads and that a line break would turn into commands.
        if value is not None and not re.fullmatch(r"[\w.,:@+-]+", value, flags=re.ASCII):
            raise ValueError(f"--{name} is {value!r}, expected letters, digits and . , : @ + - _")


def submit(training: Sequence[str], job: SlurmOptions, *, name: str, folder: Path) -> Any:
    """Submit the training by submitit, which queues it again when its time is over; return submitit's job.

    Args:
        training: Words behind `vidssl pretrain`.
        job: What to ask SLURM for.
        name: Of the job.
        folder: For the logs of the job.

    Raises:
        ImportError: submitit is not installed.
    """
    _check(job)
    try:
        import submitit
    except ImportError as error:
        raise ImportError(
            "--submit needs submitit: pip install 'vidssl[submitit]'; without --submit an sbatch file is written, "
            "which needs nothing"
        ) from error
    executor = submitit.AutoExecutor(folder=folder)
    executor.update_parameters(
        name=name,
        nodes=job.nodes,
        tasks_per_node=max(1, job.gpus),
        gpus_per_node=job.gpus,
        cpus_per_task=job.cpus_per_process,
        timeout_min=max(1, round(60 * job.hours)),
        slurm_mem=f"{job.memory_gb}GB" if job.memory_gb else None,
        slurm_partition=job.partition,
        slurm_account=job.account,
        slurm_signal_delay_s=job.notice_seconds,
    )
    submitted = executor.submit(Training([sys.executable, "-m", "vidssl.cli", "pretrain", *training]))
    logger.info("submitted as job %s; its logs are in %s", submitted.job_id, folder)
    return submitted


class Training:
    """What submitit runs in every process of a job: the command, stopped and submitted again when it asks."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command.

        Raises:
            ChildProcessError: It failed.
        """
        import submitit

        place = submitit.JobEnvironment()
        ranks = {"RANK": place.global_rank, "LOCAL_RANK": place.local_rank, "WORLD_SIZE": place.num_tasks}
        meeting = {"MASTER_ADDR": place.hostnames[0], "MASTER_PORT": 20_000 + _number(place.job_id) % 20_000}
        told = {name: str(value) for name, value in {**ranks, **meeting}.items()}
        self.process = subprocess.Popen(self.command, env={**os.environ, **told})
        code = self.process.wait()
        if code:
            raise ChildProcessError(f"{shlex.join(self.command)} ended with code {code}")

    def checkpoint(self) -> Any:
        """Stop the training, wait until it is saved, and ask for the same again: called when the time is over."""
        import submitit

        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)
            self.process.wait()
        return submitit.helpers.DelayedSubmission(Training(self.command))


def _number(job_id: str) -> int:
    return int(re.findall(r"\d+", job_id)[0])

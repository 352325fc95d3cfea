"""What docs/scale.md plans: its arithmetic, and a simulation of the sampler and of who reads which shard.

Nothing here is timed, so that the figures are the same everywhere and a test can hold the page to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...data.corpus.part import RECORD
from ...data.loader import Loader
from ...data.order import mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...data.datasets import VideoDataset

_BLOCK = 2**22  # samples looked at together


@dataclass(frozen=True)
class Plan:
    """A corpus and the machines that learn from it.

    Args:
        num_clips: Prepared clips.
        clip_seconds: Length of each.
        kilobytes_per_second: Of prepared video.
        name_bytes: Of a clip in the index.
        clips_per_shard: Samples of a shard.
        num_gpus: In all.
        gpus_per_node: Of a machine.
        batch_size: Clips per step and GPU.
        decode_milliseconds: Processor time of one training clip.
        encode_ratio: Processor seconds that preparing takes, per second of video.
        num_encode_cores: Cores that prepare.
        num_parameters: Of the encoder that learns.
        bytes_per_parameter: Weights, two moments of AdamW and the teacher's weights, 4 bytes each.
        gpu_gigabits: Network of a GPU to those of other machines, Gbit/s.
        node_write_gigabytes: Written by one machine to the store of checkpoints, per second.
        gpu_hours_per_failure: GPU hours between failures that end the run.
        restart_seconds: From a failure to the first step of what follows.
    """

    num_clips: int = 100_000_000
    clip_seconds: float = 10.0
    kilobytes_per_second: float = 100.0
    name_bytes: int = 34
    clips_per_shard: int = 1_000
    num_gpus: int = 256
    gpus_per_node: int = 8
    batch_size: int = 16
    decode_milliseconds: float = 25.0
    encode_ratio: float = 0.5
    num_encode_cores: int = 1_024
    num_parameters: float = 1e9
    bytes_per_parameter: int = 16
    gpu_gigabits: float = 400.0
    node_write_gigabytes: float = 1.0
    gpu_hours_per_failure: float = 50_700.0
    restart_seconds: float = 600.0

    @property
    def clip_bytes(self) -> float:
        """Bytes of a prepared clip."""
        return self.clip_seconds * self.kilobytes_per_second * 1e3

    @property
    def num_nodes(self) -> int:
        """Machines."""
        return self.num_gpus // self.gpus_per_node

    @property
    def global_batch(self) -> int:
        """Clips per step."""
        return self.num_gpus * self.batch_size

    def corpus(self) -> list[tuple[str, str]]:
        """What lies on disk, and what it takes to make it."""
        num_shards = math.ceil(self.num_clips / self.clips_per_shard)
        index_bytes = self.num_clips * (RECORD.itemsize + self.name_bytes)
        encode_hours = self.num_clips * self.clip_seconds * self.encode_ratio / 3600
        return [
            ("bytes of the corpus", f"{self.num_clips * self.clip_bytes / 1e12:.0f} TB"),
            ("shards", f"{num_shards:,} of {self.clips_per_shard * self.clip_bytes / 1e9:.1f} GB"),
            ("index", f"{index_bytes / 1e9:.1f} GB, one copy per machine, mapped by its processes"),
            ("order of an epoch as a list", f"{8 * self.num_clips / 1e9:.1f} GB per process"),
            ("order as a function", "8 keys of 8 bytes per process"),
            ("preparing", f"{encode_hours:,.0f} core hours; {encode_hours / self.num_encode_cores / 24:.1f} days on "
             f"{self.num_encode_cores:,} cores"),
        ]  # fmt: skip

    def reading(self, clips_per_second: float) -> list[str]:
        """A row: what a rate per GPU asks of store, network and processors."""
        per_node = clips_per_second * self.gpus_per_node
        total = clips_per_second * self.num_gpus
        cores = clips_per_second * self.decode_milliseconds / 1e3
        return [
            f"{clips_per_second:g}",
            f"{self.num_clips / total / 3600:.1f} h",
            f"{total:,.0f}",
            f"{total * self.clip_bytes / 1e9:.1f} GB/s",
            f"{per_node * self.clip_bytes * 8 / 1e9:.1f} Gbit/s",
            f"{cores:.1f}",
            f"{cores * self.gpus_per_node:.0f}",
        ]

    def gradients(self, clips_per_second: float) -> list[str]:
        """A row: averaging gradients in float32 around a ring, beside the time of a step."""
        num_bytes = 2 * (self.num_gpus - 1) / self.num_gpus * 4 * self.num_parameters
        seconds = 8 * num_bytes / (self.gpu_gigabits * 1e9)
        step = self.batch_size / clips_per_second
        return [
            f"{clips_per_second:g}",
            f"{num_bytes / 1e9:.1f} GB",
            f"{seconds:.2f} s",
            f"{step:.2f} s",
            f"{1 / step:.1f}",
        ]

    def checkpoints(self, gpu_hours_per_failure: float, *, is_sharded: bool) -> list[str]:
        """A row: how often to save, and what saving and failures cost (Young 1974, Daly 2006)."""
        num_bytes = self.num_parameters * self.bytes_per_parameter
        writers = self.num_nodes if is_sharded else 1
        save = num_bytes / writers / (self.node_write_gigabytes * 1e9)
        between = gpu_hours_per_failure / self.num_gpus * 3600
        interval = save_interval(save_seconds=save, failure_seconds=between)
        lost = save / interval + (interval / 2 + self.restart_seconds) / between
        return [
            f"{gpu_hours_per_failure:,.0f}",
            f"{between / 3600:.0f} h",
            "every rank its part" if is_sharded else "rank 0 all of it",
            f"{save:.1f} s",
            f"{interval / 60:.0f} min",
            f"{100 * lost:.2f} %",
        ]


def save_interval(*, save_seconds: float, failure_seconds: float) -> float:
    """Time of work between checkpoints that loses least: Daly 2006, equation 37; 0th order is Young's sqrt(2 d M).

    Args:
        save_seconds: Time that a checkpoint stops the training.
        failure_seconds: Mean time between failures.
    """
    if save_seconds >= 2 * failure_seconds:
        return failure_seconds
    share = save_seconds / (2 * failure_seconds)
    return math.sqrt(2 * save_seconds * failure_seconds) * (1 + math.sqrt(share) / 3 + share / 9) - save_seconds


class _Samples:
    """What a loader asks of a corpus to know who reads what."""

    def __init__(self, num_samples: int, *, samples_per_shard: int) -> None:
        self.num_samples = num_samples
        self._starts = np.append(np.arange(0, num_samples, samples_per_shard), num_samples)

    def __len__(self) -> int:
        return self.num_samples

    def shard_starts(self) -> NDArray[np.int64]:
        return self._starts


def _loader(samples: _Samples, plan: Plan, *, num_gpus: int, rank: int, seed: int, window: int | None) -> Loader:
    return Loader(
        cast("VideoDataset", samples),
        batch_size=plan.global_batch // num_gpus,
        seed=seed,
        rank=rank,
        world_size=num_gpus,
        shard_window=window,
    )


def simulate_order(
    plan: Plan, *, seed: int = 0, num_steps: int = 8, exhaustive: bool = True
) -> list[tuple[str, str]]:
    """Ask the loaders of all ranks what they read, and compare.

    Args:
        plan: Corpus and machines.
        seed: Of the run.
        num_steps: Consecutive steps that are compared, across the border of two epochs.
        exhaustive: Count every position of an epoch; else the first rows are left out.

    Returns:
        (what, what was found).
    """
    samples = _Samples(plan.num_clips, samples_per_shard=plan.clips_per_shard)
    rows = []
    for window in (None, 64) if exhaustive else ():
        order = _loader(samples, plan, num_gpus=1, rank=0, seed=seed, window=window).order(0)
        visits = np.zeros(plan.num_clips, dtype=np.uint8)
        for first in range(0, plan.num_clips, _BLOCK):
            visits[order[first : first + _BLOCK]] += (
                1  # what comes twice in a block counts once, and another misses
            )
        what = "" if window is None else f" with windows of {window} shards"
        rows.append(
            (f"samples visited exactly once in an epoch{what}", f"{(visits == 1).sum():,} of {plan.num_clips:,}")
        )
    sizes = (plan.num_gpus // 2, plan.num_gpus, 2 * plan.num_gpus)
    first = plan.num_clips // plan.global_batch - num_steps // 2
    half, read, double = (
        _read(samples, plan, num_gpus=size, seed=seed, steps=range(first, first + num_steps)) for size in sizes
    )
    late = range(first + num_steps // 4, first + num_steps // 2)
    resumed = _read(samples, plan, num_gpus=plan.num_gpus, seed=seed, steps=late)
    num_shared = sum(len(keys) - len({position for _, position in keys}) for keys in read)
    num_changed = _num_unequal(half, read) + _num_unequal(double, read)
    num_new = _num_unequal(resumed, read[num_steps // 4 : num_steps // 2])
    per_node = plan.global_batch // plan.num_nodes
    node_bytes = np.array([_node_bytes(plan, keys) for keys in read])
    most = (node_bytes.max(axis=1) / node_bytes.mean(axis=1)).mean()
    most_of_all = node_bytes.sum(axis=0).max() / node_bytes.sum(axis=0).mean()
    num_keys = num_steps * plan.global_batch
    return [
        *rows,
        (f"samples that two ranks read in one of {num_steps} steps", f"{num_shared} of {num_keys:,}"),
        (f"keys that differ with {sizes[0]} or with {sizes[2]} ranks", f"{num_changed} of {2 * num_keys:,}"),
        ("keys that differ when a run goes on in the middle of an epoch", f"{num_new} of {num_keys // 4:,}"),
        ("requests per step of each machine", f"{per_node}"),
        ("bytes per step of the machine that reads most, beside the mean", f"{most:.2f}"),
        (f"the same over {num_steps} steps", f"{most_of_all:.2f}"),
    ]


def _num_unequal(first: Sequence[Sequence[Any]], second: Sequence[Sequence[Any]]) -> int:
    pairs = zip(first, second, strict=True)
    return sum(a != b for one, other in pairs for a, b in zip(one, other, strict=True))


def _read(samples: _Samples, plan: Plan, *, num_gpus: int, seed: int, steps: range) -> list[list[tuple[int, int]]]:
    """Keys of the global batch of some steps, rank after rank."""
    loaders = [
        _loader(samples, plan, num_gpus=num_gpus, rank=rank, seed=seed, window=None) for rank in range(num_gpus)
    ]
    return [[key for one in loaders for key in one.keys(step)] for step in steps]


def _node_bytes(plan: Plan, keys: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Bytes that each machine reads; clips last from half to one and a half times the mean, whatever they show."""
    positions = np.array([position for _, position in keys], dtype=np.uint64)
    sizes = plan.clip_bytes * (0.5 + mixed(positions) / 2.0**64)
    return sizes.reshape(plan.num_nodes, -1).sum(axis=1)


def simulate_windows(plan: Plan, windows: Sequence[int], *, seed: int = 0, num_steps: int = 16) -> list[list[str]]:
    """A row for each window: how mixed the global batches are, and what they are read from."""
    samples = _Samples(plan.num_clips, samples_per_shard=plan.clips_per_shard)
    num_shards = len(samples.shard_starts()) - 1
    steps_per_epoch = plan.num_clips // plan.global_batch
    rows = []
    for window in (*windows, None):
        order = _loader(samples, plan, num_gpus=1, rank=0, seed=seed, window=window).order(0)
        different, alone, per_rank = [], [], []
        for step in np.linspace(0, steps_per_epoch - 1, num_steps).astype(int).tolist():
            batch = order[step * plan.global_batch : (step + 1) * plan.global_batch]
            shard_of = np.asarray(batch) // plan.clips_per_shard
            _, which, counts = np.unique(shard_of, return_inverse=True, return_counts=True)
            different.append(len(counts))
            alone.append(float((counts[which.reshape(-1)] == 1).mean()))
            per_rank += [len(np.unique(one)) for one in shard_of.reshape(plan.num_gpus, -1)]
        used = min(window or num_shards, num_shards)
        rows.append(
            [
                "all" if window is None else f"{window:,}",
                f"{used * plan.clips_per_shard * plan.clip_bytes / 1e12:.3g} TB",
                f"{np.mean(different):,.0f}",
                f"{100 * np.mean(alone):.0f} %",
                f"{np.mean(per_rank):.1f}",
            ]
        )
    return rows


def page(plan: Plan, *, exhaustive: bool) -> str:
    """The generated part of docs/scale.md."""
    rates, failures = (50, 100, 500), (plan.gpu_hours_per_failure, plan.gpu_hours_per_failure / 10)
    kinds = [(hours, is_sharded) for hours in failures for is_sharded in (True, False)]
    parts = [
        ["### The corpus", *_table(["what", "how much"], [list(row) for row in plan.corpus()])],
        [
            "### Reading",
            *_table(
                ["clips/s per GPU", "an epoch", "requests/s in all", "bytes in all", "per machine", "cores per GPU",
                 "cores per machine"],
                [plan.reading(rate) for rate in rates],
            ),
        ],
        [
            "### Gradients",
            *_table(
                ["clips/s per GPU", "sent by each GPU per step", "takes", "a step takes", "steps/s"],
                [plan.gradients(rate) for rate in rates],
            ),
        ],
        [
            "### The order, simulated",
            *_table(["what", "found"], [list(row) for row in simulate_order(plan, exhaustive=exhaustive)]),
        ],
        [
            "### Windows, simulated",
            *_table(
                ["window, shards", "read at a time", "shards in a global batch", "samples alone of their shard",
                 "shards in a rank's batch"],
                simulate_windows(plan, (4, 64, 1024, 16_384)),
            ),
        ],
        [
            "### Checkpoints",
            *_table(
                ["GPU hours per failure", "a failure every", "who writes", "a checkpoint takes", "save every", "lost"],
                [plan.checkpoints(hours, is_sharded=is_sharded) for hours, is_sharded in kinds],
            ),
        ],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield ""
    for row in (heading, ["---"] * len(heading), *rows):
        yield "| " + " | ".join(row) + " |"


BEGIN, END = "<!-- generated by tools/simulate_scale.py -->\n", "<!-- end of the generated part -->\n"


def write_page(path: Path, text: str) -> None:
    """Put the generated part into a page."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + BEGIN + "\n" + text + "\n" + END + after)

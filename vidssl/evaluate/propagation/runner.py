"""Sequence by sequence: what DAVIS, JHMDB, VIP, OTB and TAP-Vid have in common.

    OUT/sequences/NAME.json   what was done and measured; written last: a sequence that has it is complete
    OUT/overlays/NAME.png     pictures, with an mp4 of the same name beside them
    OUT/result.json           all figures, every knob, versions

and what the benchmark writes besides (masks, tracks). A sequence that OUT holds already is taken over if settings,
protocol, weights, data, kind of device and versions of vidssl and torch are the same; otherwise it is done again, and
the log says why. Stopping in between loses no finished sequence.
"""

import dataclasses
import datetime
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor

from ...json_files import read_json
from ...models.encoder import Encoder
from ...stop import stoppable
from ..overlap import write_behind
from ..provenance import device_name, fingerprint, frame_progress, versions, write_json
from ..results import Result
from .propagate import identity_masks, propagate_masks
from .protocols import Protocol
from .sequence_intervals import Sums, sequence_uncertainty, weighted_means

# Part of what decides whether a sequence is taken over; raise it when what is read or counted changes.
_VERSION = 2

logger = logging.getLogger(__name__)


class Video(Interface):
    """What a benchmark must know of its sequences."""

    @property
    def name(self) -> str:
        """Of the sequence, as in the list of the benchmark."""
        ...

    def __len__(self) -> int:
        """Count the frames."""
        ...

    def files(self) -> list[Path]:
        """List everything it consists of: frames and annotation."""
        ...


@dataclass(frozen=True)
class Carrier:
    """What labels are carried with.

    Args:
        encoder: Frozen network in eval mode; None is the identity baseline, which leaves labels where they were.
        protocol: How labels travel; None with the identity, which is the same under all.
        device: Where to compute.

    Raises:
        ValueError: An encoder without a protocol.
    """

    encoder: Encoder | None
    protocol: Protocol | None
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.encoder is not None and self.protocol is None:
            raise ValueError(
                "protocol is None; an encoder needs one: pass DINO, CRW, VFS, DINOV3 or SIAMMAE "
                "(evaluate/propagation/propagate.py)"
            )

    def masks(
        self, frames: Iterable[Tensor], first_mask: Tensor, *, later_masks: Mapping[int, Tensor] | None = None
    ) -> Iterator[Tensor]:
        """Carry masks: see `propagate_masks` and `identity_masks`."""
        if self.encoder is None or self.protocol is None:
            return identity_masks(frames, first_mask, later_masks=later_masks)
        return propagate_masks(
            self.encoder,
            frames,
            first_mask,
            protocol=self.protocol,
            later_masks=later_masks,
            device=self.device,
        )


@dataclass(frozen=True)
class Benchmark:
    """A data set and how it is measured.

    Args:
        task: Name of the task, as in result.json.
        sequences: What is measured.
        settings: Knobs of the task that change figures; JSON values.
        predict: (sequence, carrier, out, advance) -> record. Writes predictions under `out`, calls
            `advance(sequence.name)` once a frame, scores what was written; the record holds "name", "num_frames" and
            the scores, JSON values.
        outputs: (sequence, out) -> the files that must be there for the sequence to count as done.
        draw: (sequence, out): writes OUT/overlays/NAME.png and NAME.mp4.
        summarise: Records of all sequences -> figures, the same by part, and what else the result records.
        sums: Records of all sequences -> what intervals of the figures are made of; None takes the figures for plain
            means over sequences.
    """

    task: str
    sequences: Sequence[Video]
    settings: dict[str, Any]
    predict: Callable[[Any, Carrier, Path, Callable[[str], None]], dict[str, Any]]
    outputs: Callable[[Any, Path], list[Path]]
    draw: Callable[[Any, Path], None]
    summarise: Callable[
        [list[dict[str, Any]]], tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]
    ]
    sums: Callable[[list[dict[str, Any]]], Sums] | None = None


@stoppable
def evaluate_sequences(
    benchmark: Benchmark,
    carrier: Carrier,
    *,
    out: str | Path,
    model_name: str,
    root: str | Path,
    overlays: bool = True,
    progress: bool = False,
    command: str | None = None,
) -> Result:
    """Measure every sequence that `out` does not hold yet, and write down the result.

    Args:
        benchmark: What is measured.
        carrier: What with.
        out: Folder for the results (see the top of this file).
        model_name: What the result calls the model.
        root: Where the data lies, for the record.
        overlays: Write OUT/overlays as well.
        progress: Show a progress bar on stderr.
        command: Command line that started this, for the record.

    Raises:
        Stopped: A signal arrived; the sequences that were finished are kept.
    """
    out, sequences = Path(out), benchmark.sequences
    encoder, protocol = carrier.encoder, carrier.protocol if carrier.encoder is not None else None
    model: dict[str, Any] = {"name": model_name, "architecture": None, "sha256": None}
    if encoder is not None:
        model |= {"architecture": encoder.architecture, "sha256": fingerprint(encoder)}
    knobs = None if protocol is None else dataclasses.asdict(protocol)
    common = {
        "version": _VERSION,
        "task": benchmark.task,
        "settings": benchmark.settings,
        "protocol": knobs,
        "model": model["sha256"],
        "device": carrier.device.type,
        "versions": {name: versions()[name] for name in ("vidssl", "torch")},
    }
    keys = {one.name: json.loads(json.dumps(common | {"data": _data(one)})) for one in sequences}
    todo = [one for one in sequences if not _is_complete(one, keys[one.name], benchmark, out)]
    if len(todo) < len(sequences):
        logger.info("%d of %d sequences are taken over from %s", len(sequences) - len(todo), len(sequences), out)
    if todo:
        (out / "result.json").unlink(missing_ok=True)  # it would describe predictions that are being replaced

    names = {one.name for one in todo}
    # A sequence is drawn while the next one is measured.
    with (
        frame_progress(sum(len(one) for one in todo), shown=progress) as advance,
        write_behind(num_calls=1) as later,
    ):
        for one in sequences:
            if one.name in names:
                for path in (_record_path(one.name, out), _overlay_path(one.name, out)):
                    path.unlink(missing_ok=True)  # they describe what is about to be replaced
                start = time.perf_counter()
                record = benchmark.predict(one, carrier, out, advance)
                seconds = time.perf_counter() - start
                write_json(_record_path(one.name, out), record | {"seconds": seconds, "key": keys[one.name]})
            if overlays and not _overlay_path(one.name, out).exists():
                later(benchmark.draw, one, out)

    records = [read_json(_record_path(one.name, out)) for one in sequences]
    figures, parts, more = benchmark.summarise(records)
    num_frames = sum(record["num_frames"] for record in records)
    facts = {
        "model": model,
        "protocol": knobs,
        "settings": benchmark.settings,
        "root": str(root),
        "num_sequences": len(records),
        "num_frames": num_frames,
        "frames_per_second": num_frames / sum(record["seconds"] for record in records),
        "device": device_name(carrier.device),
        "versions": versions(),
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    if all(value is None or math.isnan(value) for value in figures.values()):
        logger.warning("%s: no figure has a value, as the data hold nothing that is scored", benchmark.task)
    sums = benchmark.sums(records) if benchmark.sums else weighted_means(records, benchmark.summarise)
    sure = {"uncertainty": sequence_uncertainty(sums, figures)}
    result = Result(benchmark.task, figures, parts, facts | sure | more)
    result.write(out)
    return result


def _is_complete(one: Video, key: dict[str, Any], benchmark: Benchmark, out: Path) -> bool:
    """Whether `out` holds this sequence, made the same way; says in the log what is different."""
    path = _record_path(one.name, out)
    if not path.is_file():
        return False
    try:
        old = read_json(path)["key"]
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is done again: %s is damaged (%r)", one.name, path, error)
        return False
    changes = _changes(old, key)
    missing = [file for file in benchmark.outputs(one, out) if not file.is_file()]
    if not changes and not missing:
        return True
    reasons = changes or [f"{missing[0]} is missing"]
    logger.warning("%s is done again: %s", one.name, ", ".join(reasons))
    return False


def _changes(old: Any, new: Any, *, name: str = "") -> list[str]:
    """Names of the values that differ, with both values where these are short."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            text for key in keys for text in _changes(old.get(key), new.get(key), name=f"{name} {key}".strip())
        ]
    if old == new:
        return []
    values = f" {old} -> {new}"
    return [f"{name}{values}" if len(values) < 60 else f"another {name}"]


def _data(one: Video) -> list[list[str | int]]:
    """Name and size in bytes of every file of a sequence."""
    return [[path.name, path.stat().st_size] for path in one.files()]


def _record_path(name: str, out: Path) -> Path:
    return out / "sequences" / f"{name}.json"


def _overlay_path(name: str, out: Path) -> Path:
    return out / "overlays" / f"{name}.mp4"

"""vidssl pretrain: a config, its options and a folder of videos in; a run folder out.

    OUT/run.json          what was asked for: config, options, command, versions, git commit; written at the start
    OUT/config.py         the config as it was
    OUT/bad_files.txt     files that the scan could not read, one a line with the reason
    OUT/bad_samples.jsonl samples that were replaced in training: step, file, reason, how often so far
    OUT/metrics.jsonl, tensorboard/, pictures/, checkpoints/, encoder.safetensors, encoder.json: see vidssl.train.loop

The same command again continues the run; --restart moves it to OUT.old-1 and begins anew. One process (torchrun: one
training) at a time owns OUT. Several processes: torchrun --nproc-per-node 4 tools/train.py NAME ...
"""

import contextlib
import dataclasses
import datetime
import inspect
import json
import logging
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console

from .. import catalog, config
from .. import options as door
from ..data.corpus.corpus import Corpus
from ..files import LOCK, locked, move_aside, replacing
from ..json_files import RunRecord, read_json
from ._begun import _begun, _recipe_sha256, _refuse_another_run, _tell_changes
from ._initial import initialized, refuse_moved_sources

if TYPE_CHECKING:
    from ..models import Encoder

USAGE = "usage: vidssl pretrain NAME|FILE --root DIR [OPTIONS]"
# Options of `FitOptions` that decide what is learned, beside those of the config: a run keeps them to its end. All
# others (how often is saved and logged, what is measured meanwhile, where and by how many processes is decoded) may
# change when it is continued.
LASTING = (
    "init_from",
    "weights",
    "seed",
    "precision",
    "accumulate",
    "shard_window",
    "sync_batch_norm",
    "frame_rate_hz",
    "clip_seconds",
)
MAX_LISTED = 20

logger = logging.getLogger(__name__)


def default_workers() -> int:
    """Decoding processes: all cores that this process may use but one, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, cores - 1), 8)


@dataclass(frozen=True)
class FitOptions:
    """Options of every run; those of the config come first."""

    out: Path | None = None
    """Run folder. None is runs/<name of the config>. If it holds the same run, that is continued."""
    restart: bool = False
    """Begin anew: what the run folder holds is moved to OUT.old-1, or the next number that is free."""
    init_from: str | None = None
    """Encoder to start from, and its teacher where there is one: a run folder, an exported file, torchvision:NAME,
    timm:NAME, hub:FOLDER:ENTRY or hf:FOLDER. None starts from random weights."""
    weights: Path | None = None
    """Weights file for torchvision:, timm: and hub: of `--init-from`."""
    seed: int = 0
    """Decides the first weights, the order of the data and every draw."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1 or mps; auto is a CUDA GPU where there is one, else cpu."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products."""
    accumulate: int = 1
    """Parts in which a batch is computed, one after the other: less memory, the same number of samples per step."""
    halve_on_oom: bool = False
    """When the device runs out of memory, go on in twice as many parts; for a single process."""
    checkpoint_activations: bool = False
    """Compute transformer blocks again in the backward pass instead of keeping them: less memory, more time."""
    sharded: bool = False
    """Cut weights, gradients and optimizer state over the processes of torchrun (FSDP2), instead of keeping all in
    each: less memory, more talk. Checkpoints go on with or without it."""
    sync_batch_norm: bool = False
    """Let batch norm normalise by the statistics of all processes' batches together."""
    compile: bool = False
    """Compile the forward pass: minutes at the start, faster steps."""
    reproducible: bool = False
    """Allow only kernels that give the same bits twice."""
    export: str | None = None
    """Which network encoder.safetensors holds and --online measures, where a method has two: student or teacher. None
    is the one that the paper evaluates."""
    num_workers: int = field(default_factory=default_workers)
    """Decoding processes, of each training process; 0 decodes between the steps. They change speed only."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    save_every: int = 500
    """Steps between checkpoints."""
    picture_every: int = 500
    """Steps between pictures of what the method does."""
    bad_file_budget: float = 0.01
    """Share of the files, in [0, 1], that may be unreadable before the run stops."""
    shard_window: int | None = None
    """Of a corpus in shards: how many of them are shuffled together, for stores that read far apart slowly. None is
    all of them."""
    frame_rate_hz: float | None = None
    """Frames per second at which a recipe's strides and offsets count, whatever the rate of a video: so recordings of
    25 and of 240 give the same clips. None counts the frames of each video."""
    clip_seconds: float | None = None
    """Instead of it: seconds from the first frame of a clip to its last."""
    online: Path | None = None
    """Folder in the layout of DAVIS, a few sequences of which are measured while the encoder learns: J&F and
    overlays in TensorBoard. None measures nothing."""
    online_every: int = 1000
    """Steps between such measurements."""
    online_sequences: str | None = None
    """Names of the sequences, with commas between them. None is the first three."""
    online_frames: int | None = None
    """Frames of each sequence that are looked at, from the first; None is all."""
    online_protocol: Literal["dino", "crw", "vfs", "dinov3", "siammae"] | None = None
    """How labels travel. None is dino for vision transformers and crw for everything else."""


def pretrain(words: list[str]) -> None:
    """Train as the command line says: the config first, then its options and those of `FitOptions`."""
    if not words or words[0].startswith("-"):
        names = "\n".join(f"  {entry.name:<36} {entry.summary}" for entry in catalog.entries())
        if words[:1] not in (["-h"], ["--help"]):
            raise ValueError(f"the config comes first. {USAGE}, where NAME is one of\n{names}")
        text = f"{USAGE}\n\n`vidssl pretrain NAME --help` lists the options of a config. Configs:\n{names}"
        return Console().print(text, markup=False, highlight=False, soft_wrap=True)
    chosen, values, options = parsed(words)
    train(chosen, values, options, command=shlex.join(["vidssl", "pretrain", *words]))


def parsed(words: list[str]) -> tuple[config.Config, dict[str, Any], FitOptions]:
    """Read a command line: the config, options of its `run`, and those of every run."""
    chosen = config.load(words[0])
    import tyro

    def main(
        values: Annotated[Any, tyro.conf.arg(name="", constructor=config.constructor(chosen.run))],
        options: Annotated[FitOptions, tyro.conf.arg(name="")],
    ) -> tuple[dict[str, Any], FitOptions]:
        return values, options

    values, options = door.parse(
        main,
        words[1:],
        defaults={
            name: parameter.default
            for name, parameter in inspect.signature(chosen.run).parameters.items()
            if parameter.default is not parameter.empty
        },
        prog=f"vidssl pretrain {words[0]}",
        description=chosen.summary,
        config=(tyro.conf.DisallowNone,),
    )
    return chosen, values, options


def train(
    chosen: config.Config, values: Mapping[str, Any], options: FitOptions, *, command: str | None = None
) -> Path:
    """Run a config, or continue its run; return the run folder.

    Args:
        chosen: The config.
        values: Options of its `run`; missing ones have its defaults.
        options: Options of every run.
        command: Command line that started this, for the record.

    Raises:
        ValueError: The run folder holds another run, or another process uses it; too many files are unreadable; an
            option cannot be.
        Stopped: A signal ended the training; its state is saved.
    """
    import torch

    from ..data.arrays import ArrayDataset
    from ..data.clips import sampled_at
    from ..data.mixed import corpora
    from ..evaluate.provenance import device_name
    from ..train.loop import fit
    from ._device import compute_device

    out = options.out or Path("runs") / chosen.path.stem
    is_first = os.environ.get("RANK", "0") == "0"
    if options.restart and is_first and out.exists():
        _refuse_other_folders(out)
        refuse_moved_sources(options.init_from, options.weights, out=out)
        logger.info("%s is moved to %s", out, move_aside(out))
    # Of several processes the first one guards and writes the folder; the others meet it in `fit`.
    with locked(out) if is_first else contextlib.nullcontext():
        asked = _record(chosen, values, options, command=command)
        # Others look for themselves, before any of them trains; what --restart moves may still be there for them.
        begun = _begun(out) if is_first or not options.restart else None
        if begun is not None and is_first:
            # Options that vidssl did not have when the run began had the defaults of today.
            then = {item.name: item.default for item in dataclasses.fields(FitOptions) if item.name in LASTING}
            begun["options"] = {**then, **begun["options"]}
            _refuse_another_run(out, begun, asked, chosen)
        device = compute_device(options.device)
        torch.manual_seed(options.seed)
        with sampled_at(frame_rate_hz=options.frame_rate_hz, clip_seconds=options.clip_seconds):
            run = chosen.run(**values)
        if (options.frame_rate_hz or options.clip_seconds) and not (
            corpora(run.dataset) or isinstance(run.dataset, ArrayDataset)
        ):
            raise ValueError(
                f"--frame-rate-hz and --clip-seconds say how videos are sampled, and the {type(run.dataset).__name__} "
                f"of {chosen.name} samples none; leave them out"
            )
        asked["initialized_from"] = initialized(
            run.method, options.init_from, weights=options.weights, begun=begun, chosen=chosen
        )
        asked |= {"num_videos": len(run.dataset), "device": device_name(device)}
        if is_first:
            _report_bad_files(corpora(run.dataset), out=out, budget=options.bad_file_budget)
            if begun is None:
                _write_start(out, asked, chosen)
            else:
                _tell_changes(begun, asked)
        fit(
            run,
            out=out,
            seed=options.seed,
            device=device,
            precision=options.precision,
            accumulate=options.accumulate,
            halve_on_oom=options.halve_on_oom,
            checkpoint_activations=options.checkpoint_activations,
            sharded=options.sharded,
            sync_batch_norm=options.sync_batch_norm,
            compile=options.compile,
            reproducible=options.reproducible,
            num_workers=options.num_workers,
            log_every=options.log_every,
            save_every=options.save_every,
            picture_every=options.picture_every,
            bad_file_budget=options.bad_file_budget,
            shard_window=options.shard_window,
            evaluate=_online(options, run.method.encoder),
            evaluate_every=options.online_every,
            export=options.export,
            recipe_sha256=_recipe_sha256(out) if is_first else None,
            lock=False,
        )
    if is_first:
        logger.info("done: %s holds the run, `vidssl report %s` draws it", out, out)
    return out


def _online(options: FitOptions, encoder: "Encoder") -> "Callable[[Encoder], Any] | None":
    """What measures the encoder while it learns, if that is asked for."""
    if options.online is None:
        return None
    from ..evaluate.propagation.online import online_davis
    from ._model import protocol_named
    from .evaluate._measure import listed

    return online_davis(
        options.online,
        protocol=protocol_named(options.online_protocol)("vit" if encoder.multiple > 1 else ""),
        sequences=listed(options.online_sequences),
        max_frames=options.online_frames,
    )


def _record(
    chosen: config.Config, values: Mapping[str, Any], options: FitOptions, *, command: str | None
) -> dict[str, Any]:
    """Describe a run; "options" are those that decide what it learns."""
    from ..evaluate.provenance import versions
    from ..ops.gather import num_launched

    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(chosen.run).parameters.items()
        if parameter.default is not parameter.empty
    }
    asked = {**defaults, **values}
    lasting = {name: getattr(options, name) for name in LASTING}
    changeable = {
        item.name: getattr(options, item.name)
        for item in dataclasses.fields(options)
        if item.name not in (*LASTING, "out", "restart")
    }
    record = {
        "config": chosen.name,
        "options": {**asked, **lasting},
        "changeable": changeable,
        "overrides": {
            name: value for name, value in asked.items() if name not in defaults or value != defaults[name]
        },
        "command": command,
        "num_processes": num_launched(),
        "git": _git_commit(),
        "versions": {**versions(), **{name: version(name) for name in ("torchvision", "av", "timm", "kornia")}},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    return json.loads(json.dumps(record, default=str))


def _refuse_other_folders(out: Path) -> None:
    """Raise ValueError if a folder is no run of ours, nor what is there before a run begins; nothing is touched."""
    from ..train import checkpoint

    if not out.is_dir():
        raise ValueError(f"--restart begins a run folder anew, but --out {out} is no folder; choose another --out")
    if checkpoint.latest(out / "checkpoints") is not None:
        return
    names = {path.name for path in out.iterdir()}
    with contextlib.suppress(OSError, ValueError):
        if (out / "config.py").is_file() and read_json(out / "run.json", RunRecord):
            return
    if foreign := sorted(names - {LOCK, "bad_files.txt"}):
        raise ValueError(
            f"--restart moves run folders aside, but {out} is none: it has neither a run.json of ours nor checkpoints, "
            f"but {', '.join(foreign[:5])}{', ...' * (len(foreign) > 5)}; nothing was touched, choose another --out"
        )


def _report_bad_files(corpora: Sequence[Corpus], *, out: Path, budget: float) -> None:
    """Write down which files the scan could not read; raise ValueError if there are too many."""
    bad = [one for corpus in corpora for one in corpus.bad]
    if not bad:
        return
    num_files = len(bad) + sum(map(len, corpora))
    lines = [f"{path}: {reason}" for path, reason in bad]
    with replacing(out / "bad_files.txt") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    if len(bad) <= max(1, int(budget * num_files)):  # one file always may, as in the loader
        logger.warning("%d of %d files cannot be read: see %s", len(bad), num_files, out / "bad_files.txt")
        return
    shown = lines[:MAX_LISTED] + ["..."] * (len(lines) > MAX_LISTED)
    share = len(bad) / num_files
    roots = " and ".join(dict.fromkeys(str(corpus.root) for corpus in corpora))
    raise ValueError(
        f"{len(bad)} of {num_files} files of {roots} cannot be read ({share:.1%}), more than "
        f"--bad-file-budget {budget:g} allows:\n"
        + "".join(f"  {line}\n" for line in shown)
        + f"all are listed in "
        f"{out / 'bad_files.txt'}. Repair or remove them, or go on without them by --bad-file-budget "
        f"{math.ceil(share * 100) / 100:g}"
    )


def _write_start(out: Path, record: dict[str, Any], chosen: config.Config) -> None:
    """Write config.py and, last, run.json."""
    with replacing(out / "config.py") as temporary:
        temporary.write_bytes(chosen.path.read_bytes())
    with replacing(out / "run.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _git_commit() -> str | None:
    """Commit of the checkout that vidssl runs from, "-dirty" if files were changed; None for a wheel."""
    root = catalog.PACKAGE.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")

"""vidssl replay: a step whose numbers were not finite, computed again."""

from pathlib import Path

import tyro
from rich.console import Console

from ..json_files import RunRecord, read_json


def replay(run: tyro.conf.Positional[Path], *, step: int, rank: int = 0, device: str = "auto") -> None:
    """Compute a step again that the training skipped, and tell where numbers stopped being finite.

    The first such steps of a run are kept in RUN/nonfinite: weights, samples and random states as they were. One
    process computes one process's samples: what these were compared with on others is not there.

    Args:
        run: Run folder.
        step: As the warning named it, and the folder in RUN/nonfinite.
        rank: Whose samples, of a training of several processes.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps.
    """
    from .. import config
    from ..data.clips import sampled_at
    from ..initialize import set_colors
    from ..train import guard
    from ._device import compute_device
    from .pretrain import LASTING

    folder = run / "nonfinite" / f"step_{step:08d}"
    if not (folder / f"rank{rank}.pt").is_file():
        found = sorted(str(path.relative_to(run / "nonfinite")) for path in run.glob("nonfinite/*/rank*.pt"))
        raise ValueError(f"{folder} holds no rank{rank}.pt; there are {', '.join(found) or 'no such records'}")
    if not (run / "run.json").is_file():
        raise ValueError(
            f"{run} has no run.json, so the method cannot be built; build it and call vidssl.train.guard.replay"
        )
    begun = read_json(run / "run.json", RunRecord)
    options = {name: value for name, value in begun["options"].items() if name not in LASTING}
    build = config.load(begun["config"]).run
    with sampled_at(**{name: begun["options"].get(name) for name in ("frame_rate_hz", "clip_seconds")}):
        method = build(**config.from_record(build, options)).method
    if started := begun.get("initialized_from"):
        set_colors(method, mean=started["mean"], std=started["std"])
    result = guard.replay(method, folder, rank=rank, device=compute_device(device))
    lines = [f"step {step}, samples of process {rank}, gradient norm {result.grad_norm:g}"]
    lines += [f"  {name}: {value:g} (was {result.recorded[name]:g})" for name, value in result.losses.items()]
    if result.modules:
        lines.append(
            f"first output that is not finite: {result.modules[0]}; then {len(result.modules) - 1} modules"
        )
    if result.parameters:
        shown = ", ".join(result.parameters[:5]) + ", ..." * (len(result.parameters) > 5)
        lines.append(f"gradients that are not finite: {len(result.parameters)} ({shown})")
    if not result.modules and not result.parameters:
        lines.append("all is finite here: the numbers came from another process, or from this device's rounding")
    Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

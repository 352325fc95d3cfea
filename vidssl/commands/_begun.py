"""The record of a run, run.json, and what of it may differ when the run goes on."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from .. import config
from ..json_files import RunRecord, read_json

logger = logging.getLogger(__name__)


class _Later(TypedDict, total=False):
    changeable: dict[str, Any]


class BegunRecord(RunRecord, _Later):
    """run.json of a run that is continued."""

    command: str | None
    num_videos: int
    num_processes: int
    device: str
    versions: dict[str, str]


def _begun(out: Path) -> dict[str, Any] | None:
    """Read run.json of a run that can be continued; one that never came to a checkpoint is replaced."""
    from ..train import checkpoint

    path = out / "run.json"
    if checkpoint.latest(out / "checkpoints") is None:
        return None
    try:
        return read_json(path, BegunRecord)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{out} holds checkpoints, but its run.json, which tells what of, cannot be read ({error}); put it back, "
            "or begin anew by --restart, which keeps what is there under another name"
        ) from error


def _recipe_sha256(out: Path) -> str:
    """Hash of what decides what a run learns: its options and its config, as they were when it began."""
    record = read_json(out / "run.json", RunRecord)
    options = json.dumps(record["options"], sort_keys=True).encode()
    return hashlib.sha256(options + b"\n" + (out / "config.py").read_bytes()).hexdigest()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"  {name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} now"
        for name in [*before, *(name for name in now if name not in before)]
        if before.get(name) != now.get(name)
    ]


def _refuse_another_run(out: Path, begun: dict[str, Any], asked: dict[str, Any], chosen: config.Config) -> None:
    """Raise ValueError if the run in `out` began with another config or other options that decide what is learned."""
    differences = _differences(begun["options"], asked["options"])
    source = (out / "config.py").read_text(encoding="utf-8")
    if not config.same_program(source, chosen.path.read_text(encoding="utf-8")):
        differences.append(f"  config: {chosen.path} is not the program that {out / 'config.py'} was")
    if differences:
        raise ValueError(
            f"{out} holds another run:\n" + "\n".join(differences) + "\nchoose another --out for the new run; or "
            "begin anew by --restart, which keeps the old one under another name; or continue the old one with its "
            f"own options (it began as: {begun['command']})"
        )


def _tell_changes(begun: dict[str, Any], asked: dict[str, Any]) -> None:
    """Say what else is not as it was when the run began: first what changes what it learns."""
    for name, what in (("num_videos", "videos"), ("num_processes", "processes")):
        if begun[name] != asked[name]:
            logger.warning(
                "the run began with %d %s and goes on with %d: its samples, and rates scaled by those of a step, are "
                "no longer those of a run in one go",
                begun[name],
                what,
                asked[name],
            )
    others = _differences(
        {"device": begun["device"], **begun["versions"]}, {"device": asked["device"], **asked["versions"]}
    )
    if others:
        logger.warning("another device or other versions may round differently:\n%s", "\n".join(others))
    # Runs that began before these were written down do not tell them.
    if "changeable" in begun and (changed := _differences(begun["changeable"], asked["changeable"])):
        logger.info("changed since the run began, without effect on what it learns:\n%s", "\n".join(changed))

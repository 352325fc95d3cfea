"""State of a training run on disk: written whole or not at all, loaded without running code from the file."""

from pathlib import Path
from typing import Any

import torch

from .files import replacing

FORMAT_VERSION = 1


def save(folder: Path, state: dict[str, Any], *, step: int, num_kept: int = 2) -> Path:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then remove all but the newest few."""
    path = folder / f"step_{step:08d}.pt"
    with replacing(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, "step": step, **state}, temporary)
    for old in _all(folder)[:-num_kept]:
        old.unlink()
    return path


def latest(folder: Path) -> Path | None:
    """Newest checkpoint of a folder, None if it holds none."""
    found = _all(folder)
    return found[-1] if found else None


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory.

    Raises:
        ValueError: The file is damaged or of another format.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({error}); delete it to continue from the one before"
        ) from error
    if state.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has checkpoint format {state.get('format_version')}, this version of vidssl reads "
            f"{FORMAT_VERSION}"
        )
    return state


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.pt"))

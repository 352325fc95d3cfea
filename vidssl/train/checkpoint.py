"""State of a training run on disk: written whole or not at all, known to be whole, loaded without running its code.

    FOLDER/step_00001234/state.pt        tensors and plain values
    FOLDER/step_00001234/shards/         parts of a state that is cut over processes (vidssl.train.distcp); else absent
    FOLDER/step_00001234/manifest.json   size and sha256 of every file, of itself too; step, format, versions, recipe

A checkpoint is written under a temporary name in the same folder, flushed, read again and compared, and renamed; only
then are older ones removed. One whose bytes are not those of its manifest is damaged, whatever its name. Format 3 has
shards, format 2 has none. Format 1, a single file step_00001234.pt without a manifest, is read as well.
"""

import errno
import hashlib
import json
import logging
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import torch

from .. import __version__
from ..files import file_sha256, flush, remove_leftovers, temporary_beside
from ..json_files import parse_json

FORMAT_VERSION = 3
STATE, SHARDS, MANIFEST = "state.pt", "shards", "manifest.json"
# What zipfile raises for bytes that make no sense, by where they stand.
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
# What a file may take beyond the tensors it holds: names, shapes and alignment of each.
_BYTES_PER_TENSOR = 1024
_FIXED_BYTES = 1 << 16

_FILE_NAME = re.compile(rf"{re.escape(STATE)}|{SHARDS}/(?!\.\.?$)[\w.-]+")

logger = logging.getLogger(__name__)


class _File(TypedDict):
    bytes: int
    sha256: str


class _Manifest(TypedDict):
    sha256: str
    format_version: int
    step: int
    recipe_sha256: str | None
    versions: dict[str, str]
    files: dict[str, _File]


class Damaged(ValueError):
    """A checkpoint is not, or no longer, what was written."""


def save(
    folder: Path,
    state: dict[str, Any],
    *,
    step: int,
    num_kept: int = 2,
    recipe_sha256: str | None = None,
    shards: Path | None = None,
    shard_files: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write `state` (tensors and plain values) as the checkpoint of `step`, then remove all but the newest few.

    Args:
        folder: Of the checkpoints.
        state: What `load` gives back, with "step" added.
        step: Of the training.
        num_kept: Checkpoints that stay, this one among them.
        recipe_sha256: Hash of what the run was asked to do, for the manifest.
        shards: Folder of files, on disk already, that becomes a part of the checkpoint.
        shard_files: Name -> `measure` of each of them, by those who wrote them.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: There is no room for it, or the disk fails; the message says how many bytes are needed. What was
            there before is still there.
    """
    path = folder / f"step_{step:08d}"
    num_bytes = _size(state)
    temporary = temporary_beside(path)
    try:
        temporary.mkdir(parents=True)
        check_room(folder, num_bytes)
        files = {STATE: _write_state(temporary / STATE, {"step": step, **state})}
        if shards is not None:
            shards.replace(temporary / SHARDS)
            flush(temporary / SHARDS)
            files |= {f"{SHARDS}/{name}": told for name, told in (shard_files or {}).items()}
        manifest = {
            "format_version": 2 if shards is None else 3,
            "step": step,
            "recipe_sha256": recipe_sha256,
            "versions": {"vidssl": __version__, "torch": torch.__version__},
            "files": files,
        }
        (temporary / MANIFEST).write_bytes(_manifest_bytes(manifest))
        for written in (temporary / STATE, temporary / MANIFEST, temporary):
            flush(written)
        _check_manifest(temporary, step=step, with_shards=False)  # those were read to be measured
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            error.errno, f"{error.strerror or error}; a checkpoint needs {num_bytes:,} bytes", str(path)
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():  # a run that went on from an older one comes by a damaged one, or one of a copied folder
        _set_aside(path)
    temporary.replace(path)
    flush(folder)
    flush(folder.parent)  # the folder itself may be new
    for old in _all(folder)[:-num_kept]:
        if _step(old) < step:
            _remove(old)
    return path


def latest(folder: Path) -> Path | None:
    """Newest checkpoint of a folder by its name, whole or not; None if there is none."""
    found = _all(folder)
    return found[-1] if found else None


def recover(folder: Path) -> Path | None:
    """Newest checkpoint that is whole, None if there never was one; sets damaged newer ones aside, and says so.

    Removes what killed processes left half-written. For the process that owns the folder.

    Raises:
        ValueError: None of the checkpoints is whole, or one is of a newer format.
    """
    remove_leftovers(folder)
    found = _all(folder)
    damaged = []
    for path in reversed(found):
        try:
            check(path)
        except Damaged as error:
            logger.error("%s", error)
            damaged.append(path)
            continue
        for one in damaged:
            logger.error("%s is set aside as %s; the run goes on from %s", one, _set_aside(one), path)
        return path
    if found:
        raise ValueError(
            f"none of the {len(found)} checkpoints in {folder} is whole; put back a copy of one, or begin anew "
            "(--restart keeps what is there under another name)"
        )
    return None


def check(path: Path) -> dict[str, Any]:
    """Read a checkpoint through and compare it with its manifest; return the manifest.

    Raises:
        Damaged: It is not what was written.
        ValueError: It is of a newer format.
    """
    if path.is_dir():
        return _check_manifest(path, step=_step(path), with_shards=True)
    try:
        # Format 1 has no manifest, but the zip archive that torch writes has a checksum of every tensor.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (FileNotFoundError, PermissionError):
        raise
    except (*_ZIP_ERRORS, OSError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if broken is not None:
        raise Damaged(f"{path} is damaged: its part {broken} has another checksum")
    return {"format_version": 1, "step": _step(path), "recipe_sha256": None}


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, of any format so far, to CPU memory.

    Shards are neither read nor compared with the manifest, as `check` and `recover` do: every process of a training
    calls this.

    Returns:
        What `save` was given but its shards, "step", "recipe_sha256" and "shards", the folder of these or None.

    Raises:
        ValueError: It is damaged, of a newer format, or holds more than tensors and plain values.
    """
    manifest = _check_manifest(path, step=_step(path), with_shards=False) if path.is_dir() else check(path)
    is_first_format = manifest["format_version"] == 1
    file = path if is_first_format else path / STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it holds Python objects beside tensors and plain values, and reading these could "
            "run code of whoever wrote it"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise Damaged(f"{path} cannot be read as a checkpoint ({error})") from error
    if not isinstance(state, dict) or "step" not in state or (is_first_format and state["format_version"] != 1):
        raise ValueError(f"{path} is no checkpoint of vidssl")
    if state["step"] != manifest["step"]:
        raise Damaged(f"{path} is damaged: it holds the state of step {state['step']}")
    shards = path / SHARDS if manifest["format_version"] == 3 else None
    return {**state, "recipe_sha256": manifest["recipe_sha256"], "shards": shards}


def _check_manifest(path: Path, *, step: int, with_shards: bool) -> dict[str, Any]:
    try:
        data = (path / MANIFEST).read_bytes()
        manifest = parse_json(data, _Manifest, where=MANIFEST)
        told = manifest.pop("sha256")
        is_whole = data == _manifest_bytes(manifest) and told == _digest(manifest)
    except FileNotFoundError as error:
        raise Damaged(f"{path} is damaged: it has no {MANIFEST}") from error
    except ValueError as error:
        raise Damaged(f"{path} is damaged: its {MANIFEST} cannot be read ({error})") from error
    if not is_whole:
        raise Damaged(f"{path} is damaged: its {MANIFEST} was changed")
    if manifest["format_version"] not in (2, 3):
        raise ValueError(
            f"{path} has checkpoint format {manifest['format_version']}, this version of vidssl reads up to "
            f"{FORMAT_VERSION}; go on with the version that wrote it, "
            f"{manifest['versions'].get('vidssl', 'unknown')}, or a newer one"
        )
    if manifest["step"] != step:
        raise Damaged(f"{path} is damaged: it is the checkpoint of step {manifest['step']}")
    for name, told in manifest["files"].items():
        if name.startswith(f"{SHARDS}/") and not with_shards:
            continue
        if not _FILE_NAME.fullmatch(name):
            raise Damaged(f"{path} is damaged: its {MANIFEST} names {name!r}, which is no file of a checkpoint")
        try:
            found = measure(path / name)
        except FileNotFoundError as error:
            raise Damaged(f"{path} is damaged: {name} is missing") from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise Damaged(f"{path} is damaged: {name} cannot be read ({error})") from error
        if found["bytes"] != told["bytes"]:
            raise Damaged(f"{path} is damaged: {name} has {found['bytes']} bytes, expected {told['bytes']}")
        if found["sha256"] != told["sha256"]:
            raise Damaged(f"{path} is damaged: the sha256 of {name} is not that of its {MANIFEST}")
    return manifest


def _manifest_bytes(manifest: dict[str, Any]) -> bytes:
    return (json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1) + "\n").encode()


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def measure(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file, for a manifest."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


class _Hashing:
    """A file that hashes what goes in: what the disk gives back later is compared with that."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(data)
        self.num_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _write_state(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    with path.open("wb") as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, hashing)  # type: ignore[arg-type]
        except RuntimeError as error:
            if hashing.error is None:
                raise
            # torch's writer tells of the bytes that the file lacks, not of the disk that is full.
            raise hashing.error from error
    return {"bytes": hashing.num_bytes, "sha256": hashing.digest.hexdigest()}


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise OSError if the disk of a folder has less than so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(errno.ENOSPC, f"no room: {free:,} bytes are free")


def _size(value: Any) -> int:
    """About how many bytes a state takes on disk, at most; tensors that share memory are counted once by torch."""
    return _FIXED_BYTES + _size_of_tensors(value, set())


def _size_of_tensors(value: Any, seen: set[int]) -> int:
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return _BYTES_PER_TENSOR
        seen.add(storage.data_ptr())
        return storage.nbytes() + _BYTES_PER_TENSOR
    if isinstance(value, dict):
        return sum(_size_of_tensors(item, seen) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_size_of_tensors(item, seen) for item in value)
    return 0


def _all(folder: Path) -> list[Path]:
    """Checkpoints, whole or not, from old to new; of one step, the folder is newer than the file of format 1."""
    found = [path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}(\.pt)?", path.name)]
    return sorted(found, key=lambda path: (_step(path), path.suffix == ""))


def _step(path: Path) -> int:
    # A temporary name has the name of the checkpoint inside.
    return int(re.findall(r"step_(\d+)", path.name)[0])


def _set_aside(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"damaged-{number}_{path.name}")).exists():
        number += 1
    path.rename(target)
    return target


def _remove(path: Path) -> None:
    """Remove a checkpoint; killed in between, it is no checkpoint any more."""
    if not path.is_dir():
        path.unlink()
        return
    doomed = temporary_beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed)

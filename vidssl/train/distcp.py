"""State that is cut over processes, on disk: every process writes and reads its own part (torch's DCP).

    FOLDER/__0_0.distcp, FOLDER/__1_0.distcp, ...   tensors of each process
    FOLDER/.metadata                                which part of which tensor stands where

The format is that of torch.distributed.checkpoint. Its own reader unpickles .metadata, and whatever is no tensor, and
so would run code of whoever wrote the file. The reader here makes only the classes that such a file consists of, takes
only tensors, and opens only files of the folder.
"""

import pickle
import warnings
from pathlib import Path, PosixPath
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, empty
from torch.optim import Optimizer

METADATA = ".metadata"
# What .metadata consists of, beside torch's dtypes.
_CLASSES = {
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "Metadata",
            "TensorStorageMetadata",
            "BytesStorageMetadata",
            "TensorProperties",
            "ChunkStorageMetadata",
            "MetadataIndex",
            "StorageMeta",
            "_MEM_FORMAT_ENCODING",
        )
    ),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),  # name -> torch.layout
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),  # its name in Python 3.13
}
# What pickle raises for bytes that make no sense, by where they stand.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


def take_parts(state: Any, name: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Take the tensors that are cut over processes out of nested dicts.

    Args:
        state: Of a method and an optimizer; it is not changed.
        name: Of the state.

    Returns:
        The state with None in their place, and they by the path of their keys.
    """
    if isinstance(state, DTensor):
        return None, {name: state}
    if not isinstance(state, dict):
        return state, {}
    rest: dict[Any, Any] = {}
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        rest[key], found = take_parts(value, f"{name}/{key}")
        parts |= found
    return rest, parts


def write(folder: Path, parts: dict[str, Tensor]) -> None:
    """Write the parts that this process has, flushed to disk; every process must call it.

    Args:
        folder: New, of all processes in common.
        parts: From `take_parts`.

    Raises:
        OSError: One of the processes could not; raised in all of them.
    """
    try:
        dcp.save(parts, storage_writer=dcp.FileSystemWriter(folder))
    except CheckpointException as error:
        for rank, (failure, _) in error.failures.items():
            if not isinstance(failure, Exception):  # a stop, which torch has wrapped
                raise failure from error
            number = failure.errno if isinstance(failure, OSError) else None
            raise OSError(number, f"process {rank} could not write its part ({failure})", str(folder)) from error


def files_of(folder: Path, rank: int) -> list[Path]:
    """Files that a process has written: its parts, and .metadata if it is the first one."""
    return [*sorted(folder.glob(f"__{rank}_*")), *([folder / METADATA] if rank == 0 else [])]


def read(folder: Path, mesh: DeviceMesh | None = None) -> dict[str, Tensor]:
    """Read what `write` wrote, with any number of processes.

    Args:
        folder: Of the parts.
        mesh: Processes to cut the tensors over, of which this one reads its parts alone; None reads all to CPU memory.

    Raises:
        ValueError: It is damaged, or holds more than tensors of the folder.
    """
    reader = _Reader(folder)
    parts: dict[str, Tensor] = {}
    for name, told in reader.metadata.state_dict_metadata.items():
        assert isinstance(told, TensorStorageMetadata)
        dtype = told.properties.dtype
        parts[name] = (
            torch.empty(told.size, dtype=dtype)
            if mesh is None
            else empty(*told.size, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # each process reads for itself
            dcp.load(parts, storage_reader=reader, no_dist=True)
    except CheckpointException as error:
        for failure, _ in error.failures.values():
            if not isinstance(failure, Exception):
                raise failure from error
        raise ValueError(f"{folder} cannot be read as parts of a checkpoint ({error})") from error
    return parts


def joined(state: dict[str, Any], method: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Put parts on disk back into a state, cut as the parameters of a method are now, or whole where they are not.

    Args:
        state: From `checkpoint.load`: with "method", "optimizer" and "shards", the folder of its parts or None.
        method: What goes on from it.
        optimizer: Of the method.

    Raises:
        ValueError: The parts are damaged, or hold more than tensors.
    """
    parameters = dict(method.named_parameters())
    mesh = next((p.device_mesh for p in parameters.values() if isinstance(p, DTensor)), None)
    if state["shards"] is not None:
        state = _put_parts(state, read(state["shards"], mesh))
    numbered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        number: {key: _cut(value, numbered[number]) for key, value in values.items()}
        for number, values in state["optimizer"]["state"].items()
        if number < len(numbered)  # others are for the optimizer to refuse
    }
    return {
        **state,
        "method": {name: _cut(value, parameters.get(name)) for name, value in state["method"].items()},
        "optimizer": {**state["optimizer"], "state": moments},
    }


def _put_parts(state: Any, parts: dict[str, Tensor], name: str = "") -> Any:
    if isinstance(state, dict):
        return {key: _put_parts(value, parts, f"{name}/{key}") for key, value in state.items()}
    return parts.get(name, state)


def _cut(value: Any, parameter: Tensor | None) -> Any:
    if (
        not isinstance(parameter, DTensor)
        or not isinstance(value, Tensor)
        or isinstance(value, DTensor)
        or value.shape != parameter.shape
    ):
        return value
    mesh = parameter.device_mesh
    # Every process has read the whole, and takes its part without asking the others.
    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)


class _Reader(dcp.FileSystemReader):
    """Reads tensors of one folder, and makes nothing else of what it finds there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            with (folder / METADATA).open("rb") as file:
                self.metadata = _checked(_Unpickler(file).load())
        except _PICKLE_ERRORS as error:
            raise ValueError(f"{folder} is refused: its {METADATA} is not as torch writes it ({error})") from error

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what was read, and checked, at the start."""
        return self.metadata


def _checked(metadata: Any) -> Metadata:
    """Raise ValueError unless this describes tensors, in files of one folder."""
    if not isinstance(metadata, Metadata):
        raise ValueError(f"it is of {type(metadata).__name__}")
    for name, told in metadata.state_dict_metadata.items():
        if not isinstance(told, TensorStorageMetadata):  # torch would unpickle it
            raise ValueError(f"{name} is no tensor")
        if not isinstance(told.properties.dtype, torch.dtype) or not isinstance(told.size, torch.Size):
            raise ValueError(f"{name} has no type or size")
    for info in metadata.storage_data.values():
        if Path(info.relative_path).name != info.relative_path:
            raise ValueError(f"{info.relative_path} is no file of the folder")
    return metadata


class _Unpickler(pickle.Unpickler):
    """Makes only what .metadata consists of."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a class that a pickle names.

        Raises:
            pickle.UnpicklingError: It is none of those.
        """
        if (module, name) in _CLASSES or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            # A part written by Python 3.13 is read by the others, which have no pathlib._local.
            return PosixPath if name == "PosixPath" else super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")

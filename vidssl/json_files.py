"""The one reader of json that others may have written: whatever it holds, the error is one line that names the file."""

import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, Union

Object = dict[str, Any]
# No file of ours is half as deep, and code that walks a value is safe from its depth.
MAX_DEPTH = 64


class RunOptions(TypedDict, total=False):
    """Of run.json: options of the config and of every run."""

    seed: int


class InitialRecord(TypedDict):
    """Of run.json: what a run was initialised from (vidssl.initialize.Start)."""

    spec: str
    weights: str | None
    sha256: str
    mean: list[float]
    std: list[float]


class _Initialized(TypedDict, total=False):
    initialized_from: InitialRecord | None


class RunRecord(_Initialized):
    """run.json, which `vidssl pretrain` writes."""

    config: str
    options: RunOptions


class ModelRecord(TypedDict):
    """Of result.json: what was measured."""

    name: str
    sha256: str | None
    architecture: Object | None


class ProtocolRecord(TypedDict):
    """Of result.json: how labels travelled; its other knobs stand beside."""

    name: str


class ResultRecord(TypedDict, total=False):
    """result.json, which `vidssl evaluate` writes."""

    task: str
    figures: dict[str, float | None]
    parts: dict[str, dict[str, float | None]]
    classes: dict[str, float | None]
    model: ModelRecord
    protocol: ProtocolRecord | None
    settings: Object | None
    num_sequences: int | None
    num_frames: int | None
    root: str | None
    device: str | None
    command: str | None
    date: str | None


_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a whole number"}
_NAMES |= {float: "a number", types.NoneType: "null"}


def read_json(path: Path, kind: Any = Object) -> Any:
    """Read a file of json and hold it to a type.

    Args:
        path: The file.
        kind: What is expected: `dict`, `list`, `str`, `int`, `float`, `bool`, None, `Any`, unions and parameters of
            these (`dict[str, list[float]]`), and TypedDict, whose required keys must be there; others may be.

    Raises:
        ValueError: It is no json, deeper than `MAX_DEPTH`, or of another type; the message names file and place.
        OSError: It cannot be read.
    """
    return parse_json(path.read_bytes(), kind, where=str(path))


def read_json_lines(path: Path, kind: Any = Object) -> list[Any]:
    """Read a file with a value on every line; as `read_json`, and the message names the line."""
    lines = path.read_bytes().split(b"\n")
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    return [parse_json(line, kind, where=f"{path}:{number}") for number, line in numbered]


def parse_json(text: str | bytes, kind: Any = Object, *, where: str) -> Any:
    """Read json from a text; as `read_json`, and `where` is what the message names."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"{where} is nested more than {MAX_DEPTH} deep; no file of vidssl is") from None
    except ValueError as error:  # no json, no unicode, or a number of thousands of digits
        raise ValueError(f"{where} is no JSON: {error}") from error
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    if level:
        raise ValueError(f"{where} is nested more than {MAX_DEPTH} deep; no file of vidssl is")
    if problem := mismatch(value, kind):
        raise ValueError(f"{where} is not what vidssl writes: {problem}")
    return value


def mismatch(value: Any, kind: Any, *, name: str = "it") -> str | None:
    """Say how a value is not of a type, in words; None if it is. See `read_json` for types."""
    if kind is Any:
        return None
    if typing.is_typeddict(kind):
        return _object_mismatch(value, kind, name=name)
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (Union, types.UnionType):
        found = [mismatch(value, one, name=name) for one in inner]
        if None in found:
            return None
        # The one that looked inside knows better than those that saw another type.
        deeper = [text for text in found if text and not text.startswith(f"{name} is ")]
        return deeper[0] if deeper else f"{name} is {_shown(value)}, expected {' or '.join(map(_named, inner))}"
    if origin is typing.Literal:
        return (
            None if value in inner else f"{name} is {_shown(value)}, expected one of {', '.join(map(str, inner))}"
        )
    accepted: Any = (int, float) if origin is float else types.NoneType if origin is None else origin
    if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
        return f"{name} is {_shown(value)}, expected {_named(origin)}"
    items: Mapping[Any, Any] = {}
    if inner and origin is list:
        items = {f"{name}[{number}]": item for number, item in enumerate(value)}
    if inner and origin is dict:
        items = {_inside(name, key): item for key, item in value.items()}
    problems = (mismatch(item, inner[-1], name=place) for place, item in items.items())
    return next((problem for problem in problems if problem), None)


def _object_mismatch(value: Any, kind: Any, *, name: str) -> str | None:
    if not isinstance(value, dict):
        return f"{name} is {_shown(value)}, expected an object"
    if absent := sorted(kind.__required_keys__ - value.keys()):
        return f"{', '.join(_inside(name, key) for key in absent)} is missing"
    known = typing.get_type_hints(kind)
    problems = (mismatch(value[key], known[key], name=_inside(name, key)) for key in known if key in value)
    return next((problem for problem in problems if problem), None)


def _inside(name: str, key: str) -> str:
    place = key if key.isprintable() and len(key) < 60 else f"{key!r:.60}"
    return place if name == "it" else f"{name}.{place}"


def _named(kind: Any) -> str:
    return _NAMES.get(typing.get_origin(kind) or kind, "null" if kind is None else "an object")


def _shown(value: Any) -> str:
    return _NAMES[type(value)] if isinstance(value, dict | list) else f"{json.dumps(value):.40}"

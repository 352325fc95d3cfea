"""A config is a Python file with a function `run`; here it is found, loaded and described to the command line."""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from . import catalog


@dataclasses.dataclass(frozen=True)
class Config:
    """A config that was loaded.

    Args:
        name: As given: a name of the catalog or the path of a file.
        path: Its file.
        summary: First paragraph of its docstring.
        run: Builds the networks and opens the data: keyword options -> vidssl.train.loop.Run.
    """

    name: str
    path: Path
    summary: str
    run: Callable[..., Any]


def load(name: str) -> Config:
    """Load a config by its name in the catalog ("video/colorization_resnet18") or from a file ("my.py").

    The folder of the file is put first on `sys.path`, as if Python ran it, so that it imports what lies beside it.

    Raises:
        ValueError: There is no such config, it has no usable `run`, or its file is named like an imported module.
    """
    path = Path(name).resolve() if name.endswith(".py") else catalog.find(name).path
    if not path.is_file():
        raise ValueError(f"there is no config file {name}; the configs of vidssl are given by name, without .py")
    module = load_module(path)
    if "run" not in vars(module):
        raise ValueError(
            f"{path} defines no function `run`; it is what `vidssl pretrain` calls (see CONTRIBUTING.md)"
        )
    run = module.run
    kinds = {parameter.kind for parameter in inspect.signature(run).parameters.values()}
    if kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
        raise ValueError(
            f"`run` of {path} takes any option (**), so its options cannot be listed nor checked; to vary another "
            "config write `run = functools.partial(base.run, lr=1e-4)`"
        )
    summary = (inspect.getdoc(module) or "").partition("\n\n")[0]
    return Config(name=name, path=path, summary=summary, run=run)


def load_module(path: Path) -> ModuleType:
    """Import a file under its own name, so that worker processes started afresh find it again.

    Raises:
        ValueError: Another module of that name is imported.
    """
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) != str(path):
        raise ValueError(
            f"{path} has the name of the module {path.stem} ({getattr(loaded, '__file__', 'built in')}), which is "
            "imported already; give the file another name"
        )
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def constructor(function: Callable[..., Any], *, without: Iterable[str] = ()) -> Callable[..., dict[str, Any]]:
    """Describe a function to tyro by one of the same signature and text that returns the options it was given.

    A config is thus called later, after seeding. Parameters named in `without` are no options.
    """

    def options(**values: Any) -> dict[str, Any]:
        return values

    signature = inspect.signature(function, eval_str=True)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name not in without
    ]
    options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    # A partial has the docstring of functools.partial; that of the function it holds is meant.
    options.__doc__ = inspect.getdoc(function.func if isinstance(function, functools.partial) else function)
    return options


def from_record(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run as its `run` takes them, from those of run.json, which holds paths as text, tuples as lists."""
    hints = {name: one.annotation for name, one in inspect.signature(function, eval_str=True).parameters.items()}
    return {name: _typed(value, hints.get(name)) for name, value in values.items()}


def _typed(value: Any, hint: Any) -> Any:
    kinds = typing.get_args(hint)
    if isinstance(value, list):
        inner = [kind for kind in kinds if kind is not Ellipsis]
        each = inner if len(inner) == len(value) else inner[:1] * len(value)
        holds = typing.get_origin(hint) or list
        if holds not in (list, tuple):  # a union
            return _typed(value, next((kind for kind in kinds if typing.get_origin(kind) in (list, tuple)), list))
        return holds(_typed(item, kind) for item, kind in itertools.zip_longest(value, each))
    if isinstance(value, str) and (hint is Path or (Path in kinds and str not in kinds)):
        return Path(value)
    return value


def same_program(one: str, other: str) -> bool:
    """Whether two sources do the same: comments, layout and docstrings do not count."""
    return _program(one) == _program(other)


def _program(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)

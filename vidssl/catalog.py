"""What is there to run: configs, corpus scripts and measured results, of a checkout or of an installed wheel.

Configs are read as text (`ast`), never run, so that listing them needs no torch.
"""

import ast
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_files import read_json

PACKAGE = Path(__file__).parent
BENCHMARK = "benchmark.json"  # in results: speeds (vidssl.evidence.benchmark); every other file there is a proof


@dataclass(frozen=True)
class Entry:
    """A config, as `vidssl methods` lists it.

    Args:
        name: What `vidssl pretrain` takes, for example "video/colorization_resnet18".
        path: Its file.
        method: Class of the method, from METHOD in the file.
        paper: From PAPER.
        needs: What it learns from, from NEEDS: "video", "video with sound", ...
        summary: First line of the file's docstring.
        figures: One line per measured result (results/*.json), empty if nothing was measured.
        proof: Its small experiment (vidssl.evidence.proof), configs/proofs/NAME.py; None if it has none.
    """

    name: str
    path: Path
    method: str
    paper: str
    needs: str
    summary: str
    figures: tuple[str, ...]
    proof: Path | None


def shared_folder(top: str, *, package: Path = PACKAGE) -> Path:
    """Find `top` ("configs", "datasets" or "results"): inside an installed package, or beside it in a checkout.

    Raises:
        ValueError: It is in neither place.
    """
    # The wheel's copy comes first: what lies beside an installed package is not ours (`datasets` is a known one).
    places = [package / "_share" / top, package.parent / top]
    for place in places:
        if place.is_dir():
            return place
    raise ValueError(
        f"the folder {top} of vidssl is neither {places[0]} nor {places[1]}; install vidssl again, from its wheel "
        "or with `pip install -e` from a clone"
    )


def entries(*, package: Path = PACKAGE) -> list[Entry]:
    """List the configs in order of their names; a file without `run` is a helper of others and left out."""
    configs = shared_folder("configs", package=package)
    root = configs / "pretrain"
    measured = _figures(package=package)
    found = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        texts, names = _assigned(tree)
        if "run" not in names:
            continue
        name = path.relative_to(root).with_suffix("").as_posix()
        proof = configs / "proofs" / path.relative_to(root)
        found.append(
            Entry(
                name=name,
                path=path,
                method=texts.get("METHOD", ""),
                paper=texts.get("PAPER", ""),
                needs=texts.get("NEEDS", ""),
                summary=(ast.get_docstring(tree) or "").partition("\n")[0],
                figures=tuple(measured.get(name, ())),
                proof=proof if proof.is_file() else None,
            )
        )
    return found


def find(name: str, *, package: Path = PACKAGE) -> Entry:
    """Find a config by name.

    Raises:
        ValueError: There is none; the message names those that are near.
    """
    known = {entry.name: entry for entry in entries(package=package)}
    if name in known:
        return known[name]
    near = near_misses(name, list(known))
    hint = f"perhaps you meant {' or '.join(near)}" if near else f"there are {', '.join(known)}"
    raise ValueError(
        f"there is no config {name!r}; {hint}. `vidssl methods` lists them; a config of your own is given as the "
        "path of its .py file"
    )


def proof_results(folder: Path) -> list[dict[str, Any]]:
    """Read what the proofs measured: results/NAME.json of each, in order of their names."""
    paths = sorted(path for path in folder.glob("*.json") if path.name != BENCHMARK)
    return [read_json(path) for path in paths]


def near_misses(word: str, known: list[str]) -> list[str]:
    """Names that `word` may have been meant to be: mistyped, or a part, such as a name without its folder."""
    parts = [name for name in known if word and (word in name or name.rpartition("/")[2] in word)]
    return list(dict.fromkeys([*difflib.get_close_matches(word, known, n=3), *parts]))[:3]


def _assigned(tree: ast.Module) -> tuple[dict[str, str], set[str]]:
    """Constants of text at the top level of a file, and all names that it defines there."""
    texts, names = {}, set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    names.add(target.id)
                    if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                        texts[target.id] = node.value.value
    return texts, names


def _figures(*, package: Path) -> dict[str, list[str]]:
    """Measured figures by the name of their config; the folder is absent where nothing was measured."""
    figures: dict[str, list[str]] = {}
    for result in proof_results(shared_folder("configs", package=package).parent / "results"):
        figures.setdefault(result["config"], []).append(result["figure"])
    return figures

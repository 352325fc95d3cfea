"""The walls of the house: which room may import which, and how far files and folders may grow."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vidssl"

# What each room may import from vidssl (a room always may import itself). A file belongs to the room with the longest
# name that fits; anything not listed is forbidden.
BASE = {"batch", "files", "json_files", "stop"}
DATA = {*BASE, "data", "data.media", "data.lists", "data.corpus"}
EVALUATE = {"evaluate", "evaluate.metrics", "evaluate.propagation", "evaluate.recognition"}
ALLOWED = {
    "__init__": set(),
    "batch": set(),
    "files": set(),
    "json_files": set(),
    "options": set(),
    "stop": set(),
    "catalog": {"json_files"},
    "ops": {"batch"},
    "data.media": BASE,
    "data.lists": {*BASE, "data.media"},
    "data.corpus": {*BASE, "data.media", "data.lists"},
    "data.published": {*BASE, "data.media", "data.lists"},
    "data": {*BASE, "data.media", "data.lists", "data.corpus"},
    "models": {*DATA, "ops"},
    "augment": {*DATA, "ops"},
    "method": {*DATA, "ops", "models", "augment"},
    "methods": {*DATA, "ops", "models", "augment", "method"},
    "optim": {"ops"},
    "train": {*DATA, "ops", "models", "augment", "method", "optim"},
    "testing": {*DATA, "ops", "method", "train"},
    "evaluate": {*DATA, "data.published", "ops", "models"},
    "evaluate.metrics": {"ops"},
    "evaluate.propagation": {*DATA, "data.published", "ops", "models", "evaluate", "evaluate.metrics"},
    "evaluate.recognition": {*DATA, "data.published", "ops", "models", "evaluate", "evaluate.metrics"},
    "initialize": {"models", "method", "evaluate"},
    "report": {*DATA, "data.published", "models", *EVALUATE},
    "finetune": {*DATA, "models", "method", "optim", "train", *EVALUATE},
}
# The outermost layer may import everything.
FREE = {"cli", "commands", "config", "evidence"}

MAX_LINES, REASON = 400, "Longer than 400 lines: "
MAX_FILES, MAX_FILES_OF_PACKAGE = 16, 14
MAX_RECIPE_LINES = 80


def module_of(path: Path) -> str:
    """Name of a file's module below vidssl, such as "data.media.video"; a package is named by its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of ALLOWED or FREE that a module belongs to; its first part if there is none."""
    parts = module.split(".")
    names = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((name for name in names if name in ALLOWED or name in FREE), parts[0])


@functools.cache
def modules() -> dict[str, Path]:
    """All modules of the package by their names."""
    return {module_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if "_share" not in path.parts}


@functools.cache
def imports(path: Path) -> set[str]:
    """Modules of vidssl that a file imports, at any depth of its code and for types alone as well."""
    known = modules()
    package = list(path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            elif base[0] != "vidssl":
                continue
            else:
                base = base[1:]
            for alias in node.names:
                full = ".".join([*base, alias.name])
                found.add(full if full in known or not base else ".".join(base))
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("vidssl.") for name in node.names if name.name.startswith("vidssl.")}
    return found - {"__version__"}


def foreign(path: Path) -> set[str]:
    """Installed packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found - set(sys.stdlib_module_names)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or through others."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), list(graph[start])
        while todo:
            if (one := todo.pop()) not in seen:
                seen.add(one)
                todo += graph.get(one, ())
        reached[start] = seen
    groups = {tuple(sorted({one, *(other for other in reached[one] if one in reached.get(other, ()))})) for one in graph
              if one in reached[one]}  # fmt: skip
    return sorted(map(list, groups))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(module_of(path))
    if room in FREE:
        return
    assert room in ALLOWED, f"vidssl/{room} is new: say in this test what it may import"
    wrong = sorted(module for module in imports(path) if room_of(module) not in ALLOWED[room] | {room})
    assert not wrong


def test_no_two_files_import_each_other():
    known = modules()
    graph = {module: imports(path) & set(known) for module, path in known.items()}
    assert circles(graph) == []


def test_circles_are_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"f"}, "f": {"e"}, "g": {"a"}}
    assert circles(graph) == [["a", "b", "c"], ["e", "f"]]


def test_the_import_test_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    for name in ("train/loop", "models/vit", "ops/kmeans", "report/page", "data/media/video", "data/corpus/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    file = tmp_path / "data" / "corpus" / "x.py"
    file.write_text(
        "from ...train.loop import fit\nfrom ... import models\nimport vidssl.ops.kmeans\n"
        "from vidssl.report import page\nfrom ..media.video import open_video\nfrom .entry import Entry\n"
        "def f():\n    from ...methods.video import x\n    from vidssl import __version__\n"
    )
    assert imports(file) == {
        "train.loop", "models", "ops.kmeans", "report.page", "data.media.video", "data.corpus.entry", "methods.video",
    }  # fmt: skip
    assert [room_of(name) for name in ("data.media.video", "data.clips", "evaluate.metrics.jf",
    "commands.evaluate.vip")] == [
        "data.media", "data", "evaluate.metrics", "commands",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_long_files_say_why(path):
    text = path.read_text()
    if len(text.splitlines()) > MAX_LINES:
        reason = (ast.get_docstring(ast.parse(text)) or "").partition(REASON)[2]
        assert len(reason.split()) >= 5, f"split it, or say in its docstring: {REASON}why"


@pytest.mark.parametrize(
    "folder",
    [PACKAGE, *sorted(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name[:2] not in ("__", "_s"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_folders_are_small(folder):
    if folder.parent == PACKAGE / "methods":
        return  # one file a method
    files = [path.name for path in folder.iterdir() if path.is_file()]
    assert len(files) <= (MAX_FILES_OF_PACKAGE if folder == PACKAGE else MAX_FILES)


def test_recipes_are_short_and_hold_no_proof():
    recipes = sorted((ROOT / "configs" / "pretrain").rglob("*.py"))
    assert len(recipes) >= 19
    for path in recipes:
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_RECIPE_LINES and "PROOF" not in text, path


def test_every_proof_has_a_recipe_of_its_name():
    configs = ROOT / "configs"
    proofs = {path.relative_to(configs / "proofs") for path in (configs / "proofs").rglob("*.py")}
    recipes = {path.relative_to(configs / "pretrain") for path in (configs / "pretrain").rglob("*.py")}
    assert proofs and proofs <= recipes


def test_ops_need_only_torch_and_einops():
    for path in (PACKAGE / "ops").rglob("*.py"):
        assert foreign(path) - {"vidssl"} <= {"torch", "einops"}, path


def test_the_data_layer_builds_no_networks():
    for path in (PACKAGE / "data").rglob("*.py"):
        assert "torch.nn" not in path.read_text().replace("torch.nn.functional", ""), path


def test_the_loop_is_short():
    assert len((PACKAGE / "train" / "loop.py").read_text().splitlines()) <= 250


def test_tools_are_thin():
    for path in sorted((ROOT / "tools").glob("*.py")):
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.parametrize("folder", ["datasets", "configs", "tools", "tests"])
def test_top_level_folders_shadow_no_package(folder):
    assert not list((ROOT / folder).rglob("__init__.py"))


def test_nothing_unsafe_is_loaded_or_run():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for pattern in ("weights_only=False", "pickle.load", "shell=True", "os.system"):
            assert pattern not in text, f"{path} has {pattern}"


def test_import_is_light():
    code = "import sys, vidssl; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())
    assert not loaded & {"torch", "av", "decord", "torchcodec", "kornia", "timm", "torchvision", "matplotlib"}


def test_everything_public_imports_without_a_decoder_or_a_socket():
    code = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda name, values: opened.append(name) if name.startswith(('socket.', 'urllib.')) else 0)\n"
        "import vidssl, vidssl.methods, vidssl.data, vidssl.augment\n"
        "[getattr(module, name) for module in (vidssl, vidssl.data) for name in module.__all__]\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
        "import vidssl.cli, vidssl.models, vidssl.train.loop, vidssl.commands.pretrain\n"
        "import vidssl.commands.evaluate.davis, vidssl.evaluate.propagation.davis\n"
        "[getattr(vidssl.models, name) for name in vidssl.models.__all__]\n"
        "print(opened)\nimport socket\nsocket.socket()\nprint(opened)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).splitlines()
    loaded = set(printed[0].split())
    assert "torch" in loaded and not loaded & {"av", "decord", "torchcodec", "matplotlib", "tensorboard"}
    assert printed[1:] == ["[]", "['socket.__new__']"]


def test_an_installed_package_named_datasets_is_found(tmp_path):
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("ORIGIN = 'installed'\n")
    code = "import sys; sys.path.append(sys.argv[1]); import datasets; print(datasets.ORIGIN)"
    # The repository root comes first on the path, as it does for `python -c` and pytest run from there.
    printed = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True, cwd=ROOT)
    assert printed.strip() == "installed"

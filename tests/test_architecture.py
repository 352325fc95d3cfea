"""The walls of the house: which part may import which, and how long some files may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vidssl"

# What each part may import from vidssl (a part always may import itself). Anything not listed is forbidden.
BASE = {"batch", "files", "json_files", "stop"}
ALLOWED = {
    "__init__": set(),
    "batch": set(),
    "files": set(),
    "json_files": set(),
    "stop": set(),
    "catalog": {"json_files"},
    "ops": {"batch"},
    "data": BASE,
    "models": {*BASE, "data", "ops"},
    "augment": {*BASE, "data", "ops"},
    "method": {*BASE, "data", "ops", "models", "augment"},
    "methods": {*BASE, "data", "ops", "models", "augment", "method"},
    "optim": set(),
    "processes": set(),
    "checkpoint": {"files", "json_files"},
    "distcp": set(),
    "logbook": {"files", "json_files"},
    "guard": {*BASE, "ops", "method"},
    "keeper": {"files", "ops", "models", "method", "processes", "checkpoint", "distcp"},
    "epochs": {*BASE, "data", "ops", "method", "processes"},
    "train": {
        *BASE,
        *(
            "data",
            "ops",
            "models",
            "augment",
            "method",
            "optim",
            "epochs",
            "keeper",
            "logbook",
            "processes",
            "guard",
        ),
    },
    "worlds": set(),
    "testing": {*BASE, "data", "ops", "method", "guard", "processes", "train"},
    "evaluate": {*BASE, "data", "ops", "models"},
    "report": {*BASE, "evaluate", "data", "models"},
}
# The outermost layer may import everything.
FREE = {"benchmark", "cli", "commands", "config", "demo", "finetune", "options", "proof", "torture"}


def imports(path: Path) -> set[str]:
    """Parts of vidssl that a file imports, at any depth of its code."""
    module = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module[: len(module) - node.level]
            target = [*base, *(node.module or "").split(".")]
            found |= {part for part in target[:1] if part} or {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vidssl":
            found |= set(node.module.split(".")[1:2]) or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("vidssl.")}
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in FREE:
        return
    assert part in ALLOWED, f"vidssl/{part} is new: say in this test what it may import"
    assert imports(path) - {part} <= ALLOWED[part]


def test_the_import_test_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    file = tmp_path / "data" / "x.py"
    file.parent.mkdir()
    file.write_text(
        "from ..train import fit\nfrom .. import models\nimport vidssl.ops.kmeans\nfrom vidssl.report import page\n"
        "from .video import open_video\ndef f():\n    from ..methods.video import x\n"
    )
    assert imports(file) == {"train", "models", "ops", "report", "data", "methods"}


def test_ops_need_only_torch_and_einops():
    for path in (PACKAGE / "ops").rglob("*.py"):
        assert foreign(path) <= {"torch", "einops"}, path


def test_the_data_layer_builds_no_networks():
    for path in (PACKAGE / "data").rglob("*.py"):
        assert "torch.nn" not in path.read_text().replace("torch.nn.functional", ""), path


def test_the_loop_is_short():
    assert len((PACKAGE / "train.py").read_text().splitlines()) <= 250


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


def test_everything_public_imports_without_a_decoder():
    code = (
        "import sys, vidssl, vidssl.methods, vidssl.data, vidssl.augment\n"
        "[getattr(module, name) for module in (vidssl, vidssl.data) for name in module.__all__]\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split())
    assert "torch" in loaded and not loaded & {"av", "decord", "torchcodec", "matplotlib", "tensorboard"}


def test_an_installed_package_named_datasets_is_found(tmp_path):
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("ORIGIN = 'installed'\n")
    code = "import sys; sys.path.append(sys.argv[1]); import datasets; print(datasets.ORIGIN)"
    # The repository root comes first on the path, as it does for `python -c` and pytest run from there.
    printed = subprocess.check_output([sys.executable, "-c", code, str(tmp_path)], text=True, cwd=ROOT)
    assert printed.strip() == "installed"

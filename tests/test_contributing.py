"""What CONTRIBUTING shows a newcomer works as it stands."""

import ast
import json
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from vidssl import catalog, cli, config, methods
from vidssl.evidence import worlds
from vidssl.testing import check_method

pytestmark = pytest.mark.usefixtures("looked_at_here")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def own_method(tmp_path, monkeypatch) -> Path:
    """The files that CONTRIBUTING shows, in a folder of their own; gives the config."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["which_first.py", "which_first_resnet18.py"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "which_first_resnet18.py"
    for name in ("which_first", "which_first_resnet18"):
        sys.modules.pop(name, None)


def test_a_method_outside_the_package_pretrains(own_method, small_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = f"pretrain {own_method.name} --root {small_corpus} --out out --steps 3 --batch-size 4 --size-px 32"
    code = cli.main([*words.split(), "--width", "8", "--log-every", "1", "--device", "cpu", "--num-workers", "0"])
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    # Two classes, hardly trained: near log 2; and the monitors are logged for it as for ours.
    assert 0.4 < lines[0]["loss"] < 1.4 and lines[0]["effective_rank"] > 1
    assert (tmp_path / "out" / "encoder.safetensors").is_file()


def test_it_holds_to_the_contract(own_method):
    config.load(str(own_method))
    which_first = sys.modules["which_first"]
    from vidssl.data.clips import frame_tuple
    from vidssl.models import ConvNet

    def build():
        encoder = ConvNet(widths=(8, 16), strides=(2, 2))
        return which_first.WhichFirst(encoder, clips=partial(frame_tuple, offsets_frames=(0, 5)))

    videos = worlds.sprites(
        8, seed=0, num_frames=12, size_px=16, sprite_px=(6, 8), world="fall", speed_px=(0.5, 1)
    )
    # Its builder is no function of a module, so other processes cannot be asked.
    check_method(build, clips=videos.video, replicas=False)


def imported(path: Path) -> set[str]:
    """Names that a file imports from others."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names}


def test_a_method_of_ours_is_four_files():
    """Method file, config, a line where methods are listed, a line in the contract test."""
    files = [*(ROOT / "vidssl").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    # The benchmark of the loop, and what tortures it, train one method, whichever; the audit compares those published.
    others = {"benchmark", "audit", "audit.py", "torture.py"}
    imports = {path: imported(path) for path in files if not others & {*path.parts}}
    for name in methods.__all__:
        module = getattr(methods, name).__module__
        if name == "Sum":
            continue  # over other methods: it has no paper and no recipe
        places = [path for path, names in imports.items() if name in names]
        own = ROOT / Path(*module.split(".")).with_suffix(".py")
        listed = ROOT / "vidssl" / "methods" / "__init__.py"
        others = [path for path in places if path not in (own, listed) and "methods" not in path.parts]
        assert not others, f"{name} is named in {others}"
        assert any(entry.method == name for entry in catalog.entries()), f"{name} has no config"

"""What is built by `pip wheel .` carries configs, corpus scripts and results, and finds them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the unpacked wheel, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # Built from a copy: setuptools leaves a build folder behind.
    source = folder / "source"
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("vidssl-*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(code: str, installed: Path) -> str:
    return subprocess.check_output([sys.executable, "-P", "-c", code], text=True, cwd=installed)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="python -P, which keeps the checkout off, is of 3.11")
def test_the_wheel_finds_its_configs(installed):
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import vidssl; from vidssl import catalog\n"
        "print(vidssl.__file__)\n"
        "[print(entry.name, entry.path) for entry in catalog.entries()]\n"
        "print(catalog.shared_folder('datasets') / 'prepare_moving_shapes.py')"
    )
    package, *lines = run(code, installed).splitlines()
    assert package.startswith(str(installed))
    listed = dict(line.split() for line in lines[:-1])
    configs = ROOT / "configs" / "pretrain"
    assert set(listed) == {path.relative_to(configs).with_suffix("").as_posix() for path in configs.rglob("*.py")}
    for path in (*listed.values(), lines[-1]):
        assert path.startswith(str(installed)) and Path(path).is_file()


def test_the_wheel_holds_no_tests_and_no_top_level_datasets(installed):
    assert {path.name for path in installed.iterdir()} == {"vidssl", next(installed.glob("*.dist-info")).name}
    assert not list(installed.rglob("test_*.py"))
    assert list(installed.rglob("page.html"))

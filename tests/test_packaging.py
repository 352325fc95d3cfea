"""What setup.py asks for: lower bounds, which are the releases that the oldest stack is tested with."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r'"([A-Za-z0-9-]+)(?:\[\w+\])?([<>=!~]=[^";]*)')
# What tests neither run nor read, or no release before this one installs with a Python that is supported.
UNTESTED = {"faiss-cpu", "imageio", "opencv-python-headless", "scikit-image", "tqdm", "mypy", "ruff", "setuptools"}


def requirements() -> list[tuple[str, str]]:
    found = REQUIREMENT.findall((ROOT / "setup.py").read_text().partition("DECORD")[2])
    assert {"torch", "av", "timm", "decord2", "transformers", "torchaudio"} <= {name for name, _ in found}
    return found


def version(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(".")]
    return numbers + [0] * (3 - len(numbers))


@pytest.mark.parametrize(("name", "bounds"), requirements())
def test_no_exact_pins(name, bounds):
    assert re.match(r"^>=[\d.]+(,<\d+)?$", bounds), f"{name}{bounds}"


def test_the_oldest_stack_is_that_of_the_lower_bounds():
    pins = dict(
        re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests" / "oldest.txt").read_text(), flags=re.MULTILINE)
    )
    bounds = {name: re.match(r">=([\d.]+)", bounds)[1] for name, bounds in requirements() if name not in UNTESTED}
    assert set(pins) == set(bounds)
    for name, bound in bounds.items():
        assert version(pins[name])[: len(bound.split("."))] == version(bound)[: len(bound.split("."))], name

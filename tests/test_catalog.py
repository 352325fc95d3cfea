"""The catalog: configs found as text, in a checkout and in an installed wheel, with what they measured."""

import json
from pathlib import Path

import pytest

from vidssl import catalog

CONFIG = '''"""{summary}

More.
"""

METHOD = "{method}"
PAPER = "Someone 2020"
NEEDS = "video"


def run(root: str): ...
'''


def write_share(share: Path) -> None:
    folder = share / "configs" / "pretrain" / "video"
    folder.mkdir(parents=True)
    (folder / "color.py").write_text(CONFIG.format(summary="One line.", method="Color"))
    (folder / "order.py").write_text(CONFIG.format(summary="Another.", method="Order"))
    (folder / "order_long.py").write_text("import functools\nimport order\nrun = functools.partial(order.run)\n")
    (folder / "helper.py").write_text("import torch_is_not_needed_to_list_this\n")
    (share / "results").mkdir()
    for name, figure in (("a", "J&F 41.2 +- 0.8"), ("b", "J&F 40.0 +- 0.1")):
        (share / "results" / f"{name}.json").write_text(json.dumps({"config": "video/color", "figure": figure}))
    (share / "results" / catalog.BENCHMARK).write_text(json.dumps({"row": {"seconds": 1.0}}))  # no proof


@pytest.mark.parametrize("place", ["checkout", "wheel"])
def test_finds_configs_and_figures(tmp_path, place):
    package = tmp_path / "vidssl"
    package.mkdir()
    if place == "wheel":
        write_share(package / "_share")
        # What lies beside an installed package belongs to others.
        (tmp_path / "configs" / "pretrain").mkdir(parents=True)
        (tmp_path / "configs" / "pretrain" / "foreign.py").write_text("def run(): ...\n")
    else:
        write_share(tmp_path)
    found = catalog.entries(package=package)
    assert [entry.name for entry in found] == ["video/color", "video/order", "video/order_long"]
    assert found[0] == catalog.Entry(
        name="video/color",
        path=(package / "_share" if place == "wheel" else tmp_path) / "configs/pretrain/video/color.py",
        method="Color",
        paper="Someone 2020",
        needs="video",
        summary="One line.",
        figures=("J&F 41.2 +- 0.8", "J&F 40.0 +- 0.1"),
        proof=None,
    )
    assert found[1].figures == ()


def test_nothing_measured_yet(tmp_path):
    write_share(tmp_path / "_share")
    for path in (tmp_path / "_share" / "results").iterdir():
        path.unlink()
    (tmp_path / "_share" / "results").rmdir()
    assert [entry.figures for entry in catalog.entries(package=tmp_path)] == [(), (), ()]


def test_every_config_of_ours_says_what_it_is():
    found = catalog.entries()
    assert "video/colorization_resnet18" in [entry.name for entry in found]
    for entry in found:
        assert all([entry.method, entry.paper, entry.needs, entry.summary]), entry.name


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("video/colour", "perhaps you meant video/color"),
        ("color", "perhaps you meant video/color"),
        ("video/order_lang", "perhaps you meant video/order_long or video/order"),
        ("zzzzzz", "there are video/color, video/order, video/order_long"),
    ],
)
def test_near_misses_of_names(tmp_path, typed, hint):
    write_share(tmp_path / "_share")
    with pytest.raises(ValueError, match=f"no config '{typed}'; {hint}"):
        catalog.find(typed, package=tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"the folder configs of vidssl is neither .* nor .*install vidssl again"):
        catalog.entries(package=tmp_path / "vidssl")

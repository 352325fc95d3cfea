"""The comparison page: its means and spreads, what stands beside what, and that published figures keep their place."""

import dataclasses
import json
import math
import re
import statistics
from pathlib import Path

import pytest
from PIL import Image

from vidssl.cli import main
from vidssl.evaluate.propagation import jhmdb, vip
from vidssl.evaluate.propagation.protocols import CRW, DINO, SIAMMAE, VFS
from vidssl.report import charts, published
from vidssl.report.comparison import overview, sections, write_comparison
from vidssl.report.finding import find
from vidssl.report.published import PUBLISHED, Setup, changed_knobs, why_not
from vidssl.report.templates import cell, spread

SCRIPT = "<script>alert(1)"
DAVIS = {"year": 2017, "subset": "val", "resolution": "480p"}
RESNET = {"family": "resnet", "depth": 18, "layer": "layer3", "stride": 8, "padding_mode": "reflect", "width": 64}


def write_result(
    folder: Path,
    both: float,
    *,
    name: str = "runs/x",
    sha256: str | None = "aa",
    protocol=CRW,
    architecture: dict | None = RESNET,
    task: str = "davis",
    parts: dict | None = None,
    **more,
) -> Path:
    """Write the result of an evaluation whose J&F-Mean is `both`."""
    document = {
        "task": task,
        "figures": {"J&F-Mean": both, "J-Mean": both - 0.01, "F-Mean": both + 0.01},
        "parts": parts
        if parts is not None
        else {"bear": {"J&F-Mean": both + 0.1}, SCRIPT: {"J&F-Mean": both - 0.1}},
        "model": {"name": name, "architecture": architecture if sha256 else None, "sha256": sha256},
        "protocol": dataclasses.asdict(protocol) if protocol and sha256 else None,
        "settings": DAVIS,
        "root": "data/davis",
        "num_sequences": 2,
        "num_frames": 90,
        "device": "cpu",
        "command": f"vidssl evaluate davis --model {name}",
        "date": "2026-01-31T10:00:00+00:00",
        **more,
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(document))
    return folder


def write_run(folder: Path, both: float, *, seed: int, config: str = "video/colors", **options) -> Path:
    """Write a run with an evaluation and its baselines: random weights at 0.3, identity at 0.2."""
    folder.mkdir(parents=True)
    run = {"config": config, "options": {"steps": 100, "seed": seed, **options}}
    (folder / "run.json").write_text(json.dumps(run))
    place = write_result(
        folder / "evaluate" / "davis-crw", both, name=str(folder), sha256=f"{config} {seed} {options}"
    )
    write_result(place / "baselines" / "random", 0.3, name=f"random:{folder}", sha256="random")
    write_result(place / "baselines" / "identity", 0.2, name="identity", sha256=None)
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [write_run(tmp_path / f"run{seed}", both, seed=seed) for seed, both in enumerate((0.61, 0.64, 0.70))]


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of the rows of all tables of figures, by label."""
    found = re.findall(r'<tr class="[^"]*"><td class="name">(?:<span[^>]*></span>)?([^<]*)(.*?)</tr>', text)
    return {label: re.findall(r'<td class="number">([^<]*)</td>', cells) for label, cells in found}


# Means and spreads.


def test_spread_is_the_sample_standard_deviation():
    found = spread([0.61, math.nan, 0.64, 0.70])
    # mean 1.95 / 3; deviations -.04, -.01, .05; variance (.0016 + .0001 + .0025) / 2
    assert found.mean == pytest.approx(0.65) and found.std == pytest.approx(math.sqrt(0.0021)) and found.count == 3
    assert math.isnan(spread([0.5]).std) and math.isnan(spread([math.nan]).mean)
    assert cell(found) == "65.0 \N{PLUS-MINUS SIGN} 4.6"
    assert (
        cell(spread([0.5])) == "50.0"
        and cell(spread([3.0]), plain=True) == "3.0"
        and cell(spread([])) == "\N{EN DASH}"
    )


def test_seeds_of_one_config_are_one_row(runs, tmp_path):
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    rows = rows_of(text)
    assert rows["video/colors"][:3] == [
        "65.0 \N{PLUS-MINUS SIGN} 4.6",
        "64.0 \N{PLUS-MINUS SIGN} 4.6",
        "66.0 \N{PLUS-MINUS SIGN} 4.6",
    ]
    assert "n = 3, seeds 0, 1, 2" in text
    # Three times the same baselines are one measurement.
    assert rows["random weights"][0] == "30.0" and rows["identity"][0] == "20.0"
    assert list(rows)[:3] == ["identity", "random weights", "video/colors"]


def test_other_options_are_another_row(runs, tmp_path):
    longer = write_run(tmp_path / "longer", 0.8, seed=0, steps=200)
    (section,) = sections([one for run in [*runs, longer] for one in find(run)])
    models = [row for group in section["groups"] for row in group["rows"] if row.kind == "model"]
    assert {row.label: row.spread("J&F-Mean").mean for row in models} == {
        "video/colors (steps 100)": pytest.approx(0.65),
        "video/colors (steps 200)": 0.8,
    }
    assert len({row.color for row in models}) == 2


def test_labels_say_no_more_than_tells_encoders_apart(tmp_path):
    for number, (steps, root) in enumerate(((100, "a"), (200, "b"), (200, "c"))):
        write_run(tmp_path / f"run{number}", 0.5, seed=number, steps=steps, root=root, lr=0.1)
    (section,) = sections([one for number in range(3) for one in find(tmp_path / f"run{number}")])
    labels = [row.label for group in section["groups"] for row in group["rows"] if row.kind == "model"]
    assert labels == [
        f"video/colors (steps {steps}, root {root})" for steps, root in ((100, "a"), (200, "b"), (200, "c"))
    ]


def test_the_same_weights_measured_twice_count_once(runs, tmp_path):
    copy = tmp_path / "again" / "result.json"
    copy.parent.mkdir()
    copy.write_bytes((runs[0] / "evaluate/davis-crw/result.json").read_bytes())
    (section,) = sections([*find(runs[0]), *find(runs[1]), *find(copy.parent)])
    (model,) = [row for group in section["groups"] for row in group["rows"] if row.kind == "model"]
    assert len(model.members) == 2 and model.spread("J&F-Mean").mean == pytest.approx(0.625)


def test_files_of_weights_are_no_seeds_of_each_other(tmp_path):
    for number, both in enumerate((0.5, 0.7)):
        write_result(tmp_path / f"e{number}", both, name="timm:resnet18 with a.pth", sha256=f"{number}" * 64)
    (section,) = sections(find(tmp_path))
    (group,) = section["groups"]
    assert [(row.label, row.spread("J&F-Mean").mean) for row in group["rows"]] == [
        ("timm:resnet18 with a.pth (00000000)", 0.5),
        ("timm:resnet18 with a.pth (11111111)", 0.7),
    ]


def test_random_weights_of_several_seeds_are_one_row(tmp_path):
    values = (0.30, 0.34, 0.29)
    for number, both in enumerate(values):
        write_result(tmp_path / f"e{number}", both, name="random:resnet18", sha256=str(number))
    (section,) = sections(find(tmp_path))
    (row,) = section["groups"][0]["rows"]
    assert row.label == "random weights" and row.spread("J&F-Mean").std == pytest.approx(statistics.stdev(values))


def test_figures_by_part(runs):
    (section,) = sections([one for run in runs for one in find(run)])
    (table,) = section["parts"]
    assert [one.label for one in table["shown"]] == ["identity", "random weights", "video/colors"]
    lines = {line["name"]: [round(cell.mean, 6) for cell in line["cells"]] for line in table["lines"]}
    assert lines == {"bear": [0.3, 0.4, 0.75], SCRIPT: [0.1, 0.2, 0.55]}
    assert table["lines"][0]["cells"][2].std == pytest.approx(math.sqrt(0.0021))


def test_parts_of_other_columns_have_a_table_of_their_own(tmp_path):
    parts = {"bear": {"mIoU": 0.5}, "class hat": {"IoU": 0.25}, "class hair": {"IoU": None}}
    write_result(tmp_path / "e", 0.5, task="vip", parts=parts, figures={"mIoU": 0.5})
    (section,) = sections(find(tmp_path))
    assert [(table["kind"], table["column"]) for table in section["parts"]] == [
        ("sequence", "mIoU"),
        ("class", "IoU"),
    ]
    assert [(line["name"], line["cells"][0].count) for line in section["parts"][1]["lines"]] == [
        ("hat", 1),
        ("hair", 0),
    ]


def test_spread_over_draws_stands_behind_its_mean(tmp_path):
    figures = {"1% top1": 0.4, "1% top1 std": 0.03, "median_rank": 7.0}
    write_result(tmp_path / "e", 0, task="lowshot", parts={}, figures=figures, protocol=None, num_sequences=None)
    text = write_comparison([tmp_path], tmp_path / "page.html").read_text()
    assert rows_of(text)["runs/x"] == ["40.0 \N{PLUS-MINUS SIGN} 3.0", "7.0"]
    assert "Figures are per cent, except median_rank" in text and "1% top1 std" not in text


# What stands together.


def test_protocols_have_groups_of_their_own_and_the_identity_none(tmp_path):
    write_result(tmp_path / "a", 0.6)
    write_result(tmp_path / "b", 0.7, protocol=DINO, architecture={**RESNET, "padding_mode": "zeros"})
    write_result(tmp_path / "c", 0.5, protocol=dataclasses.replace(CRW, topk=5))
    write_result(tmp_path / "a" / "baselines" / "identity", 0.2, name="identity", sha256=None)
    (section,) = sections(find(tmp_path))
    found = {group["title"]: [row.label for row in group["rows"]] for group in section["groups"]}
    # Options of the network that the protocol chose do not make it another encoder.
    assert found == {
        "": ["identity"],
        "protocol crw": ["runs/x"],
        "protocol dino": ["runs/x"],
        "protocol crw, but topk 5": ["runs/x"],
    }
    (line,) = [line for line in overview([section]) if line["kind"] == "model"]
    assert [(name, value.mean) for name, value in line["cells"][0]] == [("crw", 0.6), ("dino", 0.7), ("crw", 0.5)]
    text = write_comparison([tmp_path], tmp_path / "page.html").read_text()
    assert "compare within a protocol" in text and "Every knob: protocol crw, but topk 5" in text
    assert "<tr><td>first_frame_repeats</td><td>padding</td></tr>" in text


def test_other_data_is_another_table(tmp_path):
    write_result(tmp_path / "a", 0.6)
    write_result(tmp_path / "b", 0.7, root="data/davis240")
    write_result(tmp_path / "c", 0.8, num_sequences=3)
    write_result(tmp_path / "d", 0.9, task="davis2016")
    titles = [(section["title"], section["data"]) for section in sections(find(tmp_path))]
    assert titles == [
        ("DAVIS-2017, masks", "2 sequences, 90 frames of davis"),
        ("DAVIS-2017, masks", "2 sequences, 90 frames of davis240"),
        ("DAVIS-2017, masks", "3 sequences, 90 frames of davis"),
        ("DAVIS-2016, masks", "2 sequences, 90 frames of davis"),
    ]


def test_equal_chance_levels_are_one_row_and_different_ones_two(tmp_path):
    for name, value, steps in (("a", 0.2, 1), ("b", 0.2, 2), ("c", 0.1, 3)):
        place = write_result(tmp_path / name, 0.5, task="linear", protocol=None, settings={"steps": steps})
        write_result(
            place / "baselines" / "chance",
            value,
            task="linear",
            name="chance",
            sha256=None,
            settings={"steps": steps},
        )
    (section,) = sections(find(tmp_path))
    chance = [row for group in section["groups"] for row in group["rows"] if row.kind == "chance"]
    assert [row.spread("J&F-Mean").mean for row in chance] == [0.2, 0.1]


# Published figures.


def test_published_figures_stand_beside_the_same_protocol_on_the_same_data(tmp_path):
    write_result(tmp_path / "a", 0.6, num_sequences=30)
    write_result(tmp_path / "b", 0.2, name="identity", sha256=None, num_sequences=30)
    (section,) = sections(find(tmp_path))
    beside = {group["title"]: [figure.method for figure in group["published"]] for group in section["groups"]}
    assert beside == {
        "": ["identity"],
        "protocol crw": ["CRW", "CRW, released weights", "MoCo", "VINCE", "ImageNet labels"],
    }
    text = write_comparison([tmp_path], tmp_path / "page.html").read_text()
    rows = rows_of(text)
    assert (
        rows["CRW, ResNet-18"] == ["67.6", "64.8", "70.2"]
        and '>22.9</td><td class="number">22.1</td><td class="number">23.6<' in text
    )
    (moco,) = re.findall(r'<tr class="published"><td class="name">MoCo, ResNet-50.*?</tr>', text)
    (crw,) = re.findall(r'<tr class="published"><td class="name">CRW, ResNet-18.*?</tr>', text)
    assert "from memory, not verified" in moco and "from memory" not in crw and "DINO, table 5" in crw
    reasons = {(one["figure"].method, one["figure"].backbone): one["reason"] for one in section["apart"]}
    assert reasons["DINO", "ViT-S/16"] == "its protocol is dino; here it is crw"
    assert (
        reasons["CRW, adapted to each video", "ResNet-18"] == "its weights are trained further on every test video"
    )
    assert len(section["apart"]) + 6 == len(PUBLISHED["davis"])


def test_published_figures_stand_apart_from_other_data(runs, tmp_path):
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    assert 'class="published"' not in text
    assert f"not comparable with these, and why ({len(PUBLISHED['davis'])})" in text
    assert "it is of DAVIS-2017 val, 30 sequences; here are 2" in text


def test_figures_of_a_protocol_that_differs_in_little_stand_beside_with_what_differs(tmp_path):
    write_result(tmp_path / "a", 0.6, num_sequences=30, protocol=SIAMMAE)
    write_result(tmp_path / "b", 0.7, num_sequences=30)
    (section,) = sections(find(tmp_path))
    beside = {group["title"]: {figure.label for figure in group["published"]} for group in section["groups"]}
    family = {
        "SiamMAE, ViT-S/16",
        "CropMAE, ImageNet, ViT-S/16",
        "T-CoRe, Kinetics-400, ViT-B/16",
        "MAE, ViT-B/16",
    }
    assert family <= beside["protocol siammae"] and not family & beside["protocol crw"]
    text = write_comparison([tmp_path], tmp_path / "page.html").read_text()
    assert rows_of(text)["T-CoRe, Kinetics-400, ViT-B/16"][0] == "66.4"
    (core,) = re.findall(r'<tr class="published"><td class="name">T-CoRe, ImageNet.*?</tr>', text)
    (crw,) = re.findall(r'<tr class="published"><td class="name">CRW, ResNet-18.*?</tr>', text)
    assert "differs: frames resized by OpenCV&#39;s bilinear filter, J and F at 480x880" in core
    assert "differs" not in crw


def test_figures_stand_beside_their_own_protocol_rather_than_one_much_like_it(tmp_path):
    for name in ("siammae", "cropmae"):
        protocol, maps, variant = jhmdb.PROTOCOLS[name]
        settings = {"split": 1, "pck": variant, "joint_maps": dataclasses.asdict(maps)}
        write_result(
            tmp_path / name, 0, task="jhmdb", protocol=protocol, settings=settings, num_sequences=268,
            parts={}, figures={"PCK@0.1": 0.4},
        )  # fmt: skip
    both, one = sections(find(tmp_path)), sections(find(tmp_path / "siammae"))
    (found,) = [{g["title"]: {f.method for f in g["published"]} for g in section["groups"]} for section in both]
    assert "CropMAE, ImageNet" in found["protocol cropmae"] - found["protocol siammae"]
    assert "SiamMAE" in found["protocol siammae"] - found["protocol cropmae"]
    assert "CropMAE, ImageNet" in {figure.method for figure in one[0]["groups"][0]["published"]}


CRW_DAVIS = next(one for one in PUBLISHED["davis"] if one.method == "CRW")
VFS_JHMDB = next(one for one in PUBLISHED["jhmdb"] if one.method == "VFS")
TCORE_DAVIS = next(one for one in PUBLISHED["davis"] if one.method.startswith("T-CoRe"))


def davis_setup(protocol=CRW, **settings) -> Setup:
    knobs = json.loads(json.dumps(dataclasses.asdict(protocol)))
    return Setup("davis", knobs, {**DAVIS, **settings}, 30)


def jhmdb_setup(name: str, **settings) -> Setup:
    protocol, maps, variant = jhmdb.PROTOCOLS[name]
    document = {"split": 1, "pck": variant, "joint_maps": dataclasses.asdict(maps), **settings}
    return Setup("jhmdb", json.loads(json.dumps(dataclasses.asdict(protocol))), document, 268)


@pytest.mark.parametrize(
    ("figure", "setup", "reason"),
    [
        (CRW_DAVIS, davis_setup(), ""),
        (CRW_DAVIS, davis_setup(VFS), "its protocol is crw; here it is vfs"),
        (CRW_DAVIS, davis_setup(subset="train"), "it is of DAVIS-2017 val; here subset train"),
        (
            CRW_DAVIS,
            davis_setup(dataclasses.replace(CRW, short_side=240)),
            "here the protocol crw has other knobs: short_side 240",
        ),
        (TCORE_DAVIS, davis_setup(SIAMMAE), ""),
        (TCORE_DAVIS, davis_setup(), "its protocol is CropMAE's; here it is crw"),
        (
            TCORE_DAVIS,
            davis_setup(dataclasses.replace(SIAMMAE, topk=5)),
            "here the protocol siammae has other knobs: topk 5",
        ),
        (VFS_JHMDB, jhmdb_setup("vfs"), ""),
        (VFS_JHMDB, jhmdb_setup("vfs", pck="uvc"), "here the protocol vfs has other knobs: pck uvc"),
        (VFS_JHMDB, jhmdb_setup("crw"), "its protocol is vfs; here it is crw"),
        (VFS_JHMDB, Setup("jhmdb", None, {"split": 1}, 268), "the identity has no protocol"),
    ],
)
def test_why_a_published_figure_does_not_stand_here(figure, setup, reason):
    assert why_not(figure, setup) == reason


def test_every_published_protocol_of_ours_exists_unchanged():
    """A figure under a name of ours is comparable with that protocol as it is defined."""
    known = {
        "davis": {"crw", "dino", "vfs", "dinov3", "siammae"},
        "jhmdb": set(jhmdb.PROTOCOLS),
        "vip": set(vip.PROTOCOLS),
        "otb": set(),
    }
    for task, figures in PUBLISHED.items():
        ours = {
            figure.protocol
            for figure in figures
            if figure.protocol and not re.search(r"[^a-z0-9]", figure.protocol)
        }
        assert ours <= known[task] | {"SiamFC"}, task
        assert {name for figure in figures for name in figure.close_to} <= known[task], task
    for name in jhmdb.PROTOCOLS:
        assert changed_knobs(jhmdb_setup(name)) == {}


def test_published_figures_add_up():
    """J&F is the mean of J and F, to the rounding of the papers (Video Colorization's table has .35 too much)."""
    for figure in PUBLISHED["davis"]:
        values = figure.figures
        if len(values) == 3:
            mean = (values["J-Mean"] + values["F-Mean"]) / 2
            assert abs(values["J&F-Mean"] - mean) < 0.0016 or figure.method == "Video Colorization", figure
    assert all(
        0 < value < 1 for figures in PUBLISHED.values() for one in figures for value in one.figures.values()
    )
    assert {figure.source for figures in PUBLISHED.values() for figure in figures} == {"read", "memory"}
    assert all(figure.where for figures in PUBLISHED.values() for figure in figures if figure.source == "read")


# The page.


def test_needs_no_other_file_and_names_are_text(runs, tmp_path):
    for run, value in zip(runs, (10, 120, 200), strict=True):
        (run / "evaluate/davis-crw/overlays").mkdir()
        for name in ("bear", SCRIPT.replace("/", "")):
            Image.new("RGB", (60, 20), (value, 0, 0)).save(run / f"evaluate/davis-crw/overlays/{name}.png")
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    sources = re.findall(r'(?:src|data|poster|action)="([^"]*)"', text)
    assert len(sources) == 4 and all(source.startswith("data:") for source in sources)  # two charts, two sheets
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', text))
    assert not re.search(r"https?:|url\(|@import|<script|<iframe|<link", text)
    assert "&lt;script&gt;alert(1)" in text
    assert "<h3>Best: bear</h3>" in text and "<h3>Worst: &lt;script&gt;alert(1)</h3>" in text
    # A sheet shows one seed, and says which, with the figure of that seed: 0.61 + 0.1.
    assert "video/colors, seed 0, J&amp;F-Mean 71.0" in text


def test_the_page_of_one_run_shows_the_other_tasks(runs):
    from vidssl.report.page import write_report

    run = runs[0]
    (run / "config.py").write_text("")
    more = {
        "overrides": {},
        "command": None,
        "num_videos": 1,
        "git": None,
        "versions": {},
        "date": "2026-01-31",
        "device": "cpu",
    }
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **more}))
    for path in run.rglob("davis-crw/**/result.json"):
        path.unlink()
    place = write_result(run / "evaluate" / "knn", 0, task="knn", figures={"top1": 0.875}, parts={}, protocol=None)
    write_result(
        place / "baselines/chance", 0, task="knn", name="chance", sha256=None, figures={"top1": 0.1}, parts={}
    )
    text = write_report(run).read_text()
    rows = rows_of(text)
    assert "no evaluation yet" not in text
    assert rows["video/colors"] == ["87.5"] and rows["chance"] == ["10.0"]


def test_the_command(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, runs)]) == 0
    assert rows_of(Path("comparison.html").read_text())["video/colors"][0].startswith("65.0")
    assert main(["report", str(runs[0] / "evaluate" / "davis-crw"), "--out", "one.html"]) == 0
    assert rows_of(Path("one.html").read_text())["video/colors"][0] == "61.0"
    (tmp_path / "empty").mkdir()
    for words, message in {
        ("report", str(runs[0]), "empty"): "empty holds no evaluation: neither evaluate/*/result.json",
        ("report", str(runs[0]), "absent"): "absent is no folder",
        ("report",): "no run was given",
    }.items():
        assert main(list(words)) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_older_results_are_refused_by_name(tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "result.json").write_text(json.dumps({"global": {}, "model": {}}))
    with pytest.raises(ValueError, match=r"e/result\.json has no task, figures: an older version wrote it"):
        find(tmp_path)


# Charts.


def texts_of(svg: str) -> set[str]:
    """Comments that matplotlib writes beside each text it draws as outlines."""
    return set(re.findall(r"<!-- (.*?) -->", svg))


def test_bars_say_value_and_spread():
    bars = [
        charts.Bar("ours", 0.654, 0.046, "#1d4ed8"),
        charts.Bar("theirs", 0.676, math.nan, "#334155", "read"),
        charts.Bar("recalled", 0.5, math.nan, "#334155", "memory"),
    ]
    found = texts_of(charts.bars_with_spread(bars, title="J&F-Mean"))
    assert {"65.4 \N{PLUS-MINUS SIGN} 4.6", "67.6", "50.0", "ours", "theirs"} <= found


@pytest.mark.parametrize("num_names", [3, charts.MAX_DOT_LINES + 1])
def test_dots_have_a_line_per_name_or_past_forty_per_series(num_names):
    names = [f"name {number}" for number in range(num_names)]
    series = [charts.Dots("#1d4ed8", charts.MARKERS[0], [0.5, math.nan, *[0.25] * (num_names - 2)], "first")]
    found = texts_of(charts.dots(names, series, title="J"))
    assert (set(names) <= found) == (num_names == 3) and ("first" in found) == (num_names > 3)


def test_published_data_is_named_for_every_task():
    assert PUBLISHED.keys() == published.DATA.keys()


def write_two_protocols(run: Path, *, stride: int = 32) -> Path:
    """A run with a network of its own stride, measured by two protocols and by nearest neighbours."""
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"config": "video/colors", "options": {"steps": 100, "seed": 0}}))
    own = {**RESNET, "stride": stride, "padding_mode": "zeros"}
    for name, protocol in (("davis-crw", CRW), ("davis-dino", DINO)):
        write_result(
            run / "evaluate" / name, 0.6, name=str(run), sha256="own", protocol=protocol, architecture=own
        )
    write_result(
        run / "evaluate" / "knn",
        0.5,
        name=str(run),
        sha256="own",
        task="knn",
        protocol=None,
        architecture=own,
        parts={},
    )
    return run


def test_an_encoder_is_one_encoder_under_every_protocol_and_task(tmp_path):
    run = write_two_protocols(tmp_path / "my_run")
    parts = sections(find(run))
    rows = [row for section in parts for group in section["groups"] for row in group["rows"]]
    assert (
        {row.label for row in rows} == {"video/colors"}
        and len({row.color for row in rows}) == 1
        and len(rows) == 3
    )
    assert len(overview(parts)) == 1
    text = write_comparison([run], tmp_path / "page.html").read_text()
    assert "stride None" not in text and "(stride" not in text and "run my_run<" in text


def test_options_that_protocols_choose_make_no_other_encoder(tmp_path):
    """The same weights at the stride of each protocol, which one of them does not name."""
    name = "torchvision:resnet18"
    for folder, protocol, chosen in (("crw", CRW, {"stride": 8, "padding_mode": "reflect"}), ("dino", DINO, {})):
        architecture = {key: value for key, value in RESNET.items() if key != "stride"} | chosen
        write_result(tmp_path / folder, 0.6, name=name, sha256="own", protocol=protocol, architecture=architecture)
    parts = sections(find(tmp_path))
    rows = [row for section in parts for group in section["groups"] for row in group["rows"]]
    assert [row.label for row in rows] == [name, name] and len({row.color for row in rows}) == 1
    assert len(overview(parts)) == 1


def test_an_encoder_with_other_options_is_told_apart_where_both_stand(tmp_path):
    run = write_two_protocols(tmp_path / "my_run")
    write_result(
        run / "evaluate" / "davis-crw-8",
        0.7,
        name=str(run),
        sha256="own8",
        architecture={**RESNET, "padding_mode": "zeros"},
    )
    found = {
        (section["task"], group["title"]): sorted(row.label for row in group["rows"])
        for section in sections(find(run))
        for group in section["groups"]
    }
    assert found["davis", "protocol crw"] == ["video/colors (stride 32)", "video/colors (stride 8)"]
    assert found["davis", "protocol dino"] == found["knn", ""] == ["video/colors"]


def test_runs_are_called_by_their_names(runs, tmp_path):
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    assert "n = 3, seeds 0, 1, 2; runs run0, run1, run2<" in text
    elsewhere = write_result(tmp_path / "elsewhere", 0.5, name=str(runs[1]), sha256="video/colors 1 {}")
    (one,) = find(elsewhere)
    assert one.run_name == "run1"


def test_an_option_that_one_run_lacks_is_not_none(tmp_path):
    write_run(tmp_path / "a", 0.5, seed=0)
    write_run(tmp_path / "b", 0.6, seed=0, warmup=5)
    (section,) = sections([*find(tmp_path / "a"), *find(tmp_path / "b")])
    labels = [row.label for group in section["groups"] for row in group["rows"] if row.kind == "model"]
    assert labels == ["video/colors (a)", "video/colors (warmup 5)"]

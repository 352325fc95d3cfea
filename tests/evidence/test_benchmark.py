"""The benchmark's statistics on work of known cost, its record and page, and what it says of peers that are missing."""

import dataclasses
import importlib
import json
import logging
import math
import os
import platform
import re
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video
from tiny_davis import write_davis

from vidssl import catalog
from vidssl.data.corpus.scan import scan
from vidssl.evaluate.propagation.affinity import propagate
from vidssl.evaluate.propagation.protocols import CRW
from vidssl.evidence import benchmark
from vidssl.evidence.benchmark import (
    Case,
    MissingPeer,
    Peers,
    Row,
    at_least,
    at_most,
    augmenting,
    cifar,
    decoding,
    end_to_end,
    evaluation,
    loading,
    measure,
    measuring,
    page,
    scaling,
    training,
    write,
)
from vidssl.evidence.benchmark.measuring import alternate, peak_bytes, spread
from vidssl.evidence.benchmark.record import PICTURE, holds, machine
from vidssl.methods import SimCLR
from vidssl.models import ResNet


class Clock:
    """Stands still but for the work that says what it costs."""

    def __init__(self):
        self.seconds = 0.0
        self.log = []

    def __call__(self):
        return self.seconds

    def work(self, name, costs, result=None):
        costs = iter(costs)

        def call():
            self.log.append(name)
            self.seconds += next(costs)
            return result

        return call


def row(case, **options):
    settings = {"name": "toy", "what": "Nothing.", "ours": "a", "peer": "b", "needs": (), "goals": ()}
    return Row(prepare=lambda peers: case, **{**settings, **options})


def test_the_spread_is_median_and_quartiles():
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0]
    low, median, high = np.percentile(values, [25, 50, 75])
    assert spread(values) == {"median": median, "low": low, "high": high}
    assert spread([2.0, 8.0, 5.0]) == {"median": 5.0, "low": 2.0, "high": 8.0}


def test_sides_take_turns_in_random_order():
    clock = Clock()
    sides = {"ours": clock.work("ours", [1.0] * 40), "peer": clock.work("peer", [2.5] * 40)}
    seconds = alternate(sides, rounds=40, seed=0, clock=clock)
    assert seconds == {"ours": [1.0] * 40, "peer": [2.5] * 40}
    rounds = [tuple(clock.log[i : i + 2]) for i in range(0, 80, 2)]
    assert set(rounds) == {("ours", "peer"), ("peer", "ours")}
    assert 10 < rounds.count(("ours", "peer")) < 30


def test_ratios_are_taken_within_rounds():
    # Called once to warm up and for the result, then in five rounds, while the machine slows down fourfold.
    clock = Clock()
    slowdown = [1.0, 1.0, 1.0, 2.0, 4.0]
    ours = clock.work("ours", [100.0, *slowdown], result=7.0)
    peer = clock.work("peer", [100.0, *(3 * factor for factor in slowdown)], result=7.5)
    case = Case(ours, peer, lambda mine, theirs: {"difference": abs(mine - theirs)}, versions={"file.py": "abc"})
    goals = (at_least("speedup", 3), at_most("ratio", 0.3), at_most("difference", 0.5))
    peaks = iter([30_000_000, 120_000_000])
    record = measure(
        row(case, goals=goals, rounds=5, memory=True), Peers(), clock=clock, peak=lambda call: next(peaks)
    )
    assert record["figures"]["speedup"] == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert record["figures"]["ratio"]["median"] == pytest.approx(1 / 3)
    assert record["seconds"]["ours"] == {"median": 1.0, "low": 1.0, "high": 2.0}
    assert record["figures"]["ours_peak_mb"] == 30.0 and record["figures"]["memory_ratio"] == 0.25
    assert record["figures"]["difference"] == 0.5
    assert [goal["holds"] for goal in record["goals"]] == [True, False, True]
    assert record["peer_versions"] == {"file.py": "abc"}
    assert len(clock.log) == 12


def test_a_long_row_is_not_warmed_up():
    clock = Clock()
    ours, peer = clock.work("ours", [2.0, 4.0], result=3), clock.work("peer", [10.0, 10.0], result=5)
    case = Case(ours, peer, lambda mine, theirs: {"difference": theirs - mine})
    record = measure(row(case, rounds=2, warm_up=False), Peers(), clock=clock)
    assert sorted(clock.log) == ["ours", "ours", "peer", "peer"]
    assert record["seconds"]["ours"]["median"] == 3.0 and record["figures"]["difference"] == 2


def test_a_figure_that_is_no_number_reaches_nothing():
    assert not at_least("x", 0).holds(math.nan) and not at_most("x", 0).holds(math.nan)
    assert at_least("x", 2).holds(2.0) and at_most("x", 2).holds(2.0)


HELD_AT_ONCE = """
import gc
import runpy, sys
import numpy as np
peak_bytes = runpy.run_path(sys.argv[1])["peak_bytes"]  # the file alone: the package would import torch

def work():
    for _ in range(3):
        kept = np.ones(64 * 2**20, dtype=np.uint8)
        kept = np.concatenate((kept[: 32 * 2**20], kept[: 32 * 2**20]))  # 128 MiB for a moment
        del kept

garbage = [np.ones(64 * 2**20, dtype=np.uint8)]
garbage.append(garbage)
del garbage  # still held, by itself
print(peak_bytes(lambda: (gc.collect(), work())), peak_bytes(lambda: None))
"""


def test_peak_memory_is_what_was_held_at_once():
    # In a process of its own: what tests before have left behind, and what the system takes back of it, hides memory.
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HELD_AT_ONCE, measuring.__file__], capture_output=True, text=True
    )
    held, nothing = map(int, ran.stdout.split())
    assert held == pytest.approx(128 * 2**20, rel=0.05)
    assert nothing < 2**20


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_process_that_dies_while_its_memory_is_measured(capfd):
    with pytest.raises(RuntimeError, match="the process whose memory was measured died"):
        peak_bytes(lambda: sys.exit(1))


def test_missing_peers_are_named_with_what_to_do(caplog, monkeypatch):
    absent = row(None, needs=("dino", "faiss"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPeer) as raised:
        measure(absent, Peers())
    assert str(raised.value) == (
        "dino is needed: give --peer dino=PATH, a clone of https://github.com/facebookresearch/dino; "
        "faiss is needed: pip install faiss-cpu"
    )
    before = [path.read_bytes() for path in pages()]
    with caplog.at_level(logging.WARNING):
        assert benchmark.run(["jf"], peers=Peers())
    assert "jf is not measured: davis2017 is needed: give --peer davis2017=PATH" in caplog.text
    assert before == [path.read_bytes() for path in pages()]


def test_mistakes_on_the_command_line_are_named(tmp_path):
    assert Peers.parse([f"dino={tmp_path}"]).folders == {"dino": tmp_path}
    with pytest.raises(ValueError, match=r"--peer dyno=x: expected NAME=PATH with NAME one of clips, crw"):
        Peers.parse(["dyno=x"])
    with pytest.raises(ValueError, match=r"there is no folder .*/none; it is to be a clone of .*dino"):
        Peers.parse([f"dino={tmp_path}/none"])
    with pytest.raises(ValueError, match=r"there is no row 'dyno'; there are decode_clip, decode_four_clips"):
        benchmark.run(["dyno"], peers=Peers())
    with pytest.raises(MissingPeer, match=r"file.py is not there: --peer dino is to be a clone"):
        Peers({"dino": tmp_path}).load("dino", "file.py")


def test_files_of_a_peer_import_what_lies_beside_them_and_leave_nothing(tmp_path):
    for name in ("dino", "crw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "script.py").write_text("import helper_of_a_peer as h\nname = h.name\n")
        (tmp_path / name / "helper_of_a_peer.py").write_text(f"name = {name!r}\n")
    peers = Peers({name: tmp_path / name for name in ("dino", "crw")})
    path = list(sys.path)
    assert [peers.load(name, "script.py")[0].name for name in ("dino", "crw")] == ["dino", "crw"]
    assert sys.path == path and "helper_of_a_peer" not in sys.modules
    assert peers.load("dino", "script.py")[1] == peers.load("crw", "script.py")[1]  # of equal content
    (tmp_path / "dino" / "package_of_a_peer").mkdir()
    (tmp_path / "dino" / "package_of_a_peer" / "part.py").touch()
    with peers.importing(tmp_path / "dino"):
        importlib.import_module("package_of_a_peer.part")
    assert not [name for name in sys.modules if name.startswith("package_of_a_peer")]


def record(seconds, **options):
    clock = Clock()
    case = Case(
        clock.work("ours", [seconds] * 9), clock.work("peer", [2 * seconds] * 9), lambda *_: {"apart": 1e-7}
    )
    return measure(row(case, **options), Peers(), rounds=4, clock=clock)


def test_rows_are_replaced_one_by_one(tmp_path):
    results, docs = tmp_path / "results" / "benchmark.json", tmp_path / "docs" / "benchmarks.md"
    place = {"results": results, "docs": docs, "command": "python tools/benchmark.py x", "order": ("a", "b")}
    write({"b": record(1.0, goals=(at_least("speedup", 3),))}, date="2026-01-01", **place)
    write({"a": record(4.0, goals=(at_most("apart", 1e-6),))}, date="2026-01-02", **place)
    write({"b": record(0.25, goals=(at_least("speedup", 2),))}, date="2026-01-03", **place)
    records = json.loads(results.read_text())
    assert list(records) == ["a", "b"]
    assert [records[name]["seconds"]["ours"]["median"] for name in "ab"] == [4.0, 0.25]
    assert [records[name]["date"] for name in "ab"] == ["2026-01-02", "2026-01-03"]
    assert docs.read_text() == page(records)
    rows = [line for line in docs.read_text().splitlines() if line.startswith("| [")]
    assert rows == [
        "| [a](#a) | a | b | 4 (4 to 4) | 8 (8 to 8) | 0.5 (0.5 to 0.5) | 2 (2 to 2) | apart <= 1e-06 | yes | 1 |",
        "| [b](#b) | a | b | 0.25 (0.25 to 0.25) | 0.5 (0.5 to 0.5) | 0.5 (0.5 to 0.5) | 2 (2 to 2) | "
        "peer / ours >= 2 | yes | 1 |",
    ]
    assert "- apart: 1e-07" in docs.read_text()
    # What does not hold is said.
    write({"b": record(1.0, goals=(at_least("speedup", 3),))}, date="2026-01-04", **place)
    assert "| peer / ours >= 3 | **no**: peer / ours | 1 |" in docs.read_text()


def test_growth_is_the_slope_of_the_upper_half():
    points = (1, 2, 4, 8, 16, 32)
    assert scaling.growth(points, [3.0 * point**2 for point in points]) == pytest.approx(2)
    assert scaling.growth(points, [1.0 + point for point in points]) == pytest.approx(0.95, abs=0.02)
    # A start that costs the same whatever is asked for is no growth, and hides none.
    assert scaling.growth(points, [9.0, 9.0, 9.0, 8.0, 16.0, 32.0]) == pytest.approx(1)


def test_curves_are_medians_by_point_and_judged_by_their_limits(tmp_path):
    given = {2: [5.0, 1.0, 2.0], 4: [4.0, 4.0, 400.0], 8: [8.0, 8.0, 8.0], 16: [16.0, 1.0, 16.0]}

    def prepare(peers):
        values = {point: iter(numbers) for point, numbers in given.items()}
        return lambda point: {"seconds": next(values[point]), "peak_mb": 7.0}

    options = {"what": "w.", "along": "frames", "points": (2, 4, 8, 16), "prepare": prepare}
    curve = scaling.Curve(name="c", limits={"seconds": 1.1}, **options)
    traced = scaling.trace(curve, Peers())
    assert traced["series"] == {"seconds": [2.0, 4.0, 8.0, 16.0], "peak_mb": [7.0] * 4}
    assert traced["growth"] == {"seconds": pytest.approx(1), "peak_mb": pytest.approx(0)}
    assert holds(traced)
    place = {"results": tmp_path / "b.json", "docs": tmp_path / "d.md", "command": "python x", "order": ("a", "c")}
    write({"c": traced}, date="2026-01-01", **place)
    write({"a": record(1.0, goals=())}, date="2026-01-01", **place)
    lines = (tmp_path / "d.md").read_text().splitlines()
    assert "| c | frames, 2 to 16 | seconds | 2 | 16 | 1.00 | 1.1 | 1 |" in lines
    assert "| c | frames, 2 to 16 | peak mb | 7 | 7 | -0.00 | - | 1 |".replace("-0.00", "0.00") in [
        line.replace("-0.00", "0.00") for line in lines
    ]
    assert sum(line.startswith("| [a]") for line in lines) == 1
    steep = scaling.trace(scaling.Curve(name="c", limits={"seconds": 0.9}, **options), Peers())
    assert not holds(steep)
    write({"c": steep}, date="2026-01-01", **place)
    assert "| c | frames, 2 to 16 | seconds | 2 | 16 | **1.00** | 0.9 | 1 |" in (tmp_path / "d.md").read_text()


def test_time_of_child_processes_counts():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    assert scaling.cpu_seconds(lambda: subprocess.run([sys.executable, "-c", busy], check=True)) >= 0.3


def test_the_corpus_of_the_curve_is_scanned(tmp_path):
    scaling._write_corpus(tmp_path / "corpus", num_files=70)
    scanned = scan(tmp_path / "corpus", cache=tmp_path / "cache", progress=False)
    assert len(scanned) == 70 and not scanned.bad
    batch = scaling._first_batch(scanned)
    assert batch.video.shape == (8, 1, 4, 3, 32, 32)
    assert len({int(video.sum()) for video in batch.video}) > 4  # they are different videos


def pages():
    results = catalog.shared_folder("results") / catalog.BENCHMARK
    return results, results.parent.parent / "docs" / "benchmarks.md"


def test_the_page_is_what_the_json_says():
    results, docs = pages()
    records = benchmark.read(results)
    assert docs.read_text() == page(records)
    known, curves = benchmark.all_rows(), benchmark.all_curves()
    assert set(records) <= {*known, *curves}
    measured = {name: entry for name, entry in records.items() if name in curves}
    for name, entry in measured.items():
        assert (entry["what"], entry["limits"]) == (curves[name].what, curves[name].limits)
        assert entry["points"] == list(curves[name].points)
    if measured:
        # Letters are drawn as outlines, which differ between versions of matplotlib.
        panels = re.findall(r'<g id="(axes_\d+)">', scaling.plot(measured))
        assert re.findall(r'<g id="(axes_\d+)">', docs.with_name(PICTURE).read_text()) == panels != []
    for name, entry in records.items():
        if name in curves:
            continue
        goals = [(goal["figure"], goal["sign"], goal["limit"]) for goal in entry["goals"]]
        assert goals == [(goal.figure, goal.sign, goal.limit) for goal in known[name].goals], name
        assert entry["what"] == known[name].what
    # The machine is described, not named; no place on it is told.
    text = results.read_text()
    assert platform.node() not in text or not platform.node()
    assert not any(place in text for place in ("/home", "/work", "/tmp", "/root", "/Users"))


def test_the_machine_is_described_by_what_matters_for_speed():
    assert re.fullmatch(r"[1-9]\d* cores of \S.*, [1-9]\d* GiB, (Linux|Darwin) on \w+", machine())


def test_dispatches_are_counted():
    one, other = torch.zeros(3), torch.ones(3)
    assert training.count_dispatches(lambda: one.mul_(2).add_(other)) == 2
    assert training.count_dispatches(lambda: torch._foreach_lerp_([one, other], [other, one], 0.5)) == 1


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(evaluation, "GRID", (14, 17))
    monkeypatch.setattr(evaluation, "DIM", 16)


def test_the_dense_form_and_ours_agree(small):
    case = evaluation._dense(Peers())
    mine, theirs = case.ours(), case.peer()
    assert case.compare(mine, theirs)["largest_label_difference"] <= 1e-6
    query, keys, labels = evaluation._propagation_inputs()
    wrong = propagate(query, keys, labels, temperature=0.05, topk=10, radius_cells=12)
    assert case.compare(wrong, theirs)["largest_label_difference"] > 1e-3


def test_both_sides_of_a_whole_evaluation_see_the_same_frames(tmp_path):
    root = write_davis(tmp_path, {"slow": 2, "fast": 6}, num_frames=4)
    spec, weights = "torchvision:resnet18", {"model": ResNet(18, layer="layer3").state_dict()}
    sides = [
        partial(end_to_end._ours, spec=spec, protocol=protocol)
        for protocol in (CRW, dataclasses.replace(CRW, radius_cells=1))
    ]
    peers = Peers({"davis": root})
    case = end_to_end._case(peers, *sides, weights=weights, sequences=None, num_frames=3, versions={})
    mine, theirs = case.ours(), case.peer()
    assert list(mine.masks) == [f"{name}/0000{number}.png" for name in ("fast", "slow") for number in range(3)]
    same = case.compare(mine, mine)
    assert same["frames"] == 6
    assert same["share_of_different_pixels"] == same["largest_difference_of_j_and_f"] == 0
    figures = case.compare(mine, theirs)
    scored = [
        np.stack([mask for name, mask in one.masks.items() if "00000" not in name]) for one in (mine, theirs)
    ]
    assert figures["share_of_different_pixels"] == (scored[0] != scored[1]).mean() > 0
    assert figures["largest_difference_of_j_and_f"] > 0


def test_scripts_run_as_from_the_command_line(tmp_path):
    (tmp_path / "beside_a_script.py").write_text("name = 'beside'\n")
    (tmp_path / "script.py").write_text(
        "import os, sys, torch, beside_a_script\n"
        "os.environ['VIDSSL_TEST'] = sys.excepthook = beside_a_script.name\n"
        "result = sys.argv[1:], torch.nn.Linear(1, 1).cuda()(torch.ones(1).cuda(non_blocking=True)).device.type\n"
    )
    hook = sys.excepthook
    with end_to_end._command_line(tmp_path, ["--frames", "3"]):
        assert runpy.run_path(str(tmp_path / "script.py"))["result"] == (["--frames", "3"], "cpu")
    assert sys.excepthook is hook and "VIDSSL_TEST" not in os.environ and "beside_a_script" not in sys.modules


def test_fit_and_the_bare_loop_end_with_the_same_weights(monkeypatch):
    monkeypatch.setattr(training, "STEPS", 3)
    monkeypatch.setattr(training, "BATCH_SIZE", 4)
    case = training._fit(Peers())
    figures = case.compare(case.ours(), case.peer())
    assert figures["unequal_weights"] == 0
    assert figures["checkpoint_and_export_ms_per_step"] > 0


def test_steps_of_fit_and_of_the_bare_loop_take_turns(monkeypatch):
    """Each side is charged with its own steps alone: here a step of fit costs 10 s, one of the bare loop 1 s."""
    monkeypatch.setattr(training, "STEPS", 3)
    monkeypatch.setattr(training, "BATCH_SIZE", 4)
    clock, order = Clock(), []
    monkeypatch.setattr(training.time, "process_time", clock)
    forward = SimCLR.forward

    def step(method, batch, progress):
        is_of_fit = "after_step" in vars(method)
        order.append((is_of_fit, progress))
        clock.seconds += 10 if is_of_fit else 1
        return forward(method, batch, progress)

    monkeypatch.setattr(SimCLR, "forward", step)
    assert training._fit(Peers()).in_turns() == {"ours": 30, "peer": 3}
    assert order == [(is_of_fit, step / 3) for step in range(3) for is_of_fit in (True, False)]


def test_rounds_in_turns_are_those_of_the_case():
    rounds = iter([{"ours": 2.0, "peer": 1.0}, {"ours": 4.0, "peer": 4.0}, {"ours": 1.0, "peer": 3.0}])
    case = Case(lambda: 1, lambda: 1, in_turns=lambda: next(rounds))
    record = measure(row(case, rounds=3), Peers())
    assert record["figures"]["speedup"] == {"median": 1.0, "low": 0.5, "high": 3.0}
    assert record["seconds"]["ours"] == {"median": 2.0, "low": 1.0, "high": 4.0}


@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
def test_k_means_and_faiss_agree(monkeypatch):
    pytest.importorskip("faiss", reason="needs faiss-cpu")
    for name, value in {"NUM_POINTS": 600, "POINT_DIM": 8, "NUM_CLUSTERS": 20}.items():
        monkeypatch.setattr(training, name, value)
    case = training._kmeans(Peers())
    figures = case.compare(case.ours(), case.peer())
    assert figures["relative_inertia_difference"] <= 1e-5 and figures["unequal_when_repeated"] == 0


def test_both_sides_of_a_decoding_row_read_the_same_frames(tmp_path):
    pytest.importorskip("decord", reason="decord has wheels for Linux on x86-64 alone")
    for number in range(decoding.NUM_PIECES):
        write_video(tmp_path / f"{number}.mp4", moving_square(decoding.MIN_FRAMES, seed=number))
    write_video(tmp_path / "short.mp4", moving_square(decoding.MIN_FRAMES - 1))
    (row,) = (row for row in decoding.ROWS if row.name == "decode_four_clips")
    case = row.prepare(Peers({"clips": tmp_path}))
    mine, theirs = case.ours(), case.peer()
    frames = 2 * decoding.NUM_PIECES * 4 * decoding.CLIP_FRAMES
    assert case.compare(mine, theirs) == {"frames": frames, "unequal_frames": 0}
    # Frames that come in another order are others: the square moves.
    shuffled = [clip[::-1] for clip in mine]
    assert case.compare(shuffled, theirs)["unequal_frames"] > 0.9 * frames
    (tmp_path / "0.mp4").unlink()
    with pytest.raises(
        MissingPeer, match=f"has 2 H.264 videos of {decoding.MIN_FRAMES} frames or more; 3 are needed"
    ):
        row.prepare(Peers({"clips": tmp_path}))


@pytest.mark.parametrize("name", ["augment", "augment_torchvision"])
def test_both_sides_of_augmentation_draw_the_same_views(name, monkeypatch):
    """Mean and deviation over all views of each side: nothing is left out, or done more often."""
    sizes = {"NUM_FRAMES": 1, "HEIGHT": 24, "WIDTH": 32, "SIZE_PX": 16, "NUM_CALLS": 60, "MANY_CLIPS": (150, 200)}
    for constant, value in sizes.items():
        monkeypatch.setattr(augmenting, constant, value)
    (row,) = (row for row in augmenting.ROWS if row.name == name)
    case = row.prepare(Peers())
    mine, theirs = case.ours(), case.peer()
    assert not torch.equal(mine[0], mine[1]) and not torch.equal(theirs[0], theirs[1])
    ours, peers = (torch.stack([view.transpose(1, 2) for view in views]).flatten(0, 1) for views in (mine, theirs))
    # 4 standard errors of two means of 240 views, whose own means deviate by about 0.6.
    torch.testing.assert_close(ours.mean((0, 2, 3, 4)), peers.mean((0, 2, 3, 4)), atol=0.22, rtol=0)
    torch.testing.assert_close(ours.std((0, 2, 3, 4)), peers.std((0, 2, 3, 4)), atol=0.15, rtol=0)
    if name == "augment":
        figures = case.compare(mine, theirs)
        assert figures["launches_more_for_other_sizes"] == figures["host_syncs"] == 0
        assert 100 < figures["launches"] <= 200


def test_both_sides_of_the_cifar_rows_do_the_same(monkeypatch):
    """Colours of all views in mean and deviation, to some standard errors; losses of the same weights and views."""
    for name, value in {"NUM_PICTURES": 128, "BATCH_SIZE": 32, "STEPS": 2, "STEP_PICTURES": 8, "WIDTH": 4}.items():
        monkeypatch.setattr(cifar, name, value)
    views = cifar._views(Peers())
    mine, theirs = views.ours(), views.peer()
    assert mine.shape == theirs.shape == (2, 128, 3, 32, 32) and not torch.equal(mine[0], mine[1])
    figures = views.compare(mine, theirs)
    assert figures["largest_difference_of_means"] < 0.2 and figures["largest_difference_of_deviations"] < 0.1
    assert views.compare(mine * 0.229, theirs)["largest_difference_of_deviations"] > 0.5  # not normalised
    step = cifar._step(Peers())
    losses, others = step.ours(), step.peer()
    assert step.compare(losses, others)["difference_of_first_losses"] < 1e-5 and losses[1] != losses[2]
    seconds = step.in_turns()
    assert set(seconds) == {"ours", "peer"} and min(seconds.values()) > 0


def test_both_sides_of_the_loader_row_make_the_same_numbers(monkeypatch):
    for name, value in {"SIZE_PX": 24, "WIDTH_PX": 32, "NUM_BATCHES": 2, "BATCH_SIZE": 3}.items():
        monkeypatch.setattr(loading, name, value)
    case = loading._loader(Peers())
    mine, theirs = case.ours(), case.peer()
    assert case.compare(mine, theirs)["largest_difference"] <= 1e-6
    assert case.compare(mine.roll(1, -1), theirs)["largest_difference"] > 0.1

"""Scanning and auditing folders, lists and CSV files; what a crashing or hanging decoder costs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.cache import default_cache
from vidssl.data.corpus.corpus import Corpus
from vidssl.data.corpus.probe import probe
from vidssl.data.corpus.scan import scan as scan_corpus
from vidssl.data.media.audit import Finding
from vidssl.data.media.isolation import call_each


def write_clip(path: Path, *, num_frames: int = 10, width: int = 64, sound: float | None = None) -> Path:
    """A tiny h264 file at 10 frames per second, with a tone of an amplitude if one is given."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, width, "yuv420p"
        track = container.add_stream("aac", rate=16_000, layout="mono") if sound is not None else None
        for number in range(num_frames):
            picture = np.full((48, width, 3), 10 * number % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if track is not None:
            wave = sound * np.sin(np.arange(num_frames * 1_600) / 5)
            frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def write_images(folder: Path, count: int) -> Path:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(folder / f"{number:05d}.jpg")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos in two classes, beside what is not video."""
    root = tmp_path_factory.mktemp("tree")
    write_clip(root / "run" / "deep" / "a.mp4", sound=0.5)
    write_clip(root / "run" / "b.mkv", num_frames=20, sound=0.0)
    write_clip(root / "jump" / "c10.avi", width=80)
    write_clip(root / "jump" / "c9.mp4", num_frames=5)
    write_clip(root / "jump" / ".hidden.mp4")
    write_clip(root / ".trash" / "d.mp4")
    shutil.copy(root / "run" / "b.mkv", root / "jump" / "no_suffix")
    (root / "jump" / "broken.mp4").write_text("<html>404</html>")
    for name in ("labels.csv", "notes.txt", "README"):
        (root / name).write_text("not a video\n")
    (root / "jump" / "linked.mp4").symlink_to(root / "jump" / "c9.mp4")
    (root / "run" / "deep" / "loop").symlink_to(root, target_is_directory=True)
    return root


def scan(source: Path, **options: Any) -> Corpus:
    return scan_corpus(source, progress=False, num_workers=2, **options)


def names(corpus: Corpus) -> list[str]:
    return [os.fspath(entry.path.relative_to(corpus.root)) for entry in corpus.entries]


def test_folder(tree: Path) -> None:
    corpus = scan(tree)
    found = ["jump/c9.mp4", "jump/c10.avi", "jump/linked.mp4", "jump/no_suffix", "run/b.mkv", "run/deep/a.mp4"]
    assert names(corpus) == found
    assert len(corpus) == 6
    entries = dict(zip(found, corpus.entries, strict=True))
    assert [entry.num_frames for entry in corpus.entries] == [5, 10, 5, 20, 20, 10]
    assert entries["run/b.mkv"].duration_seconds == pytest.approx(2.0)
    assert entries["run/b.mkv"].fps == pytest.approx(10)
    assert (entries["jump/c10.avi"].width, entries["jump/c10.avi"].height) == (80, 48)
    assert [(entry.has_audio, entry.audio_silent) for entry in corpus.entries[3:]] == [
        (True, True),
        (True, True),
        (True, False),
    ]
    assert (entries["jump/c9.mp4"].has_audio, entries["jump/c9.mp4"].audio_silent) == (False, None)
    assert {entry.label for entry in corpus.entries} == {-1}
    assert [path.name for path, _ in corpus.bad] == ["broken.mp4"]
    assert "no readable media file" in corpus.bad[0][1]
    assert corpus.num_other == 3
    summary = corpus.summary()
    assert "6 entries, 0.00 hours, 70 frames" in summary
    assert "sound: 1 with, 2 with a silent track, 3 without" in summary
    assert "broken.mp4: is no readable media file" in summary


@pytest.mark.usefixtures("looked_at_here")
def test_labels_by_folder(tree: Path, tmp_path: Path) -> None:
    corpus = scan(tree, labels="folder")
    assert corpus.class_names == ("deep", "jump", "run")
    assert [entry.label for entry in corpus.entries] == [1, 1, 1, 1, 2, 0]
    write_clip(tmp_path / "flat" / "a.mp4")
    with pytest.raises(
        ValueError, match=r"labels='folder' needs one folder per class, as in .*/flat/CLASS/a\.mp4"
    ):
        scan(tmp_path / "flat", labels="folder")


def test_a_second_scan_opens_no_file_that_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "clips"
    for number in range(3):
        write_clip(root / f"{number}.mp4")
    asked: list[list[str]] = []

    def counted(target: str, items: list[str], **options: Any) -> Any:
        asked.append([Path(item).name for item in items])
        return ((number, probe(item)) for number, item in enumerate(items))

    monkeypatch.setattr("vidssl.data.corpus.scan.call_each", counted)
    first = scan(root)
    second = scan(root)
    assert second == first
    write_clip(root / "1.mp4", num_frames=15)
    write_clip(root / "new.mp4", num_frames=3)
    third = scan(root)
    assert [entry.num_frames for entry in third.entries] == [10, 15, 10, 3]
    (root / "0.mp4").unlink()
    assert [entry.num_frames for entry in scan(root).entries] == [15, 10, 3]
    assert asked == [["0.mp4", "1.mp4", "2.mp4"], [], ["1.mp4", "new.mp4"], []]
    for file in default_cache().iterdir():  # a cache that was cut off costs a new scan, nothing else
        file.write_text(file.read_text()[:100])
    assert len(scan(root)) == 3
    assert asked[-1] == ["1.mp4", "2.mp4", "new.mp4"]
    assert [path.suffix for path in default_cache().iterdir()] == [".json"]


@pytest.mark.usefixtures("looked_at_here")
def test_frame_folders_and_images(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    write_images(root / "480p" / "bear", 3)
    write_images(root / "480p" / "camel", 2)
    write_images(root / "480p" / "single", 1)
    write_clip(write_images(root / "mixed", 2) / "a.mp4")
    videos = scan(root)
    assert names(videos) == ["480p/bear", "480p/camel", "mixed/a.mp4"]
    assert [entry.num_frames for entry in videos.entries] == [3, 2, 10]
    assert videos.num_other == 3
    assert scan(root / "480p" / "bear").entries[0].num_frames == 3
    images = scan(root, media="image", labels="folder")
    assert len(images) == 8
    assert images.class_names == ("bear", "camel", "mixed", "single")
    entry = images.entries[0]
    assert (entry.num_frames, entry.width, entry.height, entry.has_audio) == (1, 30, 20, False)
    write_images(root / "480p" / "camel", 4)
    assert [entry.num_frames for entry in scan(root).entries] == [3, 4, 10]


def test_odd_names_are_found(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    plain = write_clip(tmp_path / "plain.mp4")
    root.mkdir()
    for name in (
        b"new\nline.mp4",
        b"12:30.mp4",
        b"%d.mp4",
        b"bad\xff\xfe.mp4",
        b"[x]*.mp4",
        "\u65e5.mp4".encode(),
    ):
        shutil.copy(plain, os.fsdecode(os.fsencode(root) + b"/" + name))
    assert len(scan(root)) == len(scan(root)) == 6
    assert len(audit(root, progress=False, num_workers=1).bad) == 0


# -- lists


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b c.mp4", "d.mp4", "x 1"):
        write_clip(tmp_path / "clips" / name) if name != "x 1" else shutil.copy(
            tmp_path / "clips" / "a.mp4", tmp_path / "clips" / name
        )
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "labels", "classes"),
    [
        ("l.txt", "clips/a.mp4\nclips/b c.mp4\n\nclips/d.mp4\n", [-1, -1, -1], ()),
        ("l.txt", "clips/a.mp4 2\nclips/b c.mp4 0\n", [2, 0], ("0", "1", "2")),
        ("l.txt", "clips/a.mp4\trun fast\r\nclips/b c.mp4\tjump\r\n", [1, 0], ("jump", "run fast")),
        ("l.txt", "\ufeffclips/a.mp4 run\nclips/b c.mp4 jump\n", [1, 0], ("jump", "run")),
        ("l.txt", "clips/x 1\n", [-1], ()),
        ("l.csv", "path,label\nclips/a.mp4,1\nclips/b c.mp4,0\n", [1, 0], ("0", "1")),
        ("l.csv", '\ufeffclips/a.mp4\r\n"clips/b c.mp4"\r\n', [-1, -1], ()),
        ("l.csv", "path\nclips/d.mp4\n", [-1], ()),
        ("l.csv", "clips/a.mp4,run\nclips/d.mp4,jump\n", [1, 0], ("jump", "run")),
    ],
)
@pytest.mark.usefixtures("looked_at_here")
def test_lists(listed: Path, name: str, text: str, labels: list[int], classes: tuple[str, ...]) -> None:
    (listed / name).write_bytes(text.encode())
    corpus = scan(listed / name)
    assert [entry.label for entry in corpus.entries] == labels
    assert corpus.class_names == classes
    assert corpus.bad == ()
    assert {entry.num_frames for entry in corpus.entries} == {10}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "", "lists no files; expected one per line, e.g. 'clips/run.mp4 0'"),
        ("l.txt", "\n\n", "lists no files"),
        ("l.txt", "clips/a.mp4\nabsent.mp4\n", r"l\.txt:2: .*absent\.mp4 does not exist; paths are relative"),
        ("l.txt", "no.mp4\nno2.mp4\nclips/a.mp4\n", r"l\.txt:1: .*\(2 of 3 lines name no file\)"),
        ("l.txt", "clips/a.mp4 1\nclips/d.mp4\n", r"l\.txt:2: has no label, unlike line 1"),
        ("l.txt", "clips/a.mp4\nclips/d.mp4 1\n", r"l\.txt:2: has the label '1', unlike line 1"),
        ("l.txt", "clips/a.mp4\t1\t2\n", r"l\.txt:1: 3 columns without a heading .*'2' is neither train nor test"),
        ("l.txt", "\tclips/a.mp4\n\tx\n", r"l\.txt:1: .*clips/a\.mp4 does not exist"),
        ("l.txt", "clips/a.mp4\t\n", r"l\.txt:1: the label is empty; a tab separates the columns"),
        ("l.txt", "http://example.org/a.mp4\n", r"l\.txt:1: 'http://example\.org/a\.mp4' is a URL"),
        ("l.txt", "clips/a.mp4 -1\n", r"l\.txt:1: label is -1; labels are whole numbers from 0, or names"),
        ("l.txt", "clips/a.mp4 0\nclips/d.mp4 1.5\n", r"l\.txt:2: label is 1\.5; labels are whole numbers"),
        ("l.csv", "clips/a.mp4,1,x\n", r"l\.csv:1: 3 columns without a heading are path, label and split"),
        ("l.csv", "path,label\nclips/a.mp4,\n", r"l\.csv:2: the label is empty"),
        ("l.csv", "path,label\n,1\n", r"l\.csv:2: the path is empty"),
        ("l.csv", "path,label\n", r"l\.csv lists no files"),
        ("l.csv", "path,label\nclips/a.mp4,0\nclips/gone.mp4,1\n", r"l\.csv:3: .*gone\.mp4 does not exist"),
        ("l.csv", 'path\n"clips/a.mp4\n', r"l\.csv:2: unexpected end of data; expected e\.g\."),
        ("l.csv", "clip,kind\nclips/a.mp4,0\n", r"l\.csv:1: .*clip does not exist"),
    ],
)
@pytest.mark.usefixtures("looked_at_here")
def test_malformed_lists_are_named_with_their_line(listed: Path, name: str, text: str, message: str) -> None:
    (listed / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        scan(listed / name)


@pytest.mark.usefixtures("looked_at_here")
def test_sources_without_videos(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 1)
    with pytest.raises(ValueError, match=r"holds no video files \(\.264 .*; 1 other files were passed over"):
        scan(tmp_path / "a")
    with pytest.raises(ValueError, match="does not exist; give a folder"):
        scan(tmp_path / "absent")
    with pytest.raises(ValueError, match="is neither a folder nor a list"):
        scan(write_clip(tmp_path / "clip.mp4"))
    with pytest.raises(ValueError, match="media is 'sound'"):
        scan(tmp_path, media="sound")


# -- decoders that crash or hang


CHILDREN = """
import os, time

def work(item):
    print("printed by a library")
    if item == "crash":
        os.abort()
    if item == "exit":
        os._exit(3)
    if item == "hang":
        time.sleep(60)
    if item == "raise":
        raise KeyError("a fault of ours")
    return {"length": len(item)}

def decode_with_decord(path):
    import decord
    decoder = decord.VideoReader(path, num_threads=1)
    return {"frames": len([decoder[number] for number in range(len(decoder))])}
"""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "scan_children.py").write_text(CHILDREN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "scan_children"


def test_a_crash_or_a_hang_costs_one_file(children: str) -> None:
    items = ["a", "crash", "bb", "hang", "ccc", "exit", "dddd\udcff\n"]
    start = time.perf_counter()
    answers = dict(call_each(f"{children}:work", items, num_workers=2, timeout_seconds=5))
    assert time.perf_counter() - start < 30
    assert [answers[number] for number in (0, 2, 4, 6)] == [
        {"length": 1},
        {"length": 2},
        {"length": 3},
        {"length": 6},
    ]
    assert answers[1] == {"died": "the decoder ended the process (SIGABRT: printed by a library)"}
    assert answers[3]["died"].startswith(
        "no answer within 5 s; allow more (timeout_seconds), or put its streams into"
    )
    assert "exit status 3" in answers[5]["died"]


def test_our_own_faults_are_raised(children: str) -> None:
    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(call_each(f"{children}:work", ["a", "raise"], num_workers=1, timeout_seconds=30))


def test_the_file_that_aborts_decord(children: str, shared: Path, tmp_path: Path) -> None:
    """decord ends the process on it; the scan, the audit and our reader survive it."""
    source = shared / "data/media/broken/decord_abort_0535.mp4"
    root = tmp_path / "clips"
    good = write_clip(root / "good.mp4")
    bad = Path(shutil.copy(source, root / "bad.mp4"))
    if importlib.util.find_spec("decord"):
        items = [str(good), str(bad), str(good)]
        answers = dict(call_each(f"{children}:decode_with_decord", items, num_workers=1, timeout_seconds=60))
        assert answers[0] == answers[2] == {"frames": 10}
        assert "SIGABRT" in answers[1]["died"]
    corpus = scan(root)
    assert {path.name for path, _ in audit(root, progress=False, num_workers=1).bad} == {"bad.mp4"}
    assert "good.mp4" in names(corpus)
    assert len(corpus) + len(corpus.bad) == 2


def test_a_file_that_takes_too_long_is_bad(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "a.mp4")
    corpus = scan(tmp_path / "clips", timeout_seconds=0.01)
    # A kilobyte or two take another 0.01 s.
    assert [(path, reason[:17]) for path, reason in corpus.bad] == [
        (tmp_path / "clips" / "a.mp4", "no answer within ")
    ]
    report = audit(tmp_path / "clips", timeout_seconds=0.01, progress=False)
    assert report.bad[0][1].startswith("cannot be read: no answer within 0.0")


def test_scanning_needs_no_torch(tmp_path: Path, children: str) -> None:
    """Children start quickly: importing torch would take longer than looking at most files."""
    (tmp_path / "scan_children.py").write_text(
        "import sys\nfrom vidssl.data.corpus.probe import probe\n"
        "def work(item):\n    return {'torch': 'torch' in sys.modules, 'frames': probe(item).get('num_frames')}\n"
    )
    path = write_clip(tmp_path / "a.mp4", sound=0.3)
    answers = dict(call_each(f"{children}:work", [str(path)], num_workers=1, timeout_seconds=60))
    assert answers == {0: {"torch": False, "frames": 10}}


# -- audit


def test_audit_of_a_folder(tree: Path) -> None:
    from rich.console import Console

    report = audit(tree, progress=False, num_workers=2)
    found = {path.name: findings for path, findings in report.files}
    assert found["c9.mp4"] == found["a.mp4"] == ()
    assert found["b.mkv"] == (Finding("note", "silent sound track"),)
    assert [path.name for path, _ in report.bad] == ["broken.mp4"]
    assert report.counts()[("error", "cannot be read")] == 1
    assert report.counts()[("note", "silent sound track")] == 2
    assert next(iter(report.counts())) == ("error", "cannot be read")
    console = Console(width=200, record=True, file=Path(os.devnull).open("w"))
    with console.file:
        console.print(report)
    text = console.export_text()
    assert "jump/broken.mp4" in text
    assert "7 files, 1 with errors" in text
    assert "c9.mp4" not in text


@pytest.mark.usefixtures("looked_at_here")
def test_audit_of_one_file_and_of_frame_folders(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    assert audit(path, progress=False).files == ((path, ()),)
    path.write_bytes(path.read_bytes()[:-400])
    assert [bad for bad, _ in audit(path, progress=False).bad] == [path]
    folder = write_images(tmp_path / "frames" / "bear", 3)
    assert audit(folder.parent, progress=False).bad == []
    (folder / "00001.jpg").write_bytes((folder / "00000.jpg").read_bytes()[:300])
    assert audit(folder.parent, progress=False).bad[0][0] == folder


BUILDERS = """
import os, sys
from pathlib import Path
from vidssl.data.corpus.cache import ScanCache

folder, root = Path(sys.argv[1]), Path(sys.argv[2])
children = []
for number in range(50):
    child = os.fork()
    if child == 0:
        files = [root / f"{number}_{name}" for name in range(40)]
        for turn in range(4):
            known = ScanCache.of(root, folder)
            names = {Path(path).name.partition("_")[0] for path in known.records}
            assert len(known.records) == 40 or (turn == 0 and not known.records), "torn"
            assert len(names) <= 1, "half of one, half of another"
            store = ScanCache(known.file, {})
            store.save([(file, [turn, number]) for file in files], {file: {"reason": "x" * 100} for file in files})
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes.count(0), len(ScanCache.of(root, folder).records))
"""


def test_fifty_builders_of_one_cache_leave_a_whole_one(tmp_path: Path) -> None:
    """Each writes what it found as a whole; whoever reads meanwhile reads one of them, never a mixture or a part."""
    done = subprocess.run(
        [sys.executable, "-c", BUILDERS, str(tmp_path / "cache"), str(tmp_path / "clips")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["50", "40"], done.stderr
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


@pytest.mark.usefixtures("looked_at_here")
def test_a_file_of_the_same_size_and_another_time_is_looked_at_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clips" / "a.mp4", num_frames=8)
    assert scan(tmp_path / "clips").entries[0].num_frames == 8
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert [bad.name for bad, _ in scan(tmp_path / "clips").bad] == ["a.mp4"]


def test_a_scan_that_is_killed_loses_the_file_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "clips"
    for number in range(5):
        write_clip(root / f"{number}.mp4", num_frames=number + 2)
    asked: list[str] = []

    def killed(target: str, items: list[str], **options: Any) -> Any:
        asked.extend(Path(item).name for item in items)
        for number, answer in enumerate(call_each(target, items, **{**options, "num_workers": 1})):
            if number == 3 and len(items) == 5:
                raise SystemExit  # nothing after it is run, as after a kill
            yield answer

    monkeypatch.setattr("vidssl.data.corpus.scan.call_each", killed)
    with pytest.raises(SystemExit):
        scan(root)
    (journal,) = default_cache().iterdir()
    assert journal.suffix == ".part"
    with journal.open("ab") as file:
        file.write(b'[4, "/half/a li')  # killed while it wrote
    asked.clear()
    corpus = scan(root)
    assert asked == ["3.mp4", "4.mp4"]
    assert [entry.num_frames for entry in corpus.entries] == [2, 3, 4, 5, 6]
    assert [path.suffix for path in default_cache().iterdir()] == [".json"]
    asked.clear()
    assert scan(root) == corpus and asked == []

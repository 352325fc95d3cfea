"""A tenth of the corpus is broken: training goes on, the same each time, and names exactly those files."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import moving_square, write_video
from damaged_files import write_sources

from vidssl.cli import main
from vidssl.data.bad_samples import BadSamples

pytestmark = pytest.mark.usefixtures("looked_at_here")

NUM_FILES, NUM_BROKEN = 40, 4
CONFIG = '''"""A small network on small frames."""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.models.heads import FrameHead


def run(root: str, *, steps: int = 25) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder.
        steps: Number of optimizer steps.
    """
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=4)
    clips = partial(frame_tuple, offsets_frames=(0, 2, 5))
    view = RandomResizedCrop(32, scale=(0.5, 1.0))
    method = VideoColorization(encoder, head=FrameHead(encoder.dim, 16), view=view, clips=clips, num_colors=4)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, progress=False), clips=clips, size_px=48),
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        learning_rate=optim.constant(1e-3),
        steps=steps,
        batch_size=4,
    )
'''


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "bad_corpus_config.py").write_text(CONFIG)
    yield
    sys.modules.pop("bad_corpus_config", None)


def hidden_damage(source: Path, path: Path) -> Path:
    """A copy of a WebM file, zeros in all packets but the first: a scan sees nothing, no clip can be read."""
    import av

    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in [packet for packet in container.demux(video=0) if packet.size][1:]:
            place = content.index(bytes(packet))
            content[place : place + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, set[str], set[str]]:
    """A folder, the files of it that a scan refuses, and those that only reading shows to be broken."""
    folder = tmp_path / "corpus"
    for number in range(NUM_FILES - NUM_BROKEN):
        write_video(folder / f"{number:02d}.mp4", moving_square(12, seed=number))
    write_sources(tmp_path)
    (folder / "page.mp4").write_text("<html>404</html>")
    (folder / "cut.mp4").write_bytes((folder / "00.mp4").read_bytes()[:2000])
    for name in ("hidden1.webm", "hidden2.webm"):
        hidden_damage(tmp_path / "vp9.webm", folder / name)
    return folder, {"page.mp4", "cut.mp4"}, {"hidden1.webm", "hidden2.webm"}


def pretrain(root: Path, out: str, *options: str) -> int:
    fixed = ["--root", str(root), "--out", out, "--device", "cpu", "--log-every", "1", "--picture-every", "1000"]
    return main(["pretrain", "bad_corpus_config.py", *fixed, *options])


def losses(out: str) -> list[float]:
    return [json.loads(line)["loss"] for line in Path(out, "metrics.jsonl").read_text().splitlines()]


def test_a_tenth_is_broken(corpus: tuple[Path, set[str], set[str]]) -> None:
    folder, refused, hidden = corpus
    for out, num_workers in (("one", "0"), ("two", "0"), ("three", "2")):
        assert pretrain(folder, out, "--num-workers", num_workers, "--bad-file-budget", "0.1") == 0
    assert losses("one") == losses("two") == losses("three")
    assert len(set(losses("one"))) == 25
    for name in ("bad_samples.jsonl", "bad_files.txt"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes() == Path("three", name).read_bytes()
    scanned = Path("one/bad_files.txt").read_text().splitlines()
    assert {Path(line.partition(":")[0]).name for line in scanned} == refused
    records = [json.loads(line) for line in Path("one/bad_samples.jsonl").read_text().splitlines()]
    assert {Path(record["file"]).name for record in records} == hidden
    assert all("cannot be decoded" in record["reason"] for record in records)
    # 25 batches of 4 go through 38 files two times and a half; a broken one may also come as a replacement.
    for name in hidden:
        steps = [record["step"] for record in records if record["file"].endswith(name)]
        counts = [record["count"] for record in records if record["file"].endswith(name)]
        assert counts == list(range(1, len(counts) + 1)) and len(counts) >= 2
        assert steps == sorted(steps)


def test_a_continued_run_counts_each_sample_once(corpus: tuple[Path, set[str], set[str]]) -> None:
    """The checkpoint is of step 7; what was written of later steps is written again, not twice."""
    folder, _, _ = corpus
    options = ("--num-workers", "0", "--bad-file-budget", "0.1", "--save-every", "7", "--steps", "14")
    assert pretrain(folder, "whole", *options) == 0
    assert pretrain(folder, "resumed", *options) == 0
    whole = Path("whole/bad_samples.jsonl").read_bytes()
    for path in Path("resumed/checkpoints").iterdir():
        if "00000007" not in path.name:
            path.unlink() if path.is_file() else [*map(Path.unlink, path.iterdir()), path.rmdir()]
    with Path("resumed/bad_samples.jsonl").open("ab") as file:
        file.write(b'{"step": 14, "fi')  # killed while it wrote
    assert pretrain(folder, "resumed", *options) == 0
    assert Path("resumed/bad_samples.jsonl").read_bytes() == whole
    assert losses("resumed") == losses("whole")


def test_more_than_the_budget_ends_the_run_and_names_the_files(
    corpus: tuple[Path, set[str], set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, refused, hidden = corpus
    for name in refused:
        (folder / name).unlink()
    assert pretrain(folder, "run", "--num-workers", "2") == 2  # 1 % of 38 files: one may be broken
    text = " ".join(capsys.readouterr().err.split())
    assert "2 of 38 files cannot be read, 1 are allowed" in text and "Traceback" not in text
    assert all(name in text for name in hidden)


@pytest.mark.parametrize("kind", ["text", "damaged"])
def test_a_corpus_that_is_all_broken_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_sources(tmp_path)
    for number in range(30):
        path = folder / f"{number:02d}.webm"
        path.write_text("no video") if kind == "text" else hidden_damage(tmp_path / "vp9.webm", path)
    start = time.perf_counter()
    assert pretrain(folder, "run", "--num-workers", "0", "--bad-file-budget", "1") == 2
    assert time.perf_counter() - start < 30
    text = " ".join(capsys.readouterr().err.split())
    assert {"text": "none of the 30 videos", "damaged": "drawn in succession cannot be read"}[kind] in text
    assert "00.webm" in text and "Traceback" not in text


def test_the_record_survives_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bad_samples.jsonl"
    record = BadSamples(path, first_step=0)
    record.add(3, [("a", "cut"), ("b", "noise")])
    record.add(7, [("a", "gone")])
    whole = path.read_text()
    path.write_text(whole + '{"step": 8, "file": "c')
    again = BadSamples(path, first_step=7)
    assert again.reasons == {"a": "cut", "b": "noise"}
    again.add(7, [("a", "gone")])
    assert path.read_text() == whole
    assert [json.loads(line)["count"] for line in whole.splitlines()] == [1, 1, 2]

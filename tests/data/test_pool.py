"""Processes and threads that read: the same samples whoever reads them, and whatever happens to who reads."""

import faulthandler
import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av  # noqa: F401  (so that processes that start do not lose time with it)
import pytest
import torch

from vidssl.data import ArrayDataset, Corpus, Loader, MediaError, VideoDataset, pool, scan
from vidssl.data.clips import frame_tuple, random_clips
from vidssl.data.slots import num_slots

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLIPS = partial(frame_tuple, offsets_frames=(0, 3))


@pytest.fixture(scope="module")
def corpus(small_corpus, tmp_path_factory) -> Corpus:
    return scan(small_corpus, cache=tmp_path_factory.mktemp("cache"), progress=False)


def same(first, second) -> bool:
    names = ("index", "video", "time", "audio", "label", "seed", "source_id")
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def all_same(first, second) -> bool:
    return all(same(a, b) for a, b in zip(first, second, strict=True))


class Faulty(VideoDataset):
    """A dataset one file of which cannot be read, in one of the ways in which decoders fail.

    Args:
        fault: Called where the file is read.
        broken: Index of the file.
        log: A line is added for every attempt.
    """

    def __init__(self, corpus, *, fault, broken, log) -> None:
        super().__init__(corpus, clips=CLIPS, size_px=32)
        self.fault, self.broken, self.log = fault, broken, log

    def read(self, index, **options):
        if index in self.broken:
            with self.log.open("a") as file:
                file.write(f"{index}\n")
            self.fault(self.name(index))
        return super().read(index, **options)


def unreadable(path):
    raise MediaError(path, "is damaged")


def end_by(number):
    return partial(_end_by, number)


def _end_by(number, path):
    faulthandler.disable()  # which else writes to the terminal
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(path):
    os._exit(0)


def hang(path):
    time.sleep(3600)


def raise_of_an_unknown_class(path):
    class Unknown(Exception):
        def __init__(self, needed, too):
            super().__init__()

    raise Unknown(1, 2)


@pytest.mark.parametrize("workers", ["process", "thread"])
def test_batches_are_the_same_whoever_reads_them(corpus, workers):
    videos = VideoDataset(corpus, clips=CLIPS, size_px=32, audio_seconds=0.25, sample_rate_hz=8000)
    video = torch.randint(256, (9, 10, 3, 8, 6), dtype=torch.uint8)
    clips = partial(random_clips, num_frames=3, num_clips=2)
    arrays = ArrayDataset(video, clips=clips, audio=torch.rand(9, 8000), audio_seconds=0.1)
    for dataset in (videos, arrays):
        here = list(Loader(dataset, batch_size=4, seed=9).batches(0, 7))
        there = Loader(dataset, batch_size=4, seed=9, num_workers=3, workers=workers)
        assert all_same(here, there.batches(0, 7))
        assert all_same(here[5:], there.batches(5, 7))
        torch.save(here[0].__dict__, io.BytesIO())  # which refuses tensors of two types in one memory
        # In order, the last batch is smaller.
        assert all_same(Loader(dataset, batch_size=4).in_order(9), there.in_order(9))
        # The oracle: samples read one by one and stacked.
        for step in (0, 6):
            samples = [dataset[key] for key in there.keys(step)]
            for name in ("video", "time", "audio"):
                assert torch.equal(getattr(here[step], name), torch.stack([getattr(s, name) for s in samples]))


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_the_order_does_not_depend_on_ranks_and_workers(world_size, num_workers):
    video = torch.zeros(50, 4, 3, 2, 2, dtype=torch.uint8)
    dataset = ArrayDataset(video, clips=partial(random_clips, num_frames=1))
    expected = [
        [(int(batch.index[row]), int(batch.seed[row])) for row in range(8)]
        for batch in Loader(dataset, batch_size=8, seed=3).batches(0, 8)  # into the second epoch
    ]
    ranks = [
        Loader(
            dataset,
            batch_size=8 // world_size,
            seed=3,
            num_workers=num_workers,
            rank=rank,
            world_size=world_size,
        ).batches(0, 8)
        for rank in range(world_size)
    ]
    for step, batches in enumerate(zip(*ranks, strict=True)):
        read = [pair for batch in batches for pair in zip(batch.index.tolist(), batch.seed.tolist(), strict=True)]
        assert read == expected[step]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_kept_batches_are_not_written_over(corpus, num_workers):
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=32)
    kept, expected = [], []
    for batch in Loader(dataset, batch_size=4, num_workers=num_workers).batches(0, 12):
        kept.append(batch)
        expected.append(batch.video.clone())
    assert all(torch.equal(batch.video, video) for batch, video in zip(kept, expected, strict=True))
    # Most of them are copies: the memory in which batches are read does not grow.
    assert len({batch.video.untyped_storage().data_ptr() for batch in kept}) == 12


def test_memory_is_used_again(corpus):
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=32)
    for num_workers, count in ((0, 3), (1, 5)):
        places = set()
        for batch in Loader(dataset, batch_size=4, num_workers=num_workers).batches(0, 24):
            places.add(batch.video.data_ptr())
            # Frames lie in memory as the decoder wrote them.
            assert batch.video.permute(0, 1, 2, 4, 5, 3).is_contiguous()
            del batch
        assert 1 < len(places) <= count


def test_what_is_in_flight_is_bounded():
    options = {"num_batches": 1000}
    # A GiB in all, however many read.
    for num_workers in (1, 8, 64):
        assert num_slots(2**28, batch_size=64, num_workers=num_workers, **options) == 4
    # Three batches there are: one computed with, one ready, one being read.
    assert num_slots(2**30, batch_size=256, num_workers=8, **options) == 3
    # Small ones: four samples ahead for each who reads, at least four batches.
    assert num_slots(1000, batch_size=2, num_workers=8, **options) == 17
    assert num_slots(1000, batch_size=64, num_workers=8, **options) == 5
    assert num_slots(1000, batch_size=2, num_workers=8, num_batches=3) == 4


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (end_by(signal.SIGKILL), "SIGKILL"),
        (end_by(signal.SIGSEGV), "SIGSEGV"),
        (leave, "exit status 0"),
        (hang, "no frames within 1 s"),
    ],
    ids=["killed", "crashes", "leaves", "hangs"],
)
def test_a_file_that_ends_processes_is_replaced_as_an_unreadable_one(corpus, tmp_path, fault, why, caplog):
    plain = Faulty(corpus, fault=unreadable, broken={4}, log=tmp_path / "plain")
    expected = list(Loader(plain, batch_size=4, seed=2).batches(0, 24))
    assert 4 not in torch.cat([batch.index for batch in expected])

    log = tmp_path / "log"
    dataset = Faulty(corpus, fault=fault, broken={4}, log=log)
    loader = Loader(dataset, batch_size=4, seed=2, num_workers=6, timeout_seconds=1)
    assert all_same(expected, loader.batches(0, 24))
    path = str(corpus.entries[4].path)
    assert loader.bad == {path: f"reading it ended two processes ({why})"}
    assert f"a decoding process was lost ({why}) while it read {path}" in caplog.text
    # It was tried twice, in eight epochs: the others were told. (They may have been asked twice before.)
    tried = log.read_text()
    assert 2 <= tried.count("4") <= 4
    # A later reading of the dataset knows, too, and counts it.
    again = Loader(dataset, batch_size=4, seed=2, num_workers=2)
    assert all_same(expected, again.batches(0, 24)) and list(again.bad) == [path]
    assert log.read_text() == tried


class Once(VideoDataset):
    """A dataset that ends the process when some of its files are read for the first time."""

    def __init__(self, corpus, *, indices, number, folder) -> None:
        super().__init__(corpus, clips=CLIPS, size_px=32)
        self.indices, self.number, self.folder = indices, number, folder

    def read(self, index, **options):
        if index in self.indices and not (self.folder / str(index)).exists():
            (self.folder / str(index)).touch()
            os.kill(os.getpid(), self.number)
            time.sleep(60)
        return super().read(index, **options)


def test_a_process_that_dies_by_itself_changes_no_sample(corpus, tmp_path):
    expected = list(Loader(VideoDataset(corpus, clips=CLIPS, size_px=32), batch_size=4).batches(0, 6))
    dataset = Once(corpus, indices={1, 5, 9}, number=signal.SIGKILL, folder=tmp_path)
    loader = Loader(dataset, batch_size=4, num_workers=3)
    assert all_same(expected, loader.batches(0, 6))
    assert loader.bad == {} and len(list(tmp_path.iterdir())) == 3


def test_processes_that_keep_dying_end_the_run_with_the_sizes(corpus, tmp_path):
    dataset = Once(corpus, indices=range(12), number=signal.SIGKILL, folder=tmp_path)
    with pytest.raises(RuntimeError, match="no file is to blame") as error:
        list(Loader(dataset, batch_size=4, num_workers=2).batches(0, 6))
    text = str(error.value)
    assert text.startswith("4 decoding processes died") and "(SIGKILL)" in text
    assert "2 processes read, and 5 batches of 0 MiB are in flight" in text and " GiB, " in text
    assert len(list(tmp_path.iterdir())) == 4
    # SIGTERM is for everybody; it does not count.
    for path in tmp_path.iterdir():
        path.unlink()
    dataset = Once(corpus, indices=range(12), number=signal.SIGTERM, folder=tmp_path)
    expected = Loader(VideoDataset(corpus, clips=CLIPS, size_px=32), batch_size=4).batches(0, 3)
    assert all_same(expected, Loader(dataset, batch_size=4, num_workers=2).batches(0, 3))
    assert len(list(tmp_path.iterdir())) == 12


def test_after_a_kill_fewer_processes_read(corpus, tmp_path, monkeypatch):
    started = []
    process = pool.multiprocessing.Process
    monkeypatch.setattr(pool.multiprocessing, "Process", lambda **options: started.append(1) or process(**options))
    for number, expected in ((signal.SIGKILL, 3), (signal.SIGALRM, 4)):
        folder = tmp_path / str(int(number))
        folder.mkdir()
        started.clear()
        list(
            Loader(Once(corpus, indices={2}, number=number, folder=folder), batch_size=4, num_workers=3).batches(
                0, 3
            )
        )
        assert len(started) == expected


@pytest.mark.parametrize("workers", ["process", "thread"])
def test_an_exception_that_cannot_be_sent_is_told(corpus, tmp_path, workers):
    dataset = Faulty(corpus, fault=raise_of_an_unknown_class, broken={4}, log=tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)reading .*08\.mp4 failed:\nTraceback .*raise Unknown\(1, 2\)"):
        list(Loader(dataset, batch_size=4, num_workers=2, workers=workers).batches(0, 3))


@pytest.mark.parametrize("workers", ["process", "thread"])
def test_a_refusal_stays_one(corpus, tmp_path, workers):
    dataset = Faulty(corpus, fault=unreadable, broken=set(range(12)), log=tmp_path / "log")
    with pytest.raises(ValueError, match=r"^11 files drawn in succession cannot be read"):
        list(Loader(dataset, batch_size=4, num_workers=2, workers=workers).batches(0, 3))


def test_a_thread_that_hangs_is_told_with_the_file(corpus, tmp_path):
    dataset = Faulty(corpus, fault=lambda path: time.sleep(2), broken={4}, log=tmp_path / "log")
    loader = Loader(dataset, batch_size=4, num_workers=2, workers="thread", timeout_seconds=1)
    with pytest.raises(RuntimeError, match=r"08\.mp4 has been read for more than 1 s, and a thread cannot"):
        list(loader.batches(0, 3))


def test_a_step_that_takes_longer_than_the_timeout_is_no_hang(corpus, tmp_path, caplog):
    # While one reads the first file, the other runs out of work; it is asked again after a long step.
    dataset = Faulty(corpus, fault=lambda path: time.sleep(0.5), broken={0}, log=tmp_path / "log")
    loader = Loader(dataset, batch_size=1, num_workers=2, timeout_seconds=1)
    for step, _ in enumerate(loader.in_order(12)):
        time.sleep(1.2 * (step == 0))
    assert "was lost" not in caplog.text


ORPHANS = """
import sys, time
from functools import partial
from pathlib import Path
import multiprocessing
import torch
from vidssl.data import ArrayDataset, Loader, pool as _pool
from vidssl.data.clips import random_clips
_pool._PARENT_CHECK_SECONDS = 0.1
dataset = ArrayDataset(torch.zeros(8, 2, 3, 4, 4, dtype=torch.uint8), clips=partial(random_clips, num_frames=1))
batches = Loader(dataset, batch_size=4, num_workers=2).batches(0, 1000)
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def test_no_process_outlives_who_started_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as process:
        children = [int(word) for word in process.stdout.readline().split()]
        assert len(children) == 2
        process.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

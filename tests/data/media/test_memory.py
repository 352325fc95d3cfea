"""Memory and descriptors of readers and loaders: what is open holds little, and nothing grows (Linux)."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import moving_square, write_video

from vidssl.data.corpus.entry import Entry
from vidssl.data.media.video import open_audio, open_video
from vidssl.data.samples import Entries
from vidssl.evidence.benchmark import loading

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    loading.make_media(folder)
    return folder


def test_an_open_reader_holds_little(media):
    # 0.5: it holds a decoder, and so the pictures that others refer to: at least 4 of 340 x 256.
    assert 0.5 < loading.reader_mb(media) <= 5


def test_opening_and_closing_leaves_nothing(media):
    megabytes, descriptors = loading.opening_growth(media, 400, 100)
    assert megabytes <= 0.2 and descriptors == 0


class Malloc(ctypes.Structure):
    """What glibc's mallinfo2 says."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc has mallinfo2 from 2.33 on")
def test_a_reading_leaves_nothing(tmp_path):
    """PyAV's generators lose 150 bytes with each that is dropped before its end; readers close theirs."""
    video = write_video(tmp_path / "0.mp4", moving_square(72), tone_hz=440)
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Malloc

    def held() -> int:
        for _ in range(80):
            with open_video(video) as reader:
                reader.frames([1.0])
            with open_audio(video) as sound:
                sound.read(1.5, 0.1, sample_rate_hz=16_000)
        gc.collect()
        return mallinfo().uordblks + mallinfo().hblkhd

    held()
    assert abs(held() - held()) < 80 * 30


@pytest.mark.parametrize("reader", ["pyav", "decord", "image", "folder"])
def test_hundreds_of_clips_leave_nothing(media, reader):
    if reader == "decord":
        pytest.importorskip("decord", reason="decord has wheels for Linux on x86-64 alone")
    megabytes, descriptors = loading.clips_growth(media, reader, 400, 100, num_frames=2)
    assert megabytes < 6 and descriptors == 0


def test_a_loader_and_its_processes_do_not_grow(media):
    megabytes, descriptors = loading.loader_growth(media, "process", 400)
    assert megabytes < 6 and descriptors == 0


# What a child of `fork` writes to of what it shares with its parent, reading every entry. Interned names are let go
# with the objects: `pathlib` interns those it meets, and would write to the objects' own.
COPIED_BY_READING = """
import gc, os
from multiprocessing import get_context
from pathlib import Path
from vidssl.data.corpus.entry import Entry
from vidssl.data.samples import Entries

def private_mb():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1000

def read(entries):
    gc.disable()
    for number in range(len(entries)):
        if number == len(entries) // 2:  # what reading needs at all, pages of code and an arena or two, is there by now
            before = private_mb()
        entry = entries[number]
        assert entry.num_frames == number and entry.path.name and entry.index
    print(private_mb() - before)

def report(entries):
    child = get_context("fork").Process(target=read, args=(entries,))
    child.start()
    child.join()

entries = [
    Entry(Path(f"/videos/{n:06d}.mp4"), n / 7, 25.0, n, 340, 256, False, None, n, index=os.urandom(300))
    for n in range(20_000)
]
report(entries)
entries = Entries(entries)
report(entries)
"""


def test_a_process_that_reads_a_large_corpus_does_not_copy_it():
    # In a process of its own: pages that tests before have left half empty are copied for whatever lands in them.
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COPIED_BY_READING], stdout=subprocess.PIPE, text=True
    )
    of_objects, of_entries = map(float, ran.stdout.split())
    assert of_objects > 5  # 10,000 objects and their indices: about 500 bytes each
    assert of_entries < 0.2 * of_objects


def test_entries_come_out_as_they_went_in():
    odd = [
        Entry(Path("/a/b\ud83d \udcff\n.mp4"), 1 / 3, 29.97, 10, 4, 6, True, True, 3, "part", b"{}\n\x00\n"),
        Entry(Path("/c"), 2.0, 25.0, 50, 8, 8, False, None),
    ]
    entries = Entries(odd)
    assert list(entries) == odd and len(entries) == 2 and entries[-1] == odd[1]
    with pytest.raises(IndexError):
        entries[2]

"""One owner of a folder, files that appear whole."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vidssl.files import locked, move_aside, remove_leftovers, replacing

# Forks that ask for one folder at the same moment: each prints what became of it. Imports no torch.
CROWD = """
import os, sys
from pathlib import Path
from vidssl.files import locked
folder, number = Path(sys.argv[1]), int(sys.argv[2])
gate, opened = os.pipe()
asked, told = os.pipe()
pids = []
for _ in range(number):
    if not (pid := os.fork()):
        os.close(opened)
        os.read(gate, 1)  # until the gate is closed
        try:
            with locked(folder):
                os.write(told, b"won\\n")
                sys.stdin.read()  # until all have asked
        except ValueError as error:
            os.write(told, f"{error}\\n".encode())
        os._exit(0)
    pids.append(pid)
os.close(opened)
answers = b""
while answers.count(b"\\n") < number:
    answers += os.read(asked, 1 << 16)
print(answers.decode(), end="", flush=True)
"""


def test_of_fifty_at_once_exactly_one_gets_in(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CROWD, str(tmp_path / "run"), "50"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        answers = [process.stdout.readline() for _ in range(50)]
        process.stdin.close()
    assert answers.count("won\n") == 1
    refused = [answer for answer in answers if answer != "won\n"]
    assert all(
        f"{tmp_path / 'run'} is in use by " in answer and "choose another --out" in answer for answer in refused
    )
    for _ in range(100):  # the winner, a child of the process that has ended, may take a moment to end itself
        with contextlib.suppress(ValueError), locked(tmp_path / "run"):
            return
        time.sleep(0.1)
    pytest.fail("the winner has ended and still holds the folder")


HOLDER = """
import os, sys, time
from pathlib import Path
from vidssl.files import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path):
    """Process that owns a folder, with a child that outlives it; both are killed at the end."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_the_refused_learn_who_owns_the_folder(tmp_path):
    with holder(tmp_path) as process:
        told = rf"in use by process {process.pid} on .*, since 20\d\d-"
        with pytest.raises(ValueError, match=told), locked(tmp_path):
            pass
        with pytest.raises(ValueError, match=told):
            move_aside(tmp_path)


def test_a_dead_process_blocks_nobody_nor_do_its_children(tmp_path, caplog):
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with caplog.at_level("INFO"), locked(tmp_path):
            assert f"was last used by process {process.pid} on" in caplog.text
            assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()
        assert (tmp_path / "lock").read_text() == ""


def test_a_folder_is_moved_to_the_first_free_name(tmp_path):
    run = tmp_path / "run"
    for number in (1, 2):
        run.mkdir()
        (run / "weights").write_text(str(number))
        assert move_aside(run) == tmp_path / f"run.old-{number}"
    assert [(tmp_path / f"run.old-{number}" / "weights").read_text() for number in (1, 2)] == ["1", "2"]
    assert not run.exists()


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path  # a rename from another file system would be a copy
        temporary.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["file"]


def test_leftovers_have_names_of_ours_alone(tmp_path):
    (tmp_path / f".metrics.jsonl.{os.getpid()}.tmp").write_text(
        ""
    )  # of another process with this number, long ago
    for name in ("notes.tmp", ".mine.tmp", ".a.x.tmp"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.x.tmp", ".mine.tmp", "notes.tmp"]


class Calls:
    """Real calls of the system in their order: what is flushed, and what gets which name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.seen: list[tuple[str, ...]] = []
        fsync, replace, rename = os.fsync, os.replace, os.rename

        def named(path) -> str:
            return re.sub(r"\.\d+\.tmp", ".tmp", str(Path(path).resolve().relative_to(folder.resolve())))

        def spied_fsync(descriptor):
            self.seen.append(("fsync", named(Path(f"/proc/self/fd/{descriptor}").readlink())))
            fsync(descriptor)

        def spied(what, call):
            def move(source, target, **options):
                self.seen.append((what, named(source), named(target)))
                call(source, target, **options)

            return move

        monkeypatch.setattr(os, "fsync", spied_fsync)
        monkeypatch.setattr(os, "replace", spied("rename", replace))
        monkeypatch.setattr(os, "rename", spied("rename", rename))


def test_a_file_is_flushed_before_its_name_and_its_folder_after(tmp_path, monkeypatch):
    calls = Calls(monkeypatch, tmp_path)
    with replacing(tmp_path / "a" / "file") as temporary:
        temporary.write_text("new")
    assert calls.seen == [
        ("fsync", "a/.file.tmp"),
        ("rename", "a/.file.tmp", "a/file"),
        ("fsync", "a"),
    ]


def test_a_checkpoint_is_flushed_before_its_name_and_its_folder_after(tmp_path, monkeypatch):
    from vidssl.train import checkpoint

    checkpoint.save(tmp_path / "run" / "checkpoints", {"a": 1}, step=1)
    shards = tmp_path / "run" / "checkpoints" / ".shards.1.tmp"
    shards.mkdir()
    calls = Calls(monkeypatch, tmp_path / "run")
    new, path = "checkpoints/.step_00000002.tmp", "checkpoints/step_00000002"
    checkpoint.save(tmp_path / "run" / "checkpoints", {"a": 2}, step=2, num_kept=1)
    old = "checkpoints/step_00000001"
    flushed = [("fsync", f"{new}/state.pt"), ("fsync", f"{new}/manifest.json"), ("fsync", new)]
    after = [("rename", new, path), ("fsync", "checkpoints"), ("fsync", ".")]
    # The old one goes only then.
    assert calls.seen == [*flushed, *after, ("rename", old, "checkpoints/.step_00000001.tmp")]
    calls.seen.clear()
    checkpoint.save(tmp_path / "run" / "checkpoints", {"a": 2}, step=3, num_kept=2, shards=shards, shard_files={})
    moved = [
        ("rename", "checkpoints/.shards.tmp", f"{new[:-5]}3.tmp/shards"),
        ("fsync", f"{new[:-5]}3.tmp/shards"),
    ]
    assert calls.seen == [
        *moved,
        *((name, *(one.replace("02", "03") for one in rest)) for name, *rest in flushed + after),
    ]


@pytest.mark.skipif(not hasattr(os, "umask"), reason="no masks of modes here")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_an_export_has_the_mode_of_its_neighbours(tmp_path, mask):
    from vidssl.models import ConvNet, export_encoder

    before = os.umask(mask)
    try:
        export_encoder(ConvNet(widths=(2,), strides=(2,)), tmp_path / "encoder.safetensors")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"encoder.safetensors": 0o666 & ~mask, "encoder.json": 0o666 & ~mask}

"""Malformed lists and wrong command lines: one paragraph that names file and line or option, exit code 2."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import moving_square, write_video

from vidssl.cli import main

pytestmark = pytest.mark.usefixtures("looked_at_here")

# Name, content, what the message says after the name of the list.
LISTS = [
    ("l.txt", "", " lists no files; expected one per line, e.g. 'clips/run.mp4 0'"),
    ("l.txt", "\n  \n\r\n", " lists no files"),
    ("l.txt", "\ufeff", " lists no files"),
    ("l.txt", "a.mp4\nabsent.mp4\n", ":2: .*absent.mp4 does not exist; paths are relative to the list's folder"),
    ("l.txt", "x.mp4\ny.mp4\na.mp4\n", r":1: .*x.mp4 does not exist \(2 of 3 lines name no file\)"),
    ("l.txt", "a.mp4 1\nb.mp4\n", ":2: has no label, unlike line 1; either every line has a label or none"),
    ("l.txt", "a.mp4\nb.mp4 1\n", ":2: has the label '1', unlike line 1"),
    (
        "l.txt",
        "a.mp4\t1\t2\n",
        ":1: 3 columns without a heading are path, label and split, but '2' is neither train",
    ),
    ("l.txt", "\ta.mp4\n", r":1: .*\\ta.mp4 does not exist"),
    ("l.txt", "a.mp4\t\n", ":1: the label is empty; a tab separates the columns"),
    ("l.txt", "a.mp4 -1\n", ":1: label is -1; labels are whole numbers from 0, or names"),
    ("l.txt", "a.mp4 0\nb.mp4 1.5\n", ":2: label is 1.5; labels are whole numbers from 0, or names"),
    ("l.txt", "a.mp4 0\nb.mp4 4000000000\n", ":2: label is 4000000000; classes are counted from 0 to 9999999"),
    ("l.txt", "a.mp4 " + "9" * 5000 + "\n", ":1: label is 9{40}; classes are counted from 0"),
    ("l.txt", "a.mp4\nhttp://example.org/b.mp4\n", ":2: 'http://example.org/b.mp4' is a URL; only local files"),
    ("l.txt", "s3://bucket/a.mp4 1\n", ":1: 's3://bucket/a.mp4' is a URL"),
    ("l.txt", "concat:a.mp4|b.mp4\n", ":1: .*concat:a.mp4.* does not exist"),
    ("l.txt", "../a.mp4\n", ":1: '../a.mp4' leads out of "),
    ("l.txt", "/etc/passwd\n", ":1: '/etc/passwd' leads out of "),
    ("l.txt", "a.mp4;1\nb.mp4|0\n", ":2: has no label, unlike line 1; .*; a semicolon separates the columns"),
    ("l.txt", "a.mp4|1\n", ":1: .*a.mp4|1 does not exist"),
    (
        "l.txt",
        "a.mp4,1\nb.mp4;2\n",
        ":1: can be read in two ways: separated by a comma it is 'a.mp4' and '1', by a",
    ),
    ("l.txt", "A.MP4.\n", ":1: .*A.MP4. does not exist"),
    ("l.txt", "# my videos\na.mp4\n", ":1: .*# my.* does not exist"),
    ("l.txt", "a.mp4\x00\n", ":1: .*a.mp4.* does not exist"),
    ("l.txt", "absent.mp4".encode("utf-16"), ":1: .*absent.mp4 does not exist"),
    ("l.txt", b"a\xff\xfe.mp4\n", r":1: .*a\\udcff\\udcfe.mp4 does not exist"),
    ("l.csv", "", " lists no files; expected one per line, e.g. 'clips/run.mp4,0'"),
    ("l.csv", "path,label\n", " lists no files"),
    ("l.csv", "path;label\na.mp4,1\n", ":2: has no label, unlike line 1; .*; a semicolon separates the columns"),
    ("l.csv", "a.mp4,1,0\n", ":1: 3 columns without a heading are path, label and split"),
    ("l.csv", "path,label,split\na.mp4,1\n", ":2: 2 columns, expected 3 as in line 1"),
    ("l.csv", "path,label\na.mp4,\n", ":2: the label is empty"),
    ("l.csv", "path,label\n,1\n", ":2: the path is empty"),
    ("l.csv", "path,label\na.mp4,0\ngone.mp4,1\n", ":3: .*gone.mp4 does not exist"),
    ("l.csv", 'path\n"a.mp4\n', ":2: unexpected end of data; expected e.g. 'clips/run.mp4,0'"),
    ("l.csv", 'path\n"a".mp4\n', ":2: .*expected e.g."),
    ("l.csv", "clip,kind\na.mp4,0\n", ":1: .*clip does not exist"),
    ("l.csv", "label,name\n0,a.mp4\n", " has no column 'path'; call the one that holds it path: label, name"),
    ("l.csv", "path,label\r\na.mp4,0\r\nb.mp4\r\n", ":3: has no label, unlike line 2"),
    ("l.csv", "path,label\na.mp4,-3\n", ":2: label is -3; labels are whole numbers from 0, or names"),
    ("l.csv", "path,label\na.mp4,ftp://x\nftp://host/a.mp4,y\n", ":3: 'ftp://host/a.mp4' is a URL"),
]

# Command line, option or word that is to blame, what the message says.
LINES = [
    ("frobnicate", "frobnicate", "the commands are pretrain, evaluate davis"),
    ("pretain", "pretain", "perhaps you meant pretrain"),
    ("evaluate davis --root", "--root", "Missing value"),
    ("evaluate davsi", "davsi", "perhaps you meant evaluate davis"),
    ("check", "check", "perhaps you meant data check"),
    ("pretrain", "config", "the config comes first"),
    ("pretrain --root x", "config", "the config comes first"),
    ("pretrain colorization_resnet", "colorization_resnet", "perhaps you meant video/colorization_resnet18"),
    ("pretrain absent.py", "absent.py", "there is no config file absent.py"),
    ("pretrain video/colorization_resnet18", "--root", "required"),
    ("pretrain video/colorization_resnet18 --root absent", "absent", "does not exist; give a folder"),
    ("pretrain video/colorization_resnet18 --root empty", "empty", "holds no video files"),
    ("pretrain video/colorization_resnet18 --root a.mp4", "a.mp4", "is neither a folder nor a list"),
    ("pretrain video/colorization_resnet18 --root . --stepz 4", "--stepz", "--steps"),
    ("pretrain video/colorization_resnet18 --root . --steps four", "--steps", "four"),
    ("pretrain video/colorization_resnet18 --root . --steps", "--steps", "Missing value"),
    ("pretrain video/colorization_resnet18 --root . --precision float8", "--precision", "bfloat16"),
    ("pretrain video/colorization_resnet18 --root . --device tpu", "--device", "expected auto, cpu, cuda"),
    ("pretrain video/colorization_resnet18 --root . --seed 1.5", "--seed", "1.5"),
    ("data check", "ROOT", "required"),
    ("data check absent", "absent", "does not exist; give a folder"),
    ("data check . --media sound", "--media", "image"),
    ("data prepare . --out prepared --crf high", "--crf", "high"),
    ("data prepare .", "--out", "required"),
    ("report absent", "absent", "is no run folder: it holds no run.json"),
    ("export absent", "absent", "holds no encoder yet"),
    ("evaluate davis --root absent --model identity", "absent", "absent"),
    ("evaluate davis --root . --model identity", "JPEGImages/480p", "is not a folder; expected ./JPEGImages/480p"),
    ("evaluate knn --root absent --model identity", "absent", "absent"),
    ("propagate a.mp4 --labels b.png --model resnet9000", "resnet9000", "no such file or folder. Accepted:"),
]


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two videos, an empty one beside them, and a cache of its own."""
    (tmp_path / "here" / "empty").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / "here" / name, moving_square(3))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, str]:
    """Exit code and what was said on stderr, in this process; tyro leaves by SystemExit."""
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    return code, capsys.readouterr().err


def paragraph(text: str) -> str:
    """One line without the frame that tyro draws."""
    return " ".join(re.sub(r"[\u2500-\u257f]", " ", text).split())


@pytest.mark.parametrize(("name", "content", "message"), LISTS)
def test_malformed_lists(
    capsys: pytest.CaptureFixture[str], name: str, content: str | bytes, message: str
) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, text = answer(capsys, ["data", "check", name])
    assert code == 2 and "Traceback" not in text
    assert text.startswith("error: ") and text.strip().count("\n\n") == 0
    # Exactly one message, which begins with the list and, where a line is to blame, its number.
    assert re.match(rf"error: {re.escape(str(Path.cwd() / name))}{message}", paragraph(text)), text


@pytest.mark.parametrize(("line", "blamed", "message"), LINES)
def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], line: str, blamed: str, message: str) -> None:
    code, text = answer(capsys, shlex.split(line))
    said = paragraph(text)
    assert code == 2 and "Traceback" not in text
    assert blamed.lower() in said.lower() and message in said, said
    assert not Path("runs").exists() or not [*Path("runs").rglob("*.json")]


def test_there_are_as_many_as_promised() -> None:
    assert len({(name, content) for name, content, _ in LISTS}) >= 30
    assert len({line for line, _, _ in LINES}) >= 20


def test_the_process_answers_as_its_function_does(capsys: pytest.CaptureFixture[str]) -> None:
    Path("l.csv").write_text("path,label\na.mp4,0\ngone.mp4,1\n")
    for line in ("data check l.csv", "pretain"):
        words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", "vidssl.cli", *words],
            capture_output=True,
            text=True,
            env=dict(os.environ),
        )
        code, text = answer(capsys, words)
        assert (done.returncode, paragraph(done.stderr), done.stdout) == (code, paragraph(text), "")
        assert code == 2

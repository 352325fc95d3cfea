"""Archives: what they hold arrives unchanged, and what is hostile or broken is refused and leaves nothing behind."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tiny_archives import vint, write_rar4, write_rar5, write_tar, write_zip

from vidssl.data.corpus.tars import media_members
from vidssl.data.lists import archive_limits
from vidssl.data.published import archives, members, rar
from vidssl.data.published.archives import Published, below, extract, prepare

pytestmark = pytest.mark.usefixtures("looked_at_here")

FILES = {"set/a.txt": b"first", "set/deep/b.bin": bytes(range(256)) * 300, "set/empty": b""}
PROGRAM = next((name for name in rar.PROGRAMS if shutil.which(name)), None)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill_from(archive: Path, **options):
    def fill(folder: Path) -> dict[str, int]:
        return {"files": extract(archive, folder, **{"max_bytes": 2**20, **options})}

    return fill


def unpack(archive: Path, out: Path, **options) -> bool:
    given = [(Published(archive.name, "somewhere"), archive)]
    return prepare(out, given, fill_from(archive, **options))


def assert_untouched(tmp_path: Path, archive: Path) -> None:
    """Nothing but the archive is there, also one folder further up."""
    assert [path.name for path in tmp_path.iterdir()] == [archive.parent.name]
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


# Content.


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.zip", write_zip),
        ("a.tar", write_tar),
        ("a.tar.gz", lambda path, files: write_tar(path, files, "w:gz")),
        ("a.tar.xz", lambda path, files: write_tar(path, files, "w:xz")),
        ("misnamed.rar", write_zip),
    ],
)
def test_files_arrive_unchanged(here, name, write):
    archive = write(here / name, FILES)
    assert unpack(archive, here / "out", place=below("set"))
    record = json.loads((here / "out" / "prepared.json").read_text())
    assert record["counts"] == {"files": 3}
    assert record["files"][name]["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    (here / "out" / "prepared.json").unlink()
    assert contents(here / "out") == FILES
    assert not [path for path in here.iterdir() if path.name not in (name, "out")]


def test_parts_are_one_archive(here):
    whole = write_tar(here / "whole.tgz", FILES, "w:gz").read_bytes()
    parts = [here / f"part-{number}" for number in range(3)]
    for part, start in zip(parts, (0, 100, 101), strict=True):
        part.write_bytes(whole[start : {0: 100, 100: 101}.get(start)])
    assert extract(parts, here / "out", max_bytes=2**20) == 3
    assert contents(here / "out") == FILES


def test_place_chooses_and_renames_and_litter_is_left_out(here):
    litter = {"__MACOSX/set/._a.txt": b"x", "set/.DS_Store": b"x", "set/deep/._b.bin": b"x"}
    archive = write_zip(here / "a.zip", {**FILES, **litter})
    names = []

    def place(name: str) -> str | None:
        names.append(name)
        return "only.bin" if name.endswith(".bin") else None

    assert extract(archive, here / "out", max_bytes=2**20, place=place) == 1
    assert contents(here / "out") == {"only.bin": FILES["set/deep/b.bin"]}
    assert names == list(FILES)


def test_backslashes_are_folders(here):
    archive = write_zip(here / "a.zip", {"set\\deep\\c.txt": b"c"})
    extract(archive, here / "out", max_bytes=99, place=below("deep"))
    assert contents(here / "out") == {"deep/c.txt": b"c"}


def test_the_same_file_twice_is_one_and_another_for_its_place_is_refused(here):
    archive = write_zip(here / "a.zip", {"x/a.txt": b"1" * 3_000_000, "y/a.txt": b"1" * 3_000_000})
    extract(archive, here / "out", max_bytes=2**24, place=lambda name: "a.txt")
    assert (here / "out" / "a.txt").read_bytes() == b"1" * 3_000_000
    other = write_zip(here / "b.zip", {"a.txt": b"1" * 2_999_999 + b"2"})
    with pytest.raises(ValueError, match=r"b\.zip has another content for a\.txt"):
        extract(other, here / "out", max_bytes=2**24)


# Preparing.


def test_again_does_nothing_and_another_archive_is_refused(here):
    archive = write_zip(here / "a.zip", FILES)
    assert unpack(archive, here / "out") is True
    before = (here / "out" / "set/a.txt").stat().st_mtime_ns
    assert unpack(archive, here / "out") is False
    assert (here / "out" / "set/a.txt").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"out was prepared from other files \(a\.zip\)"):
        unpack(write_zip(here / "b.zip", FILES), here / "out")
    (here / "mine").mkdir()
    (here / "mine" / "x").touch()
    with pytest.raises(ValueError, match="mine already holds files"):
        unpack(archive, here / "mine")


def test_what_a_killed_run_left_is_replaced(here):
    (here / ".out.preparing" / "set").mkdir(parents=True)
    (here / ".out.preparing" / "set" / "a.txt").write_bytes(b"half")
    unpack(write_zip(here / "a.zip", FILES), here / "out")
    assert contents(here / "out")["set/a.txt"] == b"first"


def test_a_missing_file_says_which_and_where_from(here):
    one, two = Published("one.zip", "https://a.example"), Published("two.zip", "https://b.example")
    with pytest.raises(
        ValueError, match=r"get one\.zip \(not given\) from https://a\.example; two\.zip \(.*x is no"
    ):
        prepare(here / "out", [(one, None), (two, here / "x")], lambda folder: {})
    assert not list(here.iterdir())


def test_published_checksum_and_counts_are_compared(tmp_path, here):
    archive = write_zip(here / "a.zip", FILES)
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    wrong = [(Published("a.zip", "somewhere", md5="0" * 32), archive)]
    with pytest.raises(ValueError, match=f"has the MD5 {md5}; a.zip is published with 00000"):
        prepare(here / "out", wrong, fill_from(archive))
    right = [(Published("a.zip", "somewhere", md5=md5), archive)]
    with pytest.raises(ValueError, match="the files hold 3 files; published are 4 files"):
        prepare(here / "out", right, fill_from(archive), expected={"files": 4})
    assert_untouched(tmp_path, archive)
    assert prepare(here / "out", right, fill_from(archive), expected={"files": 3})
    assert prepare(here / "taken", wrong, fill_from(archive), expected={"files": 4}, check=False)


# Hostile and broken archives.


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\evil", "a/.."]
)
@pytest.mark.parametrize("write", [write_zip, write_tar, write_rar4, write_rar5])
def test_names_that_lead_out_are_refused(tmp_path, here, name, write):
    archive = write(here / "a.bin", {"good": b"good", name: b"evil"})
    with pytest.raises(ValueError, match=r"which leads out of the folder it is unpacked into; refused"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


def test_a_place_that_leads_out_is_refused(tmp_path, here):
    archive = write_zip(here / "a.zip", {"good": b"good"})
    with pytest.raises(ValueError, match="leads out"):
        unpack(archive, here / "out", place=lambda name: f"../{name}")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path, here, kind):
    archive = here / "a.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "../.."
        tar.addfile(info)
        inside = tarfile.TarInfo("link/evil")
        inside.size = 4
        tar.addfile(inside, io.BytesIO(b"evil"))
    with pytest.raises(ValueError, match=r"holds 'link', which is a link or a device; refused"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


def test_links_in_zip_are_refused(tmp_path, here):
    archive = here / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "../..")
    with pytest.raises(ValueError, match="holds 'link', which is a link or a device; refused"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"write": write_rar4, "mode": 0o120777}, "a link"),
        ({"write": write_rar4, "flags": 0x04}, "encrypted"),
        ({"write": write_rar4, "flags": 0x02}, "split over several archives"),
        ({"write": write_rar5, "extra": vint(5) + vint(5) + vint(1) + vint(0) + vint(1) + b"x"}, "a link"),
        ({"write": write_rar5, "extra": vint(2) + vint(1) + vint(0)}, "encrypted"),
    ],
)
def test_links_in_rar_are_refused_before_any_program_sees_them(tmp_path, here, options, reason):
    write = options.pop("write")
    archive = write(here / "a.rar", {"name": b"../.."}, **options)
    with pytest.raises(ValueError, match=f"holds 'name', which is {reason}; refused"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize("write", [write_zip, write_tar, lambda path, files: write_tar(path, files, "w:gz")])
def test_more_than_expected_is_refused(tmp_path, here, write):
    archive = write(here / "bomb", {"small": b"1", "large": bytes(2**20)})
    with pytest.raises(ValueError, match=r"holds more than 0\.000977 GiB, the most expected"):
        unpack(archive, here / "out", max_bytes=2**20)
    assert_untouched(tmp_path, archive)
    assert extract(archive, here / "out", max_bytes=2**20 + 1) == 2


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path, here):
    archive = write_zip(here / "a.zip", {"large": bytes(2**20)})
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<I", 2**20), struct.pack("<I", 16)))
    with pytest.raises(ValueError, match="is damaged"):
        unpack(archive, here / "out", max_bytes=2**10)
    assert_untouched(tmp_path, archive)


def test_no_room_on_the_disk_is_said_first(tmp_path, here):
    archive = here / "a.zip"
    huge = shutil.disk_usage(here).total + 2**30
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("x")
        file.writestr(info, b"x")
        file.getinfo("x").file_size = huge  # only the central directory says so
    with pytest.raises(ValueError, match=r"a\.zip needs .* GiB in .*, which has .* GiB left"):
        unpack(archive, here / "out", max_bytes=2**62)
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize(
    ("write", "cut", "reason"),
    [
        (write_zip, 200, "is damaged"),
        (lambda path, files: write_tar(path, files, "w:gz"), 300, "damaged"),
        (write_tar, 2000, "damaged"),
        (write_rar4, 70, "damaged"),
        (write_rar5, 60, "damaged"),
        (lambda path, files: path.write_text("<html>Quota exceeded</html>") and path, None, "a web page may have"),
    ],
)
def test_broken_archives_are_named(tmp_path, here, write, cut, reason):
    archive = write(here / "a.bin", FILES)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ValueError, match=rf"a\.bin.*{reason}"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


def test_a_changed_byte_is_noticed(tmp_path, here):
    archive = here / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x", b"content that is stored as it is")
    archive.write_bytes(archive.read_bytes().replace(b"stored", b"stared"))
    with pytest.raises(ValueError, match="is damaged"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


# Rar.


@pytest.mark.parametrize("write", [write_rar4, write_rar5])
def test_rar_archives_are_listed(here, write):
    entries = rar.list_rar(write(here / "a.rar", FILES))
    assert [(entry.name.replace("\\", "/"), entry.num_bytes, entry.trouble) for entry in entries] == [
        (name, len(content), "") for name, content in FILES.items()
    ]


@pytest.mark.parametrize("write", [write_rar4, write_rar5])
@pytest.mark.skipif(PROGRAM is None, reason="no program that unpacks rar archives is installed")
def test_rar_archives_are_unpacked(here, write):
    files = {name: content for name, content in FILES.items() if content}
    archive = write(here / "a.rar", files)
    unpack(archive, here / "out")
    (here / "out" / "prepared.json").unlink()
    assert contents(here / "out") == files


def test_without_a_program_the_error_names_those_that_would_do(tmp_path, here, monkeypatch):
    monkeypatch.setenv("PATH", str(here / "nothing"))
    archive = write_rar4(here / "a.rar", FILES)
    with pytest.raises(ValueError, match=r"none of the programs .* unrar, unar, 7z, 7zz, bsdtar"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("ln -s /etc/passwd a.txt", "holds links or devices"),
        ("printf 12345678901234567890 > a.txt", "lists 1 files, of which 1 came out whole"),
        (
            "echo cannot do this >&2; exit 3",
            r"a\.rar cannot be unpacked; it may be damaged\. bsdtar: cannot do this",
        ),
    ],
)
def test_what_the_program_wrote_is_looked_at(tmp_path, here, monkeypatch, script, message):
    """A program that behaves badly on an archive that looks well."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bsdtar").write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\ncd "$5" || exit 1\n{script}\n')
    (programs / "bsdtar").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    archive = write_rar4(here / "a.rar", {"a.txt": b"first"})
    with pytest.raises(ValueError, match=message):
        unpack(archive, here / "out")
    shutil.rmtree(programs)
    assert_untouched(tmp_path, archive)


def test_when_one_program_fails_the_next_is_asked(here, tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in {"unrar": 'echo half > "$6/half"; exit 1', "bsdtar": 'printf first > "$5/a.txt"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    unpack(write_rar4(here / "a.rar", {"a.txt": b"first"}), here / "out")
    assert contents(here / "out")["a.txt"] == b"first" and len(contents(here / "out")) == 2


def test_programs_get_paths_that_are_no_options(here, monkeypatch):
    """An archive called -x.rar, given by a relative path, in a folder with a quote and a space in its name."""
    folder = here / "a 'b"
    folder.mkdir()
    (here / "bsdtar").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$5/said"\n')
    (here / "bsdtar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.setattr(rar, "PROGRAMS", {"bsdtar": rar.PROGRAMS["bsdtar"]})
    monkeypatch.chdir(folder)
    rar.unpack_rar(write_rar4(Path("-x.rar"), FILES), Path())
    assert (folder / "said").read_text().split("\n")[:5] == ["-x", "-f", f"{folder}/-x.rar", "-C", str(folder)]


# The command.


def test_what_the_user_did_wrong_is_one_paragraph(tmp_path):
    root = Path(archives.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, root / "datasets" / "prepare_esc50.py", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "error: nothing is downloaded here; get ESC-50-master.zip (not given) from https://github.com"
        in done.stderr
    )


# Limits.


def header_of(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"X"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tar_headers_of_absurd_size_are_refused_unread(tmp_path, here, kind, pack):
    """A header says 8 GiB; nothing of that is there, as the limit must come before."""
    archive = here / "a.tar"
    archive.write_bytes(pack(header_of("x", 8 * 2**30, kind) + bytes(1024)))
    with pytest.raises(ValueError, match=r"a\.tar has a header of 8,589,934,592 bytes, more than 1,048,576"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


def sized(size: int, how: str) -> bytes:
    """A header of a member "x.mp4" of so many bytes, less than none: in base 256, octal or beforehand (pax)."""
    info = tarfile.TarInfo("x.mp4")
    if how == "pax":
        info.pax_headers = {"size": str(size)}
        return info.tobuf(tarfile.PAX_FORMAT)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True) if how == "base 256" else b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("how", ["base 256", "octal", "pax"])
@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**40)])
def test_members_of_less_than_nothing_are_refused(tmp_path, here, size, how):
    """What follows such a member would be looked for before it: for ever, or twice."""
    archive = here / "a.tar"
    archive.write_bytes(header_of("first.mp4", 0, b"0") + sized(size, how) + bytes(1024))
    if how == "octal" and size == -(2**40):
        return  # does not fit
    message = rf"^\S*a\.tar holds 'x\.mp4', whose size is {size}; it is damaged, get it again$"
    with pytest.raises(ValueError, match=message):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)
    with archive.open("rb") as stream, pytest.raises(ValueError, match=message):
        media_members(stream, str(archive))


def test_headers_in_a_row_are_refused(tmp_path, here):
    archive = here / "a.tar"
    long = header_of("x", 5, b"L") + b"name".ljust(512, b"\0")
    for count, fine in ((8, True), (9, False), (3000, False)):
        archive.write_bytes(long * count + header_of("x", 0, b"0") + bytes(1024))
        if fine:
            assert extract(archive, here / "out", max_bytes=10) == 1
            shutil.rmtree(here / "out")
        else:
            with pytest.raises(ValueError, match=r"more than 8 headers before a single member"):
                unpack(archive, here / "out")
            assert_untouched(tmp_path, archive)


def test_global_headers_add_up_to_the_limit(tmp_path, here, monkeypatch):
    monkeypatch.setattr(archive_limits, "MAX_HEADER_BYTES", 2048)
    one = header_of("x", 800, b"g") + b"800 a=".ljust(799, b"b") + b"\n" + bytes(224) + header_of("x", 0, b"0")
    (here / "a.tar").write_bytes(one * 3 + bytes(1024))
    with pytest.raises(ValueError, match=r"has a header of 2,400 bytes, more than 2,048"):
        unpack(here / "a.tar", here / "out")


@pytest.mark.parametrize("version", ["1.0", "0.1", "0.0"])
def test_sparse_files_are_refused_before_their_map(tmp_path, here, version):
    major, minor = version.split(".")
    facts = {
        "GNU.sparse.major": major,
        "GNU.sparse.minor": minor,
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "9",
    }
    facts |= {"GNU.sparse.map": "0,9", "GNU.sparse.size": "9", "GNU.sparse.numblocks": "999999999"}
    kept = {
        "1.0": ("major", "minor", "name", "realsize"),
        "0.1": ("map", "name", "size"),
        "0.0": ("size", "numblocks"),
    }
    headers = {name: value for name, value in facts.items() if name.rpartition(".")[2] in kept[version]}
    archive = here / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("x")
        info.pax_headers = headers
        info.size = 512
        file.addfile(info, io.BytesIO(b"999999999\n".ljust(512, b"0")))
    with pytest.raises(ValueError, match=r"holds a sparse file; refused"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize("write", [write_zip, write_tar, write_rar4, write_rar5])
def test_too_many_members_are_refused(tmp_path, here, monkeypatch, write):
    files = {f"{number}.txt": b"x" for number in range(5)}
    archive = write(here / "a.bin", files)
    monkeypatch.setattr(archive_limits, "MAX_MEMBERS", 4)
    with pytest.raises(ValueError, match=r"a\.bin holds more than 4 members \(MAX_MEMBERS\)"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)
    monkeypatch.setattr(archive_limits, "MAX_MEMBERS", 5)
    if write in (write_zip, write_tar):
        assert extract(archive, here / "out", max_bytes=100) == 5


def zeros_zip(path: Path) -> Path:
    return write_zip(path, {"a": bytes(10**6)})


def zeros_tar(path: Path) -> Path:
    return write_tar(path, {"a": bytes(10**6)}, "w:gz")


def zeros_rar(path: Path) -> Path:
    content = write_rar5(path, {"a": bytes(16384)}).read_bytes()
    path.write_bytes(content.replace(vint(16384) + vint(0o100644), vint(2 * 10**6) + vint(0o100644)))
    return path


@pytest.mark.parametrize("write", [zeros_zip, zeros_tar])
def test_expansion_is_bounded(tmp_path, here, monkeypatch, write):
    archive = write(here / "a.bin")
    assert extract(archive, here / "out", max_bytes=2 * 10**6) == 1
    shutil.rmtree(here / "out")
    monkeypatch.setattr(archive_limits, "FREE_BYTES", 10**5)
    with pytest.raises(ValueError, match=r"a\.bin unpacks to more than 200 times its size \(MAX_RATIO\)"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize("is_64", [False, True])
def test_a_zip_directory_is_measured_before_it_is_read(tmp_path, here, monkeypatch, is_64):
    archive = write_zip(here / "a.zip", {f"{number}.txt": b"x" for number in range(20)})
    if is_64:
        content = archive.read_bytes()
        end = content[-22:]
        count, size, start = struct.unpack_from("<HII", end, 10)
        record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
        locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(content) - 22, 1)
        hidden = end[:8] + struct.pack("<HHII", 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1) + end[20:]
        archive.write_bytes(content[:-22] + record + locator + hidden)
        assert len(zipfile.ZipFile(archive).namelist()) == 20
    monkeypatch.setattr(archive_limits, "MAX_DIRECTORY_BYTES", 100)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # it would read all of it
    with pytest.raises(ValueError, match=r"a\.zip has a directory of [\d,]+ bytes, more than 100"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_unpack_in_one_piece_are_refused(tmp_path, here, kind):
    archive = here / "a.zip"
    with zipfile.ZipFile(archive, "w", kind) as file:
        file.writestr("x", bytes(1000))
    with pytest.raises(ValueError, match=rf"a\.zip holds 'x' in compression {kind}; expected 0 .* or 8"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"Rar!\x1a\x07\x01\x00" + bytes(4) + vint(2**40),
            "has a header of 1,099,511,627,776 bytes, more than 2,097,152",
        ),
        (b"Rar!\x1a\x07\x01\x00" + bytes(4) + b"\xff" * 200, "ends in the middle of a header"),
        (b"Rar!\x1a\x07\x00" + struct.pack("<HBHH", 0, 0x73, 0, 3), "ends in the middle of a header"),
        (
            b"Rar!\x1a\x07\x00" + struct.pack("<HBHHI", 0, 0x75, 0x8000, 11, 2**32 - 1),
            "ends in the middle of a header",
        ),
    ],
)
def test_rar_headers_of_absurd_size_are_refused(tmp_path, here, content, message):
    archive = here / "a.rar"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.rar {message}"):
        unpack(archive, here / "out")
    assert_untouched(tmp_path, archive)


def test_a_rar_archive_of_too_much_is_refused_before_any_program_sees_it(tmp_path, here, monkeypatch):
    archive = zeros_rar(here / "a.rar")
    monkeypatch.setattr(members, "unpack_rar", None)
    with pytest.raises(ValueError, match=r"a\.rar holds more than 9.54e-07 GiB"):
        unpack(archive, here / "out", max_bytes=1024)
    monkeypatch.setattr(archive_limits, "FREE_BYTES", 10**5)
    monkeypatch.setattr(archive_limits, "MAX_RATIO", 50)
    with pytest.raises(ValueError, match=r"a\.rar unpacks to more than 50 times its size"):
        unpack(archive, here / "out", max_bytes=10**9)
    assert_untouched(tmp_path, archive)


def test_programs_have_limits(here, monkeypatch, tmp_path):
    """What the program is told of its memory and of the size of files, in blocks of 1024 and 512 bytes."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bsdtar").write_text('#!/bin/sh\n(ulimit -v; ulimit -f) | tr "\\n" " " > "$5/a.txt"\n')
    (programs / "bsdtar").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.setattr(rar, "PROGRAMS", {"bsdtar": rar.PROGRAMS["bsdtar"]})
    expected = b"6291456 1 "
    unpack(write_rar4(here / "a.rar", {"a.txt": expected}), here / "out")
    assert (here / "out" / "a.txt").read_bytes() == expected

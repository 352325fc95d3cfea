"""`vidssl data prepare`: the same frames at the same times with the same sound, in files that are quick to read."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import signal
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from conftest import files_of_both, moving_square, write_video
from media import encode, numbered, tone
from processes import command

from vidssl.cli import main
from vidssl.data import scan
from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.encode import encode_file, even_size, exact_ticks
from vidssl.data.corpus.prepare import Prepared, prepare
from vidssl.data.media.isolation import call_each
from vidssl.data.media.packets.index import read_index, stated_index
from vidssl.data.media.video import open_video


def small(root: Path, out: Path, **options) -> Prepared:
    fixed = {"num_workers": 1, "num_timed_clips": 0, "progress": False, "short_side_px": 32}
    return prepare(root, out=out, **{**fixed, **options})


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of each picture of two arrays (T, ...) of 8 bits, dB."""
    error = (first.astype(np.float64) - second).reshape(len(first), -1)
    return 10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-3))


def pictures(path: Path, *, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every frame of a file at (height, width), and its time."""
    with open_video(path) as reader:
        number_and_picture = reader._pictures(range(reader.info.num_frames), height=size[0], width=size[1])
        return np.stack(
            [one for _, one in sorted(number_and_picture, key=lambda pair: pair[0])]
        ), reader.info.pts_seconds


def check_frames(
    source: Path, target: Path, *, size: tuple[int, int], at_least_db: float, moving: bool = False
) -> None:
    """Every prepared frame is that of the source, at its time."""
    ours, times = pictures(target, size=size)
    theirs, source_times = pictures(source, size=size)
    np.testing.assert_allclose(times, source_times, rtol=0, atol=1e-9)
    with open_video(target) as reader:
        assert (reader.info.height, reader.info.width, reader.info.rotation_degrees) == (*size, 0)
    own = psnr(ours, theirs)
    assert own.min() > at_least_db
    if moving:  # no other picture is as near
        assert (own[1:] > psnr(ours[1:], theirs[:-1])).all() and (own[:-1] > psnr(ours[:-1], theirs[1:])).all()


def write_clip(
    path: Path, frames: np.ndarray, *, ticks: list[int], unit: Fraction, codec: str, wave: np.ndarray | None = None,
    wave_start_seconds: float = 0.0, pix_fmt: str = "yuv420p",
) -> Path:  # fmt: skip
    """Encode pictures at times of one's choice, with mono sound of 16 kHz in a codec of one's choice."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8", "bf": "2", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = unit
        sound = None if wave is None else container.add_stream(codec, rate=16_000, layout="mono")
        for tick, picture in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None and wave is not None:
            samples = (wave[None] * 32767).astype(np.int16)
            audio = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            audio.sample_rate, audio.pts = 16_000, round(wave_start_seconds * 16_000)
            container.mux(sound.encode(audio))
            container.mux(sound.encode())
    return path


# What a prepared file is.


def test_every_frame_at_its_time_in_groups_of_eight(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_square(50, size_px=96), fps=30, tone_hz=440)
    target = tmp_path / "b.mp4"
    assert encode_file(source, target, short_side_px=64) == {"num_frames": 50, "note": ""}
    check_frames(source, target, size=(64, 64), at_least_db=28, moving=True)
    with av.open(str(target)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, 50, 8))
        assert [packet.pts for packet in packets] == [packet.dts for packet in packets]  # nothing is reordered
        assert (np.diff([packet.dts for packet in packets]) == packets[1].pts - packets[0].pts).all()
        for setting in (
            b"bframes=0",
            b"cabac=0",
            b"deblock=0:",
            b"keyint=8",
            b"weightp=0",
        ):  # x264 writes them down
            assert setting in bytes(packets[0])
    with av.open(str(target)) as container:
        assert [PictureType(frame.pict_type).name for frame in container.decode(video=0)] == list(
            ("I" + 7 * "P") * 7
        )[:50]


@pytest.mark.usefixtures("looked_at_here")
def test_what_a_file_states_of_its_index_is_believed_as_long_as_its_table_agrees(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_square(30), fps=30)
    encode_file(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = container.streams.video[0]
        stated, found = stated_index(container, stream), read_index(container, stream)
        for field in dataclasses.fields(found):
            np.testing.assert_array_equal(getattr(stated, field.name), getattr(found, field.name))
        assert (found.is_entry.nonzero()[0] == [0, 8, 16, 24]).all() and found.distrust is None
        cut.metadata["comment"] = container.metadata["comment"]
        track = cut.add_stream_from_template(stream)
        container.seek(0)
        for packet in itertools.islice(container.demux(stream), 20):
            packet.stream = track
            cut.mux(packet)
    for name in ("a.mp4", "cut.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert stated_index(container, container.streams.video[0]) is None
    whole, _ = pictures(tmp_path / "b.mp4", size=(64, 64))
    part, _ = pictures(tmp_path / "cut.mp4", size=(64, 64))
    np.testing.assert_array_equal(part, whole[:20])
    damaged = bytearray((tmp_path / "b.mp4").read_bytes())
    (tmp_path / "short.mp4").write_bytes(damaged[:-2000])
    with av.open(str(tmp_path / "short.mp4")) as container:
        assert stated_index(container, container.streams.video[0]) is None


@pytest.mark.usefixtures("looked_at_here")
def test_variable_intervals_and_odd_sizes(tmp_path):
    unit = Fraction(1, 90_000)
    ticks = [90 * tick for tick in (1000, 1017, 1050, 1051, 3000, 3033, 3067, 9000)]
    frames = moving_square(8, size_px=80)[:, :77, :61]
    source = write_clip(tmp_path / "a.mp4", frames, ticks=ticks, unit=unit, codec="", pix_fmt="yuv444p")
    encode_file(source, tmp_path / "b.mp4")
    check_frames(source, tmp_path / "b.mp4", size=(76, 60), at_least_db=26, moving=True)
    with open_video(tmp_path / "b.mp4") as reader:
        np.testing.assert_array_equal(
            np.rint(reader.info.pts_seconds * 1000), [0, 17, 50, 51, 2000, 2033, 2067, 8000]
        )


def test_sizes_and_ticks():
    assert even_size(720, 1280, short_side_px=256) == (256, 456)
    assert even_size(1280, 720, short_side_px=256) == (456, 256)
    assert even_size(240, 427, short_side_px=256) == (240, 428)
    assert even_size(1, 1, short_side_px=256) == (2, 2)
    ntsc = np.arange(5) * 1001 / 30000
    ticks, unit = exact_ticks(ntsc, Fraction(1, 30000))
    assert (ticks.tolist(), unit) == ([0, 1, 2, 3, 4], Fraction(1001, 30000))
    ticks, unit = exact_ticks(
        np.array([0, 0.04, 0.12]), Fraction(1, 10**9)
    )  # nanoseconds, of which 40 ms are common
    assert (ticks.tolist(), unit) == ([0, 1, 3], Fraction(1, 25))
    ticks, unit = exact_ticks(np.array([0, 1 / 3, 1.0]), Fraction(1, 1000))  # interpolated
    assert (ticks.tolist(), unit) == ([0, 333_333, 1_000_000], Fraction(1, 10**6))


# File: (size of the prepared pictures, made and real, and the least likeness of each, dB).
WILD = {
    "rotated_90.mov": ((112, 64), (454, 256), 28, 30),
    "edit_list_discard.mp4": ((64, 112), (64, 64), 28, 28),
    "h264_10bit.mp4": ((64, 112), (200, 200), 28, 28),
    "unordered_pts.mov": ((64, 112), (50, 50), 28, 28),
    "1x1_pixel_1fps.mp4": ((2, 2), (2, 2), 28, 28),
    "phone_h263_amr.3gp": ((144, 176), (144, 176), 28, 28),
    "1fps_mpeg4.avi": ((64, 112), (60, 106), 28, 28),
}


@pytest.mark.parametrize(("origin", "name"), files_of_both(WILD, WILD))
def test_files_from_the_wild(odd, tmp_path, origin, name):
    made_size, real_size, *least_db = WILD[name]
    source, target = odd[origin] / name, tmp_path / name
    encode_file(source, target)
    size = {"made": made_size, "real": real_size}[origin]
    check_frames(source, target, size=size, at_least_db=least_db[origin == "real"])


# Sound.


@pytest.mark.parametrize(
    ("suffix", "codec", "kept", "late_seconds"),
    [
        ("mp4", "aac", "aac", 0.0),
        ("mp4", "aac", "aac", 0.3),
        ("mp4", "aac", "aac", -0.3),
        ("mov", "pcm_s16le", "aac", 0.0),
        ("mov", "pcm_s16le", "aac", -0.3),
        ("mkv", "libopus", "opus", 0.0),
        # Samples that are not to be heard before a late beginning are nothing that mp4 can say.
        ("mkv", "libopus", "aac", 0.3),
        ("mp4", "libmp3lame", "mp3", -0.3),
    ],
)
@pytest.mark.usefixtures("looked_at_here")
def test_sound_stays_in_step_with_the_pictures(tmp_path, suffix, codec, kept, late_seconds):
    """A flash and a click in one moment; the sound track starts with the pictures, after them or before them."""
    frames = np.full((50, 32, 32, 3), 30, np.uint8)
    frames[25] = 220  # 1 s
    start = max(0.0, -late_seconds)
    wave = np.zeros(16_000 * 2, np.float32)
    click = round((1 - late_seconds) * 16_000)
    wave[click : click + 64] = np.hanning(64) * 0.9
    ticks = [round((start + number / 25) * 1000) for number in range(50)]
    source = write_clip(
        tmp_path / f"a.{suffix}", frames, ticks=ticks, unit=Fraction(1, 1000), codec=codec, wave=wave,
        wave_start_seconds=start + late_seconds,
    )  # fmt: skip
    encode_file(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == kept
    heard = {}
    for path in (source, tmp_path / "b.mp4"):
        with open_video(path) as reader:
            brightness = reader.frames(reader.info.pts_seconds.tolist()).video.float().mean((1, 2, 3))
            assert reader.info.pts_seconds[int(brightness.argmax())] == pytest.approx(1, abs=1e-9)
            heard[path] = reader.audio(0, 2, sample_rate_hz=16_000).numpy()
    peak_before, peak_after = (int(np.abs(sound).argmax()) for sound in heard.values())
    assert abs(peak_before - 16_032) <= 32 and abs(peak_after - peak_before) <= 16  # 1 ms
    first, second = heard.values()
    if kept == codec:
        np.testing.assert_allclose(second, first, atol=1e-3)


@pytest.mark.usefixtures("looked_at_here")
def test_sound_that_is_copied_is_heard_sample_for_sample(tmp_path):
    source = encode(tmp_path / "a.mp4", numbered(120), sound=tone(4, rate_hz=44_100, channels=2), rate_hz=44_100)
    encode_file(source, tmp_path / "b.mp4", short_side_px=32)
    with open_video(source) as before, open_video(tmp_path / "b.mp4") as after:
        for start in (0.0, 1.3, 2.7):
            ours, theirs = (reader.audio(start, 1, sample_rate_hz=16_000) for reader in (after, before))
            assert theirs.abs().max() > 0.02
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


# The tree.


@pytest.fixture
def tree(tmp_path) -> Path:
    """Six videos in two folders, one of which holds a mere .avi, beside a readme."""
    for number in range(6):
        path = tmp_path / "videos" / f"class{number % 2}" / f"v_g{number // 4}_c{number}.mp4"
        write_video(path, moving_square(12, size_px=48, seed=number))
    (tmp_path / "videos/class0/v_g0_c0.mp4").rename(tmp_path / "videos/class0/v_g0_c0.avi")
    (tmp_path / "videos/readme.md").write_text("no video")
    return tmp_path / "videos"


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in files
    }


@pytest.mark.usefixtures("looked_at_here")
def test_labels_sources_and_the_originals_survive(tree, tmp_path):
    before = digests(tree)
    result = small(tree, tmp_path / "out", num_timed_clips=2)
    assert digests(tree) == before
    assert (result.num_encoded, result.num_kept, result.bad) == (6, 0, ())
    assert result.num_bytes_before == sum((tree / name).stat().st_size for name in before if name != "readme.md")
    assert all(rate > 1 for rate in result.clips_per_second)
    options = {"labels": "folder", "source_pattern": r"v_(g\d)_c\d\.", "cache": tmp_path, "progress": False}
    old, new = (scan(folder, **options) for folder in (tree, tmp_path / "out"))
    assert [entry.path.relative_to(new.root) for entry in new.entries] == [
        entry.path.relative_to(old.root) for entry in old.entries
    ]
    facts = [
        [(one.label, one.source, one.num_frames, one.has_audio) for one in some.entries] for some in (old, new)
    ]
    assert facts[0] == facts[1] and new.class_names == ("class0", "class1")
    assert {(entry.height, entry.width) for entry in new.entries} == {(32, 32)}
    report = json.loads((tmp_path / "out/prepare.json").read_text())
    assert (report["num_files"], report["num_bytes_after"]) == (6, result.num_bytes_after)


def test_pictures_that_break_off_are_noted(odd, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").symlink_to(odd["made"] / "corrupted_index.mp4")
    whole = write_video(tmp_path / "whole.mp4", moving_square(), fps=24)
    encode_file(whole, tmp_path / "b.mp4")  # its table comes first, so that the rest can be cut off
    content = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "videos/b.mp4").write_bytes(content[: len(content) * 2 // 3])
    result = small(tmp_path / "videos", tmp_path / "out")
    assert [path.name for path, _ in result.notes] == ["a.mp4", "b.mp4"]
    assert "decoding breaks off after 10 frames" in result.notes[0][1]
    assert re.search(r"cut off: holds \d+ pictures, the header says 24", result.notes[1][1])
    with open_video(tmp_path / "out/a.mp4") as reader:
        assert reader.info.num_frames == 10


@pytest.mark.usefixtures("looked_at_here")
def test_a_list_is_written_too_without_the_bad_files(tree, tmp_path):
    (tree / "bad.mp4").write_bytes(b"no video at all")
    (tree / "some.csv").write_text("path,label\nclass1/v_g0_c1.mp4,run\nbad.mp4,run\nclass0/v_g0_c0.avi,jump\n")
    result = small(tree / "some.csv", tmp_path / "out")
    assert [path.name for path, _ in result.bad] == ["bad.mp4"]
    corpus = scan(tmp_path / "out/some.csv", cache=tmp_path, progress=False)
    assert [(entry.path.name, corpus.class_names[entry.label]) for entry in corpus.entries] == [
        ("v_g0_c1.mp4", "run"),
        ("v_g0_c0.avi", "jump"),
    ]


@pytest.mark.usefixtures("looked_at_here")
def test_a_folder_of_frames_becomes_a_video(tmp_path):
    from PIL import Image

    (tmp_path / "videos/seq").mkdir(parents=True)
    for number, picture in enumerate(moving_square(5, size_px=48)):
        Image.fromarray(picture).save(tmp_path / f"videos/seq/{number}.png")
    small(tmp_path / "videos", tmp_path / "out", short_side_px=48, crf=16)
    check_frames(tmp_path / "videos/seq", tmp_path / "out/seq", size=(48, 48), at_least_db=30, moving=True)


@pytest.mark.usefixtures("looked_at_here")
def test_unreadable_files_are_named_and_counted(tree, tmp_path, capsys):
    (tree / "class0/empty.mp4").write_bytes(b"")
    result = small(tree, tmp_path / "out")
    assert [(path.name, reason) for path, reason in result.bad] == [
        ("empty.mp4", "is empty (0 bytes); download or copy it again")
    ]
    assert "cannot be read: 1" in result.summary() and result.num_encoded == 6
    whole = (tree / "class1/v_g0_c1.mp4").read_bytes()
    (tree / "class1/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tree / "class1/cut.avi").write_bytes(whole[: len(whole) // 2])
    words = ["data", "prepare", str(tree), "--out", str(tmp_path / "out"), "--short-side-px", "32"]
    assert main([*words, "--num-workers", "1"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "of 9 files cannot be read" in said and "cut.avi" in said and "empty.mp4" in said
    assert not list((tmp_path / "out").rglob("*cut*")) + list((tmp_path / "out").rglob("*.tmp"))


def test_a_file_that_takes_too_long_is_bad(tree, tmp_path):
    path = tree / "class1/v_g0_c1.mp4"
    path.write_bytes(path.read_bytes() + bytes(10_000))  # 0.04 s more
    result = small(tree, tmp_path / "out", timeout_seconds=0.01, bad_file_budget=1.0)
    allowed = {
        file.name: float(re.match(r"no answer within ([\d.]+) s;", reason)[1]) for file, reason in result.bad
    }
    expected = {file.name: 0.01 + file.stat().st_size / 250_000 for file in tree.glob("*/v_*")}
    assert allowed == pytest.approx(expected, abs=0.0051)
    assert digests(tmp_path / "out").keys() == {"prepare.json", ".prepare/lock", ".prepare/source.json"}


def test_leaving_early_waits_for_no_child():
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="KeyError"):
        list(
            call_each(
                "builtins:exec",
                ["import time; time.sleep(60)", "raise KeyError"],
                num_workers=2,
                timeout_seconds=90,
            )
        )
    assert time.monotonic() - begin < 30


# Going on.


def test_after_a_kill_nothing_is_encoded_twice_and_nothing_is_half_there(tmp_path):
    root, out = tmp_path / "videos", tmp_path / "out"
    for number in range(8):
        write_video(root / f"{number}.mp4", moving_square(40, size_px=64, seed=number))
    words = ["data", "prepare", str(root), "--out", str(out), "--num-workers", "1"]
    process = command(*words, said=tmp_path / "said")
    ledger = out / ".prepare/done.jsonl"
    while not ledger.exists() or len(ledger.read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with ledger.open("a") as file:
        file.write('{"path": "half a li')  # as if killed while it wrote
    (out / ".prepare/7.tmp").write_bytes(b"half a file")
    finished = {json.loads(line)["path"] for line in ledger.read_text().splitlines()[:-1]}
    there = {name: fact for name, fact in digests(out).items() if name.endswith(".mp4")}
    assert 3 <= len(finished) < 8 and finished <= there.keys()
    for name in there:
        with open_video(out / name) as reader:
            assert reader.info.num_frames == 40 and reader.info.distrust is None
    result = small(root, out, short_side_px=256)
    after = digests(out)
    assert (result.num_kept, result.num_encoded) == (len(finished), 8 - len(finished))
    assert {name: after[name] for name in finished} == {name: there[name] for name in finished}
    assert not [name for name in after if name.endswith(".tmp")] and len(after) == 8 + 4

    # A source that has changed is encoded again, and a finished file that is gone; other settings concern all.
    os.utime(root / "3.mp4", ns=(0, 0))
    (out / "5.mp4").unlink()
    assert (
        small(root, out, short_side_px=256).num_encoded,
        small(root, out, crf=40, short_side_px=256).num_kept,
    ) == (2, 0)


@pytest.mark.usefixtures("looked_at_here")
def test_places_that_are_refused(tree, tmp_path):
    for out in (tree, tree / "class0/new", tmp_path):
        with pytest.raises(ValueError, match="lie in one another"):
            small(tree, out)
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(ValueError, match="lie in one another"):
        small(tree, tmp_path / "link/new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other things"):
        small(tree, tmp_path / "full")
    (tree / "up.txt").write_text("../other.mp4\n")
    (tmp_path / "other.mp4").write_bytes((tree / "class1/v_g0_c1.mp4").read_bytes())
    with pytest.raises(ValueError, match=r"leads out of .*videos, the folder of the list"):
        small(tree / "up.txt", tmp_path / "out")
    with pytest.raises(ValueError, match="short_side_px is 255, expected an even number"):
        small(tree, tmp_path / "out", short_side_px=255)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link", "other.mp4", "videos"]


@pytest.mark.usefixtures("looked_at_here")
def test_another_corpus_does_not_come_between(tree, tmp_path):
    small(tree, tmp_path / "out")
    lock = tmp_path / "out/.prepare/lock"
    lock.unlink()
    before = digests(tmp_path / "out")
    write_video(tmp_path / "others/class0/new.mp4", moving_square(5))
    with pytest.raises(
        ValueError, match=r"out holds what was prepared from .*videos, and .*others is another corpus"
    ):
        small(tmp_path / "others", tmp_path / "out")
    (tree / "some.txt").write_text("class1/v_g0_c1.mp4\n")
    with pytest.raises(ValueError, match=r"prepared from .*videos, and .*some\.txt is another corpus"):
        small(tree / "some.txt", tmp_path / "out")
    lock.unlink()
    assert digests(tmp_path / "out") == before
    # The same corpus at another place is the same corpus, also when it has grown.
    tree.rename(tmp_path / "moved")
    write_video(tmp_path / "moved/class0/new.mp4", moving_square(5))
    result = small(tmp_path / "moved", tmp_path / "out")
    assert (result.num_kept, result.num_encoded) == (6, 1)


@pytest.mark.usefixtures("looked_at_here")
def test_what_check_reports_is_reported(tree, tmp_path, monkeypatch):
    scandir = os.scandir

    def refusing(path="."):
        if os.fspath(path) == os.fspath(tree / "locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    (tree / "locked").mkdir()
    (tree / "notes.txt").write_text("no video")
    monkeypatch.setattr("os.scandir", refusing)
    result = small(tree, tmp_path / "out")
    assert (result.num_encoded, result.num_kept, result.num_other) == (6, 0, 2)
    closed = (tree / "locked", "cannot be entered (Permission denied); what it holds is not read")
    assert result.bad == (closed,)
    checked = audit(tree, num_workers=1, progress=False)
    assert checked.bad == [(closed[0], f"closed folder: {closed[1]}")] and checked.others == result.others
    assert "2 files that are not read (1 .txt, 1 .md): notes.txt, readme.md" in result.summary()
    assert "locked: cannot be entered" in result.summary()


@pytest.mark.usefixtures("looked_at_here")
def test_what_the_decoder_complains_of_is_noted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "videos/a.mp4", noise)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [bytes(one) for one in container.demux(video=0) if one.size][5]
    place = content.index(packet) + len(packet) // 2
    content[place : place + 40] = bytes(40)  # the decoder conceals it, and goes on
    path.write_bytes(content)
    checked = audit(tmp_path / "videos", num_workers=1, progress=False)
    assert "complaints of FFmpeg" in checked.bad[0][1]
    result = small(tmp_path / "videos", tmp_path / "out")
    assert "complaints of FFmpeg" in result.notes[0][1]

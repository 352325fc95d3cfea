"""Every file that make_broken.py derives from one clip with frame numbers burned into its pictures.

A number that is read back differs from that of the frame asked for if the wrong frame was delivered. Each file is
either read right (then the audit finds no error in it) or reported by the audit, by name and reason; most of the
reported ones can be read as far as they decode, and then read right too.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from vidssl.data.corpus import Audit, audit
from vidssl.data.video import MediaError, Reader, open_audio, open_video

FIRST_240 = range(240)
NAMES = ["with space.mp4", "-dash.mp4", "per%20cent%d.mp4", "quote'\"q.mp4", "a:b.mp4", "semi;amp&$HOME.mp4"]
NAMES += ["new\nline.mp4", "UPPER.MP4", "noext", "x" * 240 + ".mp4", "[bracket]*.mp4", "#hash?query=1.mp4"]
NAMES += ["\u00fc\u00f1\u00ed-\u65e5\u672c\u8a9e-\U0001f3ac.mp4", "bad_utf8_\udcff\udcfe.mp4"]

# Files that read right: the burned numbers of their frames. None: what sequential decoding shows.
READ: dict[str, range | list[int] | None] = dict.fromkeys(
    """all_pts_zero.mkv audio_starts_2s_after_video.mp4 cover_art_first_stream.mp4 dims_stsd_65535.mp4
    dims_stsd_zero.mp4 dup_pts.mkv fps_1000.mp4 fps_zero.avi fragmented.mp4 intra_refresh_no_idr.mp4
    negative_pts.mp4 nonmono_pts.mkv ok_av1.mp4 ok_base.mp4 ok_faststart.mp4 ok_long_gop.mp4 ok_mjpeg.avi
    ok_mpeg1.mpg ok_mpeg4_bframes.avi ok_mpegts.ts ok_remux.mkv ok_vp9.webm open_gop_h264.mp4 open_gop_hevc.mp4
    pcm_mono.mov start_1000s.ts ts_wrap33bit.ts two_mp4_concatenated.mp4 two_video_streams.mp4 video_only.mp4
    video_starts_2s_after_audio.mp4 wrong_duration_half.mp4 wrong_duration_x100.mp4
    wrong_duration_zero.mp4""".split()
    + NAMES,
    FIRST_240,
) | {
    "audio_8s_video_2s.mp4": [*range(61), 63],
    "editlist_cut.mp4": range(97, 240),
    "fps_0.1.mp4": range(10),
    "fps_1.mp4": range(20),
    "gray.mp4": range(60),
    "hi10.mp4": range(60),
    "interlaced_tff.mp4": range(60),
    "long_gop_2880.mp4": range(2880),
    "odd_101x77_yuv444.mp4": range(60),
    "ok_gif.gif": range(40),
    "ok_mpeg4_packed_like.avi": None,
    "png_renamed.mp4": range(1),
    "rgb24_lossless.mp4": range(60),
    "rotate90.mp4": FIRST_240,
    "seven_frames.mp4": range(7),
    "single_frame.mp4": range(1),
    "two_frames.mp4": range(2),
    "vfr_strong.mp4": None,
}

# Files that the audit reports, and a word of the reason.
REPORTED = {
    "audio_only.mp4": "no video stream",
    "big_8192_tiny_file.mp4": "8192 x 8192 pixels",
    "bomb_mjpeg_60000.avi": "no picture can be decoded",
    "broken_symlink.mp4": "link to a file that does not exist",
    "corrupt_1pct_bytes_mid.mp4": "decoding fails",
    "corrupt_30pct_bytes_mid.mp4": "decoding fails",
    "corrupt_ts.ts": "decoding fails",
    "devnull_link.mp4": "a device",
    "devzero_link.mp4": "a device",
    "drop_every_5th_packet.mkv": "missing packets",
    "encrypted_cenc.mp4": "decod",  # its key is random, and so is what the decoder makes of it
    "fifo.mp4": "a pipe",
    "html_404.mp4": "no readable media",
    "mid_keyframe_missing.mkv": "missing packets",
    "no_first_keyframe.mkv": "does not begin with a key frame",
    "no_first_keyframe.mp4": "does not begin with a key frame",
    "no_keyframes_at_all.mkv": "no picture can be decoded",
    "no_pts.avi": "no picture can be decoded",
    "random_bytes.mp4": "no readable media",
    "resolution_change.ts": "picture size changes",
    "text.mp4": "no readable media",
    "timescale_zero.mp4": "cut off",
    "truncated_avi_no_index.avi": "cut off",
    "truncated_header_only.mp4": "no video stream",
    "truncated_mdat_50.mp4": "cut off",
    "truncated_mdat_98.mp4": "decoding fails",
    "truncated_mkv_50.mkv": "cut off",
    "truncated_no_moov.mp4": "no readable media",
    "truncated_ts_50.ts": "damaged pictures",
    "ts_cut_mid_gop.ts": "does not begin with a key frame",
    "wav_renamed.mp4": "no video stream",
    "zero_byte.mp4": "empty",
    "zeros_all_mdat.mp4": "no picture can be decoded",
    "zeros_mid.mp4": "decoding fails",
    "zeros_start.mp4": "does not begin with a key frame",
    "zeros_tail.mp4": "decoding fails",
}
SOUND = {"wav_nan_float.wav", "wav_truncated.wav", "wav_wrong_length.wav", "wav_zero_samples.wav"}


@pytest.fixture(scope="session")
def broken(shared: Path) -> Path:
    """The derived files. Making them takes longer than testing them, so they are kept in the temporary folder."""
    script = shared / "data/media/broken/make_broken.py"
    clip = shared / "data/media/corpus/sam2_dog.mp4"
    if not (script.is_file() and clip.is_file()):
        pytest.skip(f"{script} or {clip} is absent")
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed; make_broken.py needs it")
    key = hashlib.blake2b(script.read_bytes() + clip.read_bytes(), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"vidssl-broken-{key}-{os.getuid()}"
    if not folder.is_dir():
        making = Path(tempfile.mkdtemp(prefix="vidssl-broken-"))
        subprocess.run([sys.executable, script, clip, making], check=True, capture_output=True)
        making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def audited(broken: Path) -> Audit:
    return audit(broken, num_workers=2, timeout_seconds=30, progress=False)


def burned_number(picture: np.ndarray) -> int:
    """Read the frame number from the strip on top of a picture (H, W, 3): 14 cells, 12 bits from the second on."""
    height, width = picture.shape[:2]
    strip = picture[2 : int(height * 0.13) - 3].mean(axis=(0, 2))
    cell = width / 14
    light = [strip[int((k + 0.3) * cell) : int((k + 0.7) * cell)].mean() > 128 for k in range(1, 13)]
    return sum(bit << k for k, bit in enumerate(light))


def upright(picture: np.ndarray, name: str) -> np.ndarray:
    """Undo the rotation that the display matrix of one file asks for; its strip was burned before."""
    return np.rot90(picture, -1) if name == "rotate90.mp4" else picture


def sequential_numbers(path: Path) -> list[int]:
    """The burned numbers in the order of sequential decoding, up to the first error."""
    import av

    numbers: list[int] = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        try:
            for frame in container.decode(stream):
                numbers.append(burned_number(frame.to_ndarray(format="rgb24")))
        except av.FFmpegError:
            pass
    return numbers


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith("_")}


def test_every_file_has_an_expected_outcome(broken: Path) -> None:
    assert files(broken) == set(READ) | set(REPORTED) | SOUND | {"directory.mp4"}


@pytest.mark.parametrize("name", sorted(READ), ids=ascii)
def test_frames_are_those_asked_for(broken: Path, name: str) -> None:
    expected = READ[name]
    numbers = sequential_numbers(broken / name) if expected is None else list(expected)
    with open_video(broken / name) as reader:
        assert reader.info.num_frames == len(numbers)
        check_random_access(reader, numbers, name, count=3 if name in NAMES else 8)


def check_random_access(reader: Reader, numbers: list[int], name: str, *, count: int) -> None:
    """Ask for some frames at once, out of order, and for one alone."""
    wanted = [*random.choices(range(len(numbers)), k=count), len(numbers) - 1, 0]
    for group in (wanted, wanted[:1]):
        frames = reader.frames([reader.info.pts_seconds[number] for number in group])
        pictures = frames.video.permute(0, 2, 3, 1).numpy()
        delivered = [burned_number(upright(picture, name)) for picture in pictures]
        assert delivered == [numbers[number] for number in group]


@pytest.mark.parametrize("name", sorted(REPORTED))
def test_damaged_files_deliver_no_other_frames(broken: Path, name: str) -> None:
    """What can be read of a damaged file is what sequential decoding shows."""
    start = time.perf_counter()
    try:
        reader = open_video(broken / name)
    except MediaError as error:
        assert error.path == broken / name
        assert name in str(error)
        return
    finally:
        assert time.perf_counter() - start < 10
    numbers = sequential_numbers(broken / name)
    with reader:
        assert reader.info.num_frames == len(numbers)
        check_random_access(reader, numbers, name, count=5)


def test_audit_reports_every_damaged_file_and_no_other(audited: Audit) -> None:
    bad = {path.name: reason for path, reason in audited.bad if not path.name.startswith("_")}
    assert set(bad) == set(REPORTED)
    assert {name for name, reason in bad.items() if REPORTED[name] not in reason} == set()


def test_audit_notes_what_it_repaired(audited: Audit) -> None:
    notes = {path.name: {one.kind for one in found if one.severity == "note"} for path, found in audited.files}
    repaired = {name for name, kinds in notes.items() if "times are interpolated" in kinds and name in READ}
    assert repaired == {"all_pts_zero.mkv", "dup_pts.mkv", "nonmono_pts.mkv"}
    assert "times are put in order" in notes["ok_mpeg4_packed_like.avi"]
    assert "silent sound track" in notes["ok_base.mp4"]
    assert "slow: every read decodes from the start" in notes["ok_mpegts.ts"]
    assert notes["video_only.mp4"] == set()


def test_a_pipe_is_refused_at_once(broken: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(MediaError, match=r"fifo\.mp4: is a pipe, not a regular file"):
        open_video(broken / "fifo.mp4")
    with pytest.raises(MediaError, match="is a pipe"):
        open_audio(broken / "fifo.mp4")
    assert time.perf_counter() - start < 1


def test_a_folder_named_like_a_video_is_named(broken: Path) -> None:
    with pytest.raises(MediaError, match=r"directory\.mp4: is a folder without images"):
        open_video(broken / "directory.mp4")


def test_true_times_survive_bad_time_stamps(broken: Path) -> None:
    """Every seventh stamp is 1.76 s late; the others say that there are 30 frames per second."""
    with open_video(broken / "nonmono_pts.mkv") as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, np.arange(240) / 30, atol=0.002)
    with open_video(broken / "all_pts_zero.mkv") as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, np.arange(240) / 30, atol=1e-6)


def test_broken_sound(broken: Path) -> None:
    with open_audio(broken / "wav_nan_float.wav") as sound, pytest.raises(MediaError, match="not a number"):
        sound.read(0.0, 0.5, sample_rate_hz=16_000)
    with pytest.raises(MediaError, match="no readable media file"):
        open_audio(broken / "wav_wrong_length.wav")
    with open_audio(broken / "wav_zero_samples.wav") as sound:
        assert sound.measure_seconds() == 0
        assert not sound.read(0.0, 0.5, sample_rate_hz=16_000).any()
    with open_audio(broken / "wav_truncated.wav") as sound:
        # 8 s of two-channel 16-bit sound at 44.1 kHz behind a header of 78 bytes; a third of the file is left.
        size = (broken / "wav_truncated.wav").stat().st_size
        assert sound.measure_seconds() == pytest.approx((size - 78) / 4 / 44_100, abs=1e-4)

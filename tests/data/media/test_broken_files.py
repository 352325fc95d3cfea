"""Every file of `broken_media.py`, made from one clip with frame numbers in its pictures.

A number that is read back differs from that of the frame asked for if the wrong frame was delivered. Each file is
either read right (then the audit finds no error in it) or reported by the audit, by name and reason; most of the
reported ones can be read as far as they decode, and then read right too.
"""

import random
import time
from pathlib import Path

import av
import numpy as np
import pytest
from broken_media import LONG_FRAMES, write_broken
from media import FPS, NAMES, NUM_FRAMES, RATE_HZ, encode, made_once, number_of, numbered, tone

from vidssl.data import scan
from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.corpus import Audit
from vidssl.data.media.audit import audit_file
from vidssl.data.media.video import MediaError, Reader, open_audio, open_video

ALL = range(NUM_FRAMES)

# Files that read right: the numbers of their frames.
READ: dict[str, range | list[int]] = dict.fromkeys(
    """all_pts_zero.mkv audio_starts_2s_after_video.mp4 cover_art_first_stream.mp4 dims_stsd_65535.mp4
    dims_stsd_zero.mp4 dup_pts.mkv fps_1000.mp4 fps_zero.avi fragmented.mp4 intra_refresh_no_idr.mp4
    negative_pts.mp4 nonmono_pts.mkv ok_av1.mp4 ok_base.mp4 ok_faststart.mp4 ok_long_gop.mp4 ok_mjpeg.avi
    ok_mpeg1.mpg ok_mpeg4_bframes.avi ok_mpeg4_packed.avi ok_mpegts.ts ok_remux.mkv ok_vp9.webm open_gop_h264.mp4
    open_gop_hevc.mp4 pcm_mono.mov rotate90.mp4 start_1000s.ts ts_wrap33bit.ts two_mp4_concatenated.mp4
    two_video_streams.mp4 video_only.mp4 video_starts_2s_after_audio.mp4 wrong_duration_half.mp4
    wrong_duration_x100.mp4 wrong_duration_zero.mp4""".split()
    + NAMES,
    ALL,
) | {
    "audio_2s_video_1s.mp4": [*range(31), 33],  # cut where packets are in the order of decoding
    "editlist_cut.mp4": range(33, NUM_FRAMES),
    "fps_0.1.mp4": range(10),
    "fps_1.mp4": range(10),
    "gray.mp4": range(20),
    "hi10.mp4": range(20),
    "interlaced_tff.mp4": range(20),
    f"long_gop_{LONG_FRAMES}.mp4": range(LONG_FRAMES),
    "odd_111x63_yuv444.mp4": range(20),
    "ok_gif.gif": range(20),
    "png_renamed.mp4": range(1),
    "rgb24_lossless.mp4": range(20),
    "seven_frames.mp4": range(7),
    "single_frame.mp4": range(1),
    "two_frames.mp4": range(2),
    "vfr_strong.mp4": [number for number in ALL if number % 10 < 3 or number > 40],
}

# Files that the audit reports, and a word of the reason.
REPORTED = {
    "audio_only.mp4": "no video stream",
    "big_tiny_file.mp4": "8192 x 4336 pixels",
    "bomb_mjpeg_60000.avi": "no picture can be decoded",
    "broken_symlink.mp4": "link to a file that does not exist",
    "corrupt_1pct_bytes_mid.mp4": "decoding fails",
    "corrupt_30pct_bytes_mid.mp4": "decoding fails",
    "corrupt_ts.ts": "pictures",  # missing or damaged ones: which bytes stand where depends on the encoder
    "devnull_link.mp4": "a device",
    "devzero_link.mp4": "a device",
    "drop_every_5th_packet.mkv": "missing packets",
    "encrypted_cenc.mp4": "is encrypted",
    "fifo.mp4": "a pipe",
    "html_404.mp4": "no readable media",
    "mid_keyframe_missing.mkv": "missing packets",
    "no_first_keyframe.mkv": "does not begin with a key frame",
    "no_first_keyframe.mp4": "does not begin with a key frame",
    "no_keyframes_at_all.mkv": "no picture can be decoded",
    "no_packets.avi": "no picture can be decoded",
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
SOUND = {
    "wav_lost_data.wav",
    "wav_nan_float.wav",
    "wav_truncated.wav",
    "wav_wrong_length.wav",
    "wav_zero_samples.wav",
}


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "broken", write_broken)


@pytest.fixture(scope="session")
def audited(broken: Path) -> Audit:
    return audit(broken, num_workers=1, timeout_seconds=30, progress=False)


def upright(picture: np.ndarray, name: str) -> np.ndarray:
    """Undo the rotation that the display matrix of one file asks for; its strip was burned before."""
    return np.rot90(picture) if name == "rotate90.mp4" else picture


def sequential_numbers(path: Path) -> list[int]:
    """The numbers in the order of sequential decoding, up to the first error."""
    import av

    numbers: list[int] = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        while True:
            try:
                for frame in container.decode(stream):
                    numbers.append(number_of(frame.to_ndarray(format="rgb24")))
            except IndexError:  # a packet of a stream that damage made up; PyAV knows none
                continue
            except av.FFmpegError:
                pass
            break
    return numbers


def test_every_file_has_an_expected_outcome(broken: Path) -> None:
    assert {path.name for path in broken.iterdir()} == set(READ) | set(REPORTED) | SOUND | {"directory.mp4"}


@pytest.mark.parametrize("name", sorted(READ), ids=ascii)
def test_frames_are_those_asked_for(broken: Path, name: str) -> None:
    numbers = list(READ[name])
    with open_video(broken / name) as reader:
        assert reader.info.num_frames == len(numbers)
        check_random_access(reader, numbers, name, count=3 if name in NAMES else 8)


def check_random_access(reader: Reader, numbers: list[int], name: str, *, count: int) -> None:
    """Ask for some frames at once, out of order, and for one alone."""
    wanted = [*random.choices(range(len(numbers)), k=count), len(numbers) - 1, 0]
    for group in (wanted, wanted[:1]):
        frames = reader.frames([reader.info.pts_seconds[number] for number in group])
        pictures = frames.video.permute(0, 2, 3, 1).numpy()
        delivered = [number_of(upright(picture, name)) for picture in pictures]
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
    bad = {path.name: reason for path, reason in audited.bad}
    assert set(bad) == set(REPORTED)
    assert {name for name, reason in bad.items() if REPORTED[name] not in reason} == set()


def test_audit_notes_what_it_repaired(audited: Audit) -> None:
    notes = {path.name: {one.kind for one in found if one.severity == "note"} for path, found in audited.files}
    repaired = {name for name, kinds in notes.items() if "times are interpolated" in kinds and name in READ}
    assert repaired == {"all_pts_zero.mkv", "dup_pts.mkv", "nonmono_pts.mkv"}
    assert "times are put in order" in notes["ok_mpeg4_packed.avi"]
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
    """Every seventh stamp is late; the others say that there are 30 frames per second."""
    with open_video(broken / "nonmono_pts.mkv") as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, np.arange(NUM_FRAMES) / FPS, atol=0.002)
    # PyAV 17 takes the rate from a duration in whole milliseconds, 33 of them.
    atol = 1e-6 if int(av.__version__.split(".")[0]) >= 18 else 0.02
    with open_video(broken / "all_pts_zero.mkv") as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, np.arange(NUM_FRAMES) / FPS, atol=atol)


def test_broken_sound(broken: Path) -> None:
    with open_audio(broken / "wav_nan_float.wav") as sound, pytest.raises(MediaError, match="not a number"):
        sound.read(0.0, 0.5, sample_rate_hz=16_000)
    with pytest.raises(MediaError, match="no readable media file"):
        open_audio(broken / "wav_lost_data.wav")
    with open_audio(broken / "wav_wrong_length.wav") as sound:
        assert sound.measure_seconds() == 2
    with open_audio(broken / "wav_zero_samples.wav") as sound:
        assert sound.measure_seconds() == 0
        assert not sound.read(0.0, 0.5, sample_rate_hz=16_000).any()
    with open_audio(broken / "wav_truncated.wav") as sound:
        # 2 s of one channel of 16 bits behind a header of 44 bytes; a third of the file is left.
        size = (broken / "wav_truncated.wav").stat().st_size
        assert sound.measure_seconds() == pytest.approx((size - 44) / 2 / RATE_HZ, abs=1e-4)


def test_what_is_found_in_a_file_does_not_depend_on_the_files_before(broken: Path) -> None:
    """FFmpeg's words are kept back where they repeat the last ones, and would be told of the next file."""
    ended, whole = broken / "truncated_mkv_50.mkv", broken / "ok_mpeg4_packed.avi"
    first, second = audit_file(ended), audit_file(ended)
    assert "File ended prematurely" in next(one.detail for one in first if one.kind == "damaged data")
    assert first == second
    assert {one.severity for one in audit_file(whole)} == {"note"}
    timeless = audit_file(broken / "timescale_zero.mp4")  # it has a complaint of its own
    (said,) = (one.detail for one in timeless if one.kind == "damaged data")
    assert said.startswith("1 complaints of FFmpeg, first mov")


KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
       "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}  # fmt: skip
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("fragments", [{}, FRAGMENTS])
def test_encrypted_files_are_called_so(tmp_path: Path, codec: str, fragments: dict[str, str]) -> None:
    """The decoder's noise, or missing packets, was all that was said."""
    path = tmp_path / "all/a.mp4"
    path.parent.mkdir()
    quiet = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
    encode(path, numbered(8), codec=codec, options=quiet, sound=tone(1), file_options={**KEY, **fragments})
    (found,) = audit_file(path)
    assert (found.severity, found.kind) == ("error", "cannot be read")
    assert found.detail.startswith(
        "is encrypted; get a copy that is not, or decrypt it: ffmpeg -decryption_key KEY"
    )
    with pytest.raises(MediaError, match=r"a\.mp4: is encrypted; get a copy"):
        open_video(path)
    with pytest.raises(MediaError, match=r"a\.mp4: is encrypted; get a copy"), open_audio(path) as sound:
        sound.read(0.0, 0.5, sample_rate_hz=16_000)
    (bad,) = scan(path.parent, cache=tmp_path / "cache", num_workers=1, progress=False).bad
    assert bad == (path, found.detail)


def test_encrypted_files_that_cannot_be_opened_are_called_so(tmp_path: Path) -> None:
    """Some writers of fragments count what is encrypted otherwise than FFmpeg expects."""
    path = tmp_path / "a.mp4"
    encode(path, numbered(8), file_options={**KEY, **FRAGMENTS})
    content = bytearray(path.read_bytes())
    content[content.index(b"senc") + 11] += 1  # the number of samples
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4: is encrypted; get a copy"):
        open_video(path)

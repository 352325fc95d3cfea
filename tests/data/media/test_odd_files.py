"""Every odd file, made (`odd_media.py`) or real: bit for bit the frames of a slow sequential decode, or a clear error.

The pictures of made files are held to the numbers in them, too.
"""

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import files_of_both
from media import number_of
from odd_media import HIDDEN, ODD, WITHOUT_PICTURES, Odd
from PIL import Image

from vidssl.data.media.container import open_container
from vidssl.data.media.packets.index import read_index
from vidssl.data.media.video import MediaError, Reader, open_audio, open_video

# Real file: (frames, upright width, upright height, mean frame rate, audio sample rate and channels).
REAL_FRAMES: dict[str, tuple[int, int, int, float, tuple[int, int] | None]] = {
    "-video-with-dash-.mp4": (5, 1, 1, 1, None),
    "1fps_mpeg4.avi": (61, 106, 60, 1, None),
    "1x1_pixel_1fps.mp4": (5, 1, 1, 1, None),
    "alpha_vp9.webm": (150, 200, 200, 30, (48000, 2)),
    "audio_longer_than_video.mp4": (280, 640, 360, 25, (44100, 2)),
    "audio_track_silent.webm": (118, 640, 360, 29.97, (44100, 2)),
    "av1.mkv": (125, 640, 360, 25, None),
    "avi_av1-aac.avi": (25, 320, 240, 24, (48000, 2)),
    "avi_avc-aac.avi": (25, 320, 240, 25, (48000, 2)),
    "avi_hevc-aac.avi": (25, 320, 240, 25, (48000, 2)),
    "avi_mpeg4-mp3.avi": (25, 320, 240, 24, (48000, 2)),
    "avi_vp8-mp3.avi": (30, 320, 240, 29, (48000, 2)),
    "avi_vp9-vorbis.avi": (30, 320, 240, 29, (48000, 2)),
    "bbb_1s_vp8.webm": (24, 1280, 720, 24, (44100, 2)),
    "bbb_51_audio.mp4": (132, 1280, 720, 25, (48000, 6)),
    "bbb_8fps_102px.mp4": (80, 180, 102, 8, None),
    "bt709_full_range.mp4": (30, 1280, 720, 30, None),
    "corrupted_index.mp4": (28, 1280, 720, 10, None),
    "edit_list_discard.mp4": (49, 64, 64, 25, None),
    "fragmented.mp4": (120, 320, 180, 24, (48000, 6)),
    "h264_10bit.mp4": (30, 200, 200, 30, None),
    "hevc_10bit.mp4": (30, 200, 200, 30, None),
    "hevc_frames_numbered.mp4": (10, 128, 128, 10, None),
    "msmpeg4v3.asf": (1813, 80, 60, 30, None),
    "multi_cluster.mkv": (150, 320, 240, 30, None),
    "nasa_multistream.mp4": (390, 480, 270, 29.97, (16000, 2)),
    "no_duration.webm": (74, 1280, 720, 14.98, (48000, 2)),
    "phone_h263_amr.3gp": (222, 176, 144, 14.76, (8000, 1)),
    "rotated_0.mov": (3, 568, 320, 30, None),
    "rotated_180.mov": (3, 568, 320, 30, None),
    "rotated_270.mov": (3, 320, 568, 30, None),
    "rotated_90.mov": (3, 320, 568, 30, None),
    "sar_2x1.mp4": (150, 640, 360, 30, None),
    "three_frames.mp4": (3, 560, 320, 10, None),
    "unordered_pts.mov": (4, 50, 50, 32, None),
    "vfr_numbered.mp4": (300, 128, 128, 20.04, None),
    "vfr_rot180.mp4": (25, 1280, 720, 10.51, (48000, 1)),
    "vfr_webcam_count.mp4": (245, 640, 480, 10.02, None),
    "vp9_opus.webm": (120, 320, 180, 24, (48000, 2)),
    "wrong_keyframe_flags.mp4": (120, 320, 180, 24, (48000, 6)),
}

# Of made and real files alike.
TURNED = {"rotated_90.mov": 270, "rotated_180.mov": 180, "rotated_270.mov": 90, "vfr_rot180.mp4": 180}

# FFmpeg decodes a few pixels of this VP8 file differently from one sequential decode to the next, in one process
# (seen in 3 of 6 processes); another frame would differ by more than 1 on average.
UNSTEADY = {"audio_track_silent.webm"}

# Real files without a picture, and why.
REAL_ERRORS = {
    "audio_only_count.mp4": "no video stream: it holds sound alone",
    "dash_init_only.mp4": "holds no picture",
    "empty.wav": "no video stream: it holds sound alone",
    "missing_sps.mp4": "holds no picture",
    "mp3_with_cover.mp3": "no video stream: it holds sound alone",
    "short_48_samples.wav": "no video stream: it holds sound alone",
    "silence.wav": "no video stream: it holds sound alone",
}


REAL = {
    name: Odd(tuple(range(num_frames)), width, height, fps, sound)
    for name, (num_frames, width, height, fps, sound) in REAL_FRAMES.items()
}
FRAMES, ERRORS = {"made": ODD, "real": REAL}, {"made": WITHOUT_PICTURES, "real": REAL_ERRORS}


def sequential(path: Path, numbers: set[int]) -> tuple[list[float], dict[int, np.ndarray]]:
    """Decode from the first packet to the last or the first error: every time, and some upright pictures."""
    import av

    seconds, pictures = [], {}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        try:
            for number, frame in enumerate(container.decode(stream)):
                seconds.append(frame.time)
                if number in numbers:
                    picture = frame.to_ndarray(format="rgb24")
                    pictures[number] = np.rot90(picture, round(frame.rotation / 90))
        except av.FFmpegError:
            pass
    return seconds, pictures


def pictures_of(reader: Reader, numbers: list[int]) -> np.ndarray:
    times = [reader.info.pts_seconds[number] for number in numbers]
    return reader.frames(times).video.permute(0, 2, 3, 1).numpy()


def test_every_made_file_has_an_expected_outcome(odd: dict[str, Path]) -> None:
    assert {path.name for path in odd["made"].iterdir()} == set(ODD) | set(WITHOUT_PICTURES)


def test_every_real_file_has_an_expected_outcome(shared: Path) -> None:
    """Where this is skipped, no test of this suite reads a real file."""
    names = {path.name for path in (shared / "data/media/odd").iterdir()}
    assert names == set(REAL) | set(REAL_ERRORS)


@pytest.mark.parametrize(("origin", "name"), files_of_both(ODD, REAL))
def test_frames_equal_sequential_decoding(odd: dict[str, Path], origin: str, name: str) -> None:
    expects, path = FRAMES[origin][name], odd[origin] / name
    num_frames = len(expects.numbers)
    wanted = [*random.choices(range(num_frames), k=6), num_frames - 1, 0]
    seconds, expected = sequential(path, set(wanted))
    assert len(seconds) == num_frames
    if origin == "made" and expects.width > 1:
        assert {number: number_of(picture) for number, picture in expected.items()} == {
            number: expects.numbers[number] for number in expected
        }
    with open_video(path) as reader:
        info = reader.info
        assert (info.num_frames, info.width, info.height) == (num_frames, expects.width, expects.height)
        # Where times are milliseconds, those of half a second give the rate to 0.1 %.
        assert info.fps == pytest.approx(expects.fps, abs=0.03 if origin == "made" else 0.01)
        assert (info.audio_sample_rate_hz, info.audio_channels) == (expects.sound or (None, None))
        # The stored pictures lie on a side whichever way the camera was held.
        assert info.rotation_degrees == TURNED.get(name, 0)
        for group in (wanted, wanted[:1], wanted[1:2]):  # several at once, and alone: both backward and forward
            for number, picture in zip(group, pictures_of(reader, group), strict=True):
                if name in UNSTEADY:
                    assert np.abs(picture.astype(int) - expected[number]).mean() < 0.1
                else:
                    np.testing.assert_array_equal(picture, expected[number])
        if np.all(np.diff(seconds) > 0):
            np.testing.assert_allclose(info.pts_seconds, np.array(seconds) - seconds[0], atol=1e-9)


def test_hidden_pictures_of_vp8_are_no_frames(odd: dict[str, Path]) -> None:
    with open_container(odd["made"] / "audio_track_silent.webm") as container:
        index = read_index(container, container.streams.video[0])
    assert (index.num_packets, len(index.frame_packet)) == (60, 60 - len(HIDDEN))


@pytest.mark.parametrize(("origin", "name"), files_of_both(WITHOUT_PICTURES, REAL_ERRORS))
def test_files_without_pictures_say_so(odd: dict[str, Path], origin: str, name: str) -> None:
    with pytest.raises(MediaError, match=ERRORS[origin][name]) as caught:
        open_video(odd[origin] / name)
    assert name in str(caught.value)


# File: (sample rate, seconds in the made file, seconds in the real one).
SOUND_ALONE = {
    "audio_only_count.mp4": (22_050, 3.0, 22.2),
    "mp3_with_cover.mp3": (44_100, 1.0, 1.0),
    "silence.wav": (48_000, 2.0, 2.0),
    "short_48_samples.wav": (48_000, 0.001, 0.001),
    "empty.wav": (48_000, 0.0, 0.0),
}


@pytest.mark.parametrize(("origin", "name"), files_of_both(SOUND_ALONE, SOUND_ALONE))
def test_sound_alone_is_read_as_sound(odd: dict[str, Path], origin: str, name: str) -> None:
    sample_rate_hz, *seconds = SOUND_ALONE[name]
    with open_audio(odd[origin] / name) as sound:
        assert sound.sample_rate_hz == sample_rate_hz
        assert sound.measure_seconds() == pytest.approx(seconds[origin == "real"], abs=0.06)
        assert sound.is_silent() == (name in {"silence.wav", "empty.wav"})


@pytest.mark.parametrize(
    ("origin", "name"),
    files_of_both(
        ["surround.mp4", "phone_h263_amr.3gp", "vp9_opus.webm", "two_pairs_of_tracks.mp4", "vp8.webm"],
        ["bbb_51_audio.mp4", "phone_h263_amr.3gp", "vp9_opus.webm", "nasa_multistream.mp4", "bbb_1s_vp8.webm"],
    ),
)
def test_sound_in_the_middle_equals_sequential_decoding(odd: dict[str, Path], origin: str, name: str) -> None:
    """Mean of the channels, placed by the time of each decoded frame, counted from the first picture.

    WebM rounds times to milliseconds, so that decoding from the middle may be placed up to one earlier or later.
    Speech codecs remember more than the half second that is decoded before what is wanted.
    """
    import av

    with av.open(str(odd[origin] / name)) as container:
        first_picture = next(container.decode(container.streams.best("video"))).time
    with av.open(str(odd[origin] / name)) as container:
        stream = container.streams.best("audio")
        rate = stream.sample_rate
        expected = np.zeros(20 * rate, dtype=np.float32)
        end = None
        for frame in container.decode(stream):
            samples = frame.to_ndarray().astype(np.float32)
            samples = samples.reshape(-1, stream.channels).T if not frame.format.is_planar else samples
            start = end if frame.time is None else round((frame.time - first_picture) * rate)
            start = end if end is not None and abs(start - end) < 0.03 * rate else start
            end = start + samples.shape[1]
            expected[max(start, 0) : end] = samples.mean(axis=0)[max(-start, 0) :]
    with open_video(odd[origin] / name) as reader:
        for begin in (0.4, 0.0, 0.7):
            sound = reader.audio(begin, 0.25, sample_rate_hz=rate).numpy()
            first = round(begin * rate)
            shifts = range(-rate // 1000, rate // 1000 + 1) if name.endswith(".webm") else [0]
            shifted = [
                expected[first + shift :][: len(sound)].clip(-1, 1) for shift in shifts if first + shift >= 0
            ]
            error = min(np.abs(sound - one).max() for one in shifted)
            assert error < (0.01 if name.endswith(".3gp") else 0.002)
        assert np.abs(expected).max() > 0.02


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (6, (0, -1))])
def test_case_2_exif_in_the_pictures_of_a_video_is_read(
    tmp_path: Path, orientation: int, corner: tuple[int, int]
) -> None:
    """Cameras that film in JPEG; PyAV 18 refuses to tell of side data that it has no name for."""
    picture = np.full((64, 96, 3), 40, np.uint8)
    picture[:24, :24] = 230
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95, exif=exif)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number in range(3):
            packet = av.Packet((tmp_path / "a.jpg").read_bytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    with open_video(tmp_path / "a.avi") as reader:
        shown = reader.frames([0.0]).video[0, 0].numpy()
    assert shown.shape == ((96, 64) if orientation == 6 else (64, 96))
    lit = {place for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if shown[place] > 150}
    assert lit == {corner}

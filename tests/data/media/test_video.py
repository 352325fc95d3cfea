"""Readers: times, sizes, orientation, sound, images, and the door that keeps files out."""

import os
import pickle
import re
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vidssl.data.media.packets.index import read_index
from vidssl.data.media.packets.nal import Picture, num_gaps, picture_parser
from vidssl.data.media.packets.parameter_sets import states_reordering
from vidssl.data.media.packets.times import longest_increasing, repaired_times
from vidssl.data.media.pyav import PyAVReader
from vidssl.data.media.reader import nearest
from vidssl.data.media.stream import video_stream
from vidssl.data.media.video import MediaError, open_audio, open_video


def grey_frames(values: list[int], *, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), value, dtype=np.uint8) for value in values]


def write(
    path: Path,
    frames: list[np.ndarray],
    *,
    times_ms: list[int] | None = None,
    rotation: int = 0,
    **options: str,
) -> Path:
    """Encode frames well enough that grey levels survive, shown at given milliseconds (default 100 apart)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1", "threads": "1", **options})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times_ms[number] if times_ms else 100 * number
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(
    path: Path, codec: str, samples: np.ndarray, rate: int, *, video_from: float | None = None
) -> Path:
    """Write sound (channels, samples) in [-1, 1] from 0 s on, and 10 pictures from `video_from` seconds on."""
    import av

    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as container:
        sound = container.add_stream(codec, rate=rate, layout=layout)
        if video_from is not None:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.time_base, frame.pts = Fraction(1, 1000), round(1000 * video_from) + 100 * number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for part in av.AudioResampler(format=sound.codec_context.format, layout=layout, rate=rate).resample(frame):
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def levels(video: object) -> list[int]:
    """Mean grey level of each frame of a uint8 (T, 3, H, W) tensor, to the nearest ten."""
    return [10 * round(float(frame.float().mean()) / 10) for frame in video]  # type: ignore[attr-defined]


def test_nearest_takes_the_earlier_of_two_and_stays_inside() -> None:
    pts = np.array([0.0, 1.0, 1.5, 4.0])
    times = np.array([-3.0, 0.4, 0.5, 0.6, 1.25, 1.26, 2.75, 2.76, 99.0])
    assert nearest(pts, times).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert nearest(np.array([0.0]), times).tolist() == [0] * 9


def test_frames_by_time_in_any_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="vidssl")
    path = write(tmp_path / "a.mp4", grey_frames([10 * n for n in range(1, 21)]), g="6")
    with open_video(path) as reader:
        assert reader.info.num_frames == 20
        assert reader.info.fps == pytest.approx(10)
        assert reader.info.duration_seconds == pytest.approx(2.0)
        assert (reader.info.width, reader.info.height, reader.info.codec) == (64, 48, "h264")
        assert reader.info.distrust is None
        frames = reader.frames([1.9, 0.0, 0.31, 0.31, 0.349, 1.2, -5.0, 77.0])
        assert frames.video.shape == (8, 3, 48, 64)
        assert levels(frames.video) == [200, 10, 40, 40, 40, 130, 10, 200]
        np.testing.assert_allclose(frames.time, [1.9, 0.0, 0.3, 0.3, 0.3, 1.2, 0.0, 1.9])
        for number in range(20):
            assert levels(reader.frames([number / 10]).video) == [10 * number + 10]
    assert caplog.messages == []  # no read had to go back to the start of the file


def test_variable_frame_rate_is_read_by_time(tmp_path: Path) -> None:
    times_ms = [500, 520, 540, 1500, 1510, 3500]  # starts late: time 0 is the first frame
    path = write(tmp_path / "a.mkv", grey_frames([20, 60, 100, 140, 180, 220]), times_ms=times_ms)
    with open_video(path) as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, [0, 0.02, 0.04, 1.0, 1.01, 3.0])
        # The last frame is shown for the 0.1 s that the file states.
        assert reader.info.duration_seconds == pytest.approx(3.1)
        assert reader.info.fps == pytest.approx(6 / 3.1)
        assert levels(reader.frames([0.5, 0.53, 2.0, 2.1]).video) == [100, 140, 180, 220]


@pytest.mark.parametrize("short_side", [24, 48, 96])
def test_short_side_keeps_the_aspect_ratio(tmp_path: Path, short_side: int) -> None:
    path = write(tmp_path / "a.mp4", grey_frames([50, 150], height=48, width=80))
    with open_video(path) as reader:
        frames = reader.frames([0.0, 0.1], short_side=short_side)
    assert frames.video.shape == (2, 3, short_side, round(80 * short_side / 48))
    assert levels(frames.video) == [50, 150]


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_window_is_a_part_of_the_whole_wherever_it_is_written(tmp_path: Path, rotation: int) -> None:
    generator = np.random.default_rng(0)
    pictures = list(generator.integers(0, 256, (4, 48, 80, 3), dtype=np.uint8))
    path = write(tmp_path / "a.mp4", pictures, rotation=rotation)
    times, window = [0.3, 0.0, 0.3], (2, 5, 20, 18)
    with open_video(path) as reader:
        whole = reader.frames(times, short_side=24).video
        part = reader.frames(times, short_side=24, window=window).video
        assert torch.equal(part, whole[:, :, 2:22, 5:23])
        for out in (torch.zeros(3, 3, 20, 18, dtype=torch.uint8), torch.zeros_like(part)):  # of other strides
            frames = reader.frames(times, short_side=24, window=window, out=out)
            assert frames.video is out and torch.equal(out, part)
        height, width = whole.shape[2:]
        for wrong in ((-1, 0, 4, 4), (0, 0, height + 1, 4), (0, width - 3, 4, 4), (0, 0, 0, 4)):
            with pytest.raises(
                ValueError, match=f"expected a part of a picture of {height} rows, {width} columns"
            ):
                reader.frames(times, short_side=24, window=wrong)
        with pytest.raises(ValueError, match=r"out is torch\.uint8 of shape \(2, 3, 20, 18\), expected"):
            reader.frames(times, short_side=24, window=window, out=out[:2])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_undone(tmp_path: Path, rotation: int) -> None:
    """A picture with one bright corner is turned clockwise and stored with the rotation that turns it back."""
    scene = np.full((48, 80, 3), 30, dtype=np.uint8)
    scene[:16, :16] = 220
    stored = np.rot90(scene, -rotation // 90)
    path = write(tmp_path / "a.mp4", [stored] * 3, rotation=rotation)
    with open_video(path) as reader:
        assert (reader.info.height, reader.info.width) == (48, 80)
        assert reader.info.rotation_degrees == rotation
        picture = reader.frames([0.1]).video[0].float().mean(0)
        small = reader.frames([0.1], short_side=24).video
    assert picture[4:12, 4:12].min() > 180
    assert max(picture[4:12, -12:].max(), picture[-12:, :12].max(), picture[-12:, -12:].max()) < 60
    assert small.shape[-2:] == (24, 40)


@pytest.mark.parametrize("times", [[], [float("nan")], [float("inf")]])
def test_times_must_be_numbers(tmp_path: Path, times: list[float]) -> None:
    with open_video(write(tmp_path / "a.mp4", grey_frames([1, 2]))) as reader:
        with pytest.raises(ValueError, match="expected at least one finite number of seconds"):
            reader.frames(times)
        with pytest.raises(ValueError, match="short_side is 0"):
            reader.frames([0.0], short_side=0)
        with pytest.raises(MediaError, match="has no audio stream"):
            reader.audio(0.0, 1.0, sample_rate_hz=8000)


def test_closing_twice_and_no_file_left_open(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4", "aac", np.zeros((1, 16_000)), 16_000, video_from=0.0)
    open_files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else None
    reader = open_video(path)
    reader.frames([0.2])
    reader.audio(0.0, 0.5, sample_rate_hz=16_000)
    reader.close()
    reader.close()
    if open_files is not None:
        assert len(list(Path("/proc/self/fd").iterdir())) == open_files


# -- where decoding starts


def index_of(path: Path):  # type: ignore[no-untyped-def]
    import av

    with av.open(str(path)) as container:
        return read_index(container, video_stream(container, path))


def test_decoding_starts_at_the_last_closed_group(tmp_path: Path) -> None:
    index = index_of(write(tmp_path / "a.mp4", grey_frames([9] * 30), g="10", bf="2", sc_threshold="0"))
    assert index.frame_packet[index.entry_of(0)] == 0
    assert [index.entry_of(frame) for frame in (0, 9, 10, 19, 20, 29)] == [0, 0, 10, 10, 20, 20]
    assert index.trap is None
    assert index.is_disposable.any()
    assert not index.is_disposable[index.is_entry].any()


def test_leading_pictures_of_open_groups_start_one_group_earlier(tmp_path: Path) -> None:
    """The pictures shown just before an entry point come after it in the file."""
    noise = [np.random.default_rng(n).integers(0, 255, (48, 64, 3), dtype=np.uint8) for n in range(40)]
    params = {"x264-params": "keyint=10:min-keyint=10:open-gop=1:bframes=3:b-adapt=0:scenecut=0"}
    index = index_of(write(tmp_path / "a.mp4", noise, **params))
    assert index.distrust is None
    assert index.trap == "groups of pictures are open"
    entries = np.flatnonzero(index.is_entry)
    key_frame = int(np.flatnonzero(index.frame_packet == entries[2])[0])
    assert index.entry_of(key_frame) == entries[2]
    assert index.frame_packet[key_frame - 1] > entries[2]
    assert index.entry_of(key_frame - 1) == entries[1]


def test_intra_refresh_has_one_entry_point(tmp_path: Path) -> None:
    params = {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}
    index = index_of(write(tmp_path / "a.mp4", grey_frames([9] * 30), **params))
    assert np.flatnonzero(index.is_entry).tolist() == [0]
    assert index.trap == "key flags lie"


def test_containers_without_exact_times_are_not_trusted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", grey_frames([40, 80, 120, 160]))
    with open_video(path) as reader:
        assert reader.info.distrust == "container mpegts has no exact index"
        assert levels(reader.frames([0.3, 0.0, 0.2]).video) == [160, 40, 120]


def test_missing_reference_pictures_are_counted() -> None:
    def picture(frame_num: int, *, is_entry: bool = False, is_disposable: bool = False) -> Picture:
        return Picture(is_entry, is_disposable, frame_num=frame_num, max_frame_num=16)

    whole = [picture(0, is_entry=True), picture(1), picture(2, is_disposable=True), picture(2), picture(3)]
    assert num_gaps(whole) == 0
    assert num_gaps([whole[0], *whole[2:]]) == 1  # frame_num jumps from 0 to 2
    assert num_gaps(whole[:2] + whole[3:]) == 0  # a disposable picture leaves no gap
    assert num_gaps([picture(15), picture(0), picture(1)]) == 0  # the counter starts again at 16
    assert num_gaps([*whole, picture(0, is_entry=True), picture(1)]) == 0


def bits(*fields: str | int) -> str:
    """Spell bit strings, and whole numbers as Exp-Golomb codes."""
    codes = [field if isinstance(field, str) else f"{field + 1:b}" for field in fields]
    lengths = [
        len(code) if code is field else 2 * len(code) - 1 for code, field in zip(codes, fields, strict=True)
    ]
    return "".join(code.zfill(length) for code, length in zip(codes, lengths, strict=True))


BUFFERING = bits(1, "00000000", 9, 9, "0", 9, 9, "0", "0" * 20)
USABILITY = {
    "absent": ("0", False),
    "nothing in it": (bits("1", "0", "0", "0", "0", "0", "0", "0", "0", "0"), False),
    "reordering alone": (bits("1", "0", "0", "0", "0", "0", "0", "0", "0", "1", "1", 0, 0, 9, 9, 2, 4), True),
    "everything": (
        bits(
            "1",  # it is present
            "1" + "11111111" + "0" * 32,  # aspect ratio, spelled out
            "11",  # overscan
            "1" + "1011" + "1" + "0" * 24,  # video signal type with colours
            *("1", 1, 1),  # place of chroma samples
            "1" + "0" * 32 + "0" * 32 + "1",  # timing
            "1" + BUFFERING,
            "1" + BUFFERING,
            "1",  # delay
            "1",  # picture structure
            "1",  # what is looked for
        ),
        True,
    ),
}


@pytest.mark.parametrize("usability", USABILITY)
def test_whether_a_stream_says_how_it_reorders(usability: str) -> None:
    text, is_stated = USABILITY[usability]
    profile = format(66, "08b") + "0" * 16
    # frame_num of 4 bits, order type 2, 4 references, no gaps, 2 x 2 blocks, interlaced, cropped
    head = bits(profile, 0, 0, 2, 4, "0", 1, 1, "0", "1", "1", "1", 0, 1, 2, 3)
    written = head + text + "1"
    unit = b"\x67" + int(written.ljust(-(-len(written) // 8) * 8, "0"), 2).to_bytes(-(-len(written) // 8), "big")
    escaped = re.sub(b"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", unit)
    record = b"\x01\x42\x00\x1e\xff\xe1" + len(escaped).to_bytes(2, "big") + escaped
    assert states_reordering("h264", record) == is_stated
    assert not states_reordering("hevc", record)
    assert not states_reordering("h264", record[:12])


def test_only_what_is_needed_is_decoded(tmp_path: Path) -> None:
    # B-pictures in between are referred to by nobody: I B B B P B B B P ...
    options = {"bf": "3", "g": "20", "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"}
    path = write(tmp_path / "a.mp4", grey_frames(list(range(10, 250, 10))), **options)
    with open_video(path) as reader:
        assert isinstance(reader, PyAVReader)
        # Of frames 1 and 9: the key frame, P 4, B 1, P 8, P 12, B 9; then the decoder is emptied.
        wanted = reader._index.frame_packet[[1, 9]]
        packets = reader._packets(0, wanted=wanted)
        times = [packet and packet.pts * packet.time_base * 10 for packet in packets]
        assert times == [0, 4, 1, 8, 12, 9, None]
        assert levels(reader.frames([0.1, 0.9]).video) == [20, 100]


def test_packets_that_do_not_add_up_are_damaged(tmp_path: Path) -> None:
    import av

    path = write(tmp_path / "a.mp4", grey_frames([9] * 3))
    with av.open(str(path)) as container:
        look = picture_parser("h264", container.streams.video[0].codec_context.extradata)
        packet = bytes(next(container.demux(video=0)))
    assert look is not None
    assert look(memoryview(packet)).is_entry
    assert look(memoryview(packet)).frame_num == 0
    for damaged in (bytes(len(packet)), packet[:-1], b"\xff" + packet[1:]):
        with pytest.raises(ValueError, match="NAL unit of"):
            look(memoryview(damaged))


def test_times_are_repaired_between_the_stamps_that_increase() -> None:
    def repair(pts: list[int | None]) -> list[float]:
        return repaired_times(pts, time_base=0.1, fps=5).round(6).tolist()

    assert repair([10, 20, 40]) == [0.0, 1.0, 3.0]
    assert repair([0, 10, 99, 30, 40]) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert repair([None, 10, 20, None]) == [0.0, 1.0, 2.0, 3.0]
    assert repair([0, 0, 0]) == [0.0, 0.2, 0.4]
    assert repair([None, None]) == [0.0, 0.2]
    assert repair([7]) == [0.0]


def test_longest_increasing_against_all_subsets() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = [int(value) for value in generator.integers(0, 6, 8)]
        subsets = ([v for n, v in enumerate(values) if mask >> n & 1] for mask in range(256))
        best = max(len(part) for part in subsets if part == sorted(set(part)))
        found = longest_increasing(list(enumerate(values)))
        assert len(found) == best
        assert [values[place] for place, _ in found] == sorted({value for _, value in found})


# -- sound


def click_track(rate: int, seconds: float, at: float) -> np.ndarray:
    samples = np.zeros((1, round(rate * seconds)), np.float32)
    samples[0, round(at * rate) : round((at + 0.02) * rate)] = 0.8
    return samples


@pytest.mark.parametrize("container", ["mkv", "mov"])
@pytest.mark.parametrize("video_from", [0.0, 0.5])
@pytest.mark.parametrize("sample_rate_hz", [8_000, 16_000, 44_100])
def test_sound_is_aligned_with_the_first_picture(
    tmp_path: Path, container: str, video_from: float, sample_rate_hz: int
) -> None:
    """A click 0.7 s after the sound begins is heard 0.7 s minus the delay of the picture after time 0."""
    track = click_track(16_000, 1.0, 0.7)
    path = write_sound(tmp_path / f"a.{container}", "pcm_s16le", track, 16_000, video_from=video_from)
    with open_video(path) as reader:
        assert (reader.info.audio_sample_rate_hz, reader.info.audio_channels) == (16_000, 1)
        for start in (-0.3, 0.0, 0.15):
            sound = reader.audio(start, 1.5, sample_rate_hz=sample_rate_hz)
            assert sound.shape == (round(1.5 * sample_rate_hz),)
            heard = np.flatnonzero(sound.numpy() > 0.4) / sample_rate_hz + start + video_from
            assert heard[0] == pytest.approx(0.7, abs=0.0015)
            assert heard[-1] == pytest.approx(0.72, abs=0.0015)
            silent = sound[: round((0.69 - video_from - start) * sample_rate_hz)]
            assert silent.abs().max() < 0.02


def test_resampled_tone_keeps_pitch_and_phase(tmp_path: Path) -> None:
    seconds = np.arange(44_100) / 44_100
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", 0.5 * np.sin(2 * np.pi * 440 * seconds)[None], 44_100)
    with open_audio(path) as sound:
        heard = sound.read(0.25, 0.5, sample_rate_hz=16_000).numpy()
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.25 + np.arange(8_000) / 16_000))
    # Half an output sample of 440 Hz is 0.043 of the amplitude 0.5.
    np.testing.assert_allclose(heard, expected, atol=0.5 * 2 * np.pi * 440 / 16_000 * 0.5 + 0.01)


@pytest.mark.parametrize(("codec", "name"), [("pcm_s16le", "a.wav"), ("pcm_f32le", "b.wav"), ("flac", "c.flac")])
def test_channels_are_averaged(tmp_path: Path, codec: str, name: str) -> None:
    channels = np.stack([np.full(9_600, level, np.float32) for level in (0.6, 0.0, -0.3, 0.3, 0.0, 0.0)])
    with open_audio(write_sound(tmp_path / name, codec, channels, 48_000)) as sound:
        assert (sound.sample_rate_hz, sound.channels) == (48_000, 6)
        np.testing.assert_allclose(sound.read(0.05, 0.1, sample_rate_hz=48_000), 0.1, atol=1e-4)
        assert sound.measure_seconds() == pytest.approx(0.2)


def test_sound_ends_in_zeros(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", "pcm_s16le", np.full((1, 8_000), 0.5), 8_000)
    with open_audio(path) as sound:
        heard = sound.read(0.75, 0.5, sample_rate_hz=8_000).numpy()
        assert not sound.is_silent()
    np.testing.assert_allclose(heard[:2_000], 0.5, atol=1e-3)
    assert not heard[2_000:].any()
    with open_audio(write_sound(tmp_path / "b.wav", "pcm_s16le", np.full((1, 800), 5e-5), 8_000)) as sound:
        assert sound.is_silent()
        with pytest.raises(ValueError, match="is no span of time"):
            sound.read(0.0, 0.0, sample_rate_hz=8_000)


# -- images


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    for name in ("a.png", "b.bmp", "c.webp", "renamed.mp4"):
        kind = {"b.bmp": "BMP", "c.webp": "WEBP"}.get(name, "PNG")
        Image.fromarray(picture).save(tmp_path / name, format=kind, lossless=True)
        with open_video(tmp_path / name) as reader:
            assert reader.info.num_frames == 1
            frames = reader.frames([0.0, 3.0])
        np.testing.assert_array_equal(frames.video[1].permute(1, 2, 0), picture)
        assert frames.time.tolist() == [0.0, 0.0]


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    from PIL import Image

    scene = np.full((40, 64, 3), 20, dtype=np.uint8)
    scene[:16, :16] = 230
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.fromarray(np.rot90(scene).copy()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with open_video(tmp_path / "a.jpg") as reader:
        assert (reader.info.width, reader.info.height) == (64, 40)
        picture = reader.frames([0.0]).video[0].float().mean(0)
    assert picture[4:12, 4:12].min() > 200
    assert picture[20:, 20:].max() < 60


def test_a_folder_of_images_is_a_video_in_natural_order(tmp_path: Path) -> None:
    from PIL import Image

    for number in (1, 2, 10, 9):
        Image.fromarray(np.full((8, 8, 3), 10 * number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    with open_video(tmp_path) as reader:
        assert reader.info.fps == 24
        assert reader.info.duration_seconds == pytest.approx(4 / 24)
    with open_video(tmp_path, fps=2.0) as reader:
        assert levels(reader.frames([0.0, 0.5, 1.0, 1.5]).video) == [10, 20, 90, 100]
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(tmp_path / "frame3.png")
    with open_video(tmp_path) as reader, pytest.raises(MediaError, match=r"frame3\.png: is 8 x 9 pixels"):
        reader.frames([2 / 24])


def test_deep_and_damaged_images_are_named(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(MediaError, match=r"deep\.png: has more than 8 bits per channel"):
        open_video(tmp_path / "deep.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    with pytest.raises(MediaError, match=r"cut\.png: is no readable image"):
        open_video(tmp_path / "cut.png")


# -- the door

# A manifest that FFmpeg would follow to another file.
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="0" bandwidth="1000"><BaseURL>real.mp4</BaseURL></Representation>
</AdaptationSet></Period></MPD>
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "is an HLS playlist"),
        ("ffconcat version 1.0\nfile other.mp4\n", "is an ffconcat playlist"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\n", "is an SDP description"),
        ("", "is empty"),
        ("nothing of interest " * 50, "is no readable media file"),
        ("WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n", "is no readable media file"),
        (DASH, "is no readable media file"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".sdp"])
def test_playlists_and_text_are_refused(tmp_path: Path, content: str, reason: str, suffix: str) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_text(content)
    for opening in (open_video, open_audio):
        with pytest.raises(MediaError, match=reason):
            opening(path)


def test_a_concat_list_behind_a_comment_opens_nothing(tmp_path: Path) -> None:
    """FFmpeg would take this for a playlist by its name; the demuxer is not among those allowed."""
    write(tmp_path / "real.mp4", grey_frames([1, 2]))
    for name in ("list.ffconcat", "list.m3u8", "list.mpd"):
        (tmp_path / name).write_text("# a comment\nffconcat version 1.0\nfile real.mp4\n#EXTM3U\nreal.mp4\n")
        with pytest.raises(MediaError, match="is no readable media file"):
            open_video(tmp_path / name)


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "file:a.mp4", "absent.mp4"])
def test_names_that_are_no_files_are_refused(name: str) -> None:
    with pytest.raises(MediaError, match="is a URL" if "://" in name else "cannot be found"):
        open_video(name)


def test_a_colon_in_a_relative_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "12:30 clip.mp4", grey_frames([80, 160]))
    with open_video("12:30 clip.mp4") as reader:
        assert levels(reader.frames([0.1]).video) == [160]


def test_pipes_are_refused_without_opening(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    start = time.perf_counter()
    with pytest.raises(MediaError, match="is a pipe, not a regular file"):
        open_video(tmp_path / "a.mp4")
    assert time.perf_counter() - start < 1


def test_huge_pictures_are_refused_before_decoding(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("1", (8_193, 4_320)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="claims 8193 x 4320 pixels; at most 8192 x 4320"):
        open_video(tmp_path / "a.png")


def test_errors_cross_processes(tmp_path: Path) -> None:
    error = MediaError(tmp_path / "a\nb\udcff.mp4", "is damaged")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.path, again.reason) == (error.path, "is damaged")
    assert str(again) == str(error)
    assert str(error).endswith("a\\nb\\udcff.mp4: is damaged")
    assert isinstance(error, ValueError)


def test_unknown_backends_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backend is 'opencv', expected 'pyav', 'decord' or 'torchcodec'"):
        open_video(tmp_path, backend="opencv")  # type: ignore[arg-type]

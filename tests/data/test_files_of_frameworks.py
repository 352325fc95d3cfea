"""Kinds of files found in the test suites of media frameworks that were read otherwise than by FFmpeg's program."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vidssl.data._audit import audit_file
from vidssl.data.video import MediaError, open_audio, open_video


def jpeg(shade: int, *, orientation: int) -> bytes:
    """A grey picture of 64 x 48 pixels with a white corner at the top left, as a camera writes it."""
    pixels = np.full((48, 64, 3), shade, np.uint8)
    pixels[:16, :16] = 255
    notes, data = Image.Exif(), io.BytesIO()
    notes[0x0112] = orientation
    Image.fromarray(pixels).save(data, "JPEG", exif=notes, quality=95)
    return data.getvalue()


def pack(path, pictures, codec="mjpeg"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 10), 1
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("orientation", "size", "corner"), [(1, (64, 48), (0, 0)), (6, (48, 64), (0, -1)), (7, (48, 64), (-1, -1))]
)
def test_motion_jpeg_with_the_notes_of_a_camera_is_read_upright(tmp_path, orientation, size, corner):
    path = pack(tmp_path / "a.mkv", [jpeg(40 * number, orientation=orientation) for number in range(5)])
    with open_video(path) as reader:
        assert (reader.info.width, reader.info.height) == size
        picture = reader.frames([0.2]).video[0, 0].numpy()
    assert abs(int(np.median(picture)) - 80) <= 2
    assert picture[::63 if size[1] == 64 else 47, :: size[0] - 1][corner] > 250
    assert [finding.kind for finding in audit_file(path)] == (["mirrored"] if orientation == 7 else [])


def speech(path, codec, samples, *, rate=48_000):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        step = rate // 50
        for start in range(0, len(samples), step):
            frame = av.AudioFrame.from_ndarray(
                samples[None, start : start + step].astype(np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(seconds, *, rate=48_000):
    return np.random.default_rng(0).normal(size=round(seconds * rate)) / 10


def whole(sound):
    return np.concatenate([samples for _, samples in sound.pieces()], axis=1)[0]


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libopus"), ("a.mp4", "aac"), ("a.mkv", "eac3")])
def test_sound_read_from_the_start_is_what_decoding_everything_gives(tmp_path, name, codec):
    path = speech(tmp_path / name, codec, noise(3))
    with open_audio(path) as sound:
        sound.read(1.5, 0.5, sample_rate_hz=48_000)
        assert sound.read(0, 1, sample_rate_hz=48_000).tolist() == whole(sound)[:48_000].clip(-1, 1).tolist()


def without_key_flags(data: bytes) -> bytes:
    """Clear the key flag of every SimpleBlock in Matroska, as old muxers leave it for sound, and take the table away."""
    cleared = bytearray(data[: data.rindex(b"\x1c\x53\xbb\x6b")])
    place = data.index(b"\x1f\x43\xb6\x75")  # the first cluster; what follows is taken for its children
    while place < len(cleared):
        id_length, size_place = 9 - data[place].bit_length(), place + 9 - data[place].bit_length()
        size_length = 9 - data[size_place].bit_length()
        size = int.from_bytes(data[size_place : size_place + size_length]) & (1 << 7 * size_length) - 1
        place = size_place + size_length
        if data[size_place - id_length] == 0xA3:
            cleared[place + 3] &= 0x7F  # behind the number of the track and a time of two bytes
        if data[size_place - id_length : size_place] != b"\x1f\x43\xb6\x75":
            place += size
    return bytes(cleared)


def test_sound_whose_container_cannot_seek_is_decoded_from_the_start(tmp_path):
    path = speech(tmp_path / "a.mkv", "libopus", noise(8))
    path.write_bytes(without_key_flags(path.read_bytes()))
    with av.open(str(path)) as container, pytest.raises(av.FFmpegError):
        container.seek(4_000, stream=container.streams.audio[0])
    with open_audio(path) as sound:
        expected = whole(sound)[4 * 48_000 : 5 * 48_000]
        np.testing.assert_allclose(sound.read(4, 1, sample_rate_hz=48_000), expected, atol=1e-6)


def test_sound_before_the_first_stamp_is_not_lost(tmp_path, monkeypatch):
    path = speech(tmp_path / "a.flac", "flac", noise(1))
    with open_audio(path) as sound:
        expected = whole(sound)
        decoded = type(sound)._frames

        def late(reader, from_seconds):
            for number, frame in enumerate(decoded(reader, from_seconds)):
                if number % 3 != 2:
                    frame.pts = None
                yield frame

        monkeypatch.setattr(type(sound), "_frames", late)
        starts = [start for start, _ in sound.pieces()]
        assert whole(sound).tolist() == expected.tolist()
        assert starts[0] == pytest.approx(0, abs=1e-9)
        assert (np.diff(starts) > 0).all()


@pytest.mark.parametrize(
    ("magic", "rate", "talk", "pauses"),
    [
        (b"#!AMR\n", 8_000, b"\x04" + bytes(12), [b"\x7c", b"\x44" + bytes(5)]),
        (b"#!AMR-WB\n", 16_000, b"\x04" + bytes(17), [b"\x7c", b"\x4c" + bytes(5), b"\x74"]),
    ],
)
def test_pauses_of_a_phone_are_silence_and_not_damage(tmp_path, magic, rate, talk, pauses):
    path = tmp_path / "a.amr"
    path.write_bytes(magic + 10 * talk + b"".join(pauses) + 10 * talk)
    with open_audio(path) as sound:
        starts, pieces = zip(*sound.pieces(), strict=True)
    np.testing.assert_allclose(np.diff(starts), 0.02)
    assert [samples.shape[1] for samples in pieces] == [rate // 50] * (20 + len(pauses))
    assert not any(samples.any() for samples in pieces[10 : 10 + len(pauses)])
    assert not [finding for finding in audit_file(path) if "sound cannot" in finding.kind]

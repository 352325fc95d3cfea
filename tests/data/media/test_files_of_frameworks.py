"""Kinds of files found in the test suites of media frameworks that were read otherwise than by FFmpeg's program."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vidssl.data.media.audio import AudioReader
from vidssl.data.media.audit import _audit_sound, audit_file
from vidssl.data.media.video import MediaError, open_audio, open_video


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
    assert picture[:: 63 if size[1] == 64 else 47, :: size[0] - 1][corner] > 250
    assert [finding.kind for finding in audit_file(path)] == (["mirrored"] if orientation == 7 else [])


def speech(path, codec, samples, *, rate=48_000, layout="mono"):
    """Encode samples (S,), the same in all channels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        channels = np.repeat(samples[:, None], stream.layout.nb_channels, axis=1).astype(np.float32)
        step = rate // 50
        for start in range(0, len(samples), step):
            frame = av.AudioFrame.from_ndarray(
                channels[start : start + step].reshape(1, -1), format="flt", layout=layout
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


@pytest.mark.parametrize(
    ("codec", "layout"), [("aac", "7.1"), ("libopus", "7.1"), ("aac", "5.1"), ("flac", "7.1")]
)
def test_sound_of_eight_channels_is_read(tmp_path, codec, layout):
    """PyAV finds nine planes in a frame of eight channels, and the process is gone (SIGSEGV) if it reads them."""
    path = speech(tmp_path / "a.mkv", codec, noise(1), layout=layout)
    with open_audio(path) as sound:
        stored = [samples for _, samples in sound.pieces()]
    assert {len(samples) for samples in stored} == {8 if layout == "7.1" else 6}
    assert np.concatenate(stored, axis=1)[0].std() == pytest.approx(0.1, rel=0.3)


def without_key_flags(data: bytes) -> bytes:
    """Clear the key flag of every SimpleBlock in Matroska, as old muxers do for sound, and take the table away."""
    cleared = bytearray(data[: data.rindex(b"\x1c\x53\xbb\x6b")])
    place = data.index(b"\x1f\x43\xb6\x75")  # the first cluster; what follows is taken for its children
    while place < len(cleared):
        id_length, size_place = 9 - data[place].bit_length(), place + 9 - data[place].bit_length()
        size_length = 9 - data[size_place].bit_length()
        size = int.from_bytes(data[size_place : size_place + size_length], "big") & (1 << 7 * size_length) - 1
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


def two_tracks(path, *, unknown):
    """Two tracks of sound, 1 s and 2 s; `unknown` names those whose codec is made one that nobody knows."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("aac", rate=48_000, layout="mono") for _ in range(2)]
        for stream, seconds in zip(streams, (1, 2), strict=True):
            samples = noise(seconds).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            for part in (frame, None):
                container.mux(stream.encode(part))
    data = path.read_bytes()
    for name, other in ((b"mp4a", b"ac-4"), (b"esds", b"skip")):
        parts = data.split(name)
        names = [other if number in unknown else name for number in range(2)]
        data = parts[0] + names[0] + parts[1] + names[1] + parts[2]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("unknown", "seconds"), [([], 1), ([0], 2), ([1], 1)])
def test_sound_of_an_unknown_codec_gives_way_to_a_track_that_can_be_decoded(tmp_path, unknown, seconds):
    with open_audio(two_tracks(tmp_path / "a.mp4", unknown=unknown)) as sound:
        assert sound.measure_seconds() == pytest.approx(seconds, abs=0.03)


def test_sound_of_unknown_codecs_alone_is_called_that(tmp_path):
    path = two_tracks(tmp_path / "a.mp4", unknown=[0, 1])
    with pytest.raises(MediaError, match="has sound of a codec that is not known"):
        open_audio(path)
    with pytest.raises(MediaError, match="it holds sound alone, of a codec that is not known"):
        open_video(path)


@pytest.mark.parametrize(("name", "codec"), [("a.y4m", "rawvideo"), ("a.obu", "libsvtav1")])
def test_raw_video_of_codec_research_is_read(tmp_path, name, codec):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in (40, 80, 120, 160):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with open_video(tmp_path / name) as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, [0, 0.04, 0.08, 0.12])
        shades = reader.frames(reader.info.pts_seconds.tolist()).video.float().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(shades, [40, 80, 120, 160], atol=2)


def test_a_format_that_is_not_read_is_told_so(tmp_path):
    path = tmp_path / "a.ac3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ac3", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(1).astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for part in (frame, None):
            container.mux(stream.encode(part))
    with pytest.raises(MediaError, match="its format is none of those that are read"):
        open_audio(path)


def test_sound_whose_decoder_gives_no_times_begins_where_its_packets_do(tmp_path, monkeypatch):
    """WMA Pro: nothing came out, and what was read was silence."""
    path = speech(tmp_path / "a.mkv", "flac", noise(4))
    with open_audio(path) as sound:
        expected = whole(sound)
    decoded = AudioReader._frames

    def timeless(reader, from_seconds):
        for frame in decoded(reader, from_seconds):
            frame.pts = None
            yield frame

    monkeypatch.setattr(AudioReader, "_frames", timeless)
    with open_audio(path) as sound:
        starts = [start for start, _ in sound.pieces()]
        assert whole(sound).tolist() == expected.tolist()
        assert sound.read(1, 1, sample_rate_hz=48_000).tolist() == expected[48_000:96_000].tolist()
    np.testing.assert_allclose(starts[:2], [0, 4608 / 48_000], atol=0.001)


@pytest.mark.parametrize("num_cut", [1, 3])
def test_sound_that_was_cut_out_of_a_recording_begins_with_its_first_whole_packet(tmp_path, num_cut):
    tone = np.sin(np.arange(96_000) * 0.05) * np.linspace(0.1, 0.5, 96_000)
    source, path = speech(tmp_path / "a.mkv", "ac3", tone), tmp_path / "cut.mkv"
    with open_audio(source) as sound:
        expected = whole(sound)
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        track = after.add_stream_from_template(before.streams.audio[0])
        for number, packet in enumerate(one for one in before.demux() if one.size):
            kept = av.Packet(bytes(packet)[packet.size // 2 if number < num_cut else 0 :])
            kept.pts, kept.dts, kept.time_base, kept.stream = packet.pts, packet.dts, packet.time_base, track
            after.mux(kept)
    with open_audio(path) as sound:
        found = whole(sound)
    assert len(found) == len(expected) - 1536 * num_cut
    # Blocks overlap: the first fades in.
    np.testing.assert_allclose(found[256:], expected[1536 * num_cut + 256 :], atol=0.01)
    findings = [(one.severity, one.kind) for one in _audit_sound(path)]
    assert findings == [("note" if num_cut == 1 else "error", "sound begins late")]


def parts_of(packet):
    """Frames of a superframe (VP9 bitstream specification, annex B), or the packet itself."""
    marker = packet[-1]
    if marker & 0xE0 != 0xC0:
        return [packet]
    width, count = (marker >> 3 & 3) + 1, (marker & 7) + 1
    sizes = packet[-1 - width * count : -1]
    ends = np.cumsum([int.from_bytes(sizes[n * width : (n + 1) * width], "little") for n in range(count)])
    return [packet[end - size : end] for end, size in zip(ends, np.diff(ends, prepend=0), strict=True)]


def test_packets_of_vp9_that_hold_a_reference_alone_are_no_missing_pictures(tmp_path):
    """As encoders of phones write them; libvpx puts them into one packet with a picture that is shown."""
    joined, split = tmp_path / "joined.webm", tmp_path / "split.mkv"
    noisy = np.random.default_rng(0).integers(60, 200, (64, 136, 3), dtype=np.uint8)
    with av.open(str(joined), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.bit_rate = 200_000
        # One pass makes pictures that are not shown at this speed alone.
        stream.options = {
            "auto-alt-ref": "1",
            "lag-in-frames": "25",
            "g": "20",
            "deadline": "realtime",
            "cpu-used": "6",
        }
        for number in range(80):
            picture = np.ascontiguousarray(noisy[:, number // 2 : number // 2 + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    apart = {"fflags": "-autobsf"}  # else the parts are joined again
    with av.open(str(joined)) as before, av.open(str(split), "w", options=apart) as after:
        track = after.add_stream_from_template(before.streams.video[0])
        for packet in (one for one in before.demux() if one.size):
            for data in parts_of(bytes(packet)):
                part = av.Packet(data)
                part.pts, part.dts, part.time_base, part.stream = packet.pts, packet.dts, packet.time_base, track
                part.is_keyframe = packet.is_keyframe
                after.mux(part)
    with av.open(str(split)) as container:
        assert sum(packet.size > 0 for packet in container.demux()) >= 85
    with open_video(joined) as one, open_video(split) as two:
        assert two.info.num_frames == 80
        np.testing.assert_allclose(two.info.pts_seconds, one.info.pts_seconds, atol=1e-3)
        for number in (79, 40, 3):
            time = [float(one.info.pts_seconds[number])]
            assert np.array_equal(two.frames(time).video.numpy(), one.frames(time).video.numpy())
    assert [finding for finding in audit_file(split) if finding.severity == "error"] == []

"""Sound of several channels as one: the mean, unless they cancel; and streams that end in empty packets."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from vidssl.data.media.audit import _audit_sound
from vidssl.data.media.video import MediaError, open_audio

RATE = 16_000


def tone(hertz: float = 440, *, seconds: float = 2.0, level: float = 0.4) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def write_wav(path: Path, *channels: np.ndarray) -> np.ndarray:
    """Write 16-bit sound; return the samples as they are stored, float32 (C, S)."""
    stored = np.round(np.stack(channels) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.ascontiguousarray(stored.T).tobytes())
    return (stored / 32768).astype(np.float32)


def encode(path: Path, codec: str, *channels: np.ndarray, layout: str = "stereo", rate: int = RATE) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000
        kind = "s16" if codec == "flac" else "fltp"
        samples = np.ascontiguousarray(np.stack(channels), np.float32)
        if kind == "s16":
            samples = np.ascontiguousarray((samples.T * 32767).round().astype(np.int16).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        stream.codec_context.options = {"strict": "-2"}  # FFmpeg's own vorbis calls itself experimental
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard(path: Path, *, rate: int = RATE, seconds: float = 2.0, start: float = 0.0) -> np.ndarray:
    with open_audio(path) as sound:
        return sound.read(start, seconds, sample_rate_hz=rate).numpy()


def notes(path: Path) -> list[str]:
    return [f"{one.severity} {one}" for one in _audit_sound(path)]


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("gain", [-1.0, -0.9, -1 / 0.8])
def test_case_7_channels_of_opposite_phase_are_heard(tmp_path, gain):
    left = tone(level=0.5)
    stored = write_wav(tmp_path / "a.wav", left, gain * left)
    louder = stored[np.square(stored).sum(axis=1).argmax()]
    assert heard(tmp_path / "a.wav").tolist() == louder.tolist()
    assert rms(heard(tmp_path / "a.wav", rate=8000)[500:-500]) == pytest.approx(rms(louder), rel=0.01)
    assert notes(tmp_path / "a.wav") == [
        "note channels of the sound cancel: the mean of them is all but silent for 2.00 s; the loudest is read there"
    ]


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.mp4", "aac"), ("a.mkv", "aac")])
def test_case_7_lossy_sound_of_opposite_phase_is_heard(tmp_path, name, codec):
    left = tone()
    path = encode(tmp_path / name, codec, left, -left)
    assert rms(heard(path)[2000:-2000]) == pytest.approx(rms(left), rel=0.02)
    assert len(notes(path)) == 1


@pytest.mark.parametrize("num_channels", [1, 2, 6, 8])
def test_case_7_ordinary_sound_is_the_mean_of_its_channels_to_the_bit(tmp_path, num_channels):
    rng = np.random.default_rng(0)
    together = tone(300)
    channels = [
        0.3 * together + 0.1 * tone(400 + 50 * n) + 0.02 * rng.normal(size=2 * RATE) for n in range(num_channels)
    ]
    stored = write_wav(tmp_path / "a.wav", *channels)
    mean = np.zeros(2 * RATE, np.float32)
    for channel in stored:  # in turn and in float32, as numpy adds few rows
        mean = mean + channel
    mean = mean / np.float32(num_channels)
    tolerance = 0 if num_channels < 8 else 1e-7
    np.testing.assert_allclose(heard(tmp_path / "a.wav"), mean, rtol=0, atol=tolerance)
    assert notes(tmp_path / "a.wav") == []


def test_case_7_unrelated_and_one_sided_sound_stays_the_mean(tmp_path):
    silent = np.zeros(2 * RATE)
    cases = {
        "unrelated": (tone(440), tone(553)),
        "left alone": (tone(440), silent),
        "one of six": (silent, silent, silent, silent, tone(440), silent),
        "half of it against": (tone(440), -0.5 * tone(440)),
        "part of it against, of six": (tone(440), -0.6 * tone(440), silent, silent, silent, silent),
        "too quiet to be heard": (0.0002 * tone(440), -0.0002 * tone(440)),
        "silence": (silent, silent),
    }
    for name, channels in cases.items():
        stored = write_wav(tmp_path / "a.wav", *channels)
        np.testing.assert_allclose(heard(tmp_path / "a.wav"), stored.mean(axis=0), rtol=0, atol=1e-8, err_msg=name)
        assert "cancel" not in "".join(notes(tmp_path / "a.wav")), name


def test_case_7_four_channels_that_cancel_in_pairs(tmp_path):
    one, other = tone(440, level=0.3), tone(700, level=0.2)
    stored = write_wav(tmp_path / "a.wav", other, -other, one, -one)
    assert heard(tmp_path / "a.wav").tolist() == stored[2].tolist()


def test_case_7_where_some_of_it_cancels_only_that_is_replaced(tmp_path):
    left = tone(440)
    right = np.where(np.arange(2 * RATE) < RATE, 0.9 * left, -left)
    stored = write_wav(tmp_path / "a.wav", left, right)
    samples = heard(tmp_path / "a.wav")
    assert samples[:RATE].tolist() == stored[:, :RATE].mean(axis=0).tolist()
    assert samples[RATE:].tolist() == stored[0, RATE:].tolist()
    assert "silent for 1.0" in notes(tmp_path / "a.wav")[0]


def test_case_7_prepared_sound_of_channels_that_cancel_is_heard(tmp_path):
    """Four channels have no layout of AAC: `data prepare` mixes them down."""
    from vidssl.data.corpus.encode import _Sound

    one = tone(440)
    write_wav(tmp_path / "a.wav", one, -one, one, -one)
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        for _, packet in _Sound(tmp_path / "a.wav", zero_seconds=0.0).packets(container):
            container.mux(packet)
    assert rms(heard(tmp_path / "b.mp4")[2000:-2000]) == pytest.approx(rms(one), rel=0.02)


def ogg_pages(data: bytes) -> list[tuple[int, int]]:
    """(first byte, end) of each page of an Ogg file (RFC 3533, section 6)."""
    pages, place = [], 0
    while place < len(data):
        assert data[place : place + 4] == b"OggS"
        num_segments = data[place + 26]
        end = place + 27 + num_segments + sum(data[place + 27 : place + 27 + num_segments])
        pages.append((place, end))
        place = end
    return pages


def checked(page: bytearray) -> bytes:
    """Write the checksum of a page: CRC of polynomial 0x04c11db7, neither reflected nor inverted."""
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    page[22:26] = checksum.to_bytes(4, "little")
    return bytes(page)


def with_empty_packet(data: bytes, *, at: int) -> bytes:
    """Put one more packet, of no bytes, at the end of page `at`."""
    first, end = ogg_pages(data)[at]
    page = bytearray(data[first:end])
    num_segments = page[26]
    page[26] += 1
    page.insert(27 + num_segments, 0)
    return data[:first] + checked(page) + data[end:]


@pytest.fixture(scope="module")
def ogg(tmp_path_factory) -> Path:
    noise = np.random.default_rng(0).normal(size=(2, 6 * RATE)) / 10  # many pages
    return encode(tmp_path_factory.mktemp("ogg") / "whole.ogg", "vorbis", *noise)


@pytest.mark.parametrize("page", [-1, -2])
def test_case_8_a_packet_of_no_bytes_holds_no_sound_and_ends_nothing(ogg, page):
    path = ogg.with_name(f"empty{page}.ogg")
    path.write_bytes(with_empty_packet(ogg.read_bytes(), at=page))
    with av.open(str(path)) as container:
        assert sum(packet.size == 0 and packet.pts is not None for packet in container.demux()) == 1
    with open_audio(ogg) as whole, open_audio(path) as other:
        ours, theirs = (np.concatenate([one for _, one in sound.pieces()], axis=1) for sound in (other, whole))
    assert theirs.shape[1] == 6 * RATE
    assert ours[:, : 6 * RATE].tolist() == theirs.tolist()  # where the sound ends the last packet says
    assert notes(path) == []


def test_case_8_decoders_that_hold_the_end_back_give_it(tmp_path):
    path = encode(
        tmp_path / "a.wma", "wmav2", *np.random.default_rng(0).normal(size=(2, 32_000)) / 10, rate=44_100
    )
    with open_audio(path) as sound:
        assert sum(one.shape[1] for _, one in sound.pieces()) == 30_720  # 28,672 without the last


def test_case_8_damage_in_the_middle_stays_an_error(ogg):
    data = ogg.read_bytes()
    pages = ogg_pages(data)
    first, end = pages[len(pages) // 2]
    page = bytearray(data[first:end])
    page[27 + page[26] :] = b"\xff" * (len(page) - 27 - page[26])
    path = ogg.with_name("damaged.ogg")
    path.write_bytes(data[:first] + checked(page) + data[end:])
    with pytest.raises(MediaError, match=r"damaged\.ogg: sound cannot be decoded"):
        heard(path, seconds=6)
    assert notes(path)[0].startswith("error sound cannot be decoded")

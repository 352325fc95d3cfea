"""Sound whose last packets hold none, and sound of eight channels."""

from pathlib import Path

import av
import numpy as np
import pytest

from vidssl.data.media.audio import AudioReader
from vidssl.data.media.audit import _audit_sound
from vidssl.data.media.video import MediaError, open_audio

RATE_HZ = 44_100


def _tone(path: Path, codec: str, *, layout: str = "mono", amplitudes: tuple[float, ...] = (0.4,)) -> Path:
    """Write a second of 440 Hz, each channel of its own amplitude."""
    wave = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ, layout=layout)
        samples = np.stack([wave * amplitude for amplitude in amplitudes])
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).copy(), format="flt", layout=layout)
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(stream.format, layout, RATE_HZ, stream.frame_size or None)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.aac", "aac"), ("a.flac", "flac")])
def test_case_8_a_last_packet_that_was_cut_off_ends_the_sound(tmp_path: Path, name: str, codec: str) -> None:
    path = _tone(tmp_path / name, codec)
    content = path.read_bytes()
    with open_audio(path) as sound:
        whole = sound.read(0, 0.5, sample_rate_hz=RATE_HZ).numpy()
        num_whole = round(sound.measure_seconds() * RATE_HZ)
    path.write_bytes(content[: int(0.8 * len(content))])
    with open_audio(path) as sound:
        num_samples = round(sound.measure_seconds() * RATE_HZ)
        assert np.array_equal(sound.read(0, 0.5, sample_rate_hz=RATE_HZ).numpy(), whole)
    assert RATE_HZ // 2 < num_samples < num_whole
    assert [(one.severity, one.kind) for one in _audit_sound(path)] == [("note", "sound ends early")]


def test_case_8_what_does_not_decode_before_other_sound_is_an_error(tmp_path: Path) -> None:
    path = _tone(tmp_path / "a.aac", "aac")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux() if packet.size][20]
        start, end = packet.pos + 7, packet.pos + packet.size  # behind the header (ADTS)
    content = bytearray(path.read_bytes())
    content[start:end] = bytes([0x55]) * (end - start)
    path.write_bytes(content)
    with pytest.raises(MediaError, match="sound cannot be decoded"), open_audio(path) as sound:
        sound.measure_seconds()


def test_case_7_eight_channels_are_read(tmp_path: Path) -> None:
    path = _tone(tmp_path / "a.m4a", "aac", layout="7.1", amplitudes=(0.4, -0.4, 0, 0, 0, 0, 0, 0))
    with AudioReader(path) as sound:
        assert sound.channels == 8
        heard = sound.read(0.25, 0.5, sample_rate_hz=RATE_HZ).numpy()
    assert np.abs(heard).max() == pytest.approx(0.4, abs=0.02)

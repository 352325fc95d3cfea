"""Log-mel against the definition written out, tones in their bands, and what the encoder of sound makes of them."""

import math
import re

import pytest
import torch

from vidssl import Batch
from vidssl.models import AudioEncoder, LogMel
from vidssl.models.audio import waveform_of


def mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def band_edges_hz(num_mels: int, rate_hz: int) -> list[float]:
    """num_mels + 2 frequencies, evenly spaced in mels: band m rises from m to m + 1 and falls to m + 2."""
    step = mel(rate_hz / 2) / (num_mels + 1)
    return [700 * (10 ** (step * number / 2595) - 1) for number in range(num_mels + 2)]


def slow_log_mel(waveform, *, rate_hz, n_fft, hop, num_mels, floor):
    """The definition, window by window: mirrored ends, Hann window, Fourier sums, triangles over frequency."""
    half, samples = n_fft // 2, waveform.double()
    samples = torch.cat([samples[1 : half + 1].flip(0), samples, samples[-half - 1 : -1].flip(0)])
    number = torch.arange(n_fft, dtype=torch.float64)
    window = 0.5 - 0.5 * (2 * math.pi * number / n_fft).cos()
    edges = band_edges_hz(num_mels, rate_hz)
    columns = []
    for start in range(0, len(waveform) + 1, hop):
        piece, energy = samples[start : start + n_fft] * window, [0.0] * num_mels
        for k in range(half + 1):
            angle = 2 * math.pi * k * number / n_fft
            power = float((piece * angle.cos()).sum() ** 2 + (piece * angle.sin()).sum() ** 2)
            hz = k * rate_hz / n_fft
            for m in range(num_mels):
                low, center, high = edges[m : m + 3]
                energy[m] += max(0.0, min((hz - low) / (center - low), (high - hz) / (high - center))) * power
        columns.append([math.log(max(value, floor)) for value in energy])
    return torch.tensor(columns).T


@pytest.mark.parametrize(("n_fft", "hop", "num_mels"), [(64, 32, 8), (100, 30, 12)])
def test_log_mel_equals_its_definition(n_fft, hop, num_mels):
    log_mel = LogMel(sample_rate_hz=8000, n_fft=n_fft, hop_samples=hop, num_mels=num_mels, floor=1e-3)
    waveform = torch.rand(2, 300) * 2 - 1
    waveform[1, 150:] = 0  # windows at the floor
    found = log_mel(waveform)
    for one, expected in zip(found, waveform, strict=True):
        slow = slow_log_mel(expected, rate_hz=8000, n_fft=n_fft, hop=hop, num_mels=num_mels, floor=1e-3)
        torch.testing.assert_close(one[0], slow, atol=1e-4, rtol=1e-5)
    assert found.shape == (2, 1, num_mels, 300 // hop + 1)


@pytest.mark.parametrize("hz", [200, 440, 1000, 3000])
def test_a_tone_is_loudest_in_its_band(hz):
    tone = (2 * math.pi * hz * torch.arange(8000) / 8000).sin()
    energies = LogMel(sample_rate_hz=8000)(tone[None])[0, 0]
    centers = torch.tensor(band_edges_hz(40, 8000)[1:-1])
    assert (energies.argmax(0) == (centers - hz).abs().argmin()).all()
    # A sine of full scale: |X| = n_fft / 4 at its own frequency under a Hann window.
    assert float(energies.max()) == pytest.approx(math.log(400**2 / 16), abs=0.7)


def test_loudness_is_a_constant_and_silence_the_floor():
    log_mel, noise = LogMel(floor=1e-9), torch.randn(1, 4000) * 0.01
    torch.testing.assert_close(
        log_mel(10 * noise) - log_mel(noise), torch.full((1, 1, 40, 26), math.log(100)), atol=1e-3, rtol=0
    )
    assert (log_mel(torch.zeros(1, 4000)) == math.log(1e-9)).all()


def test_log_mel_stays_in_float32_under_autocast():
    log_mel, noise = LogMel(), torch.randn(1, 4000) * 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mel(noise)
    assert torch.equal(found, log_mel(noise))


def test_the_encoder_normalizes_and_pools():
    net = AudioEncoder(LogMel(num_mels=16), widths=(4, 6), strides=(2, 2))
    seen = []
    net.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    waveform = torch.randn(3, 3200) * 0.1
    features = net.features(waveform)
    assert features.shape == (3, 6, 4, 6) and net.dim == 6  # 16 bands and 21 frames, at stride 4
    torch.testing.assert_close(seen[0], (net.log_mel(waveform) + 4) / 5)
    net.eval()
    pooled, features = net(waveform), net.features(waveform)
    expected = torch.stack([features[:, :, m, t] for m in range(4) for t in range(6)]).mean(0)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=1e-5)


def test_missing_and_short_sound_is_named():
    silent_film = Batch(index=torch.arange(2))
    with pytest.raises(ValueError, match="no sound, this method listens; build the dataset with audio_seconds"):
        waveform_of(silent_film)
    with pytest.raises(
        ValueError, match=re.escape("shape (2, 399), expected (B, S) with at least one window of 400")
    ):
        LogMel()(torch.zeros(2, 399))
    with pytest.raises(ValueError, match=re.escape("2 widths (4, 8) but 1 strides (2,)")):
        AudioEncoder(LogMel(), widths=(4, 8), strides=(2,))


def test_a_batch_of_one_clip_gives_its_sound():
    audio = torch.rand(3, 1, 50)
    assert torch.equal(waveform_of(Batch(index=torch.arange(3), audio=audio)), audio[:, 0])
    with pytest.raises(Exception, match="2 != 1"):
        waveform_of(Batch(index=torch.arange(3), audio=torch.rand(3, 2, 50)))

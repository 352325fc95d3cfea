"""Loudness of a view is what was drawn, whatever it was."""

import pytest
import torch

from vidssl.augment.sound import RandomLoudness, at_loudness, audible


def loudness_db(waveform):
    return 20 * waveform.square().mean(1).sqrt().log10()


def test_loudness_is_what_was_asked():
    waveform = torch.randn(3, 500) * torch.tensor([[0.001], [0.1], [0.5]])
    assert loudness_db(at_loudness(waveform, -20.0)).tolist() == pytest.approx([-20] * 3, abs=1e-3)
    each = torch.tensor([-30.0, -20.0, -10.0])
    assert loudness_db(at_loudness(waveform, each)).tolist() == pytest.approx(each.tolist(), abs=1e-3)


def test_the_drawn_loudness_is_uniform_and_forgets_the_old_one():
    view, seed = RandomLoudness(low_db=-30, high_db=-10), torch.arange(2000)
    noise = torch.randn(2000, 50)
    soft, loud = view(noise * 1e-3, seed), view(noise * 0.5, seed)
    torch.testing.assert_close(soft, loud, atol=1e-5, rtol=1e-4)
    drawn = loudness_db(loud).sort().values
    even = torch.linspace(-30, -10, 2000)
    assert (drawn - even).abs().max() < 0.8  # Kolmogorov-Smirnov distance 0.04 of the range


def test_a_view_depends_on_its_own_seed_alone():
    view, waveform, seed = RandomLoudness(), torch.randn(6, 100), torch.arange(6) * 7
    alone = torch.cat([view(waveform[i : i + 1], seed[i : i + 1]) for i in range(6)])
    assert torch.equal(view(waveform, seed), alone)


def test_silence_stays_silent():
    waveform = torch.stack([torch.zeros(100), torch.full((100,), 5e-5), torch.full((100,), 2e-4)])
    assert audible(waveform).tolist() == [False, False, True]
    assert torch.equal(at_loudness(waveform, -20.0)[:2], waveform[:2])

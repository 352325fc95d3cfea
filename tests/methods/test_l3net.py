from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.methods import L3Net
from vidssl.models import AudioEncoder, ConvNet, LogMel
from vidssl.ops import draws

RATE_HZ = 8000


class Whole(nn.Module):
    """A view of frames that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class AsRecorded(nn.Module):
    """A view of sound that changes nothing: the guard against loudness taken away."""

    def forward(self, waveform, seed):
        return waveform


def method(**options) -> L3Net:
    audio_encoder = AudioEncoder(LogMel(sample_rate_hz=RATE_HZ, n_fft=128, num_mels=12), widths=(8,), strides=(2,))
    return L3Net(ConvNet(widths=(8,), strides=(2,)), audio_encoder=audio_encoder, view=Whole(), **options)


def batch(source_id, *, seed: int = 0) -> Batch:
    """Noise to see and noise to hear, for each source."""
    generator, number = torch.Generator().manual_seed(seed), len(source_id)
    video = torch.randint(256, (number, 1, 1, 3, 12, 12), dtype=torch.uint8, generator=generator)
    audio = (torch.randn(number, 1, 800, generator=generator) * 0.1).clamp(-1, 1)
    names = {"index": torch.arange(number), "seed": torch.arange(number), "source_id": torch.tensor(source_id)}
    return Batch(video=video, audio=audio, **names)


def test_loss_equals_the_pairs_written_out():
    sample = batch([0, 1, 1, 2, 3, 0])
    sample = replace(sample, audio=sample.audio * (torch.arange(6) != 3)[:, None, None])  # source 2 is silent
    net = method().eval()
    with torch.no_grad():
        found = net(sample, 0.0)
        loss, hits, count = 0.0, 0, 0
        heard = [0, 1, 2, 4, 5]
        waveform = net.sound_view(sample.audio[:, 0], draws.mix(sample.seed, 1))
        for place, i in enumerate(heard):
            j = heard[(place + 1) % len(heard)]
            if sample.source_id[i] == sample.source_id[j]:
                continue
            frame = net.encoder.features(sample.video[i : i + 1, 0].float() / 255).flatten(3).max(3).values[0, 0]
            for other, target in ((i, 1), (j, 0)):
                sound = net.audio_encoder.features(waveform[other : other + 1]).flatten(2).max(2).values[0]
                logits = net.fusion(torch.cat([frame, sound]))
                loss -= float(logits.log_softmax(0)[target])
                hits += int(logits.argmax()) == target
                count += 1
    assert count == 6  # pairs 0-1, 2-4, 4-5; not 1-2 and not 5-0, which share their sources
    assert float(found["loss"]) == pytest.approx(loss / count, abs=1e-5)
    assert float(found["accuracy"]) == pytest.approx(hits / count)
    assert float(found["share_in_pairs"]) == pytest.approx(3 / 6)


def pairs_of(net: L3Net, sample: Batch):
    """What the loss depends on: (frames, sounds) of both classes, true pairs first."""
    shown = []

    def note(module, inputs, logits):
        logits.retain_grad()
        shown.extend([inputs[0].detach(), logits])

    handle = net.fusion.register_forward_hook(note)
    net(sample, 0.0)["loss"].backward()
    handle.remove()
    pairs, logits = shown
    counts = logits.grad.abs().sum(1) > 0
    widths = [net.encoder.dim, net.audio_encoder.dim]
    return [part[kept].split(widths, dim=1) for part, kept in zip(pairs.chunk(2), counts.chunk(2), strict=True)]


def test_no_recording_is_more_frequent_in_one_class():
    """Else whose sound (or frame) it is would tell the class, without the other."""
    net = method(sound_view=AsRecorded()).eval()
    generator = torch.Generator().manual_seed(1)
    for seed in range(20):
        source_id = torch.randint(4, (24,), generator=generator).tolist()
        sample = batch(source_id, seed=seed)
        # A recording's frames and sounds are all the same, so a row tells whose it is.
        first = [source_id.index(number) for number in source_id]
        sample = replace(sample, video=sample.video[first], audio=sample.audio[first])
        (frames, sounds), (same_frames, others) = pairs_of(net, sample)
        for one, other in ((frames, same_frames), (sounds, others)):
            counts = [Counter(tuple(row) for row in rows.mul(1e3).round().tolist()) for rows in (one, other)]
            assert counts[0] == counts[1] and len(counts[0]) > 1
        # And no negative is a pair of one recording.
        assert not (sounds == others).all(1).any()


def test_the_sound_of_a_negative_is_that_of_the_next_sample():
    net, sample = method(sound_view=AsRecorded()).eval(), batch([5, 3, 8, 1])
    (frames, sounds), (same_frames, others) = pairs_of(net, sample)
    torch.testing.assert_close(frames, same_frames)
    torch.testing.assert_close(others, sounds[[1, 2, 3, 0]])


def test_silence_is_in_neither_class():
    """Half of the sounds silent, and their frames dark: nothing dark may be left."""
    net, sample = method().eval(), batch(list(range(8)))
    silent = torch.arange(8) % 2 == 0
    video = torch.where(silent[:, None, None, None, None, None], 0, sample.video)
    audio = torch.where(silent[:, None, None], 5e-5, sample.audio)
    (frames, sounds), (_, others) = pairs_of(net, replace(sample, video=video, audio=audio))
    dark = net.encoder.features(torch.zeros(1, 1, 3, 12, 12)).amax(dim=(1, 3, 4))
    assert len(frames) == 4
    assert not torch.isclose(frames, dark).all(1).any()
    quiet = net.audio_encoder.features(torch.full((1, 800), 5e-5)).amax(dim=(2, 3))
    assert not torch.isclose(torch.cat([sounds, others]), quiet).all(1).any()


def test_a_batch_of_one_recording_teaches_nothing():
    net = method()
    logged = net(batch([7, 7, 7]), 0.0)
    logged["loss"].backward()
    assert float(logged["loss"].detach()) == 0 and float(logged["share_in_pairs"]) == 0
    assert all((parameter.grad == 0).all() for parameter in net.parameters())


def test_film_without_sound_is_refused():
    with pytest.raises(ValueError, match="no sound, this method listens"):
        method()(replace(batch([0, 1]), audio=None), 0.0)


def loud_where_bright(number: int, *, seed: int) -> Batch:
    """Grey frames and white noise: bright with loud, dark with soft (20 dB), and nothing else in common."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.rand(number, generator=generator) < 0.5
    video = torch.where(bright, 180, 70)[:, None, None, None, None, None] + torch.randint(
        -40, 40, (number, 1, 1, 3, 12, 12), generator=generator
    )
    noise = torch.randn(number, 1, 800, generator=generator)
    audio = noise * torch.where(bright, 0.2, 0.02)[:, None, None]
    names = {name: torch.arange(number) + 1000 * seed for name in ("index", "seed", "source_id")}
    return Batch(video=video.to(torch.uint8), audio=audio.clamp(-1, 1), **names)


@pytest.mark.parametrize("guarded", [False, True])
def test_loudness_is_no_shortcut(guarded):
    """Without the drawn loudness the task is solved by it: 3/4 is all one can get, as half of the negatives agree."""
    net = method() if guarded else method(sound_view=AsRecorded())
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(150):
        optimizer.zero_grad()
        net(loud_where_bright(32, seed=step), 0.0)["loss"].backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        accuracy = float(net(loud_where_bright(1000, seed=1000), 1.0)["accuracy"])
    assert accuracy == pytest.approx(0.5, abs=0.05) if guarded else accuracy > 0.7

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.method import Epoch
from vidssl.methods import XDC
from vidssl.methods.audiovisual.xdc import cluster
from vidssl.models import AudioEncoder, ConvNet, LogMel
from vidssl.ops.agreement import normalized_mutual_information

RATE_HZ = 8000


class Whole(nn.Module):
    """A view of frames that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class AsRecorded(nn.Module):
    """A view of sound that changes nothing."""

    def forward(self, waveform, seed):
        return waveform


def method(number: int, **options) -> XDC:
    log_mel = LogMel(sample_rate_hz=RATE_HZ, n_fft=200, num_mels=20)
    options = {"num_clusters": 2, "sound_view": AsRecorded(), **options}
    return XDC(
        ConvNet(widths=(8, 16), strides=(2, 2)),
        audio_encoder=AudioEncoder(log_mel, widths=(8, 16), strides=(2, 2)),
        view=Whole(),
        num_samples=number,
        **options,
    )


def corpus(*, seen, heard, gain=None) -> Batch:
    """Frames with stripes (upright or lying, by `seen`) and tones (low or high, by `heard`), both with noise."""
    number, generator = len(seen), torch.Generator().manual_seed(0)
    stripes = torch.where(torch.arange(12) % 4 < 2, 60, -60).expand(12, 12)
    stripes = torch.where(seen[:, None, None] == 0, stripes, stripes.T)
    noise = torch.randint(-20, 20, (number, 1, 1, 3, 12, 12), generator=generator)
    video = (128 + stripes[:, None, None, None] + noise).to(torch.uint8)
    time = torch.arange(1600) / RATE_HZ
    pitch = torch.tensor([300.0, 1500.0])[heard][:, None]
    phase = 6.28 * torch.rand(number, 1, generator=generator)
    tone = (2 * math.pi * pitch * time + phase).sin() + 0.1 * torch.randn(number, 1600, generator=generator)
    audio = 0.2 * tone * (torch.ones(number) if gain is None else gain)[:, None]
    return Batch(index=torch.arange(number), video=video, audio=audio[:, None], seed=torch.arange(number))


def halves(number: int, period: int) -> torch.Tensor:
    """0 0 .. 1 1 .., `period` of each; periods 1 and 2 are independent of each other."""
    return torch.arange(number) // period % 2


def prepare(net: XDC, sample: Batch, *, number: int = 0, forgotten: list | None = None) -> XDC:
    def extract(function, num_samples=None):
        net.eval()
        with torch.no_grad():
            values = function(sample)[:num_samples]
        net.train()
        return values

    forget = lambda parameters: None if forgotten is None else forgotten.extend(parameters)  # noqa: E731
    net.before_epoch(Epoch(number=number, extract=extract, forget=forget))
    return net


def test_each_modality_is_taught_the_clusters_of_the_other():
    seen, heard = halves(32, 1), halves(32, 2)
    sample = corpus(seen=seen, heard=heard)
    net = prepare(method(32), sample)
    assert normalized_mutual_information(net.video_labels, seen) == pytest.approx(1)
    assert normalized_mutual_information(net.audio_labels, heard) == pytest.approx(1)
    assert normalized_mutual_information(net.video_labels, net.audio_labels) == pytest.approx(0, abs=1e-9)
    # Heads that answer with what the other modality knows have no loss at all; with their own, log 2 or more.
    right, wrong = net.audio_labels, net.video_labels
    for to_video, to_audio, low, high in ((right, wrong, 0, 0.01), (wrong, right, 5, 30)):
        net.video_head = Answer(to_video)
        net.audio_head = Answer(to_audio)
        assert low <= float(net(sample, 0.0)["loss"]) <= high


class Answer(nn.Module):
    """A head that gives fixed answers, surely."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, features):
        return 20.0 * F.one_hot(self.label, 2)


def test_loss_equals_the_equations_written_out():
    sample = corpus(seen=halves(6, 1), heard=halves(6, 2))
    net = method(10, num_clusters=3).eval()
    sample = replace(sample, index=torch.tensor([9, 2, 4, 0, 7, 5]))
    net.video_labels.copy_(torch.tensor([2, 0, 1, 0, 0, 2, 1, -1, 0, 1]))
    net.audio_labels.copy_(torch.tensor([1, 1, 0, 0, 2, 2, 0, -1, 1, 2]))
    with torch.no_grad():
        logged = net(sample, 0.0)
        expected, hits = 0.0, 0
        for place, number in enumerate([9, 2, 4, 0, 7, 5]):
            frame, sound = sample.video[place : place + 1, 0].float() / 255, sample.audio[place]
            for logits, label in (
                (net.video_head(net.encoder(frame))[0], int(net.audio_labels[number])),
                (net.audio_head(net.audio_encoder(sound))[0], int(net.video_labels[number])),
            ):
                if label >= 0:  # sample 7 was silent
                    expected -= float(logits[label] - logits.exp().sum().log()) / 6
            hits += int(net.video_head(net.encoder(frame)).argmax()) == int(net.audio_labels[number])
    assert float(logged["loss"]) == pytest.approx(expected, abs=1e-5)
    assert float(logged["video_accuracy"]) == pytest.approx(hits / 6)


def test_names_of_clusters_do_not_change_what_is_learned():
    sample = corpus(seen=halves(12, 1), heard=halves(12, 2))
    net = prepare(method(12, num_clusters=3), sample)
    order = torch.tensor([2, 0, 1])  # what was cluster k is cluster order[k]
    results = []
    for renamed in (False, True):
        if renamed:
            for labels, head in ((net.video_labels, net.audio_head), (net.audio_labels, net.video_head)):
                labels.copy_(order[labels])
                head.weight.data = head.weight.data[order.argsort()]
                head.bias.data = head.bias.data[order.argsort()]
        net.zero_grad()
        loss = net(sample, 0.0)["loss"]
        loss.backward()
        encoders = [*net.encoder.parameters(), *net.audio_encoder.parameters()]
        results.append((float(loss.detach()), [parameter.grad.clone() for parameter in encoders]))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for first, second in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-4)


def test_new_clusters_get_new_heads_and_are_compared_with_the_old():
    sample, forgotten = corpus(seen=halves(16, 1), heard=halves(16, 2)), []
    net = method(16, epochs_per_clustering=2)
    prepare(net, sample, forgotten=forgotten)
    assert [id(p) for p in forgotten] == [
        id(p) for p in (*net.video_head.parameters(), *net.audio_head.parameters())
    ]
    logged = net(sample, 0.0)
    assert float(logged["video_nmi"]) == 0  # there was nothing to compare with
    assert float(logged["cluster_entropy"]) == float(logged["audio_cluster_entropy"]) == pytest.approx(1)

    weights, labels = net.video_head.weight.clone(), net.video_labels.clone()
    prepare(net, sample, number=1, forgotten=forgotten)  # between clusterings
    assert torch.equal(weights, net.video_head.weight) and len(forgotten) == 4
    other = replace(sample, video=sample.video.roll(1, dims=0))  # the stripes change their turn
    prepare(net, other, number=2, forgotten=forgotten)
    assert not torch.equal(weights, net.video_head.weight) and len(forgotten) == 8
    assert normalized_mutual_information(net.video_labels, 1 - labels) == pytest.approx(1)
    assert float(net(sample, 0.0)["video_nmi"]) == pytest.approx(1)


def test_cluster_entropy_tells_the_sizes():
    net = prepare(method(16), corpus(seen=(torch.arange(16) < 2).long(), heard=halves(16, 2)))
    share = 1 / 8
    expected = -(share * math.log(share) + (1 - share) * math.log(1 - share)) / math.log(2)
    assert float(net.entropy[0]) == pytest.approx(expected, rel=1e-5)


def test_silence_makes_no_cluster():
    """Half of the sounds are silent: two clusters would be silence and the rest, which pitch has no part in."""
    heard, silent = halves(32, 2), halves(32, 1).bool()
    sample = corpus(seen=halves(32, 4), heard=heard, gain=1 - silent.float())
    net = prepare(method(32), sample)
    assert (net.audio_labels[silent] == -1).all() and (net.video_labels[silent] == -1).all()
    assert normalized_mutual_information(net.audio_labels[~silent], heard[~silent]) == pytest.approx(1)
    with torch.no_grad():
        unguarded = cluster(net.audio_encoder.eval()(sample.audio[:, 0]), 2)
    assert normalized_mutual_information(unguarded, silent.long()) == pytest.approx(1)


def test_loudness_makes_no_cluster():
    heard, loud = halves(64, 2), halves(64, 1)
    sample = corpus(seen=halves(64, 4), heard=heard, gain=10.0 ** (-3 * (1 - loud)))
    net = prepare(method(64), sample)
    assert normalized_mutual_information(net.audio_labels, loud) < 0.05
    assert normalized_mutual_information(net.audio_labels, heard) == pytest.approx(1)
    with torch.no_grad():
        unguarded = cluster(net.audio_encoder.eval()(sample.audio[:, 0]), 2)
    assert normalized_mutual_information(unguarded, loud) > 0.9


def test_a_dataset_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the dataset has 8 samples but the method was built with num_samples=9"):
        prepare(method(9), corpus(seen=halves(8, 1), heard=halves(8, 2)))

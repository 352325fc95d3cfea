import itertools
import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import ShuffleAndLearn
from vidssl.methods.video.shuffle_and_learn import IN_ORDER, SHUFFLED, balanced_accuracy, candidate_windows
from vidssl.models import ConvNet
from vidssl.ops.draws import mix


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class EachFrameByItself(nn.Module):
    """The mistake that the guard is against: a crop of its own for every frame."""

    def __init__(self):
        super().__init__()
        self.crop = RandomResizedCrop(16, scale=(0.3, 0.3), flip=0.0)

    def forward(self, video, seed):
        frames = [self.crop(video[:, [t]], mix(seed, t)) for t in range(video.shape[1])]
        return torch.cat(frames, dim=1)


def method(view=None, **options) -> ShuffleAndLearn:
    net = ConvNet(widths=(4, 8), strides=(2, 2), norm="group")
    return ShuffleAndLearn(net, view=view or Whole(), **options)


def batch(num_clips: int = 64, num_windows: int = 1, size: int = 8) -> Batch:
    """Windows whose frames are noise."""
    video = torch.randint(256, (num_clips, num_windows, 5, 3, size, size), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips) * 7919)


def test_loss_equals_the_tuples_written_out():
    learner, clips = method(), batch(24)
    index, label = learner.draw_tuples(clips.seed)
    total = hits = 0.0
    for b in range(24):
        frames = [clips.video[b, 0, t].float() / 255 for t in index[b].tolist()]
        features = torch.cat([learner.encoder(frame[None, None])[0] for frame in frames])
        weight, bias = learner.classifier.weight.detach(), learner.classifier.bias.detach()
        logits = [float(weight[number] @ features.detach() + bias[number]) for number in (0, 1)]
        in_order = tuple(index[b].tolist()) in IN_ORDER
        total -= logits[in_order] - math.log(sum(map(math.exp, logits)))
        hits += (logits[1] > logits[0]) == in_order
        assert bool(label[b]) == in_order
    found = {name: value.detach() for name, value in learner(clips, 0.0).items()}
    assert float(found["loss"]) == pytest.approx(total / 24, abs=1e-5)
    assert float(found["accuracy"]) == pytest.approx(hits / 24)


def test_only_monotone_tuples_are_in_order_and_all_share_the_outer_frames():
    """By definition: every tuple of b, d outside and another frame in the middle."""
    for first, middle, last in itertools.permutations(range(5), 3):
        if {first, last} == {1, 3} and middle != 2:
            assert (first, middle, last) in SHUFFLED
            assert not first < middle < last and not first > middle > last
        elif {first, last} == {1, 3}:
            assert (first, middle, last) in IN_ORDER
    assert len(IN_ORDER) == 2 and len(SHUFFLED) == 4


def test_three_quarters_are_shuffled_and_all_tuples_of_a_kind_equally_likely():
    index, label = method().draw_tuples(torch.arange(24_000))
    share = {frames: count / 24_000 for frames, count in Counter(map(tuple, index.tolist())).items()}
    assert float(label.float().mean()) == pytest.approx(0.25, abs=0.01)
    expected = {**dict.fromkeys(IN_ORDER, 1 / 8), **dict.fromkeys(SHUFFLED, 3 / 16)}
    assert share == pytest.approx(expected, abs=0.01)


def test_saying_always_shuffled_is_chance():
    label = torch.tensor([0] * 75 + [1] * 25)
    assert float(balanced_accuracy(label == 0, label, num_classes=2)) == 0.5
    assert float((label == 0).float().mean()) == 0.75  # what the plain accuracy hides
    half_of_one_class = torch.tensor([True, False, True])
    assert float(balanced_accuracy(half_of_one_class, torch.tensor([0, 0, 1]), num_classes=2)) == 0.75
    assert float(balanced_accuracy(torch.tensor([True, False]), torch.tensor([0, 0]), num_classes=2)) == 0.5


def test_windows_start_anywhere_and_keep_their_offsets():
    clips = partial(candidate_windows, offsets_frames=(0, 2, 5, 8, 10), num_windows=500)
    times = clips(20 / 25, 25.0, torch.Generator().manual_seed(0)) * 25
    torch.testing.assert_close(times - times[:, :1], torch.tensor([[0.0, 2, 5, 8, 10]]).double().expand(500, 5))
    assert sorted(set(times[:, 0].round().int().tolist())) == list(range(10))


def test_the_default_windows_are_the_paper_s():
    times = method().clips(10.0, 30.0, torch.Generator()) * 30
    b, d = times[:, 1], times[:, 3]
    assert times.shape == (4, 5)
    torch.testing.assert_close(d - b, torch.full((4,), 60.0).double())
    torch.testing.assert_close(b - times[:, 0], torch.full((4,), 15.0).double())
    torch.testing.assert_close(times[:, 4] - d, torch.full((4,), 15.0).double())


def spy(learner: ShuffleAndLearn) -> list[torch.Tensor]:
    """Record what the encoder sees."""
    seen: list[torch.Tensor] = []
    learner.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def half_still(num_clips: int) -> Batch:
    """Two windows a video: grey and still, and moving noise."""
    video = torch.full((num_clips, 2, 5, 3, 8, 8), 128, dtype=torch.uint8)
    video[:, 1] = torch.randint(256, video[:, 1].shape, dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips))


def still_share(learner: ShuffleAndLearn, clips: Batch) -> float:
    """Share of the tuples whose three frames are equal: nobody can know their order."""
    seen = spy(learner)
    with torch.no_grad():
        learner(clips, 0.0)
    first, middle, last = seen[0].unflatten(0, (-1, 3)).unbind(1)
    return float(((first == middle) & (middle == last)).flatten(1).all(1).float().mean())


def test_still_windows_are_not_asked_about():
    clips = half_still(200)
    assert still_share(method(), clips) == 0.0
    # Without the choice by motion half of the tuples have no answer.
    blind = Batch(
        index=clips.index, video=clips.video[torch.arange(200), torch.arange(200) % 2, None], seed=clips.seed
    )
    assert still_share(method(), blind) == 0.5


def test_in_a_still_video_the_three_frames_are_one():
    """The frames share their crop: a label cannot be read from them. With a crop each it could."""
    still = torch.randint(256, (16, 1, 1, 3, 24, 24), dtype=torch.uint8).expand(-1, -1, 5, -1, -1, -1)
    clips = Batch(index=torch.arange(16), video=still, seed=torch.arange(16))
    assert still_share(method(RandomResizedCrop(16, scale=(0.3, 0.3))), clips) == 1.0
    assert still_share(method(EachFrameByItself()), clips) == 0.0

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import OPN
from vidssl.methods.video.opn import ORDERS, PAIRS, jitter, split_channels
from vidssl.models import ConvNet


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


def method(view=None, **options) -> OPN:
    net = ConvNet(widths=(4, 8), strides=(2, 2), norm="group")
    sizes = {"frame_dim": 6, "pair_dim": 5, "num_patches": 1, "jitter_px": 0}
    return OPN(net, view=view or Whole(), **{**sizes, **options})


def batch(num_clips: int, size: int = 8) -> Batch:
    video = torch.randint(256, (num_clips, 1, 4, 3, size, size), dtype=torch.uint8)
    return Batch(index=torch.arange(num_clips), video=video, seed=torch.arange(num_clips) * 7919)


def spy(learner: OPN) -> list[torch.Tensor]:
    """Record what the encoder sees."""
    seen: list[torch.Tensor] = []
    learner.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def test_loss_equals_the_network_written_out():
    learner, clips = method().eval(), batch(5)
    order, label = learner.draw_orders(clips.seed)
    channel = spy(learner)
    with torch.no_grad():
        found = learner(clips, 0.0)
        frames = channel[0]  # what was shown, with one channel each: checked below
        total = 0.0
        for b in range(5):
            vectors = []
            for place in range(4):
                frame = frames[4 * b + place]
                shown = clips.video[b, 0, order[b, place]].float() / 255
                assert any(torch.equal(frame[0], shown[[c]].expand(3, -1, -1)) for c in range(3))
                vectors.append(learner.fc6(learner.encoder(frame[None])))
            # The pairs in the authors' order.
            pairs = [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3)]
            relations = [learner.fc7(torch.cat([vectors[i], vectors[j]], dim=1)) for i, j in pairs]
            logits = learner.fc8(torch.cat(relations, dim=1))[0].tolist()
            total -= logits[label[b]] - math.log(sum(map(math.exp, logits)))
    assert float(found["loss"]) == pytest.approx(total / 5, abs=1e-5)


def test_every_order_or_its_reverse_is_one_of_twelve_classes():
    assert len(ORDERS) == 12
    both = [order for forward in ORDERS for order in (forward, forward[::-1])]
    assert sorted(both) == sorted(itertools.permutations(range(4)))
    assert sorted(PAIRS) == sorted(itertools.combinations(range(4), 2))


def test_classes_and_directions_are_drawn_apart():
    """All 24 orders are equally likely, and the order shown is that of its class or the reverse."""
    order, label = method().draw_orders(torch.arange(48_000))
    counts = Counter(map(tuple, order.tolist()))
    assert len(counts) == 24
    assert all(count / 48_000 == pytest.approx(1 / 24, abs=0.005) for count in counts.values())
    for shown, number in zip(order[:500].tolist(), label[:500].tolist(), strict=True):
        assert ORDERS[number] in (tuple(shown), tuple(reversed(shown)))


def test_shifts_cut_windows_out_of_the_frames():
    """Pixels that hold their own place say where each window lies."""
    rows, columns = torch.meshgrid(torch.arange(18.0), torch.arange(20.0), indexing="ij")
    clips = torch.stack([rows, columns, rows * 0])[None, None].expand(300, 4, -1, -1, -1)
    cut = jitter(clips, torch.arange(300), max_px=5)
    assert cut.shape == (300, 4, 3, 8, 10)
    top, left = cut[:, :, 0, 0, 0], cut[:, :, 1, 0, 0]
    expected = torch.stack(
        [
            torch.stack(
                [clips[0, 0, :, int(y) : int(y) + 8, int(x) : int(x) + 10] for y, x in zip(*places, strict=True)]
            )
            for places in zip(top, left, strict=True)
        ]
    )
    assert torch.equal(cut, expected)
    for place in (top, left):
        assert (place.flatten().long().bincount(minlength=11) / 1200).tolist() == pytest.approx(
            [1 / 11] * 11, abs=0.035
        )
    # Frames of a tuple are shifted independently.
    assert float(torch.corrcoef(torch.stack([top[:, 0], top[:, 1], left[:, 0]])).triu(1).abs().max()) < 0.2


def test_the_mirror_and_the_crop_are_those_of_the_tuple():
    """A still video, without jitter and on one channel: all four frames that the encoder sees are equal."""
    still = torch.randint(256, (40, 1, 1, 1, 16, 16), dtype=torch.uint8).expand(-1, -1, 4, 3, -1, -1)
    clips = Batch(index=torch.arange(40), video=still, seed=torch.arange(40))
    learner = method(RandomResizedCrop(12, scale=(0.3, 1.0)))
    seen = spy(learner)
    with torch.no_grad():
        learner(clips, 0.0)
    tuples = seen[0].unflatten(0, (40, 4))
    assert torch.equal(tuples, tuples[:, :1].expand_as(tuples))
    # With the jitter they are not, whatever the order: the shifts are no function of it.
    jittered = method(RandomResizedCrop(16, scale=(0.3, 1.0)), jitter_px=2)
    seen = spy(jittered)
    with torch.no_grad():
        jittered(clips, 0.0)
    tuples = seen[0].unflatten(0, (40, 4))
    assert float((tuples[:, 0] != tuples[:, 1]).flatten(1).any(1).float().mean()) > 0.9


def test_one_channel_of_each_frame_is_shown():
    clips = torch.rand(900, 4, 3, 2, 2)
    split = split_channels(clips, torch.arange(900))
    assert torch.equal(split, split[:, :, :1].expand_as(split))
    from_channel = (split[:, :, :1] == clips).flatten(3).all(3)  # (900, 4, 3)
    assert torch.equal(from_channel.sum(2), torch.ones(900, 4, dtype=torch.int64))
    assert from_channel.float().mean((0, 1)).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    picked = from_channel.float().argmax(2)
    assert float((picked[:, 0] == picked[:, 1]).float().mean()) == pytest.approx(1 / 3, abs=0.05)


def test_the_patch_with_most_motion_is_used():
    """Only one quadrant moves: of enough patches the best shows it."""
    video = torch.full((20, 4, 3, 32, 32), 128, dtype=torch.uint8)
    video[..., 16:, 16:] = torch.randint(256, (20, 4, 3, 16, 16), dtype=torch.uint8)
    seeds = torch.arange(20)
    view = RandomResizedCrop(16, scale=(0.25, 0.25), ratio=(1, 1))

    def moving(num_patches: int) -> float:
        patch = method(view, num_patches=num_patches).moving_patch(video, seeds)
        return float((patch - 128 / 255).abs().gt(1e-3).float().mean())

    assert moving(16) > 0.7
    assert moving(1) < 0.4


def accuracy_from_colors(*, split: bool) -> float:
    """Train the head on the mean colours of still frames that redden with time; accuracy on other videos."""
    generator = torch.Generator().manual_seed(0)
    learner = method(frame_dim=32, pair_dim=32, dropout=0.0)
    learner.fc6 = nn.Sequential(nn.Linear(3, 32), nn.ReLU())
    optimizer = torch.optim.Adam(
        [*learner.fc6.parameters(), *learner.fc7.parameters(), *learner.fc8.parameters()], 5e-3
    )
    drift = torch.tensor([0.02, 0.0, -0.02])
    for step in range(201):
        seed = torch.randint(2**40, (64 if step < 200 else 2000,), generator=generator)
        color = torch.rand(len(seed), 1, 3, generator=generator) + drift * torch.arange(4)[:, None]  # (B, 4, 3)
        order, label = learner.draw_orders(seed)
        frames = color[torch.arange(len(seed))[:, None], order][..., None, None]
        frames = split_channels(frames, seed) if split else frames
        logits = learner.classify(rearrange(frames, "b t c 1 1 -> (b t) c"))
        if step == 200:
            return float((logits.argmax(1) == label).float().mean())
        loss = F.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError


def test_channel_splitting_hides_a_drift_of_colors():
    assert accuracy_from_colors(split=False) > 0.5
    assert accuracy_from_colors(split=True) < 1 / 12 + 0.04

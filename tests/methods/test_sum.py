from functools import partial

import pytest
import torch

from vidssl import Batch, methods
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.clips import frame_tuple, random_clips
from vidssl.data.loader import Loader
from vidssl.evidence import worlds
from vidssl.method import Epoch
from vidssl.models import ConvNet
from vidssl.models.heads import FrameHead

VIDEOS = worlds.sprites(6, seed=0, num_frames=20, size_px=24, sprite_px=(8, 12), speed_px=(1, 3)).video


def tasks(**clips) -> tuple[methods.Rotation, methods.VideoColorization]:
    torch.manual_seed(0)
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    options = {name: {"clips": sampler} for name, sampler in clips.items()}
    turn = methods.Rotation(encoder, view=RandomResizedCrop(16), **options.get("turn", {}))
    head = FrameHead(encoder.dim, 8)
    color = methods.VideoColorization(
        encoder, view=RandomResizedCrop(16), head=head, num_colors=4, **options.get("color", {})
    )
    color.centers.copy_(20 * torch.randn(4, 2))
    return turn, color


def test_every_task_looks_at_the_gradients_before_a_step():
    turn, color = tasks()
    both, calls = methods.Sum({"turn": (turn, 2.0), "color": (color, 0.5)}), []
    turn.before_step = lambda step, progress: calls.append(("turn", step, progress))
    color.before_step = lambda step, progress: calls.append(("color", step, progress))
    both.before_step(3, 0.25)
    assert calls == [("turn", 3, 0.25), ("color", 3, 0.25)]


def batch_of(dataset: ArrayDataset) -> Batch:
    return next(Loader(dataset, batch_size=len(dataset)).batches(0, 1))


def test_the_loss_is_the_weighted_sum_of_the_losses_on_their_own_clips():
    turn, color = tasks()
    both = methods.Sum({"turn": (turn, 2.0), "color": (color, 0.5)})
    batch = batch_of(ArrayDataset(VIDEOS, clips=both.clips))
    joined = both(batch, 0.0)
    # A random frame, then four frames 4, 4 and 8 apart: found again by their times.
    frames = (batch.time[:, 0] * 25).round().long()
    assert frames.shape == (6, 5) and torch.equal(
        frames[:, 1:].diff(dim=1), torch.tensor([[4, 4, 8]]).expand(6, 3)
    )
    shown = torch.stack([VIDEOS[index, numbers] for index, numbers in zip(batch.index, frames, strict=True)])

    def part(columns: slice) -> Batch:
        return Batch(
            index=batch.index,
            video=shown[:, None, columns],
            time=batch.time[:, :, columns],
            seed=batch.seed,
            source_id=batch.source_id,
        )

    first, second = turn(part(slice(0, 1)), 0.0), color(part(slice(1, 5)), 0.0)
    torch.testing.assert_close(joined["loss"], 2 * first["loss"] + 0.5 * second["loss"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(joined["turn/accuracy"], first["accuracy"])
    torch.testing.assert_close(joined["color/accuracy"], second["accuracy"])
    torch.testing.assert_close(joined["color/loss"], second["loss"])


def test_each_task_gets_the_frames_of_its_own_sampler():
    samplers = {
        "turn": partial(random_clips, num_frames=3, stride_frames=2, num_clips=2),
        "color": partial(frame_tuple, offsets_frames=(0, 1, 7)),
    }
    turn, color = tasks(**samplers)
    both = methods.Sum({"turn": (turn, 1.0), "color": (color, 1.0)})
    # Every pixel of a frame shows its number.
    numbered = torch.arange(20, dtype=torch.uint8).view(1, 20, 1, 1, 1).expand(5, 20, 3, 8, 8)
    dataset = ArrayDataset(numbered, clips=both.clips)
    batch = batch_of(dataset)
    parts = both.parts(batch)
    assert [tuple(part.video.shape[1:3]) for part in parts] == [(2, 3), (1, 3)]
    for row, drawn in enumerate(batch.seed.tolist()):
        # One stream of draws: the second task goes on where the first stopped.
        generator = torch.Generator().manual_seed(drawn)
        for part, sampler in zip(parts, samplers.values(), strict=True):
            expected = (sampler(20 / 25, 25.0, generator) * 25).round().long()
            assert part.video[row, :, :, 0, 0, 0].tolist() == expected.tolist()
            assert (part.time[row] * 25).round().long().tolist() == expected.tolist()


def test_what_tasks_share_is_trained_once():
    turn, color = tasks()
    both = methods.Sum({"turn": (turn, 1.0), "color": (color, 1.0)})
    groups = both.param_groups()
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    expected = {id(p) for module in (turn.encoder, turn.classifier, color.head) for p in module.parameters()}
    assert len(grouped) == len(expected) and set(grouped) == expected
    free = {id(p) for group in groups if group.get("weight_decay") == 0.0 for p in group["params"]}
    vectors = {
        id(p) for module in (turn.encoder, turn.classifier, color.head) for p in module.parameters() if p.ndim < 2
    }
    assert free == vectors
    # One step of gradient descent moves the encoder by the sum of what both tasks ask for.
    batch = batch_of(ArrayDataset(VIDEOS, clips=both.clips))
    weight = turn.encoder.net[0].weight
    both(batch, 0.0)["loss"].backward()
    whole = weight.grad.clone()
    separate = []
    for method, part in zip((turn, color), both.parts(batch), strict=True):
        both.zero_grad()
        method(part, 0.0)["loss"].backward()
        separate.append(weight.grad.clone())
    torch.testing.assert_close(whole, separate[0] + separate[1], atol=1e-6, rtol=1e-5)
    assert separate[1].abs().max() > 0


def test_a_task_prepares_its_epoch_on_its_own_clips():
    both = methods.Sum({name: (method, 1.0) for name, method in zip(("turn", "color"), tasks(), strict=True)})
    batch = batch_of(ArrayDataset(VIDEOS, clips=both.clips))
    torch.manual_seed(3)
    both.before_epoch(Epoch(number=0, extract=lambda function, count=None: function(batch), forget=lambda p: None))
    _, alone = tasks()
    part = both.parts(batch)[1]
    torch.manual_seed(3)
    alone.before_epoch(Epoch(number=0, extract=lambda function, count=None: function(part), forget=lambda p: None))
    torch.testing.assert_close(both.tasks["color"].centers, alone.centers)
    assert float(alone.centers.std()) > 0


def test_every_task_takes_its_step(monkeypatch):
    turn, color = tasks()
    both = methods.Sum({"turn": (turn, 1.0), "color": (color, 1.0)})
    steps = []
    for name, method in (("turn", turn), ("color", color)):
        monkeypatch.setattr(method, "after_step", lambda progress, name=name: steps.append((name, progress)))
    both.after_step(0.25)
    assert steps == [("turn", 0.25), ("color", 0.25)]


def test_tasks_over_different_encoders_are_refused():
    turn, _ = tasks()
    _, color = tasks()
    with pytest.raises(ValueError, match="the 2 tasks turn, color have 2 encoders"):
        methods.Sum({"turn": (turn, 1.0), "color": (color, 1.0)})

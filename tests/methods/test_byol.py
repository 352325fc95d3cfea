import math

import pytest
import torch
from torch import nn

from vidssl import Batch
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.evidence import worlds
from vidssl.methods import BYOL
from vidssl.methods.image.byol import distance
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> BYOL:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = (RandomResizedCrop(16), RandomResizedCrop(16, scale=(0.5, 1.0)))
    return BYOL(encoder, **{"views": views, "hidden_dim": 12, "out_dim": 6, **options})


def batch(video: torch.Tensor | None = None) -> Batch:
    video = torch.randint(256, (5, 1, 3, 24, 24), dtype=torch.uint8) if video is None else video
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)))


def test_distance_of_equal_opposite_and_orthogonal_directions():
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(distance(x, 5 * x), torch.zeros(2))
    torch.testing.assert_close(distance(x, -x), torch.full((2,), 4.0))
    torch.testing.assert_close(distance(x, x.flip(1)), torch.full((2,), 2.0))


def test_loss_equals_the_equation_written_out():
    """Eq. 2, both ways: each prediction against the teacher's projection of the other view."""
    byol, clips = method().eval(), batch()
    # A teacher of its own, or swapping the two networks would go unseen.
    with torch.no_grad():
        for p in byol.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
        loss = byol(clips, 0.0)["loss"]
        views = [view(clips.video[:, 0], draws.mix(clips.seed, n)) for n, view in enumerate(byol.views)]
        total = 0.0
        for mine, other in ((0, 1), (1, 0)):
            predictions = byol.predictor(byol.projector(byol.encoder(views[mine]))).double()
            targets = byol.teacher(views[other]).double()
            for q, z in zip(predictions, targets, strict=True):
                total += float((q / q.norm() - z / z.norm()).square().sum())
    assert loss.item() == pytest.approx(total / 5, abs=1e-5)


def test_perfect_predictions_cost_nothing():
    byol = method(views=(RandomResizedCrop(16, scale=(1, 1), ratio=(1, 1), flip=0),) * 2).eval()
    byol.predictor = nn.Identity()
    with torch.no_grad():
        assert float(byol(batch(), 0.0)["loss"]) == pytest.approx(0, abs=1e-5)


def test_only_the_student_gets_a_gradient():
    byol = method()
    byol(batch(), 0.0)["loss"].backward()
    assert not any(p.requires_grad or p.grad is not None for p in byol.teacher.parameters())
    assert float(byol.predictor[3].weight.grad.abs().max()) > 0
    assert float(byol.encoder.net[0].weight.grad.abs().max()) > 0


def test_the_last_layers_have_neither_bias_nor_batch_norm():
    byol = method()
    for head in (byol.projector, byol.predictor):
        assert isinstance(head[-1], nn.Linear) and head[-1].bias is None
        assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_the_teacher_has_no_predictor():
    byol = method()
    expected = [p.shape for part in (byol.encoder, byol.projector) for p in part.parameters()]
    assert [p.shape for p in byol.teacher.parameters()] == expected


@pytest.mark.parametrize(("momentum", "progress"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.5), (0.9, 1.0), (1.0, 0.3)])
def test_the_teacher_follows_by_a_momentum_that_rises_to_1(momentum, progress):
    byol = method(momentum=momentum)
    student = [p for part in (byol.encoder, byol.projector) for p in part.parameters()]
    start = [p.clone() for p in byol.teacher.parameters()]
    with torch.no_grad():
        for p in student:
            p.add_(torch.randn_like(p))
    byol.after_step(progress)
    share = 1 - (1 - momentum) * (math.cos(math.pi * progress) + 1) / 2
    for now, old, new in zip(byol.teacher.parameters(), start, student, strict=True):
        torch.testing.assert_close(now, share * old + (1 - share) * new)


def test_the_teacher_keeps_its_own_batch_statistics():
    byol = method(momentum=0.0)
    with torch.no_grad():
        byol.encoder.net[0].weight.mul_(2)
    byol(batch(), 0.0)
    own = byol.teacher[0].net[1].running_mean
    before = own.clone()
    assert float(before.abs().max()) > 1e-3 and not torch.allclose(byol.encoder.net[1].running_mean, own)
    byol.after_step(0.0)
    torch.testing.assert_close(own, before, atol=0, rtol=0)


def train(byol: BYOL, *, stop_gradient: bool = True) -> dict[str, float]:
    """Forty steps on letters: the last loss, and the deviation of the projections on other letters."""
    if not stop_gradient:
        # The student is its own teacher, and both sides of the distance are pulled together.
        byol.teacher = nn.Sequential(byol.encoder, byol.projector)
    images, _ = worlds.letters(64, seed=0)
    optimizer = torch.optim.AdamW([p for p in byol.parameters() if p.requires_grad], lr=5e-3)
    loss = torch.zeros(())
    for step in range(40):
        clips = Batch(index=torch.arange(64), video=images[:, None], seed=torch.arange(64) + 64 * step)
        if stop_gradient:
            loss = byol(clips, step / 40)["loss"]
        else:
            first, second = (v(images, draws.mix(clips.seed, n)) for n, v in enumerate(byol.views))
            loss = distance(byol.predict(first), byol.teacher(second))
            loss = (loss + distance(byol.predict(second), byol.teacher(first))).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if stop_gradient:
            byol.after_step(step / 40)
    with torch.no_grad():
        monitors = byol.monitors(batch(worlds.letters(128, seed=1)[0]))
    return {"loss": loss.item(), **{name: float(value) for name, value in monitors.items()}}


def small(**options) -> BYOL:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2), color="gray", standardize=True)
    view = Pipeline(RandomResizedCrop(16, scale=(0.5, 1), flip=0), RandomInvert(), GaussianNoise(std=0.05))
    return BYOL(encoder, views=(view, view), hidden_dim=32, out_dim=16, momentum=0.9, **options)


def test_what_keeps_projections_apart_and_what_does_not():
    """Predictor and stop-gradient hold: without either the loss is lower and the monitor shows the collapse."""
    healthy = train(small())
    without_stop = train(small(), stop_gradient=False)
    alone = small()
    alone.predictor = nn.Identity()
    without_predictor = train(alone)
    assert healthy["embedding_std"] > 0.5
    for collapsed in (without_stop, without_predictor):
        assert collapsed["loss"] < healthy["loss"]
        assert collapsed["embedding_std"] < 0.25

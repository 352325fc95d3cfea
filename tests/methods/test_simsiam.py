import math

import pytest
import torch
import torch.nn.functional as F

from vidssl import Batch
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.evidence import worlds
from vidssl.methods import SimSiam
from vidssl.methods.image.simsiam import negative_cosine
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> SimSiam:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    return SimSiam(encoder, **{"view": RandomResizedCrop(16), "out_dim": 6, "hidden_dim": 4, **options})


def batch(video: torch.Tensor | None = None, seed: int = 0) -> Batch:
    video = torch.randint(256, (5, 1, 3, 24, 24), dtype=torch.uint8) if video is None else video
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=seed + torch.arange(len(video)))


def test_cosine_of_equal_opposite_and_orthogonal_directions():
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    for other, expected in ((5 * x, -1.0), (-x, 1.0), (x.flip(1), 0.0)):
        torch.testing.assert_close(negative_cosine(x, other), torch.full((2,), expected))


def test_loss_and_gradient_equal_the_equation_written_out():
    """Eq. 4, with targets computed beforehand: constants by construction."""
    simsiam, clips = method(), batch()
    views = [simsiam.view(clips.video[:, 0], draws.mix(clips.seed, number)) for number in range(2)]
    with torch.no_grad():
        targets = [simsiam.projector(simsiam.encoder(view)) for view in views]
    total = torch.zeros(())
    for mine, other in ((0, 1), (1, 0)):
        predictions = simsiam.predictor(simsiam.projector(simsiam.encoder(views[mine])))
        for p, z in zip(predictions, targets[other], strict=True):
            total = total - (p @ z) / (p.norm() * z.norm()) / 2 / 5
    parameters = list(simsiam.parameters())
    expected = torch.autograd.grad(total, parameters)
    loss = simsiam(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_projections_end_in_a_norm_that_keeps_neither_scale_nor_shift():
    """Sec. 3: batch norm on the output of the projector, none on that of the predictor."""
    simsiam = method()
    assert [tuple(p.shape) for p in simsiam.projector.parameters() if p.ndim == 2] == [(16, 16), (16, 16), (6, 16)]
    assert simsiam.projector[-1].weight is None
    projected = simsiam.projector(torch.randn(64, 16))
    torch.testing.assert_close(projected.std(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    assert simsiam.predictor[-1].bias is not None


def test_the_predictor_alone_keeps_its_rate_and_all_decay():
    simsiam = method()
    others, predictor = simsiam.param_groups()
    assert "weight_decay" not in others and "weight_decay" not in predictor
    assert [id(p) for p in predictor["params"]] == [id(p) for p in simsiam.predictor.parameters()]
    assert predictor["constant_lr"] and "constant_lr" not in others
    assert len(others["params"]) + len(predictor["params"]) == len(list(simsiam.parameters()))


class WithoutStopGradient(SimSiam):
    def target(self, projection):
        return projection


def train(kind: type[SimSiam]) -> dict[str, float]:
    """Sixty steps on letters: the last loss, and what the monitors see on other letters."""
    torch.manual_seed(0)
    images, _ = worlds.letters(64, seed=0)
    encoder = ConvNet(widths=(8, 16), strides=(2, 2), color="gray", standardize=True)
    view = Pipeline(RandomResizedCrop(16, scale=(0.5, 1), flip=0), RandomInvert(), GaussianNoise(std=0.05))
    simsiam = kind(encoder, view=view, out_dim=16, hidden_dim=8)
    optimizer = torch.optim.SGD(simsiam.parameters(), lr=0.3, momentum=0.9)
    for step in range(60):
        loss = simsiam(batch(images, 64 * step), step / 60)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        monitors = simsiam.monitors(batch(worlds.letters(128, seed=1)[0]))
    return {"loss": loss.item(), **{name: float(value) for name, value in monitors.items()}}


def test_without_stop_gradient_the_projections_collapse():
    healthy, collapsed = train(SimSiam), train(WithoutStopGradient)
    assert collapsed["loss"] < healthy["loss"] - 0.05
    assert collapsed["embedding_std"] < healthy["embedding_std"] - 0.2
    assert collapsed["effective_rank"] < healthy["effective_rank"] / 1.5


def test_bfloat16_changes_the_loss_by_its_rounding_alone():
    p, z = torch.randn(64, 32), torch.randn(64, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = negative_cosine(p, z)
    expected = -(F.normalize(p.double(), dim=1) * F.normalize(z.double(), dim=1)).sum(1)
    torch.testing.assert_close(low.double(), expected, atol=1e-6, rtol=0)
    assert math.isfinite(negative_cosine(torch.zeros(1, 4), torch.zeros(1, 4)).item())

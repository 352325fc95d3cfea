import math

import pytest
import torch

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.methods import BarlowTwins
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> BarlowTwins:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = (RandomResizedCrop(16), RandomResizedCrop(16, scale=(0.5, 1.0)))
    return BarlowTwins(encoder, **{"views": views, "projector_dim": 6, "redundancy_weight": 0.3, **options})


def batch(size: int = 5) -> Batch:
    video = torch.randint(256, (size, 1, 1, 3, 24, 24), dtype=torch.uint8)
    return Batch(index=torch.arange(size), video=video, seed=torch.arange(size))


def oracle(first: torch.Tensor, second: torch.Tensor, weight: float) -> torch.Tensor:
    """Eq. 1 and 2 with loops over dimensions and clips, in double precision."""
    first, second = first.double(), second.double()
    num_clips, dim = first.shape
    total = torch.zeros((), dtype=torch.float64)
    for i in range(dim):
        for j in range(dim):
            a, b = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
            scale = ((a.square().mean() + 1e-5) * (b.square().mean() + 1e-5)).sqrt()
            c = sum(a[n] * b[n] for n in range(num_clips)) / num_clips / scale
            total = total + ((1 - c) ** 2 if i == j else weight * c**2)
    return total


def test_loss_and_gradient_equal_the_equations_written_out():
    barlow, clips = method(), batch()
    views = [view(clips.video[:, 0], draws.mix(clips.seed, n)) for n, view in enumerate(barlow.views)]
    total = oracle(*(barlow.projector(barlow.encoder(view)) for view in views), 0.3)
    parameters = list(barlow.parameters())
    expected = torch.autograd.grad(total, parameters)
    loss = barlow(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_equal_views_of_independent_dimensions_cost_nothing():
    """Embeddings by columns of a Hadamard matrix, the first left out: mean 0, correlation the identity."""
    barlow = method(views=(RandomResizedCrop(16, scale=(1, 1), ratio=(1, 1), flip=0),) * 2, projector_dim=3).eval()
    barlow.encoder.forward = lambda clip: torch.zeros(len(clip), 16)
    signs = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float32)
    barlow.projector.forward = lambda features: 7 * signs + 3
    losses = barlow(batch(4), 0.0)
    assert losses["loss"].item() == pytest.approx(0, abs=1e-6)
    assert losses["diagonal"].item() == pytest.approx(1, abs=1e-5) and losses["off_diagonal"].item() < 1e-6
    # Dimensions that all tell the same: 6 pairs of correlation 1.
    barlow.projector.forward = lambda features: signs[:, :1].expand(-1, 3)
    losses = barlow(batch(4), 0.0)
    assert losses["loss"].item() == pytest.approx(0.3 * 6, abs=1e-4)
    assert losses["off_diagonal"].item() == pytest.approx(1, abs=1e-4)
    # Equal embeddings of all clips: every dimension fails on the diagonal.
    barlow.projector.forward = lambda features: torch.full((4, 3), 2.0)
    assert barlow(batch(4), 0.0)["loss"].item() == pytest.approx(3, abs=1e-6)


def test_rates_of_vectors_are_the_papers():
    """Sec. 2.2: 0.2 for weights, 0.0048 for biases and batch norm, which do not decay."""
    matrices, vectors = method().param_groups()
    assert 0.2 * vectors["lr_scale"] == pytest.approx(0.0048) and vectors["weight_decay"] == 0.0
    assert "lr_scale" not in matrices and all(p.ndim > 1 for p in matrices["params"])


def test_the_projector_is_the_papers():
    layers = BarlowTwins(ConvNet(widths=(4,), strides=(2,)), views=(RandomResizedCrop(8),) * 2).projector
    assert [tuple(p.shape) for p in layers.parameters() if p.ndim == 2] == [(8192, 4), (8192, 8192), (8192, 8192)]
    assert layers[-1].bias is None


def test_bfloat16_reaches_neither_products_nor_the_loss():
    barlow, clips = method().eval(), batch(32)
    embeddings = iter([torch.randn(32, 6), torch.randn(32, 6)] * 2)
    barlow.encoder.forward = lambda clip: next(embeddings)
    barlow.projector.forward = lambda features: features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = barlow(clips, 0.0)["loss"]
    assert low.item() == pytest.approx(barlow(clips, 0.0)["loss"].item(), abs=1e-6) and math.isfinite(low)

import math

import pytest
import torch

from vidssl import Batch
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.evidence import worlds
from vidssl.methods import VICReg
from vidssl.models import ConvNet
from vidssl.ops import draws


def method(**options) -> VICReg:
    encoder = ConvNet(widths=(8, 16), strides=(2, 2))
    views = (RandomResizedCrop(16), RandomResizedCrop(16, scale=(0.5, 1.0)))
    return VICReg(encoder, **{"views": views, "expander_dim": 6, **options})


def batch(video: torch.Tensor | None = None, seed: int = 0) -> Batch:
    video = torch.randint(256, (5, 1, 3, 24, 24), dtype=torch.uint8) if video is None else video
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=seed + torch.arange(len(video)))


def oracle(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Eq. 1 to 6 with loops, in double precision, with the means of the authors' code."""
    first, second = first.double(), second.double()
    num_clips, dim = first.shape
    invariance = sum((first[n, j] - second[n, j]) ** 2 for n in range(num_clips) for j in range(dim))
    total = 25 * invariance / num_clips / dim
    for z in (first, second):
        mean = sum(z) / num_clips
        for i in range(dim):
            for j in range(dim):
                c = sum((z[n, i] - mean[i]) * (z[n, j] - mean[j]) for n in range(num_clips)) / (num_clips - 1)
                if i == j:
                    total = total + 25 * torch.clamp(1 - (c + 1e-4).sqrt(), min=0) / dim / 2
                else:
                    total = total + c**2 / dim
    return total


def test_loss_and_gradient_equal_the_equations_written_out():
    vicreg, clips = method(), batch()
    views = [view(clips.video[:, 0], draws.mix(clips.seed, n)) for n, view in enumerate(vicreg.views)]
    total = oracle(*(vicreg.expander(vicreg.encoder(view)) for view in views))
    parameters = list(vicreg.parameters())
    expected = torch.autograd.grad(total, parameters)
    loss = vicreg(clips, 0.0)["loss"]
    assert loss.item() == pytest.approx(total.item(), abs=1e-5)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def of(*embeddings: torch.Tensor) -> dict[str, float]:
    """What the loss says of the embeddings of two views."""
    vicreg, given = method(expander_dim=embeddings[0].shape[1]).eval(), iter(embeddings)
    vicreg.encoder.forward = lambda clip: torch.zeros(len(clip), 16)
    vicreg.expander.forward = lambda features: next(given)
    clips = batch(torch.zeros(len(embeddings[0]), 1, 3, 24, 24, dtype=torch.uint8))
    return {name: float(value) for name, value in vicreg(clips, 0.0).items()}


def test_equal_embeddings_of_all_clips_cost_the_whole_variance_term():
    equal = torch.ones(4, 3)
    found = of(equal, equal)
    assert found["loss"] == pytest.approx(25 * (1 - math.sqrt(1e-4)), abs=1e-5)
    assert found["std"] == pytest.approx(0.01, abs=1e-6) and found["invariance"] == found["covariance"] == 0


def test_wide_dimensions_cost_nothing_unless_they_repeat():
    signs = 2 * torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float32)
    assert of(signs, signs)["loss"] == pytest.approx(0, abs=1e-6)
    repeated = signs[:, :1].expand(-1, 3)
    # Variance 16 / 3 and six pairs of it in each view, over three dimensions.
    assert of(repeated, repeated)["loss"] == pytest.approx(2 * 6 * (16 / 3) ** 2 / 3, abs=1e-3)
    assert of(signs, signs + 1)["loss"] == pytest.approx(25, abs=1e-4)  # the mean is free, the distance is not


def test_the_expander_is_the_papers():
    layers = VICReg(ConvNet(widths=(4,), strides=(2,)), views=(RandomResizedCrop(8),) * 2).expander
    assert [tuple(p.shape) for p in layers.parameters() if p.ndim == 2] == [(8192, 4), (8192, 8192), (8192, 8192)]
    assert layers[-1].bias is None


def deviation_after_training(**weights: float) -> float:
    """Forty steps on letters: how dimensions vary on other letters."""
    torch.manual_seed(0)
    images, _ = worlds.letters(64, seed=0)
    encoder = ConvNet(widths=(8, 16), strides=(2, 2), color="gray", standardize=True)
    view = Pipeline(RandomResizedCrop(16, scale=(0.5, 1), flip=0), RandomInvert(), GaussianNoise(std=0.05))
    vicreg = VICReg(encoder, views=(view, view), expander_dim=16, **weights)
    optimizer = torch.optim.AdamW(vicreg.parameters(), lr=5e-3)
    for step in range(40):
        optimizer.zero_grad()
        vicreg(batch(images, 64 * step), step / 40)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        return float(vicreg.embed(batch(worlds.letters(128, seed=1)[0])).std(0).mean())


def test_variance_holds_off_the_collapse_of_all_embeddings():
    healthy = deviation_after_training()
    assert healthy > 0.4
    assert deviation_after_training(variance_weight=0.0) < healthy / 5


@pytest.mark.parametrize(("weight", "repeats"), [(1.0, False), (0.0, True)])
def test_covariance_holds_dimensions_apart(weight, repeats):
    """Embeddings of 32 clips that are free to move, and begin with four dimensions that tell nearly the same."""
    vicreg = method(expander_dim=4, covariance_weight=weight).eval()
    embeddings = torch.nn.Parameter(torch.randn(32, 1) + 0.1 * torch.randn(32, 4))
    vicreg.encoder.forward = lambda clip: torch.zeros(len(clip), 16)
    vicreg.expander.forward = lambda features: embeddings
    clips = batch(torch.zeros(32, 1, 3, 24, 24, dtype=torch.uint8))
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        vicreg(clips, 0.0)["loss"].backward()
        optimizer.step()
    correlation = (torch.corrcoef(embeddings.detach().T) - torch.eye(4)).abs().max()
    assert (float(correlation) > 0.9) == repeats and (float(correlation) < 0.2) != repeats

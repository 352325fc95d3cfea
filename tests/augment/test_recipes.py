import math
from functools import partial

import pytest
import torch
import torchvision.transforms.v2 as reference

from vidssl.augment import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    Pipeline,
    RandomGray,
    RandomInvert,
    RandomResizedCrop,
    Solarize,
    recipes,
)
from vidssl.ops import draws

RECIPES = {
    "simclr": recipes.simclr,
    "moco_v1": recipes.moco_v1,
    "moco_v2": recipes.moco_v2,
    "byol_0": partial(recipes.byol, view=0),
    "byol_1": partial(recipes.byol, view=1),
    "dino_global_0": partial(recipes.dino_global, view=0),
    "dino_global_1": partial(recipes.dino_global, view=1),
    "dino_local": recipes.dino_local,
}

# Crop area from, jitter ranges, and the probabilities of jitter, grey, blur and solarization, as published.
PUBLISHED = {
    "simclr": (0.08, 1.0, (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, 0.5, 0.0),
    "moco_v1": (0.2, 1.0, (0.4, 0.4, 0.4, 0.4), 1.0, 0.2, 0.0, 0.0),
    "moco_v2": (0.2, 1.0, (0.4, 0.4, 0.4, 0.1), 0.8, 0.2, 0.5, 0.0),
    "byol_0": (0.08, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 1.0, 0.0),
    "byol_1": (0.08, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.1, 0.2),
    "dino_global_0": (0.4, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 1.0, 0.0),
    "dino_global_1": (0.4, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.1, 0.2),
    "dino_local": (0.05, 0.4, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.5, 0.0),
}


def part(view: Pipeline, kind: type) -> torch.nn.Module | None:
    return next((operator for operator in view.operators if isinstance(operator, kind)), None)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_hold_the_published_values(name):
    view, (low, high, ranges, *probabilities) = RECIPES[name](224), PUBLISHED[name]
    assert part(view, RandomResizedCrop).scale == (low, high)
    assert part(view, RandomResizedCrop).flip == 0.5
    jitter = part(view, ColorJitter)
    assert jitter.low == pytest.approx((*(1 - x for x in ranges[:3]), -ranges[3]))
    assert jitter.high == pytest.approx((*(1 + x for x in ranges[:3]), ranges[3]))
    found = [
        getattr(part(view, kind), "probability", 0.0) for kind in (ColorJitter, RandomGray, GaussianBlur, Solarize)
    ]
    assert found == probabilities
    if probabilities[2]:
        assert part(view, GaussianBlur).kernel_px == 23  # SimCLR's and BYOL's, of 224 px
        assert part(view, GaussianBlur).sigma_px == (0.1, 2.0)


@pytest.mark.parametrize("name", RECIPES)
def test_grey_comes_first_in_moco_v1_alone(name):
    kinds = [type(operator) for operator in RECIPES[name](64).operators]
    assert kinds[0] == RandomResizedCrop
    assert (kinds.index(RandomGray) < kinds.index(ColorJitter)) == (name == "moco_v1")


@pytest.mark.parametrize("name", RECIPES)
def test_bytes_and_floats_give_one_view_in_range(name):
    video, seed = torch.randint(256, (4, 2, 3, 40, 40), dtype=torch.uint8), torch.arange(4)
    view = RECIPES[name](32)
    out = view(video, seed)
    torch.testing.assert_close(out, view(video / 255, seed), atol=1e-6, rtol=0)
    assert out.shape == (4, 2, 3, 32, 32) and float(out.min()) >= 0 and float(out.max()) <= 1


@pytest.mark.parametrize("name", RECIPES)
def test_a_view_is_a_function_of_its_seed(name):
    """Equal for equal seeds whatever the batch, another for another seed, one draw for all frames."""
    video = torch.rand(1, 1, 3, 40, 40).expand(12, 2, -1, -1, -1)
    seed, view = torch.arange(12), RECIPES[name](24)
    first = view(video, draws.mix(seed, 0))
    torch.testing.assert_close(first[:, 0], first[:, 1], atol=1e-6, rtol=0)
    alone = torch.cat([view(video[:1], draws.mix(seed[i : i + 1], 0)) for i in range(12)])
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)
    second = view(video, draws.mix(seed, 1))
    views = torch.cat([first, second])[:, 0].flatten(1)
    assert len({tuple(values) for values in views[:, :3].tolist()}) == 24


def test_operators_of_a_pipeline_draw_from_streams_of_their_own():
    """Two coins of one seed must fall independently: of 2000 clips a quarter each way."""
    bright = torch.full((2000, 1, 3, 2, 2), 0.9)
    out = Pipeline(RandomInvert(probability=0.5), Solarize(threshold=0.5, probability=0.5))(
        bright, torch.arange(2000)
    )[:, 0, 0, 0, 0]
    # 0.9 stays dark after one change; inverted to 0.1 it is below the threshold, so that solarizing does nothing.
    stayed = float((out > 0.5).float().mean())
    assert stayed == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / 2000))


def test_mean_and_deviation_of_simclr_views_equal_torchvisions():
    """Colour distortion of 3000 flat pictures of random colours: statistics of each channel."""
    colors = torch.rand(3000, 1, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(-1, -1, -1, 2, 2)
    ours = Pipeline(
        ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, probability=0.8),
        RandomGray(probability=0.2),
    )(colors, torch.arange(3000))
    theirs = reference.Compose(
        [reference.RandomApply([reference.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8), reference.RandomGrayscale(0.2)]
    )
    expected = torch.stack([theirs(picture) for picture in colors])
    ours, expected = ours[:, 0, :, 0, 0], expected[:, 0, :, 0, 0]
    # 4 standard errors of two means of 3000 values of deviation about 0.3 are 0.031.
    torch.testing.assert_close(ours.mean(0), expected.mean(0), atol=0.031, rtol=0)
    torch.testing.assert_close(ours.std(0), expected.std(0), atol=0.022, rtol=0)


def test_noise_of_two_operators_is_independent():
    grey = torch.full((4, 1, 3, 32, 32), 0.5)
    out = Pipeline(GaussianNoise(std=0.05), GaussianNoise(std=0.05))(grey, torch.arange(4)) - 0.5
    assert float(out.std()) == pytest.approx(0.05 * math.sqrt(2), rel=0.03)

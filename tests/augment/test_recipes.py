import math
from collections.abc import Iterable, Iterator
from functools import partial

import kornia.augmentation as kornia
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as reference

from vidssl.augment import (
    ColorJitter,
    FromKornia,
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
    "moco_v3_1": partial(recipes.moco_v3, view=1, min_scale=0.2),
    "cvrl_0": partial(recipes.cvrl, view=0),
    "cvrl_1": partial(recipes.cvrl, view=1),
    "cifar10_simclr": lambda size_px: recipes.without_blur(recipes.simclr(size_px, strength=0.5)),
    "cifar10_swav": lambda size_px: recipes.without_blur(recipes.swav_global(size_px, strength=0.5)),
    "cifar10_byol_1": lambda size_px: recipes.without_blur(recipes.byol(size_px, view=1)),
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
    "moco_v3_1": (0.2, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.1, 0.2),
    "cvrl_0": (0.3, 1.0, (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, 1.0, 0.0),
    "cvrl_1": (0.3, 1.0, (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, 0.1, 0.2),
    # lightly's benchmark: SimCLRTransform and SwaVTransform of strength 0.5, BYOLView2Transform, none blurred.
    "cifar10_simclr": (0.08, 1.0, (0.4, 0.4, 0.4, 0.1), 0.8, 0.2, 0.0, 0.0),
    "cifar10_swav": (0.14, 1.0, (0.4, 0.4, 0.4, 0.1), 0.8, 0.2, 0.0, 0.0),
    "cifar10_byol_1": (0.08, 1.0, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, 0.0, 0.2),
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


def test_all_views_of_dino_and_swav():
    """Their number, sizes and windows, and the draws of each: two large ones, then the small ones."""
    video, seed = torch.randint(256, (2, 1, 3, 40, 40), dtype=torch.uint8), torch.arange(2)
    dino = recipes.dino(32, 12, num_local_views=3)
    views = dino(video, seed)
    assert [view.shape[-1] for view in views] == [32, 32, 12, 12, 12]
    expected = [recipes.dino_global(32, view=0), recipes.dino_global(32, view=1), *[recipes.dino_local(12)] * 3]
    for number, (view, single) in enumerate(zip(views, expected, strict=True)):
        assert torch.equal(view, single(video, draws.mix(seed, number)))
    assert len({tuple(view[0, 0, 0, 0].tolist()) for view in views[2:]}) == 3
    swav = recipes.swav()
    assert [part(view, RandomResizedCrop).size_px for view in swav.views] == [224, 224, *[96] * 6]
    assert [part(view, RandomResizedCrop).scale for view in swav.views] == [
        (0.14, 1),
        (0.14, 1),
        *[(0.05, 0.14)] * 6,
    ]
    for view in swav.views:
        assert part(view, ColorJitter).high == pytest.approx((1.8, 1.8, 1.8, 0.2))
        assert (part(view, GaussianBlur).kernel_px, part(view, GaussianBlur).probability) == (23, 0.5)
        assert part(view, Solarize) is None


def test_windows_of_cvrl_and_videomae():
    assert part(recipes.cvrl(112, view=0), RandomResizedCrop).ratio == (0.5, 2.0)
    (crop,) = recipes.videomae(224).operators
    assert (crop.size_px, crop.scales, crop.flip) == (224, (1.0, 0.875, 0.75, 0.66), 0.5)
    assert recipes.videomae(224, flip=0.0).operators[0].flip == 0


def test_a_module_of_kornia_is_a_view():
    """The same batch gives the same view and leaves the generator alone; frames alike, clips not."""
    module = kornia.VideoSequential(
        kornia.RandomResizedCrop((12, 12)), kornia.ColorJiggle(0.4, 0.4, 0.4, 0.1), same_on_frame=True
    )
    view = FromKornia(module)
    video, seed = (
        torch.randint(256, (1, 1, 3, 20, 20), dtype=torch.uint8).expand(6, 3, -1, -1, -1),
        torch.arange(6),
    )
    state = torch.get_rng_state()
    first = view(video, seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(view(video, seed), first) and first.shape == (6, 3, 3, 12, 12)
    torch.testing.assert_close(first, first[:, :1].expand_as(first), atol=1e-6, rtol=0)
    assert len({tuple(clip[0, 0, 0].tolist()) for clip in first}) == 6
    assert not torch.equal(view(video, draws.mix(seed, 1)), first)
    # As its docstring says, what kornia draws for a clip depends on the batch.
    assert not torch.equal(view(video[:3], seed[:3]), first[:3])
    # In a pipeline it has a stream of its own, and stands between operators of ours.
    twice = Pipeline(RandomInvert(probability=1), view, RandomInvert(probability=1))(video, seed)
    assert torch.equal(twice, 1 - view(1 - video / 255, draws.mix(seed, 1)))


def test_operators_of_a_pipeline_draw_from_streams_of_their_own():
    """Two coins of one seed must fall independently: of 2000 clips a quarter each way."""
    bright = torch.full((2000, 1, 3, 2, 2), 0.9)
    out = Pipeline(RandomInvert(probability=0.5), Solarize(threshold=0.5, probability=0.5))(
        bright, torch.arange(2000)
    )[:, 0, 0, 0, 0]
    # 0.9 stays dark after one change; inverted to 0.1 it is below the threshold, so that solarizing does nothing.
    stayed = float((out > 0.5).float().mean())
    assert stayed == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / 2000))


def fifty_pictures() -> torch.Tensor:
    coarse = torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=(20, 26), mode="bicubic").clamp(0, 1).mul(255).round().to(torch.uint8)


# Mean and deviation of each channel over the views of SimCLR that torchvision makes of these pictures, 40,000 draws of
# each: `python tests/augment/test_recipes.py` prints them. Their own error is below 0.2 %.
TORCHVISION = (0.47702, 0.47832, 0.47541), (0.27550, 0.27494, 0.27469)


def mean_and_deviation(views: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel, over batches of pictures (N, 3, H, W) of one size."""
    moments = torch.stack([torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]) for x in views]).mean(0)
    return moments[0], (moments[1] - moments[0].square()).sqrt()


def test_ten_thousand_views_of_simclr_have_torchvisions_mean_and_deviation():
    """Each channel's mean and deviation over 10,000 views of 50 pictures, windows and blur included: within 1 %."""
    pictures, view = fifty_pictures().repeat(10, 1, 1, 1)[:, None], recipes.simclr(16)
    seeds = torch.stack([draws.mix(torch.arange(50), number) for number in range(200)]).unflatten(0, (20, 10))
    found = mean_and_deviation(view(pictures, seed.flatten())[:, 0].double() for seed in seeds)
    for ours, theirs in zip(found, TORCHVISION, strict=True):
        torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float64), rtol=0.01, atol=0)


def views_of_torchvision(num_draws: int) -> Iterator[torch.Tensor]:
    """What SimCLR's augmentation by torchvision makes of the fifty pictures; one draw holds for all of them."""
    blur = reference.GaussianBlur(part(recipes.simclr(16), GaussianBlur).kernel_px, (0.1, 2.0))
    view = reference.Compose(
        [
            reference.ToDtype(torch.float32, scale=True),
            reference.RandomResizedCrop(16),
            reference.RandomHorizontalFlip(),
            reference.RandomApply([reference.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            reference.RandomGrayscale(0.2),
            reference.RandomApply([blur], p=0.5),
        ]
    )
    pictures = fifty_pictures()
    return (view(pictures).double() for _ in range(num_draws))


def test_noise_of_two_operators_is_independent():
    grey = torch.full((4, 1, 3, 32, 32), 0.5)
    out = Pipeline(GaussianNoise(std=0.05), GaussianNoise(std=0.05))(grey, torch.arange(4)) - 0.5
    assert float(out.std()) == pytest.approx(0.05 * math.sqrt(2), rel=0.03)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print([values.tolist() for values in mean_and_deviation(views_of_torchvision(40_000))])  # noqa: T201

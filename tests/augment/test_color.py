import math
from functools import partial

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from kornia.enhance import adjust_hue, normalize, solarize
from kornia.filters import gaussian_blur2d

from vidssl.augment import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    Normalize,
    RandomErasing,
    RandomGray,
    RandomInvert,
    Solarize,
)
from vidssl.augment.color import _turn_hue
from vidssl.ops import draws

ALWAYS = {
    "jitter": partial(ColorJitter, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    "gray": partial(RandomGray),
    "blur": partial(GaussianBlur, kernel_px=5),
    "solarize": partial(Solarize),
    "invert": partial(RandomInvert),
    "noise": partial(GaussianNoise, std=0.1),
    "erasing": partial(RandomErasing, value=0.5),
}


def clips(batch: int = 12, num_frames: int = 3, size: int = 16) -> torch.Tensor:
    return torch.rand(batch, num_frames, 3, size, size)


def test_jitter_equals_torchvision_in_the_drawn_order():
    video, seed = clips(40), torch.arange(40)
    jitter = ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    factors, order = jitter.draw(seed)
    changes = [
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    ]
    expected = []
    for clip, factor, steps in zip(video, factors.tolist(), order.tolist(), strict=True):
        for step in steps:
            clip = changes[step](clip, factor[step])
        expected.append(clip)
    # torchvision's weights of grey are rounded to four digits and sum to 0.9999.
    torch.testing.assert_close(jitter(video, seed), torch.stack(expected), atol=2e-3, rtol=0)
    assert len({tuple(steps) for steps in order.tolist()}) > 12  # of 24 orders


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
        ("hue", reference.adjust_hue),
    ],
)
def test_each_change_alone_equals_torchvision(name, change):
    video, seed = clips(8), torch.arange(8)
    jitter = ColorJitter(**{name: 0.4})
    factors, _ = jitter.draw(seed)
    number = ("brightness", "contrast", "saturation", "hue").index(name)
    expected = torch.stack([change(clip, float(f)) for clip, f in zip(video, factors[:, number], strict=True)])
    torch.testing.assert_close(jitter(video, seed), expected, atol=2e-4, rtol=0)


def test_factors_are_uniform_in_their_ranges():
    factors, order = ColorJitter(brightness=0.4, contrast=0.8, saturation=1.5, hue=0.1).draw(torch.arange(4000))
    for number, (low, high) in enumerate([(0.6, 1.4), (0.2, 1.8), (0.0, 2.5), (-0.1, 0.1)]):
        # Mean and deviation of a uniform variable: (a + b) / 2 and (b - a) / sqrt(12).
        deviation = (high - low) / math.sqrt(12)
        assert float(factors[:, number].mean()) == pytest.approx(
            (low + high) / 2, abs=4 * deviation / math.sqrt(4000)
        )
        assert float(factors[:, number].std()) == pytest.approx(deviation, rel=0.04)
    assert low <= float(factors[:, 3].min()) and float(factors[:, 3].max()) <= high
    # Every operator is first in a quarter of the clips.
    first = torch.bincount(order[:, 0], minlength=4) / 4000
    torch.testing.assert_close(first, torch.full((4,), 0.25), atol=4 * math.sqrt(0.1875 / 4000), rtol=0)


def test_hue_equals_torchvision_and_kornia_at_every_turn():
    """Also where two channels tie, where all are equal, and in black and white."""
    edges = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0.7, 0.2, 0.2]])
    edges = torch.cat([edges, edges.flip(1), torch.rand(50, 3)]).T.reshape(3, 8, 8)
    turns = torch.linspace(-0.5, 0.5, 21)
    video = edges.expand(21, 2, 3, 8, 8).contiguous()
    found = _turn_hue(video, turns)
    expected = torch.stack(
        [reference.adjust_hue(clip, float(turn)) for clip, turn in zip(video, turns, strict=True)]
    )
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)
    frames = adjust_hue(video.flatten(0, 1), 2 * math.pi * turns.repeat_interleave(2))
    torch.testing.assert_close(found.flatten(0, 1), frames, atol=5e-6, rtol=0)


def test_gray_equals_torchvision():
    video = clips()
    expected = reference.rgb_to_grayscale(video, num_output_channels=3)
    torch.testing.assert_close(RandomGray(probability=1)(video, torch.arange(12)), expected, atol=2e-4, rtol=0)


def test_blur_equals_torchvision():
    video, seed = clips(6), torch.arange(6)
    blur = GaussianBlur(kernel_px=7, sigma_px=(0.1, 2.0), probability=1)
    sigma = blur.draw(seed).tolist()
    expected = [reference.gaussian_blur(clip, [7, 7], [s, s]) for clip, s in zip(video, sigma, strict=True)]
    torch.testing.assert_close(blur(video, seed), torch.stack(expected), atol=1e-6, rtol=0)
    kornias = [gaussian_blur2d(clip, 7, (s, s)) for clip, s in zip(video, sigma, strict=True)]
    torch.testing.assert_close(blur(video, seed), torch.stack(kornias), atol=1e-6, rtol=0)
    assert min(sigma) < 0.8 and max(sigma) > 1.2


def test_blur_of_frames_that_are_not_square_mirrors_the_border():
    video = torch.rand(2, 1, 3, 4, 9)  # the window reaches as far over the border as it can
    blur = GaussianBlur(kernel_px=7, sigma_px=(1.5, 1.5), probability=1)
    expected = reference.gaussian_blur(video, [7, 7], [1.5, 1.5])
    torch.testing.assert_close(blur(video, torch.arange(2)), expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="frames are 3 x 9 pixels; a blur of 7 pixels needs more than 3"):
        blur(video[:, :, :, :3], torch.arange(2))


def test_blur_keeps_32_bits_under_autocast():
    video, seed = clips(4), torch.arange(4)
    blur = GaussianBlur(kernel_px=5, probability=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = blur(video, seed)
    torch.testing.assert_close(low, blur(video, seed), atol=0, rtol=0)


def test_solarize_equals_torchvision():
    video = clips()
    view = Solarize(threshold=0.3, probability=1)(video, torch.arange(12))
    torch.testing.assert_close(view, reference.solarize(video, 0.3), atol=0, rtol=0)
    torch.testing.assert_close(view, solarize(video, 0.3), atol=0, rtol=0)
    assert view.eq(video).float().mean() == pytest.approx(0.3, abs=0.03)


def test_normalize_equals_torchvision_and_kornia():
    video, mean, std = clips(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    view = Normalize(mean, std)(video, torch.arange(12))
    torch.testing.assert_close(view, reference.normalize(video, list(mean), list(std)), atol=1e-6, rtol=0)
    kornias = normalize(video.flatten(0, 1), torch.tensor(mean), torch.tensor(std))
    torch.testing.assert_close(view.flatten(0, 1), kornias, atol=1e-6, rtol=0)
    assert float(view.min()) < -1.5 and float(view.max()) > 2


def test_erasing_equals_torchvision_in_the_drawn_rectangle():
    video, seed = torch.rand(6, 2, 3, 20, 30), torch.arange(6)
    erasing = RandomErasing(value=0.25, probability=1)
    rectangles = erasing.draw(seed, 20, 30).tolist()
    expected = [
        reference.erase(clip, *place, torch.tensor(0.25)) for clip, place in zip(video, rectangles, strict=True)
    ]
    torch.testing.assert_close(erasing(video, seed), torch.stack(expected), atol=0, rtol=0)


def test_erased_areas_are_uniform_and_lie_anywhere():
    erasing = RandomErasing(scale=(0.1, 0.3), ratio=(0.5, 2.0))
    top, left, tall, wide = erasing.draw(torch.arange(4000), 200, 100).double().unbind(1)
    area, aspect = tall * wide / 20_000, (tall / wide).log()
    assert float(area.mean()) == pytest.approx(0.2, abs=4 * 0.2 / math.sqrt(12 * 4000))
    assert float(area.std()) == pytest.approx(0.2 / math.sqrt(12), rel=0.04)
    assert float(aspect.mean()) == pytest.approx(0, abs=4 * 2 * math.log(2) / math.sqrt(12 * 4000))
    assert float((top + tall).max()) == 200 and float((left + wide).max()) == 100
    assert float(top.min()) == 0 and float(left.min()) == 0
    # As far from one edge as from the other.
    assert float((2 * top + tall).mean()) == pytest.approx(200, abs=4)


def test_invert_flips_every_contrast():
    video = clips()
    torch.testing.assert_close(RandomInvert(probability=1)(video, torch.arange(12)), 1 - video)


def test_noise_has_its_deviation_and_is_another_in_every_frame():
    noise = GaussianNoise(std=0.05)(torch.full((8, 3, 3, 32, 32), 0.5), torch.arange(8)) - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=4 * 0.05 / math.sqrt(8 * 9 * 1024))
    # Correlations of 24 independent pairs of pictures of 3072 values are within 4 deviations of zero.
    pictures = noise.transpose(0, 1).flatten(2)  # (T, B, values)
    correlation = (pictures * pictures.roll(1, 0)).mean(2) / 0.05**2
    assert float(correlation.abs().max()) < 4 / math.sqrt(3072)


@pytest.mark.parametrize("name", ALWAYS)
def test_probability_is_the_share_of_changed_clips(name):
    video = clips(1, num_frames=1, size=6).expand(1500, -1, -1, -1, -1)
    view = ALWAYS[name](probability=0.3)(video, torch.arange(1500))
    changed = (view != video).flatten(1).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 1500))


@pytest.mark.parametrize("name", sorted(ALWAYS.keys() - {"noise"}))
def test_frames_of_a_clip_are_treated_alike(name):
    still = clips(12, num_frames=1).expand(-1, 4, -1, -1, -1)
    view = ALWAYS[name](probability=0.7)(still, torch.arange(12))
    torch.testing.assert_close(view, view[:, :1].expand_as(view), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["jitter", "blur", "noise", "erasing"])
def test_clips_of_a_batch_are_treated_differently(name):
    same = clips(1).expand(12, -1, -1, -1, -1)
    view = ALWAYS[name](probability=1)(same, torch.arange(12))
    assert len({tuple(pixels) for pixels in view[:, 0, 0].flatten(1).tolist()}) == 12


@pytest.mark.parametrize("name", ALWAYS)
def test_a_view_depends_on_its_seed_alone_and_leaves_its_input(name):
    video, seeds, operator = clips(6), torch.arange(10, 16), ALWAYS[name](probability=0.6)
    before = video.clone()
    together = operator(video, seeds)
    assert torch.equal(video, before)
    torch.rand(17)  # the global generator must not matter
    alone = torch.cat([operator(video[i : i + 1], seeds[i : i + 1]) for i in reversed(range(6))]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    other = operator(video, draws.mix(seeds, 1))
    assert not torch.equal(together, other)


@pytest.mark.parametrize("name", ALWAYS)
def test_values_stay_between_0_and_1(name):
    view = ALWAYS[name](probability=1)(clips(60), torch.arange(60))
    assert float(view.min()) >= 0 and float(view.max()) <= 1


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"probability is 1.5, expected a number in \[0, 1\]"):
        RandomGray(probability=1.5)
    with pytest.raises(ValueError, match=r"hue is 0.7, expected a number in \[0, 0.5\]"):
        ColorJitter(hue=0.7)
    with pytest.raises(ValueError, match="kernel_px is 4, expected an odd number"):
        GaussianBlur(kernel_px=4)

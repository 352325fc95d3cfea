import math
from functools import partial

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from vidssl.augment import ColorJitter, GaussianBlur, GaussianNoise, RandomGray, RandomInvert, Solarize
from vidssl.ops import draws

ALWAYS = {
    "jitter": partial(ColorJitter, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    "gray": partial(RandomGray),
    "blur": partial(GaussianBlur, kernel_px=5),
    "solarize": partial(Solarize),
    "invert": partial(RandomInvert),
    "noise": partial(GaussianNoise, std=0.1),
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


def test_gray_equals_torchvision():
    video = clips()
    expected = reference.rgb_to_grayscale(video, num_output_channels=3)
    torch.testing.assert_close(RandomGray(probability=1)(video, torch.arange(12)), expected, atol=2e-4, rtol=0)


def test_blur_equals_torchvision():
    video, seed = clips(6), torch.arange(6)
    blur = GaussianBlur(kernel_px=7, sigma_px=(0.1, 2.0), probability=1)
    sigma = blur.draw(seed).tolist()
    expected = [reference.gaussian_blur(clip, [7, 7], [s, s]) for clip, s in zip(video, sigma, strict=True)]
    torch.testing.assert_close(blur(video, seed), torch.stack(expected), atol=1e-5, rtol=0)
    assert min(sigma) < 0.8 and max(sigma) > 1.2


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


def test_invert_flips_every_contrast():
    video = clips()
    torch.testing.assert_close(RandomInvert(probability=1)(video, torch.arange(12)), 1 - video)


def test_noise_has_its_deviation_and_is_frozen_over_frames():
    noise = GaussianNoise(std=0.05)(torch.full((8, 3, 3, 32, 32), 0.5), torch.arange(8)) - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=4 * 0.05 / math.sqrt(8 * 3 * 1024))
    assert (noise == noise[:, :1]).all()


@pytest.mark.parametrize("name", ALWAYS)
def test_probability_is_the_share_of_changed_clips(name):
    video = clips(1, num_frames=1, size=6).expand(1500, -1, -1, -1, -1)
    view = ALWAYS[name](probability=0.3)(video, torch.arange(1500))
    changed = (view != video).flatten(1).any(1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 1500))


@pytest.mark.parametrize("name", ALWAYS)
def test_frames_of_a_clip_are_treated_alike(name):
    still = clips(12, num_frames=1).expand(-1, 4, -1, -1, -1)
    view = ALWAYS[name](probability=0.7)(still, torch.arange(12))
    torch.testing.assert_close(view, view[:, :1].expand_as(view), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["jitter", "blur", "noise"])
def test_clips_of_a_batch_are_treated_differently(name):
    same = clips(1).expand(12, -1, -1, -1, -1)
    view = ALWAYS[name](probability=1)(same, torch.arange(12))
    assert len({tuple(pixels) for pixels in view[:, 0, 0, 3].tolist()}) == 12


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

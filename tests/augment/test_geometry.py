import math

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from vidssl.augment import MultiScaleCrop, RandomResizedCrop
from vidssl.ops import draws


def coordinates(batch: int = 1, num_frames: int = 1, size: int = 64) -> torch.Tensor:
    """Clips whose first channel is x and second y, in pixels / 255: a view tells where it looked."""
    axis = torch.arange(size, dtype=torch.float32) / 255
    x, y = axis.expand(size, size), axis[:, None].expand(size, size)
    return torch.stack([x, y, x]).expand(batch, num_frames, 3, size, size).contiguous()


def test_the_whole_frame_is_returned_unchanged():
    video = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    view = RandomResizedCrop(32, scale=(1, 1), ratio=(1, 1), flip=0)(video, torch.tensor([1, 2]))
    torch.testing.assert_close(view, video / 255, atol=2e-6, rtol=0)


def test_a_mirrored_view_is_the_mirror_image():
    video = torch.rand(2, 3, 3, 32, 32)
    view = RandomResizedCrop(32, scale=(1, 1), ratio=(1, 1), flip=1)(video, torch.tensor([1, 2]))
    torch.testing.assert_close(view, video.flip(-1), atol=1e-5, rtol=0)


def test_half_of_the_views_are_mirrored():
    crop = RandomResizedCrop(16, scale=(0.5, 1), flip=0.5)
    view = crop(coordinates(2000), torch.arange(2000))
    mirrored = (view[:, 0, 0, 8, -1] < view[:, 0, 0, 8, 0]).float().mean()
    assert abs(float(mirrored) - 0.5) < 4 * 0.5 / math.sqrt(2000)


def test_areas_are_uniform_and_aspects_log_uniform():
    crop = RandomResizedCrop(64, scale=(0.1, 0.5), ratio=(0.5, 2.0), flip=0)
    window, _ = crop.draw(torch.arange(4000), 100, 100)
    area, aspect = window[:, 2] * window[:, 3] / 1e4, (window[:, 3] / window[:, 2]).log()
    # Mean and deviation of a uniform variable: (a + b) / 2 and (b - a) / sqrt(12).
    assert float(area.mean()) == pytest.approx(0.3, abs=4 * 0.4 / math.sqrt(12 * 4000))
    assert float(area.std()) == pytest.approx(0.4 / math.sqrt(12), rel=0.04)
    assert float(aspect.mean()) == pytest.approx(0, abs=4 * 2 * math.log(2) / math.sqrt(12 * 4000))
    assert float(aspect.std()) == pytest.approx(2 * math.log(2) / math.sqrt(12), rel=0.04)


def test_windows_that_fit_at_once_are_those_of_the_first_draws():
    """Five numbers of each seed: area, aspect, x, y and mirror; the others draw on from the same stream."""
    seeds = torch.arange(500)
    window, mirrored = RandomResizedCrop(64).draw(seeds, 90, 120)
    area, aspect, x, y, mirror = draws.uniform(seeds, 5).double().unbind(1)
    area, aspect = 90 * 120 * (0.08 + 0.92 * area), (math.log(3 / 4) + aspect * 2 * math.log(4 / 3)).exp()
    height, width = (area / aspect).sqrt(), (area * aspect).sqrt()
    fits = (height <= 90) & (width <= 120)
    expected = torch.stack([y * (90 - height), x * (120 - width), height, width], dim=1)
    torch.testing.assert_close(window[fits], expected[fits], atol=1e-9, rtol=0)
    assert torch.equal(mirrored, mirror < 0.5) and 20 < int((~fits).sum()) < 150
    # Those that do not are drawn again, not all alike: of 90 x 120 pixels nearly all fit at the tenth time.
    again = window[~fits]
    assert len(again.unique(dim=0)) == len(again) and float((again[:, 2] < 90).float().mean()) > 0.9


class Fixed(RandomResizedCrop):
    """Windows that are given, not drawn."""

    def __init__(self, size_px, *, window, mirrored):
        super().__init__(size_px)
        self.window, self.mirrored = window, mirrored

    def draw(self, seed, height, width):
        return torch.tensor(self.window), torch.tensor(self.mirrored)


def test_whole_windows_are_scaled_as_torchvision_scales_them():
    """Down and up, square or not, in the corners and in between, mirrored or not: to 1e-6 of floats in [0, 1]."""
    windows = [[0, 0, 40, 60], [0, 0, 10, 7], [31, 52, 9, 8], [5, 9, 30, 13], [3, 0, 37, 16], [20, 20, 2, 3]]
    mirrored = [False, True, True, False, True, False]
    bytes_ = torch.randint(256, (6, 2, 3, 40, 60), dtype=torch.uint8)
    video = bytes_ / 255
    for size_px in (16, 7):
        expected = [
            reference.resized_crop(clip, *window, [size_px, size_px], antialias=True)
            for clip, window in zip(video, windows, strict=True)
        ]
        expected = [e.flip(-1) if flip else e for e, flip in zip(expected, mirrored, strict=True)]
        crop = Fixed(size_px, window=windows, mirrored=mirrored)
        torch.testing.assert_close(crop(video, torch.arange(6)), torch.stack(expected), atol=1e-6, rtol=0)
        torch.testing.assert_close(crop(bytes_, torch.arange(6)), torch.stack(expected), atol=1e-6, rtol=0)


def test_windows_of_parts_of_pixels_are_where_they_are():
    """Of a picture whose values are its coordinates, a view shows the window's coordinates, but at the edges.

    To a tenth of a pixel: a triangle at whole pixels does not weigh both of its sides quite alike.
    """
    window = [[3.25, 7.5, 20.5, 30.75]]
    view = Fixed(12, window=window, mirrored=[False])(coordinates(), torch.tensor([0]))[0, 0] * 255
    share = (torch.arange(12) + 0.5) / 12
    # A pixel's value is that of its middle, half a pixel on.
    torch.testing.assert_close(view[0, 5, 2:-2], (7.5 + share * 30.75 - 0.5)[2:-2], atol=0.1, rtol=0)
    torch.testing.assert_close(view[1, 2:-2, 5], (3.25 + share * 20.5 - 0.5)[2:-2], atol=0.1, rtol=0)


def test_stripes_finer_than_a_pixel_do_not_alias():
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 3, 64, 64)
    view = Fixed(15, window=[[0, 0, 64, 64]], mirrored=[False])(stripes, torch.tensor([0]))
    # A triangle 8.5 pixels wide lets through about 1 / (pi 4.27 / 2)^2 of stripes of two pixels, 0.02 of 0.5, and half
    # of it, at an edge, somewhat more. Without antialias a view of two pixels' mean would be off by up to 0.5.
    torch.testing.assert_close(view, torch.full_like(view, 0.5), atol=0.035, rtol=0)


def test_frames_that_are_not_contiguous_are_seen_alike():
    video = torch.randint(256, (3, 2, 20, 30, 3), dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    crop = RandomResizedCrop(8)
    assert torch.equal(crop(video, torch.arange(3)), crop(video.contiguous(), torch.arange(3)))


def test_windows_of_few_sizes_are_those_of_the_released_code():
    """Every pair of sides at most one size apart, at every one of 13 places, of 256 x 340 pixels."""
    window, _ = MultiScaleCrop(224).draw(torch.arange(20_000), 256, 340)
    sides = (256, 224, 192, 168)  # 168 = int(0.66 * 256), and 224 is the view's own
    quarters = [
        (0, 0),
        (0, 4),
        (4, 0),
        (4, 4),
        (2, 2),
        (2, 0),
        (2, 4),
        (4, 2),
        (0, 2),
        (1, 1),
        (1, 3),
        (3, 1),
        (3, 3),
    ]
    expected = {
        (y * ((256 - high) // 4), x * ((340 - wide) // 4), high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= 1
        for y, x in quarters
    }
    found, counts = window.unique(dim=0, return_counts=True)
    assert {tuple(row) for row in found.tolist()} == expected
    # Each of 130 pairs of size and place is equally likely; those of equal windows add up.
    high = found[:, 2] < 256
    mean = 20_000 / 130
    assert float((counts[high] - mean).abs().max()) < 5 * math.sqrt(mean)


def test_windows_of_few_sizes_of_a_small_frame_and_of_nearly_the_view():
    window, mirrored = MultiScaleCrop(20, flip=0.5).draw(torch.arange(2000), 24, 30)
    # 24, then int(0.875 * 24) = 21 and int(0.75 * 24) = 18, which become 20, and int(0.66 * 24) = 15.
    assert set(window[:, 2].tolist()) == {24, 20, 15}
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))
    tiny, _ = MultiScaleCrop(22).draw(torch.arange(200), 20, 20)
    assert int((tiny[:, :2] + tiny[:, 2:]).max()) == 20


def test_windows_stay_inside_the_frame_and_reach_its_edges():
    crop = RandomResizedCrop(64, scale=(0.25, 0.25), ratio=(1, 1), flip=0)
    view = crop(coordinates(3000), torch.arange(3000))[:, 0] * 255
    left, right = view[:, 0, 0, 0], view[:, 0, 0, -1]
    # A window of 32 of 64 px sampled 64 times: the outermost samples lie a quarter pixel inside it.
    torch.testing.assert_close(right - left, torch.full((3000,), 31.5), atol=0.3, rtol=0)
    assert float(left.min()) < 0.5 and float(right.max()) > 62.5


def test_frames_share_the_window_and_clips_do_not():
    view = RandomResizedCrop(16, scale=(0.1, 0.4))(coordinates(8, num_frames=5), torch.arange(8))
    assert (view == view[:, :1]).all()
    assert len({tuple(clip[0, :2, 3, 3].tolist()) for clip in view}) == 8


def test_a_view_depends_on_its_seed_alone():
    video, seeds = torch.rand(6, 2, 3, 40, 40), torch.arange(10, 16)
    crop = RandomResizedCrop(16, scale=(0.1, 0.9))
    together = crop(video, seeds)
    torch.rand(17)  # the global generator must not matter
    alone = torch.cat([crop(video[i : i + 1], seeds[i : i + 1]) for i in reversed(range(6))]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)

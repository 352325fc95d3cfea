import math

import pytest
import torch

from vidssl.augment import RandomResizedCrop


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
    affine = torch.stack([crop._draw(seed, 100, 100) for seed in range(4000)]).double()
    area, aspect = affine[:, 0, 0] * affine[:, 1, 1], (affine[:, 0, 0] / affine[:, 1, 1]).log()
    # Mean and deviation of a uniform variable: (a + b) / 2 and (b - a) / sqrt(12).
    assert float(area.mean()) == pytest.approx(0.3, abs=4 * 0.4 / math.sqrt(12 * 4000))
    assert float(area.std()) == pytest.approx(0.4 / math.sqrt(12), rel=0.04)
    assert float(aspect.mean()) == pytest.approx(0, abs=4 * 2 * math.log(2) / math.sqrt(12 * 4000))
    assert float(aspect.std()) == pytest.approx(2 * math.log(2) / math.sqrt(12), rel=0.04)


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

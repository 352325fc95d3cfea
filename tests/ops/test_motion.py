import pytest
import torch

from vidssl.ops.motion import motion_energy, pick_by_motion, take_frames


def clips_with(steps: list[int], num_samples: int) -> torch.Tensor:
    """One clip of three frames for each step: its grey rises by `step` from frame to frame."""
    grey = torch.tensor(steps)[:, None] * torch.arange(3)  # (K, T)
    return grey.to(torch.uint8)[None, :, :, None, None, None].expand(num_samples, -1, -1, 3, 2, 2)


def test_energy_is_the_mean_step():
    assert motion_energy(clips_with([0, 51, 102], 1)).flatten().tolist() == pytest.approx([0, 0.2, 0.4])
    assert float(motion_energy(torch.tensor([0.0, 3, 1]).view(3, 1, 1, 1))) == pytest.approx(2.5)


def test_clips_are_drawn_in_proportion_to_their_motion():
    picked = pick_by_motion(clips_with([10, 0, 30], 20_000), torch.arange(20_000))
    step = picked[:, 1, 0, 0, 0].int()
    shares = [float((step == value).float().mean()) for value in (0, 10, 30)]
    assert shares == pytest.approx([0, 0.25, 0.75], abs=0.01)


def test_still_clips_are_equally_likely():
    still = torch.arange(4, dtype=torch.uint8)[None, :, None, None, None, None].expand(8000, -1, 3, 3, 2, 2)
    picked = pick_by_motion(still, torch.arange(8000))[:, 0, 0, 0, 0]
    assert (picked.bincount() / 8000).tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_pick_depends_on_its_own_seed_alone():
    clips, seed = torch.randint(256, (6, 3, 4, 3, 2, 2), dtype=torch.uint8), torch.arange(6)
    together = pick_by_motion(clips, seed)
    alone = torch.cat([pick_by_motion(clips[[b]], seed[[b]]) for b in (3, 1)])
    assert torch.equal(together[[3, 1]], alone)


def test_frames_are_taken_by_number():
    clips = torch.arange(8).view(2, 4, 1, 1, 1)
    assert take_frames(clips, torch.tensor([[3, 0], [1, 1]])).flatten().tolist() == [3, 0, 5, 5]

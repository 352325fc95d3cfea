import re
from functools import partial

import pytest
import torch

from vidssl.data import clips


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(times: torch.Tensor, fps: float) -> torch.Tensor:
    """Times as frame numbers; fails if one does not lie on a frame."""
    numbers = (times * fps).round()
    assert (times * fps - numbers).abs().max() < 1e-9
    return numbers.long()


def test_frame_tuple_keeps_the_offsets_and_reaches_every_start():
    # 20 frames, span 17: starts 0, 1, 2, 3 and no other.
    starts = set()
    for seed in range(60):
        found = frames(clips.frame_tuple(2.0, 10.0, generator(seed), offsets_frames=(0, 4, 8, 16)), 10.0)
        assert (found - found[:, :1]).tolist() == [[0, 4, 8, 16]]
        starts.add(int(found[0, 0]))
    assert starts == {0, 1, 2, 3}


def test_frame_tuple_refuses_offsets_that_do_not_increase():
    with pytest.raises(ValueError, match=re.escape("offsets_frames must increase from 0, got (0, 4, 4)")):
        clips.frame_tuple(9.0, 10.0, generator(), offsets_frames=(0, 4, 4))


def test_random_clips_lie_inside_the_video_and_draw_each_start_alike():
    sampler = partial(clips.random_clips, num_frames=3, stride_frames=2, num_clips=5000)
    found = frames(sampler(1.0, 10.0, generator()), 10.0)  # 10 frames, span 5: 6 starts
    assert found.shape == (5000, 3)
    assert torch.equal(found[:, 1] - found[:, 0], torch.full((5000,), 2))
    counts = torch.bincount(found[:, 0])
    assert len(counts) == 6 and int(found.max()) == 9
    # Binomial(5000, 1/6) has standard deviation 26.
    assert (counts - 5000 / 6).abs().max() < 4 * 26.4


def test_samplers_are_functions_of_the_generator_alone():
    for sampler in (
        partial(clips.random_clips, num_frames=4, num_clips=3),
        partial(clips.nearby_clips, num_frames=4, num_clips=3, max_distance_seconds=2.0),
        partial(clips.frame_tuple, offsets_frames=(0, 3)),
    ):
        first, again, other = (sampler(60.0, 25.0, generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_uniform_clips_include_both_ends_and_a_single_one_is_the_middle():
    many = frames(clips.uniform_clips(2.0, 10.0, generator(), num_clips=3, num_frames=4), 10.0)
    assert many.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    one = frames(clips.uniform_clips(2.0, 10.0, generator(), num_clips=1, num_frames=4), 10.0)
    assert one.tolist() == [[8, 9, 10, 11]]


def test_dense_clips_start_at_every_step():
    found = frames(clips.dense_clips(1.2, 10.0, generator(), num_frames=3, stride_frames=2, step_frames=3), 10.0)
    assert found.tolist() == [[0, 2, 4], [3, 5, 7], [6, 8, 10]]


def test_nearby_clips_respect_the_distance_and_use_all_of_it():
    sampler = partial(clips.nearby_clips, num_clips=2, num_frames=2, max_distance_seconds=1.0)
    starts = torch.stack([frames(sampler(30.0, 10.0, generator(seed)), 10.0)[:, 0] for seed in range(400)])
    distance = (starts[:, 0] - starts[:, 1]).abs()
    assert int(distance.max()) == 10
    assert int(starts.max()) > 250 and int(starts.min()) < 40


@pytest.mark.parametrize(
    "sampler",
    [
        partial(clips.random_clips, num_frames=16, stride_frames=4),
        partial(clips.uniform_clips, num_clips=2, num_frames=16, stride_frames=4),
        partial(clips.dense_clips, num_frames=16, stride_frames=4, step_frames=1),
        partial(clips.nearby_clips, num_clips=2, num_frames=16, stride_frames=4, max_distance_seconds=1.0),
        partial(clips.frame_tuple, offsets_frames=(0, 60)),
    ],
)
def test_a_short_video_is_refused_with_its_length(sampler):
    assert sampler(6.1, 10.0, generator()).shape[-1] in (2, 16)  # 61 frames are just enough
    with pytest.raises(ValueError, match=r"has 60 frames \(6.00 s at 10.00 frames/s\) but the clip spans 61"):
        sampler(6.0, 10.0, generator())

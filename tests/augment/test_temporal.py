"""Temporal views of clips whose frames say which they are."""

import pytest
import torch

from vidssl.augment import Pipeline, RandomResizedCrop, RandomReverse, RandomTemporalCrop


def numbered(batch: int, num_frames: int) -> torch.Tensor:
    """Clips, uint8, whose frame t has the value t."""
    frames = torch.arange(num_frames, dtype=torch.uint8)[:, None, None, None]
    return frames.expand(batch, num_frames, 3, 4, 4)


def shown(view: torch.Tensor) -> torch.Tensor:
    return (view[:, :, 0, 0, 0] * 255).round().long()


def test_half_of_the_clips_play_backwards():
    frames = shown(RandomReverse()(numbered(2000, 5), torch.arange(2000)))
    backwards = (frames == torch.tensor([4, 3, 2, 1, 0])).all(1)
    assert ((frames == torch.arange(5)).all(1) | backwards).all()
    assert float(backwards.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


def test_frames_are_taken_from_every_place_at_every_stride_that_fits():
    frames = shown(RandomTemporalCrop(4, strides_frames=(1, 2, 3, 9))(numbered(6000, 11), torch.arange(6000)))
    stride = frames[:, 1] - frames[:, 0]
    assert (frames.diff(dim=1) == stride[:, None]).all()
    for number, places in {1: 8, 2: 5, 3: 2}.items():
        start = frames[stride == number, 0]
        assert len(start) / 6000 == pytest.approx(1 / 3, abs=0.025)
        counts = torch.bincount(start, minlength=places)
        assert len(counts) == places and float((counts / len(start) - 1 / places).abs().max()) < 0.04


def test_clips_that_are_too_short_are_refused():
    crop = RandomTemporalCrop(4, strides_frames=(3, 2))
    with pytest.raises(ValueError, match="clips have 6 frames, 4 at a stride of 2 need 7; sample longer clips"):
        crop(numbered(2, 6), torch.arange(2))


def test_frames_are_chosen_before_they_are_cut():
    view = Pipeline(RandomTemporalCrop(3), RandomReverse(probability=1), RandomResizedCrop(2))
    frames = shown(view(numbered(9, 8), torch.arange(9)))
    assert frames.shape == (9, 3) and (frames.diff(dim=1) == -1).all()

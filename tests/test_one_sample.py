"""A rotated, an interlaced and an unevenly timed file: every command sees the same pixels at the same times."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video

from vidssl.data import VideoDataset, scan
from vidssl.data.corpus.encode import encode_file
from vidssl.data.media.video import open_video
from vidssl.evaluate.propagation.video import _frames
from vidssl.evaluate.recognition.features.views import Part, Reading, Views, clip_times

pytestmark = pytest.mark.usefixtures("looked_at_here")


@pytest.fixture(params=["rotated_90.mov", "vfr_rot180.mp4", "vfr_numbered.mp4", "interlaced.mp4"])
def path(request, odd, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "interlaced.mp4":
        return write_video(tmp_path / "interlaced.mp4", moving_square(12), **{"x264-params": "tff=1"})
    return odd["made"] / request.param


def at_times(times: torch.Tensor, duration_seconds: float, fps: float, generator: torch.Generator) -> torch.Tensor:
    return times


def test_commands_see_the_same_sample(path, tmp_path):
    with open_video(path) as reader:
        info = reader.info
        every = torch.from_numpy(info.pts_seconds)
        truth = reader.frames(every.tolist()).video
        assert tuple(truth.shape[2:]) == (info.height, info.width)
        propagated = torch.stack(list(_frames(reader)))
        length = info.length(start_seconds=0.0, end_seconds=float("inf"))
        times, _ = clip_times(length, info.fps, num_clips=2, num_frames=4, stride_frames=2)
    assert torch.equal(propagated, truth)
    side = min(info.height, info.width)

    # extract, knn, linear, ...: the middle square of the frames that are nearest to the times of the clips
    read = (every[None] - times.flatten()[:, None]).abs().argmin(1)
    part = Part(str(path), 0.0, float("inf"))
    views = Reading([part], Views(num_clips=2, num_frames=4, stride_frames=2, size_px=side))[0].views
    top, left = (info.height - side) // 2, (info.width - side) // 2
    assert torch.equal(views.flatten(0, 1), truth[read][..., top : top + side, left : left + side])

    # pretrain, finetune: a square at a drawn place of the frames at the times that the sampler asks for
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / path.name).symlink_to(path)
    dataset = VideoDataset(
        scan(tmp_path / "corpus", progress=False), clips=partial(at_times, every[None, 1:5]), size_px=side
    )
    sample = dataset[(3, 0)]
    assert torch.equal(sample.time[0], every[1:5])
    squares = truth[1:5].unfold(2, side, 1).unfold(3, side, 1)  # (T, C, places, places, side, side)
    places = [squares[:, :, y, x] for y in range(squares.shape[2]) for x in range(squares.shape[3])]
    assert any(torch.equal(sample.video[0], one) for one in places)

    # data prepare: as many frames, upright, each at its time from 0 on, and nearly the same pixels
    encode_file(path, tmp_path / "small.mp4", short_side_px=side, crf=1)
    with open_video(tmp_path / "small.mp4") as reader:
        np.testing.assert_allclose(reader.info.pts_seconds, info.pts_seconds - info.pts_seconds[0], atol=1e-6)
        again = reader.frames(reader.info.pts_seconds.tolist()).video
    assert again.shape == truth.shape and (again.float() - truth.float()).abs().mean() < 4

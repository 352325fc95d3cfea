"""Clips in time, not in frames: the same of recordings at any rate."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from conftest import write_video
from media import encode, number_of, numbered

from vidssl.data import ArrayDataset, ImageDataset, VideoDataset, clips, scan
from vidssl.data.clips import as_asked, at_rate, sampled_at
from vidssl.data.media.packets.times import Length
from vidssl.methods.sum import joined_clips

pytestmark = pytest.mark.usefixtures("looked_at_here")

SAMPLERS = {
    "random": partial(clips.random_clips, num_frames=4, stride_frames=5, num_clips=3),
    "tuple": partial(clips.frame_tuple, offsets_frames=(0, 3, 11)),
    "uniform": partial(clips.uniform_clips, num_clips=3, num_frames=4, stride_frames=2),
    "dense": partial(clips.dense_clips, num_frames=2, step_frames=7),
    "nearby": partial(clips.nearby_clips, num_clips=2, num_frames=3, max_distance_seconds=0.5),
    "sound": partial(clips.clip_with_sound, num_frames=3, audio_seconds=1.0),
    "still": clips.still,
}
RATES = (25, 30, 240)
SPEED = 24.0  # pixels per second


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A white square that moves to the right, recorded for two seconds at three rates."""
    folder = tmp_path_factory.mktemp("rates")
    for fps in RATES:
        frames = np.zeros((2 * fps, 32, 80, 3), np.uint8)
        left = 4 + SPEED * np.arange(2 * fps) / fps
        column = np.arange(80)
        # A pixel is as bright as the square covers it.
        light = np.clip(np.minimum(column + 1, left[:, None] + 16) - np.maximum(column, left[:, None]), 0, 1)
        frames[:, 8:24] = (light[:, None, :, None] * 255).round()
        write_video(folder / f"{fps:03d}.mp4", frames, fps=fps)
    return scan(folder, cache=folder / "cache", progress=False)


def middles(video: torch.Tensor) -> torch.Tensor:
    """Column of the middle of the square in each frame of (K, T, 3, H, W), in pixels."""
    light = video.float().mean(dim=(2, 3))
    light = (light - 20).clamp(min=0)
    return (light * (torch.arange(light.shape[-1]) + 0.5)).sum(-1) / light.sum(-1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_recordings_of_any_rate_give_the_same_times(name):
    sampler = at_rate(SAMPLERS[name], frame_rate_hz=12)
    for seed in range(5):
        first, *others = (sampler(4.0, float(fps), generator(seed)) for fps in RATES)
        assert all(torch.equal(first, other) for other in others)
        # Those of a recording at that rate.
        assert torch.equal(first, SAMPLERS[name](4.0, 12.0, generator(seed)))


def test_the_same_motion_gives_the_same_clip(recordings):
    sampler = at_rate(partial(clips.random_clips, num_frames=4, stride_frames=6), frame_rate_hz=24)
    dataset = VideoDataset(recordings, clips=sampler, size_px=32, whole_frames=True)
    starts = set()
    for seed in range(12):
        samples = [dataset[seed, index] for index in range(3)]
        places = [middles(sample.video) * 80 / 32 for sample in samples]
        asked = sampler(2.0, 25.0, generator(dataset[seed, 0].seed))
        starts.add(float(asked[0, 0]))
        for sample, place, fps in zip(samples, places, RATES, strict=True):
            assert (sample.time - asked).abs().max() <= 0.5 / fps + 1e-9
            # Where the square is at the time that was asked for: half a frame's way off, and what coding leaves.
            expected = 12 + SPEED * asked
            torch.testing.assert_close(place.double(), expected, atol=SPEED * 0.5 / fps + 0.3, rtol=0)
    assert len(starts) > 5
    # In frames of their own, clips of 240 frames a second are a tenth as long.
    plain = VideoDataset(recordings, clips=sampler.keywords["sampler"], size_px=32)
    spans = [float(sample.time[0, -1] - sample.time[0, 0]) for sample in (plain[0, 0], plain[0, 2])]
    assert spans == pytest.approx([18 / 25, 18 / 240])


def test_a_variable_rate_is_sampled_evenly_in_time(tmp_path):
    """Frames shown for 1 and 3 ticks in turn: the clip has those nearest to times that are evenly spaced."""
    ticks = np.cumsum([0, *[1, 3] * 15])
    encode(tmp_path / "vfr.mp4", numbered(len(ticks)), ticks=ticks.tolist(), fps=20)
    corpus = scan(tmp_path, cache=None, progress=False)
    sampler = at_rate(partial(clips.random_clips, num_frames=5), frame_rate_hz=5)
    dataset = VideoDataset(corpus, clips=sampler, size_px=128, whole_frames=True)
    for seed in range(8):
        sample = dataset[seed, 0]
        asked = sampler(corpus.entries[0].duration_seconds, corpus.entries[0].fps, generator(sample.seed))[0]
        torch.testing.assert_close(asked.diff(), torch.full((4,), 0.2, dtype=torch.float64))
        nearest = (torch.from_numpy(ticks / 20)[:, None] - asked).abs().argmin(0)
        found = [number_of(frame.permute(1, 2, 0).numpy()) for frame in sample.video[0]]
        assert found == nearest.tolist()


def test_no_clip_crosses_a_gap():
    """Of two parts of 2 and 3 seconds, at rates of their own, clips lie in one of them, and reach both."""
    length = Length(60.0, [(0.0, 50, 25.0), (40.0, 90, 30.0)])
    sampler = at_rate(partial(clips.random_clips, num_frames=3, stride_frames=5, num_clips=400), frame_rate_hz=10)
    found = sampler(length, 28.0, generator())
    assert ((found[:, -1] < 2) | (found[:, 0] >= 40)).all() and float(found.max()) < 43
    # 20 and 30 frames at 10 Hz, 11 of which a clip spans: 10 and 20 starts.
    assert len(found[:, 0].unique()) == 30
    assert float((found[:, 0] < 2).float().mean()) == pytest.approx(1 / 3, abs=0.1)


def test_the_last_frame_is_shown_where_times_end():
    """Whole numbers of frames at other rates: no time lies half a frame or more behind the last frame."""
    for duration, fps in ((1.96, 25.0), (2.0, 30.0), (59 / 60, 60.0), (0.3, 10.0)):
        for rate_hz in (4.0, 7.3, 10.0, 2 * fps):
            sampler = at_rate(partial(clips.uniform_clips, num_clips=2, num_frames=1), frame_rate_hz=rate_hz)
            last = float(sampler(duration, fps, generator()).max())
            assert last <= duration - 0.5 / fps + 1e-9
    # 63 frames of 30 per second: the last one is shown from 2.067 s on, so 13 of 6 per second fit, 2 s apart.
    sampler = at_rate(partial(clips.frame_tuple, offsets_frames=(0, 12)), clip_seconds=2.0)
    torch.testing.assert_close(sampler(2.1, 30.0, generator()).diff().squeeze(), torch.tensor(2.0).double())


def test_a_clip_lasts_as_long_as_asked_for(recordings):
    offsets = at_rate(partial(clips.frame_tuple, offsets_frames=(0, 4, 8, 16)), clip_seconds=0.8)
    for fps in RATES:
        found = offsets(2.0, float(fps), generator(1))
        torch.testing.assert_close(found - found[:, :1], torch.tensor([[0, 0.2, 0.4, 0.8]]).double())
    evenly = at_rate(SAMPLERS["random"], clip_seconds=0.5)
    found = evenly(2.0, 25.0, generator())
    assert found.shape == (3, 4) and torch.allclose(found[:, -1] - found[:, 0], torch.tensor(0.5).double())


def test_what_is_too_short_is_left_out_and_named(recordings, caplog):
    sampler = at_rate(partial(clips.random_clips, num_frames=16, stride_frames=2), frame_rate_hz=10)
    with pytest.raises(
        ValueError, match=r"none of the 3 videos of .* can be used:\n.*025.mp4: the video has 20 frames"
    ):
        VideoDataset(recordings, clips=sampler)
    why = "the video has 20 frames (2.00 s at 10.00 frames/s) but the clip spans 31; lower the number of frames or the "
    with pytest.raises(ValueError, match=re.escape(f"{why}stride; frames are counted at 10 Hz")):
        sampler(2.0, 25.0, generator())
    # At 16 frames per second they are just long enough: 32 frames, of which a clip spans 31.
    fits = at_rate(sampler.keywords["sampler"], frame_rate_hz=16)
    assert len(VideoDataset(recordings, clips=fits)) == 3


def test_a_picture_is_one_frame_at_any_rate(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    corpus = scan(tmp_path, media="any", cache=None, progress=False)
    for rate_hz in (0.01, 1.0, 1000.0):
        one = at_rate(partial(clips.random_clips, num_frames=1), frame_rate_hz=rate_hz)
        assert ImageDataset(corpus, clips=one, size_px=8)[3, 0].time.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_rate_hz": 0.0}, "frame_rate_hz is 0.0, expected a number above 0"),
        ({"frame_rate_hz": float("nan")}, "frame_rate_hz is nan, expected a number above 0"),
        ({"clip_seconds": float("inf")}, "clip_seconds is inf, expected a number above 0"),
        (
            {"frame_rate_hz": 8.0, "clip_seconds": 2.0},
            "frame_rate_hz is 8.0, clip_seconds 2.0; expected one of them",
        ),
    ],
)
def test_rates_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        at_rate(SAMPLERS["tuple"], **options)


def test_a_length_is_refused_where_clips_have_none():
    with pytest.raises(ValueError, match=r"clip_seconds is 2.0, but a clip is one frame; give frame_rate_hz"):
        at_rate(clips.still, clip_seconds=2.0)
    joined = partial(joined_clips, samplers=[SAMPLERS["tuple"], SAMPLERS["tuple"]])
    with pytest.raises(ValueError, match=r"clip_seconds is 2.0, but clips differ in length from draw to draw"):
        at_rate(joined, clip_seconds=2.0)
    assert at_rate(joined, frame_rate_hz=5.0)(9.0, 25.0, generator()).shape == (1, 6)


def test_datasets_built_in_the_block_sample_at_its_rate():
    video = torch.zeros(1, 50, 3, 4, 4, dtype=torch.uint8)
    sampler = SAMPLERS["tuple"]
    with sampled_at(frame_rate_hz=10):
        dataset = ArrayDataset(video, clips=sampler)
        with pytest.raises(RuntimeError), sampled_at(clip_seconds=1.1):
            inner = ArrayDataset(video, clips=sampler)
            raise RuntimeError
    assert as_asked(sampler) is sampler and ArrayDataset(video, clips=sampler).clips is sampler
    for found in (dataset, inner):
        times = found[4, 0].time[0]
        assert float(times[-1] - times[0]) == pytest.approx(1.1, abs=0.5 / 25)

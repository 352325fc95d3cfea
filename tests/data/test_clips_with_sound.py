"""Clips that have their sound whole, and videos left out for having none."""

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video

from vidssl.data import VideoDataset, scan
from vidssl.data.clips import clip_with_sound

pytestmark = pytest.mark.usefixtures("looked_at_here")


def test_frames_and_sound_fit_into_the_video():
    generator = torch.Generator().manual_seed(0)
    # 5 s at 10 frames per second, 1 s of sound: frames 0 to 40 can start, with 15 frames in steps of 2 frames 0 to 21.
    for num_frames, last_start in ((1, 40), (15, 21)):
        options = {"num_frames": num_frames, "stride_frames": 2, "audio_seconds": 1.0}
        times = torch.cat([clip_with_sound(5.0, 10.0, generator, **options) for _ in range(800)])
        assert sorted({round(start * 10) for start in times[:, 0].tolist()}) == list(range(last_start + 1))
        expected = (times[:, :1] + 0.2 * torch.arange(num_frames)).double()
        torch.testing.assert_close(times, expected, atol=1e-6, rtol=0)


def test_a_video_shorter_than_the_sound_is_refused():
    with pytest.raises(ValueError, match=r"19 frames \(1.90 s at 10.00 frames/s\) but the clip spans 20"):
        clip_with_sound(1.9, 10.0, torch.Generator(), num_frames=1, audio_seconds=2.0)


def test_videos_without_audible_sound_are_left_out(tmp_path, monkeypatch, caplog):
    frames = moving_square(24)
    write_video(tmp_path / "tone.mp4", frames, tone_hz=440)
    write_video(tmp_path / "mute.mp4", frames)
    real_sin = np.sin
    monkeypatch.setattr(np, "sin", lambda x: 0 * real_sin(x))
    write_video(tmp_path / "silent.mp4", frames, tone_hz=440)
    corpus = scan(tmp_path, cache=tmp_path / "cache", progress=False)
    dataset = VideoDataset(corpus, clips=lambda *_: torch.zeros(1, 1, dtype=torch.float64), audio_seconds=0.5)
    assert [entry.path.name for entry in dataset.entries] == ["tone.mp4"]
    reasons = {entry.path.name: why for entry, why in dataset.left_out}
    assert reasons == {"mute.mp4": "it has no sound", "silent.mp4": "its sound is silent"}
    assert "silent.mp4 is left out: its sound is silent" in caplog.text
    # Who does not ask for sound gets them all.
    assert len(VideoDataset(corpus, clips=dataset.clips)) == 3

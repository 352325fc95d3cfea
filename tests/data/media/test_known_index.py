"""Opening a file with what was found out about it before: the same frames, sooner."""

import dataclasses
import os
import random
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ORIGINS, moving_square, write_video

from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.data.media.video import MediaError, open_video

pytestmark = pytest.mark.usefixtures("looked_at_here")

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".asf", ".3gp"}
# FFmpeg decodes some pictures of this file differently from one time to the next; see test_odd_files.py.
UNSTEADY = "audio_track_silent.webm"


def same(first, second) -> None:
    for field in dataclasses.fields(first.info):
        np.testing.assert_array_equal(getattr(first.info, field.name), getattr(second.info, field.name))


@pytest.mark.parametrize("origin", ORIGINS)
def test_frames_of_every_odd_file_are_the_same(odd, origin):
    num_files = num_bytes = 0
    for path in sorted(odd[origin].iterdir()):
        if path.suffix not in SUFFIXES or path.name == UNSTEADY or path.stat().st_size > 300_000:
            continue
        try:
            looked = open_video(path)
        except MediaError:
            continue
        index = looked.packed_index()
        with looked, open_video(path, index=index) as knew:
            same(looked, knew)
            assert knew.packed_index() == index
            times = looked.info.pts_seconds[[0, looked.info.num_frames // 2, -1]].tolist()
            np.testing.assert_array_equal(
                knew.frames(times, short_side=32).video, looked.frames(times, short_side=32).video
            )
        num_files += 1
        num_bytes += len(index)
    assert num_files > 20 and num_bytes / num_files < 2000


def test_sound_is_at_the_same_place(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_square(), tone_hz=440)
    with open_video(path) as looked, open_video(path, index=looked.packed_index()) as knew:
        ours, theirs = (reader.audio(0.2, 0.5, sample_rate_hz=16_000) for reader in (knew, looked))
        assert theirs.abs().max() > 0.3
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_known_of_a_file_that_has_changed_is_forgotten(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_square(24))
    with open_video(path) as reader:
        index = reader.packed_index()
    shutil.copy(write_video(tmp_path / "b.mp4", moving_square(30, seed=1)), path)
    with open_video(path, index=index) as reader:
        assert reader.info.num_frames == 30
    with open_video(path) as reader:
        index = reader.packed_index()
    os.utime(path, ns=(0, 0))
    with open_video(path, index=index) as reader:
        assert reader.info.num_frames == 30


def test_a_corpus_knows_its_files(small_corpus, tmp_path):
    options = {"cache": tmp_path, "progress": False}
    first, again = (scan(small_corpus, **options) for _ in range(2))
    assert first.entries == again.entries
    for entry in first.entries:
        with open_video(entry.path) as reader:
            assert entry.index == reader.packed_index() != b""
    forgetful = dataclasses.replace(
        first, entries=tuple(dataclasses.replace(entry, index=b"") for entry in first.entries)
    )
    clips = partial(random_clips, num_clips=1, num_frames=4)
    samples = [VideoDataset(corpus, clips=clips, size_px=32)[(5, 3)] for corpus in (first, forgetful)]
    torch.testing.assert_close(samples[0].video, samples[1].video, rtol=0, atol=0)


def test_the_file_is_not_looked_through_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving_square())
    with open_video(path) as reader:
        index = reader.packed_index()

    def refuse(*_):
        raise AssertionError("packets are read")

    monkeypatch.setattr("vidssl.data.media.pyav.read_index", refuse)
    with open_video(path, index=index) as reader:
        assert reader.info.num_frames == 24
    with pytest.raises(AssertionError, match="packets are read"):
        open_video(path)


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}, {"bf": "8", "x264-params": "b-pyramid=normal"}])
def test_reordered_frames_come_without_decoding_some_beforehand(tmp_path, caplog, options):
    path = write_video(tmp_path / "a.mp4", moving_square(60), g="20", **options)
    with open_video(path) as looked:
        index = looked.packed_index()
        every = looked.info.pts_seconds.tolist()
        truth = looked.frames(every).video
    with caplog.at_level("INFO"), open_video(path, index=index) as knew:
        assert knew._index.states_reordering
        np.testing.assert_array_equal(knew.frames(every).video, truth)
        for number in random.sample(range(len(every)), 12):
            np.testing.assert_array_equal(knew.frames([every[number]]).video[0], truth[number])
    assert not caplog.records  # a frame that did not come in time would be decoded from the start


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_other_decoders_take_it_too(tmp_path, backend):
    path = write_video(tmp_path / "a.mp4", moving_square())
    with open_video(path) as reader:
        index = reader.packed_index()
        with open_video(path, backend=backend, index=index) as other:
            same(reader, other)
            assert other.packed_index() == index

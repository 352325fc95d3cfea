"""Whole frames of any shape in one batch: all of the picture, its shape told; without a seed the middle square."""

import dataclasses
import re
from functools import partial

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image

from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, ImageDataset, Loader, Mixed, VideoDataset, open_video, scan
from vidssl.data.clips import frame_tuple, still
from vidssl.data.corpus.corpus import Corpus

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLIPS = partial(frame_tuple, offsets_frames=(0, 3))


def slope(height: int, width: int) -> np.ndarray:
    """A picture whose red rises from left to right and green from top to bottom, 0 to 240: uint8 (H, W, 3)."""
    x, y = np.linspace(0, 240, width), np.linspace(0, 240, height)
    return np.stack([*np.meshgrid(x, y), np.full((height, width), 99)], axis=2).round().astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures twice as wide as high, and three times as high as wide, and a square one; labels are their folders."""
    root = tmp_path_factory.mktemp("pictures")
    for name, shape in {"a": (40, 80), "b": (90, 30), "c": (50, 50)}.items():
        (root / name).mkdir()
        Image.fromarray(slope(*shape)).save(root / name / "0.png")
    return root


def pictures(folder, **options):
    return ImageDataset(scan(folder, media="any", cache=None, progress=False), size_px=32, **options)


def test_all_of_every_picture_is_there_and_its_shape(folder):
    dataset = pictures(folder, whole_frames=True)
    for index, aspect in enumerate((2.0, 1 / 3, 1.0)):
        sample = dataset[7, index]
        assert sample.aspect == pytest.approx(aspect) and sample.video.shape == (1, 1, 3, 32, 32)
        red, green = sample.video[0, 0, :2].float()
        expected = torch.linspace(0, 240, 65)[1::2]  # from edge to edge, at the middles of pixels
        torch.testing.assert_close(red.mean(0), expected, atol=5, rtol=0)
        torch.testing.assert_close(green.mean(1), expected, atol=5, rtol=0)
    # Of squares half of the first picture's columns are there, and a third of the second's rows.
    square = pictures(folder)
    wide, high = square[7, 0], square[7, 1]
    assert wide.aspect is None and float(np.ptp(wide.video[0, 0, 0].float().numpy())) < 130
    assert float(np.ptp(high.video[0, 0, 1].float().numpy())) < 90


def test_without_a_seed_it_is_the_middle_square(folder):
    whole, square = pictures(folder, whole_frames=True), pictures(folder)
    for index in range(3):
        assert whole[None, index].aspect is None
        assert torch.equal(whole[None, index].video, square[None, index].video)
    (batch,) = Loader(whole, batch_size=3).in_order(3)
    assert batch.aspect is None and batch.stretch == ()


@pytest.mark.parametrize("workers", ["process", "thread"])
def test_shapes_travel_whoever_reads(folder, workers):
    dataset = pictures(folder, whole_frames=True)
    here, there = (
        next(Loader(dataset, batch_size=3, seed=4, num_workers=count, workers=workers).batches(0, 1))
        for count in (0, 2)
    )
    assert here.aspect.dtype == torch.float32
    aspects = {0: 2.0, 1: 1 / 3, 2: 1.0}
    torch.testing.assert_close(here.aspect, torch.tensor([aspects[index] for index in here.index.tolist()]))
    assert torch.equal(here.aspect, there.aspect) and torch.equal(here.video, there.video)


def test_squares_among_whole_frames_are_as_wide_as_they_are(folder):
    """Labelled samples cut to squares, unlabelled ones whole."""
    whole = pictures(folder, whole_frames=True)
    labelled = Corpus(folder, tuple(dataclasses.replace(entry, label=1) for entry in whole.corpus.entries))
    dataset = Mixed(ImageDataset(labelled, size_px=32), whole, ratio=(1, 2))
    batch = next(Loader(dataset, batch_size=9).batches(0, 1))
    is_square = batch.label >= 0
    assert int(is_square.sum()) == 3 and (batch.aspect[is_square] == 1).all()
    assert sorted(batch.aspect[~is_square].unique().tolist()) == pytest.approx([1 / 3, 1, 2])


def test_videos_are_whole_too_and_the_draws_in_time_are_those_of_squares(tmp_path):
    frames = np.concatenate([moving_square(12)] * 2, axis=2)  # 64 x 128
    write_video(tmp_path / "a.mp4", frames)
    corpus = scan(tmp_path, cache=None, progress=False)
    whole, square = (VideoDataset(corpus, clips=CLIPS, size_px=64, whole_frames=kind) for kind in (True, False))
    for seed in range(5):
        assert torch.equal(whole[seed, 0].time, square[seed, 0].time)
    sample = whole[3, 0]
    assert sample.aspect == 2.0
    with open_video(tmp_path / "a.mp4") as reader:
        every = reader.frames(sample.time[0].tolist()).video
    # Scalers differ at edges; a cut or a shift by one pixel would differ by more.
    halved = every.unflatten(3, (64, 2)).float().mean(4)
    away = (sample.video[0].float() - halved).abs().mean()
    assert float(away) < min(8, 0.7 * float((sample.video[0].float() - halved.roll(1, 3)).abs().mean()))


def test_a_view_of_a_batch_shows_no_stretch(tmp_path):
    """A disc in pictures of two shapes is as high as it is wide in every view, and an eighth of some cannot hold it."""
    for name, (height, width) in {"a": (96, 192), "b": (192, 96)}.items():
        y, x = np.mgrid[:height, :width] + 0.5
        disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < 24**2
        Image.fromarray(np.repeat(disc[..., None] * 255, 3, axis=2).astype(np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    dataset = pictures(tmp_path, whole_frames=True)
    batch = next(Loader(dataset, batch_size=2).batches(0, 1))
    crop = RandomResizedCrop(48, scale=(1, 1), ratio=(1, 1))  # the largest square, in the middle
    view = crop(batch.video[:, 0], batch.host_seed, *batch.stretch)
    assert view.shape == (2, 1, 3, 48, 48)
    across, down = (view[:, 0, 0] > 0.5).float().sum(2).amax(1), (view[:, 0, 0] > 0.5).float().sum(1).amax(1)
    # 48 of 96 px, of 48.
    torch.testing.assert_close(across, torch.full((2,), 24.0), atol=1.5, rtol=0)
    torch.testing.assert_close(down, torch.full((2,), 24.0), atol=1.5, rtol=0)
    # Not told of it, the same view is twice as wide or as high as it should be.
    wrong = crop(batch.video[:, 0], batch.host_seed)
    assert not torch.allclose((wrong[:, 0, 0] > 0.5).float().sum(2).amax(1), across, atol=4)


def test_pictures_in_memory_are_as_wide_as_they_are():
    dataset = ArrayDataset(torch.zeros(2, 1, 3, 10, 20, dtype=torch.uint8), clips=still)
    assert next(Loader(dataset, batch_size=2).batches(0, 1)).aspect is None


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
def test_frames_are_scaled_to_any_size(tmp_path, backend):
    path = write_video(tmp_path / "a.mp4", np.stack([slope(64, 96)] * 4))
    with open_video(path, backend=backend) as reader:
        try:
            found = reader.frames([0.0, 0.1], size=(48, 64)).video  # decord2 cannot scale to 32 columns
        except ImportError as error:
            pytest.skip(f"{backend} cannot be used here: {str(error).splitlines()[0]}")
        assert found.shape == (2, 3, 48, 64) and reader.backend == backend
    expected = torch.linspace(0, 240, 129)[1::2]
    torch.testing.assert_close(found[0, 0].float().mean(0)[2:-2], expected[2:-2], atol=8, rtol=0)


def test_sizes_that_cannot_be_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_square(3))
    with open_video(path) as reader:
        for wrong in ({"size": (0, 4)}, {"size": (4, 4), "short_side": 4}):
            message = f"size is {wrong['size']}, short_side {wrong.get('short_side')}; expected one of them"
            with pytest.raises(ValueError, match=re.escape(message)):
                reader.frames([0.0], **wrong)

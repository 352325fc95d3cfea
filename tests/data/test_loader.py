"""Samples and batches: functions of the seed alone, whatever reads them; bad files counted and bounded."""

import itertools
from collections import Counter
from functools import partial

import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image

from vidssl.data import ArrayDataset, ImageDataset, Loader, VideoDataset, open_video, scan
from vidssl.data.clips import frame_tuple, random_clips
from vidssl.data.loader import on_device
from vidssl.data.samples import sample_seed

pytestmark = pytest.mark.usefixtures("looked_at_here")

CLIPS = partial(frame_tuple, offsets_frames=(0, 3))


@pytest.fixture
def dataset(small_corpus) -> VideoDataset:
    return VideoDataset(scan(small_corpus, cache=None, progress=False), clips=CLIPS, size_px=32)


def same(first, second) -> bool:
    names = ("index", "video", "time", "label", "seed")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_a_sample_holds_the_frames_at_its_times(small_corpus):
    corpus = scan(small_corpus, cache=None, progress=False)
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=64)
    sample = dataset[sample_seed(1, 2, 3), 3]
    assert sample.index == 3 and sample.video.shape == (1, 2, 3, 64, 64)
    with open_video(corpus.entries[3].path) as reader:
        numbers = (sample.time[0] * 24).round().long()
        assert int(numbers[1] - numbers[0]) == 3
        every = reader.frames([number / 24 for number in range(24)]).video
    assert torch.equal(sample.video[0], every[numbers])


def test_the_square_is_cut_alike_from_all_frames_at_a_drawn_place(tmp_path):
    wide = moving_square(8, size_px=64).repeat(2, axis=2)  # 128 x 64
    wide[:, :, :, 0] = torch.arange(128).mul(2).to(torch.uint8).numpy()  # red tells the column
    write_video(tmp_path / "wide.mp4", wide)
    corpus = scan(tmp_path, cache=None, progress=False)
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=64)
    lefts = set()
    for seed in range(30):
        video = dataset[seed, 0].video[0].float()
        left = video[:, 0, 8:-8, 20:44].mean(dim=(1, 2)) / 2 - 31.5
        assert (left[0] - left[1]).abs() < 1.5
        lefts.add(round(float(left[0])))
    assert min(lefts) < 12 and max(lefts) > 52 and len(lefts) > 15
    middle = dataset[None, 0].video[0, 0, 0, 8:-8, 20:44].float().mean() / 2 - 31.5
    assert abs(float(middle) - 32) < 2


def test_sound_comes_with_the_clip(small_corpus):
    corpus = scan(small_corpus, cache=None, progress=False)
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=32, audio_seconds=0.5, sample_rate_hz=8000)
    audio = dataset[7, 0].audio
    assert audio.shape == (1, 4000)
    # 440 Hz at half a second: bin 220 of the spectrum.
    assert int(torch.fft.rfft(audio[0]).abs().argmax()) == 220


def test_batches_do_not_depend_on_workers_or_on_where_they_start(dataset):
    plain = list(Loader(dataset, batch_size=4, seed=9).batches(0, 7))
    workers = list(Loader(dataset, batch_size=4, seed=9, num_workers=2).batches(0, 7))
    late = list(Loader(dataset, batch_size=4, seed=9).batches(5, 7))
    assert all(same(a, b) for a, b in zip(plain, workers, strict=True))
    assert all(same(a, b) for a, b in zip(plain[5:], late, strict=True))
    assert not same(plain[0], next(Loader(dataset, batch_size=4, seed=10).batches(0, 1)))


def test_epochs_visit_each_sample_once_with_new_draws(dataset):
    batches = list(Loader(dataset, batch_size=4, seed=9).batches(0, 6))
    for epoch in (batches[:3], batches[3:]):
        assert sorted(torch.cat([batch.index for batch in epoch]).tolist()) == list(range(12))
    assert len(set(torch.cat([batch.seed for batch in batches]).tolist())) == 24


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_out_the_batches_of_one_process(dataset, world_size):
    one = Loader(dataset, batch_size=6, seed=9)
    ranks = [
        Loader(dataset, batch_size=6 // world_size, seed=9, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in range(5):
        assert one.keys(step) == [key for rank in ranks for key in rank.keys(step)]


def test_a_small_corpus_fills_a_large_batch_with_different_clips(dataset):
    loader = Loader(dataset, batch_size=30, seed=0)
    assert loader.steps_per_epoch == 1
    (batch,) = loader.batches(0, 1)
    assert sorted(Counter(batch.index.tolist()).values()) == [2] * 6 + [3] * 6
    assert len(set(batch.seed.tolist())) == 30


def test_in_order_is_the_dataset_unaugmented(dataset):
    batches = list(Loader(dataset, batch_size=5).in_order(12))
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(12))
    assert torch.equal(batches[0].video[3], dataset[None, 3].video)


def test_an_unreadable_file_is_replaced_by_the_seed_named_and_bounded(tmp_path):
    for number in range(10):
        write_video(tmp_path / f"{number}.mp4", moving_square(seed=number))
    corpus = scan(tmp_path, cache=None, progress=False)
    dataset = VideoDataset(corpus, clips=CLIPS, size_px=32)
    broken = corpus.entries[4].path
    broken.write_bytes(broken.read_bytes()[:500])  # broken after it was scanned
    first, again = (Loader(dataset, batch_size=5, seed=2, num_workers=workers) for workers in (0, 2))
    batches = list(first.batches(0, 4))
    assert all(same(a, b) for a, b in zip(batches, again.batches(0, 4), strict=True))
    assert list(first.bad) == list(again.bad) == [str(broken)]
    assert 4 not in torch.cat([batch.index for batch in batches])

    corpus.entries[7].path.write_bytes(b"no video")
    with pytest.raises(
        ValueError, match=r"2 of 10 files cannot be read, 1 are allowed; .*--bad-file-budget"
    ) as error:
        list(first.batches(0, 4))
    assert str(broken) in str(error.value) and str(corpus.entries[7].path) in str(error.value)
    patient = Loader(dataset, batch_size=5, seed=2, bad_file_budget=0.2)
    assert len(list(patient.batches(0, 4))) == 4


def test_a_corpus_without_a_readable_file_ends_at_once(tmp_path):
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", moving_square(seed=number))
    dataset = VideoDataset(scan(tmp_path, cache=None, progress=False), clips=CLIPS, size_px=32)
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="11 files drawn in succession cannot be read"):
        next(Loader(dataset, batch_size=2).batches(0, 1))


def test_short_videos_are_left_out_by_name(tmp_path, caplog):
    write_video(tmp_path / "long.mp4", moving_square(20))
    write_video(tmp_path / "short.mp4", moving_square(5))
    corpus = scan(tmp_path, cache=None, progress=False)
    clips = partial(random_clips, num_frames=10)
    dataset = VideoDataset(corpus, clips=clips, size_px=32)
    assert [entry.path.name for entry in dataset.entries] == ["long.mp4"]
    assert "short.mp4 is left out: the video has 5 frames" in caplog.text
    with pytest.raises(ValueError, match="none of the 2 videos"):
        VideoDataset(corpus, clips=partial(random_clips, num_frames=100), size_px=32)


def test_an_image_is_a_clip_of_one_frame(tmp_path):
    from PIL import Image

    pixels = moving_square(1, size_px=40)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dataset = ImageDataset(scan(tmp_path, media="image", cache=None, progress=False), size_px=40)
    video = dataset[None, 0].video
    assert video.shape == (1, 1, 3, 40, 40)
    assert torch.equal(video[0, 0], torch.from_numpy(pixels).permute(2, 0, 1))


def test_seeds_of_neighbours_are_unrelated():
    seeds = torch.tensor([sample_seed(0, 0, index) for index in range(4096)])
    assert len(seeds.unique()) == 4096
    bits = (seeds[:, None] >> torch.arange(63)) & 1
    # Each bit is a fair coin: 4096 draws have a standard deviation of 32.
    assert (bits.sum(0) - 2048).abs().max() < 5 * 32


def test_videos_in_memory_are_sampled_as_files_are():
    video = torch.arange(3 * 10, dtype=torch.uint8).view(3, 10, 1, 1, 1).expand(-1, -1, 3, 4, 4)
    audio = torch.arange(3 * 400).view(3, 400).float() / 1200
    dataset = ArrayDataset(
        video,
        clips=partial(random_clips, num_frames=3, stride_frames=2, num_clips=2),
        fps=5.0,
        audio=audio,
        audio_seconds=0.5,
        sample_rate_hz=200,
        label=torch.tensor([4, 5, 6]),
        source_id=torch.tensor([7, 7, 8]),
    )
    batch = next(Loader(dataset, batch_size=3, seed=1).batches(0, 1))
    for row, index in enumerate(batch.index.tolist()):
        for clip in range(2):
            frames = (batch.time[row, clip] * 5).round().long()
            assert frames.diff().tolist() == [2, 2]
            assert batch.video[row, clip, :, 0, 0, 0].tolist() == (index * 10 + frames).tolist()
            # Half a second from the clip's first frame, at 200 numbers a second; silence past the end.
            start = int(frames[0]) * 40
            expected = [
                (index * 400 + number) / 1200 if number < 400 else 0 for number in range(start, start + 100)
            ]
            assert batch.audio[row, clip].tolist() == pytest.approx(expected)
    assert batch.label.tolist() == [4 + index for index in batch.index.tolist()]
    assert batch.source_id.tolist() == [[7, 7, 8][index] for index in batch.index.tolist()]


def test_clips_of_one_recording_share_their_source(tmp_path):
    for name in ("run_g01_c01", "run_g01_c02", "run_g02_c01", "jump_g01_c01"):
        write_video(tmp_path / f"v_{name}.mp4", moving_square(4))
    corpus = scan(
        tmp_path, source_pattern=r"v_(\w+_g\d+)_c\d+", cache=tmp_path / "cache", num_workers=1, progress=False
    )
    assert [entry.source for entry in corpus.entries] == ["jump_g01", "run_g01", "run_g01", "run_g02"]
    clips = partial(random_clips, num_frames=2)
    batch = next(Loader(VideoDataset(corpus, clips=clips, size_px=32), batch_size=4).in_order(4))
    assert batch.source_id[1] == batch.source_id[2] and batch.source_id.unique().numel() == 3
    # Without a pattern every file is a recording of its own.
    corpus = scan(tmp_path, cache=tmp_path / "cache", num_workers=1, progress=False)
    batch = next(Loader(VideoDataset(corpus, clips=clips, size_px=32), batch_size=4).in_order(4))
    assert batch.source_id.unique().numel() == 4
    with pytest.raises(ValueError, match="has no group"):
        scan(tmp_path, source_pattern="v_", progress=False)


def test_any_media_are_videos_or_else_images(tmp_path):
    for name in ("cat/0.png", "cat/1.png", "dog/2.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), (int(name[-5]) * 80, 0, 0)).save(tmp_path / "images" / name)
    options = {"media": "any", "cache": tmp_path / "cache", "num_workers": 1, "progress": False}
    corpus = scan(tmp_path / "images", **options)
    assert [entry.path.name for entry in corpus.entries] == ["0.png", "1.png", "2.png"]  # each is one picture
    dataset = VideoDataset(corpus, clips=partial(random_clips, num_frames=1), size_px=32)
    batch = next(Loader(dataset, batch_size=3).in_order(3))
    assert batch.video.shape == (3, 1, 1, 3, 32, 32) and batch.video[:, 0, 0, 0, 0, 0].tolist() == [0, 80, 160]
    write_video(tmp_path / "images" / "bird" / "3.mp4", moving_square(4))
    # Where there are videos, a folder of images is one, as it is for media="video".
    assert [entry.path.name for entry in scan(tmp_path / "images", **options).entries] == ["3.mp4", "cat"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no video files .*, nor image files"):
        scan(tmp_path / "empty", **options)


def test_batches_come_to_the_device_in_order(dataset):
    loader = Loader(dataset, batch_size=4, seed=9)
    asked = []

    def batches():
        for step, batch in enumerate(loader.batches(0, 5)):
            asked.append(step)
            yield batch

    moved = on_device(batches(), "cpu")
    assert same(next(moved), next(loader.batches(0, 1))) and asked == [0]  # none is read before it is asked for
    assert all(same(a, b) for a, b in zip(moved, loader.batches(1, 5), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_come_to_the_gpu_while_the_one_before_is_computed_with(dataset):
    options = {"batch_size": 4, "seed": 9}
    for workers, num_workers in itertools.product(("process", "thread"), (0, 2)):
        loader = Loader(dataset, num_workers=num_workers, workers=workers, pin_memory=True, **options)
        assert all(batch.video.is_pinned() for batch in loader.batches(0, 3))
        kept = []
        for batch in on_device(loader.batches(0, 20), "cuda"):
            torch.cuda._sleep(10_000_000)  # the copy of the next one would overtake, if anything let it
            kept.append((batch.index.cpu(), (batch.video + 0).cpu()))
        expected = Loader(dataset, **options).batches(0, 20)
        for (index, video), batch in zip(kept, expected, strict=True):
            assert torch.equal(index, batch.index) and torch.equal(video, batch.video)

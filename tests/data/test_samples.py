"""The protocol of samples: what keeps to it fills batches, whoever reads; what does not is named."""

import dataclasses
import io
import re
from functools import partial

import pytest
import torch

from vidssl.data import ArrayDataset, Layout, Loader, Sample, Samples, VideoDataset, scan
from vidssl.data.clips import frame_tuple, random_clips

ALL = Layout(video=(1, 2, 3, 5, 5), audio=(1, 7), text=(2, 3), text_time=(2, 2), points=(3, 3), part=(3,))


class Own(Samples):
    """Samples that hold whatever is announced, as functions of (seed, index).

    Args:
        layout: What they hold.
        changed: Index -> fields that are otherwise.
    """

    def __init__(self, layout, changed=None):
        self.layout = layout
        self.changed = changed or {}

    def __len__(self):
        return 9

    def name(self, index):
        return f"own sample {index}"

    def sample(self, key, *, out=None, note=None):
        seed, position = key
        index = position % len(self)
        generator = torch.Generator().manual_seed((seed or 0) % 1000 + index)
        held = {}
        for field, dtype in (
            ("video", torch.uint8),
            ("audio", torch.float32),
            ("text", torch.int64),
            ("text_time", torch.float64),
            ("points", torch.float32),
            ("part", torch.int64),
        ):
            if (shape := getattr(self.layout, field)) is not None:
                held[field] = torch.randint(100, shape, generator=generator).to(dtype)
        if "video" in held:
            held["time"] = torch.rand(held["video"].shape[:2], generator=generator, dtype=torch.float64)
        return Sample(index=index, seed=seed or 0, **{**held, **self.changed.get(index, {})})


def equal(first, second) -> bool:
    first, second = first.tensors(), second.tensors()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_our_datasets_keep_to_the_protocol(small_corpus):
    corpus = scan(small_corpus, cache=None, progress=False)
    clips = partial(frame_tuple, offsets_frames=(0, 3))
    videos = VideoDataset(corpus, clips=clips, size_px=32)
    arrays = ArrayDataset(torch.zeros(3, 4, 3, 5, 5, dtype=torch.uint8), clips=partial(random_clips, num_frames=2))
    for dataset in (videos, arrays, Own(ALL)):
        assert isinstance(dataset, Samples)
        held = dataset.sample((1, len(dataset) + 2))
        assert held.index == 2 and dataset.name(2)
        for field in ("video", "audio", "text", "text_time", "points", "part"):
            shape = getattr(dataset.layout, field)
            assert (None if shape is None else torch.Size(shape)) == getattr(getattr(held, field), "shape", None)
    assert not isinstance([], Samples)


@pytest.mark.parametrize(
    "layout",
    [
        ALL,
        Layout(text=(2, 3), text_time=(2, 2)),
        Layout(text=(1, 5)),
        Layout(points=(5, 3), part=(5,)),
        Layout(audio=(1, 3)),
        Layout(video=(1, 1, 3, 3, 3), text=(1, 1)),
        Layout(video=(1, 1, 3, 5, 5), audio=(1, 5), pixels_last=True),
        Layout(),
    ],
    ids=lambda layout: "+".join(name for name, value in vars(layout).items() if value) or "index alone",
)
def test_every_field_travels_whoever_reads(layout):
    dataset = Own(layout)
    here = Loader(dataset, batch_size=3, seed=5)
    expected = list(here.batches(0, 7))
    for workers in ("process", "thread"):
        there = Loader(dataset, batch_size=3, seed=5, num_workers=2, workers=workers)
        assert all(equal(*both) for both in zip(there.batches(0, 7), expected, strict=True))
        assert all(equal(*both) for both in zip(there.batches(4, 7), expected[4:], strict=True))
    # The oracle: samples one by one. In order the last batch is smaller.
    last = list(Loader(dataset, batch_size=4).in_order(9))[-1]
    for batch, keys in ((expected[6], here.keys(6)), (last, [(None, 8)])):
        samples = [dataset.sample(key) for key in keys]
        for name, value in batch.tensors().items():
            if name in ("index", "label", "seed", "source_id"):
                continue
            assert torch.equal(value, torch.stack([getattr(sample, name) for sample in samples])), name
        assert (batch.time is not None) == (layout.video is not None)
    torch.save(expected[0].tensors(), io.BytesIO())  # which refuses tensors of two types in one memory


def test_kept_batches_of_text_are_not_written_over():
    kept = list(Loader(Own(ALL), batch_size=3, num_workers=1, workers="thread").batches(0, 12))
    fresh = Loader(Own(ALL), batch_size=3).batches(0, 12)
    assert all(equal(*both) for both in zip(kept, fresh, strict=True))


def test_samples_without_a_source_are_recordings_of_their_own():
    (batch,) = Loader(Own(ALL), batch_size=9).batches(0, 1)
    assert torch.equal(batch.source_id, batch.index) and batch.label.tolist() == [-1] * 9
    (batch,) = Loader(Own(ALL, {4: {"source_id": 70, "label": 2}}), batch_size=9).in_order(9)
    assert batch.source_id[4] == 70 and batch.label[4] == 2


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"text": torch.zeros(2, 4, dtype=torch.int64)},
            "own sample 4 gives text: torch.int64 of (2, 4), and its dataset announces torch.int64 of (2, 3) "
            "(layout.text); all samples of a dataset hold the same, in one type and shape: pad or cut it",
        ),
        ({"text": torch.zeros(2, 3)}, "own sample 4 gives text: torch.float32 of (2, 3), and its dataset"),
        ({"points": torch.zeros(2, 3)}, "own sample 4 gives points: torch.float32 of (2, 3), and"),
        ({"part": None}, "own sample 4 gives part: none, and its dataset announces torch.int64 of (3,)"),
        ({"audio": None}, "own sample 4 gives audio: none, and its dataset announces"),
        (
            {"video": torch.zeros(1, 1, 3, 5, 5, dtype=torch.uint8)},
            "own sample 4 gives video: torch.uint8 of (1, 1,",
        ),
        ({"time": None}, "own sample 4 gives time: none, expected torch.float64 of (1, 2)"),
        ({"time": torch.zeros(1, 3, dtype=torch.float64)}, "own sample 4 gives time: torch.float64 of (1, 3)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_sample_that_differs_is_named(changed, message, num_workers):
    loader = Loader(Own(ALL, {4: changed}), batch_size=3, num_workers=num_workers, workers="thread")
    with pytest.raises(ValueError, match=re.escape(message)):
        list(loader.batches(0, 3))


def test_what_is_given_and_not_announced_is_named():
    announced = dataclasses.replace(ALL, points=None, part=None)
    loader = Loader(Own(announced, {4: {"points": torch.zeros(3, 3)}}), batch_size=3)
    with pytest.raises(
        ValueError, match=re.escape("points: torch.float32 of (3, 3), and its dataset announces none")
    ):
        list(loader.batches(0, 3))
    silent = Own(Layout(text=(2, 3)), {4: {"time": torch.zeros(1, 1, dtype=torch.float64)}})
    with pytest.raises(ValueError, match=r"own sample 4 gives time: .* expected none, as there is no video"):
        list(Loader(silent, batch_size=3).batches(0, 3))


def test_a_dataset_that_names_no_stand_in_ends_the_run_with_the_name():
    with pytest.raises(RuntimeError, match="own sample 4 cannot be read: it hangs"):
        Own(ALL).blame(4, "it hangs")


def test_text_is_in_no_shards():
    with pytest.raises(ValueError, match="samples of a Own are in no shards"):
        Loader(Own(ALL), batch_size=3, shard_window=2).keys(0)

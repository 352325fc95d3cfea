"""Labelled and unlabelled samples in one batch: counts, passes, ranks, and resume."""

import dataclasses
import re
from collections import Counter

import pytest
import torch
from PIL import Image

from vidssl.data import ArrayDataset, ImageDataset, Loader, Mixed, scan
from vidssl.data.mixed import MixedOrder, corpora


def arrays(num_samples: int, first: int, *, size_px: int = 4, **options) -> ArrayDataset:
    """Pictures whose pixels tell their number."""
    value = torch.arange(first, first + num_samples, dtype=torch.uint8)
    video = value.view(-1, 1, 1, 1, 1).expand(-1, 1, 3, size_px, size_px)
    return ArrayDataset(video, label=value.long() % 5, **options)


def mixed(num_labelled: int = 10, num_unlabelled: int = 31, ratio=(1, 3)) -> Mixed:
    return Mixed(arrays(num_labelled, 0), arrays(num_unlabelled, 100), ratio=ratio)


@pytest.mark.parametrize(
    ("ratio", "batch_size"), [((1, 3), 8), ((1, 7), 8), ((3, 5), 16), ((2, 6), 8), ((5, 1), 12)]
)
def test_every_batch_has_its_share_and_labels_of_the_labelled_alone(ratio, batch_size):
    share = batch_size * ratio[0] // sum(ratio)
    batches = list(Loader(mixed(ratio=ratio), batch_size=batch_size, seed=3).batches(0, 30))
    for batch in batches:
        labelled = batch.index < 10
        assert int(labelled.sum()) == share
        assert batch.label[labelled].tolist() == (batch.index[labelled] % 5).tolist()
        assert batch.label[~labelled].tolist() == [-1] * (batch_size - share)
        # Each number stands for its own picture.
        expected = torch.where(labelled, batch.index, batch.index + 90)
        assert batch.video[:, 0, 0, 0, 0, 0].tolist() == expected.tolist()
        # Parts of a batch have their share, too.
        for part in batch.split(batch_size // sum(ratio)):
            assert int((part.label >= 0).sum()) == ratio[0]


def test_each_pass_visits_each_sample_once_in_an_order_of_its_own():
    batches = list(Loader(mixed(), batch_size=8, seed=3).batches(0, 155))
    drawn = torch.cat([batch.index for batch in batches])
    for start, count, of in ((0, 10, drawn[drawn < 10]), (10, 31, drawn[drawn >= 10])):
        passes = of[: len(of) // count * count].view(-1, count)
        assert len(passes) == {10: 31, 31: 30}[count]
        assert (passes.sort(1).values == torch.arange(start, start + count)).all()
        assert len({tuple(one) for one in passes.tolist()}) == len(passes)
        # Any place of a pass may hold any sample.
        assert all(len(set(column)) > count // 2 for column in passes.T.tolist())
    # And whenever a sample comes again, it is drawn anew.
    seeds = torch.cat([batch.seed for batch in batches])
    assert len(seeds.unique()) == len(seeds)


def test_labelled_ones_come_as_they_do_beside_other_unlabelled_ones():
    def labelled(num_unlabelled):
        batches = Loader(mixed(num_unlabelled=num_unlabelled), batch_size=8, seed=3).batches(0, 20)
        return [index for batch in batches for index in batch.index.tolist() if index < 10]

    assert labelled(31) == labelled(60)


@pytest.mark.parametrize(("num_labelled", "num_unlabelled"), [(1, 1), (1, 100), (2, 3), (100, 1)])
def test_few_samples_fill_large_batches(num_labelled, num_unlabelled):
    loader = Loader(mixed(num_labelled, num_unlabelled), batch_size=16, seed=1)
    counts = Counter()
    for batch in loader.batches(0, 25):
        assert int((batch.label >= 0).sum()) == 4
        counts.update(batch.index.tolist())
    labelled = [counts[index] for index in range(num_labelled)]
    others = [counts[index + num_labelled] for index in range(num_unlabelled)]
    assert sum(labelled) == 100 and sum(others) == 300
    assert max(labelled) - min(labelled) <= 1 and max(others) - min(others) <= 1


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_share_out_the_batches_of_one(world_size, num_workers):
    one = [batch.tensors() for batch in Loader(mixed(), batch_size=16, seed=9).batches(0, 9)]
    options = {"batch_size": 16 // world_size, "seed": 9, "num_workers": num_workers, "workers": "thread"}
    ranks = [Loader(mixed(), **options, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [[batch.tensors() for batch in rank.batches(0, 9)] for rank in ranks]
    for step, whole in enumerate(one):
        for name, value in whole.items():
            assert torch.equal(torch.cat([rank[step][name] for rank in parts]), value), name
        assert all((rank[step]["label"] >= 0).sum() == 4 // world_size for rank in parts)


def test_a_run_that_goes_on_reads_what_it_would_have_read():
    whole = [batch.tensors() for batch in Loader(mixed(), batch_size=8, seed=9).batches(0, 23)]
    for first in (1, 5, 11, 22):  # an epoch has 5 steps
        for offset, batch in enumerate(Loader(mixed(), batch_size=8, seed=9).batches(first, 23)):
            assert all(torch.equal(value, whole[first + offset][name]) for name, value in batch.tensors().items())
    other = next(Loader(mixed(), batch_size=8, seed=10).batches(0, 1))
    assert other.index.tolist() != whole[0]["index"].tolist()


def test_an_epoch_is_a_pass_over_the_unlabelled():
    assert Loader(mixed(), batch_size=8).steps_per_epoch == 31 // 6
    assert Loader(mixed(), batch_size=8, world_size=2).steps_per_epoch == 31 // 12
    assert Loader(mixed(num_unlabelled=3), batch_size=8).steps_per_epoch == 1


def test_the_dataset_in_its_order_is_the_labelled_then_the_unlabelled():
    (batch,) = Loader(mixed(), batch_size=44).in_order(41)
    assert batch.index.tolist() == list(range(41))
    assert batch.label.tolist() == [number % 5 for number in range(10)] + [-1] * 31


def test_pictures_of_two_datasets_in_memory_are_of_different_sources():
    (batch,) = Loader(mixed(), batch_size=44).in_order(41)
    assert len(batch.source_id.unique()) == 41


def test_the_order_of_a_hundred_million_is_there_at_once():
    order = MixedOrder(1000, 10**8, ratio=(1, 7), seed=0, first=8 * 10**9)
    positions = order[0:4096]
    labelled = positions % (10**8 + 1000) < 1000
    assert labelled.sum() == 512 and len(set(positions.tolist())) == 4096
    # In the second half of the seven billion unlabelled draws: the 70th pass over 10**8 of them.
    assert set((positions[~labelled] // (10**8 + 1000)).tolist()) == {70}
    assert set((positions[labelled] // (10**8 + 1000)).tolist()) == {10**6}


def test_an_unreadable_labelled_file_is_replaced_by_a_labelled_one(tmp_path):
    for kind in ("known", "unknown"):
        for number in range(6):
            path = tmp_path / kind / f"{'abcdef'[number]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path)
    scanned = [scan(tmp_path / kind, media="image", cache=None, progress=False) for kind in ("known", "unknown")]
    known, unknown = (ImageDataset(corpus, size_px=8) for corpus in scanned)
    for dataset in (known, unknown):
        assert len(dataset) == 6
    labels = [dataclasses.replace(entry, label=2) for entry in scanned[0].entries]
    known = ImageDataset(dataclasses.replace(scanned[0], entries=tuple(labels)), size_px=8)
    broken = scanned[0].entries[3].path
    broken.write_bytes(b"no picture")
    dataset = Mixed(known, unknown, ratio=(1, 1))
    loader = Loader(dataset, batch_size=4, seed=0)
    batches = list(loader.batches(0, 6))
    assert all((batch.label == 2).sum() == 2 for batch in batches)
    assert list(loader.bad) == [str(broken)]
    assert dataset.name(7) == str(unknown.entries[1].path) and dataset.name(3) == str(broken)
    dataset.blame(8, "it hangs")
    assert unknown.blamed == {2: "it hangs"} and known.blamed == {}
    assert [corpus.root for corpus in corpora(dataset)] == [tmp_path / "known", tmp_path / "unknown"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixed(ratio=(0, 1)), "ratio is (0, 1), expected two numbers of at least 1"),
        (lambda: mixed(num_labelled=0), "there are no labelled samples"),
        (lambda: mixed(num_unlabelled=0), "there are no unlabelled samples"),
        (
            lambda: Mixed(arrays(4, 0), arrays(4, 0, size_px=6), ratio=(1, 1)),
            "samples of one batch have one shape: read both with the same options",
        ),
        (
            lambda: Loader(mixed(), batch_size=10),
            "a batch of 10 samples cannot be shared out 1 to 3 (labelled to unlabelled); take a multiple of 4",
        ),
        (lambda: Loader(mixed(), batch_size=4, shard_window=1).keys(0), "samples of a Mixed are in no shards"),
        (
            lambda: next(
                Loader(
                    Mixed(ArrayDataset(torch.zeros(4, 1, 3, 4, 4, dtype=torch.uint8)), arrays(4, 0), ratio=(1, 1)),
                    batch_size=4,
                ).batches(0, 1)
            ),
            "is among the labelled samples and has no label (-1)",
        ),
    ],
)
def test_what_cannot_be_mixed_is_told(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()

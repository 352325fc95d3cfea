"""Shards: the same samples as from files, in the same order, from a disk or a store, however hostile the archive."""

import dataclasses
import errno
import hashlib
import http.server
import importlib
import io
import json
import os
import pickle
import shutil
import signal
import tarfile
import threading
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video
from PIL import Image
from torch import nn

from vidssl import Run, fit, optim
from vidssl.augment import RandomResizedCrop
from vidssl.cli import main
from vidssl.data import Corpus, ImageDataset, Loader, VideoDataset, datasets, loader, open_video
from vidssl.data import scan as scan_corpus
from vidssl.data.clips import frame_tuple, random_clips
from vidssl.data.corpus import pack, part, shards, tars
from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.prepare import prepare
from vidssl.data.media import container, pyav
from vidssl.data.media import member as _member
from vidssl.data.media.isolation import call_each
from vidssl.data.media.member import Member
from vidssl.data.media.video import MediaError
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.stop import Stopped

CLIPS = partial(random_clips, num_frames=4)
SETTINGS = {"num_workers": 1, "num_timed_clips": 0, "progress": False, "short_side_px": 32}
SHARD_BYTES = 30_000


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Twelve videos of two classes, every third without sound."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(12):
        path = folder / f"class{number % 2}" / f"v_g{number // 4}_{number}.mp4"
        write_video(path, moving_square(24, size_px=48, seed=number), tone_hz=440 if number % 3 else None)
    return folder


@pytest.fixture(scope="module")
def encoded(source, tmp_path_factory) -> Path:
    """An output folder in which everything is encoded and nothing packed."""
    out = tmp_path_factory.mktemp("encoded") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack.Packer, "pack", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out=out, shards=True, **SETTINGS)
    return out


def packed_from(source: Path, encoded: Path, out: Path) -> Path:
    shutil.copytree(encoded, out)
    prepare(source, out=out, shards=True, shard_gib=SHARD_BYTES / 2**30, **SETTINGS)
    return out


@pytest.fixture(scope="module")
def packed(source, encoded, tmp_path_factory) -> Path:
    """The videos in shards."""
    return packed_from(source, encoded, tmp_path_factory.mktemp("packed") / "out")


@pytest.fixture(scope="module")
def files(packed, tmp_path_factory) -> Path:
    """What is in the shards as files under their names."""
    folder = tmp_path_factory.mktemp("files")
    for shard in sorted(packed.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive.getmembers():
                if member.name.endswith(".json"):
                    target = folder / json.load(archive.extractfile(member))["name"]
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(archive.extractfile(member.name.replace(".json", ".mp4")).read())
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _surroundings(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("VIDSSL_ALLOW_URLS", raising=False)
    monkeypatch.setattr(_member, "_WAITS_SECONDS", (0.0, 0.0))


def scan(root, **options) -> Corpus:
    return scan_corpus(root, progress=False, num_workers=1, **options)


def dataset(root, **options) -> VideoDataset:
    return VideoDataset(scan(root, **options), clips=CLIPS, size_px=32)


def same(first, second) -> bool:
    names = ("index", "video", "time", "label", "seed")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """As WebDataset's TarWriter does: Python's tarfile, sample after sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def folder_of_memory(folder: Path, url: str) -> str:
    """Copy files to fsspec's store in memory; it lasts as long as the process."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        system.pipe_file(f"{path}/{file.name}", file.read_bytes())
    return url


# What is written.


def test_shards_are_those_of_webdataset(packed, source):
    facts = json.loads((packed / "shards.json").read_text())
    names, numbers = [], []
    for one in facts["shards"]:
        content = (packed / one["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one["num_bytes"], one["sha256"])
        assert len(content) <= SHARD_BYTES
        with tarfile.open(packed / one["name"]) as archive:
            infos = archive.getmembers()
            assert {(info.mtime, info.uid, info.mode) for info in infos} == {(0, 0, 0o644)}
            keys = [info.name.split(".", 1) for info in infos]  # WebDataset: up to the first dot
            assert [key for key, _ in keys[::2]] == [key for key, _ in keys[1::2]]
            assert [kind for _, kind in keys] == ["mp4", "json"] * one["num_samples"]
            numbers += [int(key) for key, _ in keys[::2]]
            names += [json.load(archive.extractfile(info))["name"] for info in infos[1::2]]
    assert len(facts["shards"]) > 3 and numbers == list(range(12))
    assert names == [os.fspath(entry.path.relative_to(source)) for entry in scan(source).entries]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
@pytest.mark.usefixtures("looked_at_here")
def test_webdataset_reads_them_and_its_own_are_read(packed, files, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset([str(path) for path in sorted(packed.glob("*.tar"))], shardshuffle=False))
    assert len(samples) == 12
    for sample in samples:
        assert sample["mp4"] == (files / json.loads(sample["json"])["name"]).read_bytes()
    with webdataset.TarWriter(str(tmp_path / "own.tar")) as writer:
        for sample in samples:
            writer.write({"__key__": sample["__key__"], "mp4": sample["mp4"], "cls": 3})
    corpus = scan(tmp_path / "own.tar")
    assert [entry.member.open().read() for entry in corpus.entries] == [sample["mp4"] for sample in samples]


def test_entries_say_what_files_do(packed, files):
    options = {"labels": "folder", "source_pattern": r"v_(g\d)_\d+\."}
    ours, theirs = scan(packed, **options), scan(files, **options)
    assert ours.class_names == theirs.class_names == ("class0", "class1")
    assert len(ours.entries) == len(theirs.entries) == 12
    for one, other in zip(ours.entries, theirs.entries, strict=True):
        fields = dataclasses.asdict(dataclasses.replace(one, path=other.path, index=b"", member=None))
        assert fields == dataclasses.asdict(dataclasses.replace(other, index=b""))
        assert one.path.relative_to(packed).parts[1:] == other.path.relative_to(files).parts
    assert ours.summary().splitlines()[1:] == theirs.summary().splitlines()[1:]
    assert ours.entries[-1] == ours.entries[11] and ours.entries[3:5] == [ours.entries[3], ours.entries[4]]


# What is read.


def test_samples_are_those_of_files(packed, files):
    ours, theirs = (
        VideoDataset(scan(root), clips=CLIPS, size_px=32, audio_seconds=0.3) for root in (packed, files)
    )
    assert len(ours) == len(theirs) == 8  # the others have no sound
    assert [entry.path.name for entry in ours.entries] == [entry.path.name for entry in theirs.entries]
    for number in range(8):
        one, other = ours[5, number], theirs[5, number]
        assert torch.equal(one.video, other.video) and torch.equal(one.time, other.time)
        assert torch.equal(one.audio, other.audio) and one.audio.abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("num_workers", [0, 1, 4])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"shard_window": 2}], ids=["all", "window"])
def test_order_is_that_of_one_process(packed, world_size, num_workers, options):
    data = dataset(packed)
    if num_workers and world_size > 1:
        # Ranks do not know of one another: the first and the last will do.
        ranks = (0, world_size - 1)
    else:
        ranks = tuple(range(world_size))
    one = Loader(data, batch_size=4, seed=9, **options)
    expected = [one.keys(step) for step in range(5)]
    size = 4 // world_size
    for rank in ranks:
        loader = Loader(
            data, batch_size=size, seed=9, rank=rank, world_size=world_size, num_workers=num_workers, **options
        )
        mine = [keys[rank * size : (rank + 1) * size] for keys in expected]
        assert [loader.keys(step) for step in range(5)] == mine
        for keys, batch in zip(mine[3:], loader.batches(3, 5), strict=True):  # begun in the middle
            assert batch.index.tolist() == [position for _, position in keys]
            assert torch.equal(batch.video[0], data[keys[0]].video)


def test_a_window_reads_few_shards_at_a_time(packed):
    data = dataset(packed)
    starts = data.shard_starts()
    assert len(starts) > 4 and starts[-1] == 12
    windowed = Loader(data, batch_size=1, seed=1, shard_window=2)
    assert not np.array_equal(windowed.order(0)[:], windowed.order(1)[:])
    for epoch in range(3):
        positions = [windowed.keys(step)[0][1] for step in range(12 * epoch, 12 * (epoch + 1))]
        assert sorted(positions) == list(range(12))
        shard_of = np.searchsorted(starts, positions, side="right") - 1
        last = {shard: place for place, shard in enumerate(shard_of)}
        first = {shard: place for place, shard in reversed(list(enumerate(shard_of)))}
        assert max(sum(first[one] <= place <= last[one] for one in first) for place in range(12)) <= 2


def test_a_window_needs_shards(packed, files):
    with pytest.raises(ValueError, match=r"is no shards.*`vidssl data prepare --shards` makes them"):
        Loader(dataset(files), batch_size=1, shard_window=2).keys(0)
    with pytest.raises(ValueError, match="12 samples do not fill a batch of 13: leave out shard_window"):
        Loader(dataset(packed), batch_size=13, shard_window=2).keys(0)


def test_large_corpora_have_an_order_that_is_no_list(files, monkeypatch):
    data = dataset(files)
    listed = Loader(data, batch_size=4, seed=2)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(loader.sample_seed(2, 1))
    assert torch.equal(listed.order(1), torch.randperm(12, generator=generator))  # as it has always been
    monkeypatch.setattr(loader, "MAX_LISTED", 5)
    ranks = [Loader(data, batch_size=2, seed=2, rank=rank, world_size=2) for rank in range(2)]
    for epoch in range(2):
        keys = [key for step in range(3) for rank in ranks for key in rank.keys(3 * epoch + step)]
        assert sorted(position for _, position in keys) == list(range(12))
        assert keys == [
            key for step in range(3) for key in Loader(data, batch_size=4, seed=2).keys(3 * epoch + step)
        ]
    assert not isinstance(ranks[0].order(0), torch.Tensor)


def run_on(root: Path, *, steps: int) -> Run:
    torch.manual_seed(3)
    method = VideoColorization(
        ResNet(18, stride=8, layer="layer3", color="gray", width=4),
        head=nn.Dropout(0.1),
        view=RandomResizedCrop(32, scale=(0.3, 1)),
        clips=partial(frame_tuple, offsets_frames=(0, 2, 5)),
        num_colors=4,
    )
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=32),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=steps,
        batch_size=4,
    )


def test_a_run_on_shards_is_the_run_on_files_loss_for_loss(packed, files, tmp_path):
    def losses(out: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]

    options = {"log_every": 1, "picture_every": 100, "seed": 4}
    fit(run_on(files, steps=6), out=tmp_path / "files", **options)
    run = run_on(packed, steps=6)
    read, count = VideoDataset.read, iter(range(100))

    def read_and_stop(self, *args, **kwargs):
        if next(count) == 30:  # in the middle of an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(VideoDataset, "read", read_and_stop)
        fit(run, out=tmp_path / "shards", num_workers=0, **options)
    assert 0 < len(losses(tmp_path / "shards")) < 6
    fit(run_on(packed, steps=6), out=tmp_path / "shards", num_workers=1, **options)
    assert losses(tmp_path / "shards") == losses(tmp_path / "files") and len(losses(tmp_path / "files")) == 6


def test_nothing_stays_open_and_processes_share_the_index(packed):
    data = dataset(packed)
    assert len(pickle.dumps(data.entries)) < 1500
    again = pickle.loads(pickle.dumps(data.entries))  # noqa: S301
    assert list(again) == list(data.entries)
    data[0, 0]
    before, errors = len(list(Path("/dev/fd").iterdir())), []
    for number in range(12):
        data[1, number]
        with pytest.raises(MediaError) as error:
            open_video(dataclasses.replace(data.entries[number].member, offset=512, num_bytes=700))
        errors.append(error.value)  # which holds on to all there was when it was raised
    assert len(list(Path("/dev/fd").iterdir())) == before and len(errors) == 12


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_other_decoders_take_members_or_leave_them(packed, files, backend, caplog):
    try:
        importlib.import_module({"decord": "decord", "torchcodec": "torchcodec.decoders"}[backend])
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec without FFmpeg raises the last
        pytest.skip(f"{backend} does not work here: {str(error).splitlines()[0]}")
    caplog.set_level("INFO")
    member = scan(packed).entries[2].member
    with open_video(member, backend=backend) as ours, open_video(files / member.name) as theirs:
        assert torch.equal(ours.frames([0.1, 0.5]).video, theirs.frames([0.1, 0.5]).video)
        assert ours.backend == ("pyav" if backend == "decord" else "torchcodec")


@pytest.mark.usefixtures("looked_at_here")
def test_folders_of_shards_beside_one_another_are_one_corpus(packed, files, tmp_path):
    for name in ("part0", "part1"):
        shutil.copytree(packed, tmp_path / "both" / name)
    corpus = scan(tmp_path / "both")
    assert [entry.path.relative_to(corpus.root).parts[0] for entry in corpus.entries] == ["part0"] * 12 + [
        "part1"
    ] * 12
    data = VideoDataset(corpus, clips=CLIPS, size_px=32)
    single = dataset(files)
    assert all(torch.equal(data[3, number].video, single[3, number % 12].video) for number in (0, 11, 12, 23))
    assert len(data.shard_starts()) == 2 * len(list(packed.glob("*.tar"))) + 1


def test_what_is_known_spares_the_look_through_the_file(packed, foreign, monkeypatch):
    entries = [*scan(packed).entries, *scan(foreign).entries]
    monkeypatch.setattr(pyav.PyAVReader, "_examine", lambda _: pytest.fail("the file is looked through"))
    for entry in entries:
        with entry.open() as reader:
            assert len(reader.frames([0.3])) == 1 and reader.info.num_frames == entry.num_frames


# Preparing.


@pytest.mark.parametrize("where", ["first", "middle", "named", "index"])
def test_after_a_kill_the_shards_are_those_of_one_go(source, encoded, packed, tmp_path, where):
    out = tmp_path / "out"
    shutil.copytree(encoded, out)
    child = os.fork()
    if not child:  # the copy of this process that is killed
        count = iter(range(1000))

        def killing(function, at):
            def wrapped(*args, **kwargs):
                result = function(*args, **kwargs)
                if next(count) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapped

        if where in ("first", "middle"):
            pack.Packer._add = killing(pack.Packer._add, 0 if where == "first" else 7)
        elif where == "named":  # the shard has its name, the ledger does not know it
            Path.replace = killing(Path.replace, 1)
        else:
            pack.save_index = killing(lambda *_, **__: None, 0)
        try:
            prepare(source, out=out, shards=True, shard_gib=SHARD_BYTES / 2**30, **SETTINGS)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with pytest.raises(ValueError, match=r"is not finished; run the same `vidssl data prepare` again|no video"):
        scan(out)
    result = prepare(source, out=out, shards=True, shard_gib=SHARD_BYTES / 2**30, **SETTINGS)
    assert (result.num_encoded, result.num_kept) == (0, 12)
    names = sorted(path.name for path in packed.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        if name not in (".prepare", "prepare.json"):
            assert (out / name).read_bytes() == (packed / name).read_bytes(), name
    assert not list((out / ".prepare").rglob("*.mp4"))


@pytest.mark.usefixtures("looked_at_here")
def test_shards_are_never_rewritten(source, packed, tmp_path):
    shutil.copytree(source, tmp_path / "videos")
    shutil.copytree(packed, tmp_path / "out")
    again = partial(prepare, tmp_path / "videos", out=tmp_path / "out", shards=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")}
    write_video(tmp_path / "videos/class0/a_new.mp4", moving_square(12, size_px=48))
    assert again(**SETTINGS).num_encoded == 1
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")}
    assert len(after) == len(before) + 1 and all(after[name] == content for name, content in before.items())
    corpus = scan(tmp_path / "out")
    assert [entry.path.name for entry in corpus.entries][-1] == "a_new.mp4" and len(corpus) == 13
    with pytest.raises(
        ValueError, match=r"or the settings have changed since it was packed .* give another --out"
    ):
        again(**{**SETTINGS, "crf": 40})
    os.utime(tmp_path / "videos/class1/v_g0_1.mp4", ns=(0, 0))
    with pytest.raises(ValueError, match=r"class1/v_g0_1.mp4 or the settings have changed since it was packed"):
        again(**SETTINGS)
    (tmp_path / "videos/class1/v_g0_1.mp4").unlink()
    with pytest.raises(ValueError, match=r"class1/v_g0_1.mp4 is gone since it was packed"):
        again(**SETTINGS)
    with pytest.raises(ValueError, match="holds prepared shards, not files; give another folder"):
        prepare(tmp_path / "videos", out=tmp_path / "out", **SETTINGS)
    with pytest.raises(ValueError, match="shard_gib is 0, expected more than 0"):
        again(shard_gib=0, **SETTINGS)


@pytest.mark.usefixtures("looked_at_here")
def test_labels_of_a_list_go_into_the_shards(source, tmp_path):
    rows = [("class1/v_g0_1.mp4", "run"), ("class0/v_g0_2.mp4", "jump"), ("class0/v_g0_0.mp4", "run")]
    shutil.copytree(source, tmp_path / "videos")
    (tmp_path / "videos/some.csv").write_text(
        "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows)
    )
    words = ["data", "prepare", str(tmp_path / "videos/some.csv"), "--out", str(tmp_path / "out"), "--shards"]
    assert main([*words, "--short-side-px", "32", "--num-workers", "1"]) == 0
    corpus = scan(tmp_path / "out")
    assert [(entry.path.name, corpus.class_names[entry.label]) for entry in corpus.entries] == [
        (Path(path).name, label) for path, label in rows
    ]
    with tarfile.open(tmp_path / "out/000000.tar") as archive:
        kinds = [name.partition(".")[2] for name in archive.getnames()]
        assert kinds == ["mp4", "json", "cls"] * 3
        assert [archive.extractfile(f"00000000{number}.cls").read() for number in range(3)] == [b"1", b"0", b"1"]


# Archives of others.


@pytest.fixture
def foreign(files, tmp_path) -> Path:
    """Two archives of three videos each, with other things beside them."""
    videos = sorted(files.rglob("*.mp4"))
    for number in range(2):
        members = {}
        for place, path in enumerate(videos[3 * number : 3 * number + 3]):
            members |= {f"dir{place}/s{place:03d}.mp4": path.read_bytes(), f"dir{place}/s{place:03d}.cls": b"1"}
        write_tar(tmp_path / f"tars/{number}.tar", members)
    return tmp_path / "tars"


def test_archives_of_others_are_looked_through_once(foreign, files, monkeypatch):
    corpus = scan(foreign, labels="folder")
    assert (len(corpus), corpus.num_other, corpus.class_names) == (6, 6, ("dir0", "dir1", "dir2"))
    ours = VideoDataset(corpus, clips=CLIPS, size_px=32)
    for number, path in enumerate(sorted(files.rglob("*.mp4"))[:6]):
        with open_video(path) as reader, ours.entries[number].open() as mine:
            assert torch.equal(mine.frames([0.2]).video, reader.frames([0.2]).video)
    looked: list[str] = []
    monkeypatch.setattr(tars, "media_members", lambda stream, label: looked.append(label) or ([], "video", 0))
    assert list(scan(foreign, labels="folder").entries) == list(corpus.entries) and looked == []
    os.utime(foreign / "1.tar", ns=(1, 1))  # changed, for all one can tell
    assert len(scan(foreign)) == 3 and looked == [str(foreign / "1.tar")]


def test_archives_that_were_looked_through_before_a_kill_are_known(foreign, monkeypatch):
    asked: list[int] = []

    def killed(target, requests, **options):
        asked.append(len(requests))
        for number, answer in enumerate(call_each(target, requests, **{**options, "num_workers": 1})):
            if number == 4:
                raise SystemExit
            yield answer

    monkeypatch.setattr(tars, "call_each", killed)
    with pytest.raises(SystemExit):
        scan(foreign)
    assert len(scan(foreign)) == 6 and asked == [6, 3]


@pytest.mark.usefixtures("looked_at_here")
def test_a_corpus_of_files_beside_an_archive_stays_one(files, tmp_path):
    shutil.copytree(files / "class0", tmp_path / "videos")
    write_tar(tmp_path / "videos/backup.tar", {"a.mp4": b"x"})
    corpus = scan(tmp_path / "videos")
    assert (len(corpus), corpus.num_other) == (6, 1)
    write_tar(tmp_path / "unpacked/class0.tar", {"a.mp4": b"x"})
    shutil.copytree(files / "class0", tmp_path / "unpacked/class0")
    assert len(scan(tmp_path / "unpacked", labels="folder")) == 6
    write_tar(tmp_path / "images/backup.tar", {"a.mp4": b"x"})
    Image.new("RGB", (40, 32)).save(tmp_path / "images/a.png")
    assert [entry.path.name for entry in scan(tmp_path / "images", media="any").entries] == ["a.png"]


@pytest.mark.usefixtures("looked_at_here")
def test_images_in_archives(tmp_path):
    pictures = {}
    for number in range(3):
        stream = io.BytesIO()
        Image.new("RGB", (40, 32), (80 * number, 0, 0)).save(stream, "png")
        pictures[f"{number}.png"] = stream.getvalue()
    write_tar(tmp_path / "images.tar", pictures)
    corpus = scan(tmp_path / "images.tar", media="any")
    batch = next(Loader(ImageDataset(corpus, size_px=32), batch_size=3).in_order(3))
    assert batch.video[:, 0, 0, 0, 0, 0].tolist() == [0, 80, 160]
    with pytest.raises(ValueError, match="hold no video that can be read"):
        scan(tmp_path / "images.tar")


# Damage.


@pytest.mark.usefixtures("looked_at_here")
def test_damage_after_the_scan_is_replaced_by_the_seed_named_and_counted(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "out")
    data = dataset(tmp_path / "out")
    shard = tmp_path / "out/000001.tar"
    lost = {
        entry.member.shard_bytes and str(entry.path) for entry in data.entries if "000001.tar" in str(entry.path)
    }
    shard.write_bytes(shard.read_bytes()[:5000])
    first, again = (
        Loader(data, batch_size=4, seed=2, num_workers=workers, bad_file_budget=0.5) for workers in (0, 2)
    )
    batches = list(first.batches(0, 3))
    assert all(same(a, b) for a, b in zip(batches, again.batches(0, 3), strict=True))
    assert set(first.bad) == set(again.bad) == lost and len(lost) >= 2
    size = json.loads((packed / "shards.json").read_text())["shards"][1]["num_bytes"]
    assert set(first.bad.values()) == {
        f"lies in a shard of 5000 bytes that had {size} when it was indexed; copy the shard again, or remove its index"
    }
    shard.unlink()
    with pytest.raises(MediaError, match=r"000001.tar/.*: lies in a shard that cannot be found"):
        next(entry for entry in data.entries if str(entry.path) in lost).open()
    with pytest.raises(ValueError, match=r"files cannot be read, 1 are allowed"):
        list(Loader(data, batch_size=4, seed=2).batches(0, 3))


@pytest.mark.usefixtures("looked_at_here")
def test_damage_before_the_scan_is_an_error_or_found_by_check(packed, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(packed, out)
    assert main(["data", "check", str(out)]) == 0
    assert f"{12 + len(list(packed.glob('*.tar')))} files, 0 with errors" in capsys.readouterr().out
    content = bytearray((out / "000001.tar").read_bytes())
    member = next(entry.member for entry in scan(out).entries if "000001.tar" in entry.member.shard)
    middle = member.offset + 3 * member.num_bytes // 4
    content[middle : middle + 300] = bytes(300)
    (out / "000001.tar").write_bytes(content)
    result = audit(out, num_workers=1, progress=False)
    reasons = {path.name: reason for path, reason in result.bad}
    assert "checksum differs" in reasons["000001.tar"] and len(reasons) >= 1
    assert main(["data", "check", str(out)]) == 1
    (out / "000001.tar").write_bytes(content[:-512])
    (out / "000002.tar").unlink()
    with pytest.raises(
        ValueError, match=r"000001.tar has \d+ bytes instead of \d+; 000002.tar is absent; copy them"
    ):
        scan(out)


@pytest.mark.usefixtures("looked_at_here")
def test_a_damaged_archive_is_named_and_the_others_are_read(foreign):
    whole = (foreign / "0.tar").read_bytes()
    (foreign / "2.tar").write_bytes(whole[:9000])
    (foreign / "3.tar").write_bytes(b"")
    (foreign / "4.tar").write_bytes(b"<html>404</html>" * 100)
    second = 512 + -(-int(whole[124:135], 8) // 512) * 512  # the header behind the first video
    broken = bytearray(whole)
    broken[second : second + 100] = b"?" * 100
    (foreign / "5.tar").write_bytes(broken)
    with tarfile.open(foreign / "6.tar", "w:gz") as archive:
        archive.add(foreign / "0.tar", "a.mp4")
    corpus = scan(foreign)
    assert len(corpus) == 6
    reasons = {path.name: reason for path, reason in corpus.bad}
    assert set(reasons) == {"2.tar", "3.tar", "4.tar", "5.tar", "6.tar"}
    assert f"what is at byte {second} is neither a file nor the end" in reasons["5.tar"]


# Hostile archives.


@pytest.fixture
def server():
    """A local HTTP server that counts what is asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("is_sniffed", [True, False], ids=["sniffed", "unsniffed"])
def test_members_open_nothing_else(files, tmp_path, server, monkeypatch, is_sniffed):
    """The sniff refuses playlists; without it, what is allowed of demuxers and protocols still does."""
    url, asked = server
    video = next(files.rglob("*.mp4"))
    (tmp_path / "tars").mkdir()
    shutil.copy(video, tmp_path / "tars/sibling.dat")
    monkeypatch.chdir(tmp_path / "tars")
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    attacks = {
        "hls_http.mp4": hls.format(f"{url}/a.ts"),
        "hls_file.mp4": hls.format(f"file://{video}"),
        "hls_beside.mp4": hls.format("sibling.dat"),
        "concat_beside.mp4": "ffconcat version 1.0\nfile sibling.dat\n",
        "concat_file.mp4": f"ffconcat version 1.0\nfile {video}\n",
        "concat_http.mp4": f"ffconcat version 1.0\nfile {url}/a.mp4\n",
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "dash.mp4": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"<BaseURL>{url}/</BaseURL></Period></MPD>",
    }
    path = write_tar(tmp_path / "tars/0.tar", {name: text.encode() for name, text in attacks.items()})
    if not is_sniffed:
        monkeypatch.setattr(container, "sniff", lambda _: "media")
    with path.open("rb") as stream:
        members = tars.media_members(stream, "0.tar")[0]
    assert [name for name, _, _ in members] == list(attacks)
    for name, offset, num_bytes in members:
        shard_bytes = path.stat().st_size
        with pytest.raises(MediaError, match=name):
            container.open_container(
                Member(shard=str(path), shard_bytes=shard_bytes, name=name, offset=offset, num_bytes=num_bytes)
            )
    assert asked == []
    if is_sniffed:
        with pytest.raises(ValueError, match="hold no video that can be read") as error:
            scan(tmp_path / "tars")
        assert "names other files" in str(error.value)


def test_archives_that_ask_for_absurd_memory_are_named_and_the_others_are_read(files, tmp_path):
    """Headers say 8 GiB and more of themselves; reading them was a MemoryError that ended the scan."""
    content = next(files.rglob("*.mp4")).read_bytes()
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 2**62
        (tmp_path / f"kind{ord(kind)}.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    write_tar(tmp_path / "zgood.tar", {"good.mp4": content})
    corpus = scan(tmp_path)
    assert [entry.path.name for entry in corpus.entries] == ["good.mp4"] and len(corpus.bad) == 4
    assert all("has a header of 4,611,686,018,427,387,904 bytes" in reason for _, reason in corpus.bad)


def test_names_links_and_devices_are_refused(files, tmp_path):
    content = next(files.rglob("*.mp4")).read_bytes()
    for number, name in enumerate(("../up.mp4", "/etc/abs.mp4", "a/../../up.mp4", "C:\\x.mp4")):
        write_tar(tmp_path / f"tars/name{number}.tar", {name: content})
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / f"tars/kind{ord(kind)}.tar", "w") as archive:
            info = tarfile.TarInfo("a.mp4")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    write_tar(tmp_path / "tars/zgood.tar", {"good.mp4": content})
    corpus = scan(tmp_path / "tars")
    assert [entry.path.name for entry in corpus.entries] == ["good.mp4"]
    reasons = {path.name: reason for path, reason in corpus.bad}
    assert (
        sorted(reasons) == sorted(path.name for path in (tmp_path / "tars").glob("[kn]*.tar"))
        and len(reasons) == 8
    )
    for name, reason in reasons.items():
        assert ("leads out" if name.startswith("name") else "is a link or a device; refused") in reason
    assert [path.name for path in tmp_path.iterdir()] == ["tars"]


@pytest.mark.parametrize(
    "name", ["../out/000000.tar", "/etc/hosts", "x::file:.tar", "a/b.tar", "000000.mp4", ".tar"]
)
def test_an_index_names_no_other_place(packed, tmp_path, name):
    shutil.copytree(packed, tmp_path / "out")
    facts = json.loads((tmp_path / "out/shards.json").read_text())
    facts["shards"][0]["name"] = name
    (tmp_path / "out/shards.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is no name of a shard"):
        scan(tmp_path / "out")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offset", 2**40),
        ("num_bytes", 2**63),
        ("num_bytes", 2**20),
        ("known_bytes", 2**31),
        ("known_offset", 2**63),
        ("name_end", 2**63),
        ("name_end", 1),
        ("fps", 0),
        ("fps", np.nan),
        ("audio", 9),
        ("duration_seconds", -1),
        ("duration_seconds", np.inf),
    ],
)
def test_an_index_that_cannot_be_is_refused(packed, tmp_path, field, value):
    shutil.copytree(packed, tmp_path / "out")
    records = np.load(tmp_path / "out/shards.records.npy")
    records[3][field] = value
    np.save(tmp_path / "out/shards.records.npy", records)
    with pytest.raises(ValueError, match=r"sample 3 of shards\.records\.npy cannot be as it says"):
        scan(tmp_path / "out")


def test_an_index_runs_no_code(packed, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    shutil.copytree(packed, tmp_path / "out")
    np.save(tmp_path / "out/shards.names.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(
        ValueError, match=r"shards.json cannot be used \(ValueError: Object arrays cannot be loaded"
    ):
        scan(tmp_path / "out")
    (tmp_path / "out/shards.json").write_text('{"format": "vidssl shards 9"}')
    with pytest.raises(ValueError, match="its format is 'vidssl shards 9', expected 'vidssl shards 1'"):
        scan(tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def edited(known: bytes, **changes) -> bytes:
    """What is known of a sample, with entries of its packed index changed."""
    import base64

    facts = json.loads(known)
    line, _, body = base64.b64decode(facts["index"]).partition(b"\n")
    head = json.loads(line)
    body = changes.pop("body", body)
    for name, value in changes.items():
        (head["info"] if name in head["info"] else head["index"] if name in head["index"] else head)[name] = value
    facts["index"] = base64.b64encode(json.dumps(head).encode() + b"\n" + body).decode()
    return json.dumps(facts).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"no zlib"},
        {"num_packets": 10**9},
        {"num_packets": -1},
        {"num_frames": 0},
        {"num_frames": "many"},
        {"unit_seconds": float("nan")},
        {"unit_seconds": -1.0},
        {"rotation_degrees": 45},
        {"width": 2**20, "height": 2**20},
        {"width": -32},
        {"info": {"width": 3}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("looked_at_here")
def test_lies_about_a_sample_are_an_error_that_names_it(packed, tmp_path, change):
    member = scan(packed).entries[0].member
    known = edited(member.load()[1], **change)
    (tmp_path / "known").write_bytes(known)
    lying = dataclasses.replace(member, known_file=str(tmp_path / "known"), known_offset=0, known_bytes=len(known))
    entry = dataclasses.replace(scan(packed).entries[0], member=lying)
    with pytest.raises(MediaError, match="what is known of it is damaged"):
        entry.open()
    for text in (b"no json", b"[]", b'{"index": 3}', b'{"index": "?"}'):
        (tmp_path / "known").write_bytes(text)
        with pytest.raises(MediaError, match="what its shard says of it is damaged"):
            dataclasses.replace(entry, member=dataclasses.replace(lying, known_bytes=len(text))).open()


def test_what_is_known_is_no_bomb(packed, tmp_path):
    member = scan(packed).entries[0].member
    known = edited(member.load()[1], body=zlib.compress(bytes(2**27)))
    (tmp_path / "known").write_bytes(known)
    lying = dataclasses.replace(member, known_file=str(tmp_path / "known"), known_offset=0, known_bytes=len(known))
    tracemalloc.start()
    try:
        with pytest.raises(MediaError, match="what is known of it is damaged"):
            dataclasses.replace(scan(packed).entries[0], member=lying).open()
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("looked_at_here")
def test_lies_that_hold_together_change_no_frame(packed, files, tmp_path):
    """Other sizes, and times of other frames: the reader compares them with what it sees."""
    member = scan(packed).entries[0].member
    with open_video(files / member.name) as reader:
        expected = reader.frames([0.0, 0.25, 0.5], short_side=32)
    for change in ({"width": 64, "height": 16}, {"zero_seconds": 7.0}):
        known = edited(member.load()[1], **change)
        (tmp_path / "known").write_bytes(known)
        lying = dataclasses.replace(
            member, known_file=str(tmp_path / "known"), known_offset=0, known_bytes=len(known)
        )
        with dataclasses.replace(scan(packed).entries[0], member=lying).open() as reader:
            frames = reader.frames([0.0, 0.25, 0.5], short_side=32)
            assert torch.equal(frames.video, expected.video) and reader.info.width == 32


# Stores.


@pytest.fixture
def store(packed, request) -> str:
    from fsspec.core import url_to_fs

    url = f"memory://{request.node.name.replace('[', '-').replace(']', '')}/shards"
    folder_of_memory(packed, url)
    yield url
    system, path = url_to_fs(url)
    system.rm(path, recursive=True)


def test_urls_are_refused_unless_allowed(store, packed, server, monkeypatch, capsys):
    url, asked = server
    for address in (store, f"{url}/shards", "s3://bucket/shards"):
        with pytest.raises(
            ValueError, match=r"is a URL; nothing is fetched unless that is allowed: .*VIDSSL_ALLOW_URLS"
        ):
            scan(address)
    assert asked == []
    assert main(["data", "check", f"{url}/shards"]) == 2
    assert "VIDSSL_ALLOW_URLS=1" in capsys.readouterr().err and asked == []
    assert len(scan(store, allow_urls=True)) == 12
    monkeypatch.setenv("VIDSSL_ALLOW_URLS", "1")
    assert len(scan(store)) == 12
    with pytest.raises(ValueError, match="is a URL"):
        scan(store, allow_urls=False)
    with pytest.raises(ValueError, match="cannot be read"):
        scan("memory://nowhere/shards")
    with pytest.raises(ValueError, match="nosuchstore"):
        scan("nosuchstore://x/shards")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_samples_of_a_store_are_those_of_files(store, files, num_workers):
    remote, local = dataset(store, allow_urls=True), dataset(files)
    for one, other in zip(
        Loader(remote, batch_size=4, seed=3, num_workers=num_workers).batches(1, 5),
        Loader(local, batch_size=4, seed=3).batches(1, 5),
        strict=True,
    ):
        assert torch.equal(one.video, other.video) and torch.equal(one.time, other.time)


def test_a_sample_is_one_request_and_the_index_is_fetched_once(store, monkeypatch, tmp_path):
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    requests = []
    plain = MemoryFileSystem.cat_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "cat_file",
        lambda self, path, start=None, end=None, **options: (
            requests.append((path, start, end)) or plain(self, path, start=start, end=end, **options)
        ),
    )
    fetched = []
    get_file = MemoryFileSystem.get_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "get_file",
        lambda self, path, *rest, **options: fetched.append(path) or get_file(self, path, *rest, **options),
    )
    corpus = scan(store, allow_urls=True)
    assert len(fetched) == 2
    assert list(scan(store, allow_urls=True).entries) == list(corpus.entries) and len(fetched) == 2
    data = VideoDataset(corpus, clips=CLIPS, size_px=32, audio_seconds=0.2)
    requests.clear()
    for number in range(len(data)):
        data[1, number]
    assert len(requests) == len(data) == 8
    member = data.entries[0].member
    damaged = MemoryFileSystem()
    path = damaged._strip_protocol(f"{store}/shards.names.npy")
    damaged.pipe_file(path, damaged.cat_file(path).replace(b"v_g", b"w_g"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(ValueError, match=r"shards\.names\.npy is not the file that shards\.json was written with"):
        scan(store, allow_urls=True)
    assert not list((tmp_path / "another").rglob("shards.names.npy"))
    assert requests[0][1:] == (member.offset, member.known_offset + member.known_bytes)


def test_a_request_is_repeated_and_then_given_up_by_name(store, monkeypatch):
    from fsspec.core import url_to_fs
    from fsspec.implementations.memory import MemoryFileSystem

    data = dataset(store, allow_urls=True)
    expected = data[3, 2].video
    plain, failures = MemoryFileSystem.cat_file, []

    def failing(self, path, start=None, end=None, **options):
        if len(failures) < limit:
            failures.append(path)
            raise OSError(errno.ECONNRESET, "Connection reset by peer")
        content = plain(self, path, start=start, end=end, **options)
        return content[:-1] if limit == 0 else content

    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing)
    limit = 2
    assert torch.equal(data[3, 2].video, expected) and len(failures) == 2
    limit = 100
    sample = data.entries[2]
    with pytest.raises(
        MediaError, match=r"cannot be fetched \(ConnectionResetError: .*Connection reset by peer"
    ) as error:
        sample.open()
    assert error.value.path == sample.path and len(failures) == 2 + 3
    limit = 0  # answers, one byte short
    with pytest.raises(MediaError, match=r"cannot be fetched \(EOFError: \d+ bytes came instead of \d+"):
        sample.open()
    monkeypatch.undo()
    system, path = url_to_fs(store)
    system.rm(f"{path}/000001.tar")
    monkeypatch.setattr(_member, "_WAITS_SECONDS", (100.0,))  # what is absent is not asked for again
    batches = list(Loader(data, batch_size=4, seed=2, bad_file_budget=0.5).batches(0, 3))
    again = Loader(data, batch_size=4, seed=2, bad_file_budget=0.5)
    assert all(same(a, b) for a, b in zip(batches, again.batches(0, 3), strict=True))
    assert again.bad and all(
        "000001.tar" in name and "FileNotFoundError" in why for name, why in again.bad.items()
    )
    with pytest.raises(ValueError, match=r"000001\.tar is absent; copy them again"):
        scan(store, allow_urls=True)


def test_a_store_of_others_archives(foreign, store, files):
    url = folder_of_memory(foreign, f"{store}-foreign")
    corpus = scan_in_process(url)
    assert len(corpus) == 6 and corpus.entries[0].member.is_remote


def scan_in_process(url: str) -> Corpus:
    """The store in memory is that of this process: children that look at files would find it empty."""

    def here(target, items, **_):
        return ((number, tars.probe_member(item)) for number, item in enumerate(items))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tars, "call_each", here)
        return scan(url, allow_urls=True)


def test_kinds_of_samples_decide_for_all_of_them(tmp_path, monkeypatch, caplog):
    """An index of 60 clips that differ in duration, rate and sound; looking at them one by one is the oracle."""
    rows = []
    for number in range(60):
        rate = (24.0, 30.0)[number % 7 % 2]
        sound = [(False, None), (True, False), (True, True), (True, None)][number % 4]
        facts = {"duration_seconds": (5 + number % 6) / rate, "fps": rate, "num_frames": 5 + number % 6}
        facts |= {"width": 64, "height": 48, "has_audio": sound[0], "audio_silent": sound[1]}
        rows.append(part.row_of(facts, offset=0, num_bytes=10, known_offset=0, known_bytes=0))
    one = {"num_bytes": 10, "sha256": None}
    table = [{"name": f"{number}.tar", "num_samples": count, **one} for number, count in enumerate((20, 0, 33, 7))]
    facts = {"shards": table, "class_names": [], "prepared": True, "media": "video", "bad": []}
    part.save_index(tmp_path, rows=rows, names=[f"{number}.mp4" for number in range(60)], facts=facts)
    entries = shards.ShardEntries([part.Part.load(tmp_path, str(tmp_path))])
    monkeypatch.setattr(shards, "_BLOCK", 13)
    groups = list(entries.alike())
    assert sorted(np.concatenate(groups).tolist()) == list(range(60)) and len(groups) > 10
    for group in groups:
        alike = [entries[int(number)] for number in group]
        assert len({(one.duration_seconds, one.fps, one.has_audio, one.audio_silent) for one in alike}) == 1
    monkeypatch.setattr(datasets, "MAX_NAMED", 4)
    clips = partial(random_clips, num_frames=8)
    by_kind, one_by_one = (
        VideoDataset(Corpus(tmp_path, some), clips=clips, audio_seconds=0.1) for some in (entries, tuple(entries))
    )
    assert [*by_kind.entries] == [*one_by_one.entries] and 0 < len(by_kind) < 30
    assert len(by_kind.left_out) == 4 < len(one_by_one.left_out)
    assert f"{60 - len(by_kind)} entries are left out; some are named here" in caplog.text
    numbers = [int(entry.path.stem) for entry in by_kind.entries]
    assert by_kind.shard_starts().tolist() == [sum(one < end for one in numbers) for end in (0, 20, 20, 53, 60)]
    with pytest.raises(ValueError, match="none of the 4 videos of"):
        VideoDataset(Corpus(tmp_path, entries), clips=partial(random_clips, num_frames=99))


def test_a_large_member_is_not_fetched(store, monkeypatch):
    entry = scan(store, allow_urls=True).entries[0]
    monkeypatch.setattr(_member, "MAX_FETCHED_BYTES", 1000)
    with pytest.raises(MediaError, match=r"has \d+ bytes, at most 1000 are fetched; prepare it"):
        entry.open()

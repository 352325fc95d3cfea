"""Rows of loading: what a batch costs beyond decoding, threads against processes, and memory over many clips."""

import ctypes
import gc
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...data.clips import random_clips
from ...data.corpus.corpus import Corpus
from ...data.corpus.entry import Entry
from ...data.corpus.scan import scan
from ...data.datasets import VideoDataset
from ...data.loader import Loader
from ...data.media.reader import Reader, VideoInfo
from ...data.media.video import open_video
from .measuring import Case, MissingPeer, Peers, Row, at_most

CLIP_FRAMES, SIZE_PX, WIDTH_PX = 16, 224, 298
BATCH_SIZE, NUM_BATCHES = 8, 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Decoded(Reader):
    """Stands for a video of which every frame is decoded already."""

    def __init__(self, frames: np.ndarray) -> None:
        num_frames, height, width, _ = frames.shape
        times = np.arange(num_frames) / 25
        super().__init__(
            VideoInfo(Path("/"), times, num_frames / 25, 25.0, width, height, 0, "none"), backend="none"
        )
        self.decoded = frames

    def _pictures(self, numbers: Any, *, height: int, width: int) -> Any:
        return ((number, self.decoded[number]) for number in numbers)

    def close(self) -> None:
        """Nothing is open."""


class _DecodedDataset(VideoDataset):
    """A dataset whose files are such videos."""

    def __init__(self, frames: np.ndarray, num_samples: int) -> None:
        self.frames = frames
        seconds = len(frames) / 25
        height, width = frames.shape[1:3]
        entries = tuple(
            Entry(
                Path(f"/{number}"), seconds, 25.0, len(frames), width, height, has_audio=False, audio_silent=None
            )
            for number in range(num_samples)
        )
        super().__init__(
            Corpus(Path("/"), entries), clips=partial(random_clips, num_frames=CLIP_FRAMES), size_px=SIZE_PX
        )

    def _open(self, entry: Entry) -> Reader:
        return _Decoded(self.frames)


def _loader(peers: Peers) -> Case:
    frames = np.random.default_rng(0).integers(0, 256, (CLIP_FRAMES, SIZE_PX, WIDTH_PX, 3), dtype=np.uint8)
    loader = Loader(_DecodedDataset(frames, BATCH_SIZE * NUM_BATCHES), batch_size=BATCH_SIZE)

    def ours() -> Tensor:
        for batch in loader.in_order(BATCH_SIZE * NUM_BATCHES):
            video = batch.video
        assert video is not None
        return video

    # VideoMAE: GroupMultiScaleCrop cuts, Stack, ToTorchFormatTensor and GroupNormalize (transforms.py) convert in the
    # worker, kinetics.py turns frames into a dimension, and torch's default collate stacks. mmaction2 converts there
    # as well.
    mean, std = (torch.tensor(values * CLIP_FRAMES)[:, None, None] for values in (MEAN, STD))
    left = (WIDTH_PX - SIZE_PX) // 2

    def clip() -> Tensor:
        stacked = np.concatenate([frame[:, left : left + SIZE_PX] for frame in frames], axis=2)
        floats = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255.0).sub_(mean).div_(std)
        return floats.view(CLIP_FRAMES, 3, *floats.shape[-2:]).transpose(0, 1)

    def peer() -> Tensor:
        for _ in range(NUM_BATCHES):
            batch = torch.utils.data.default_collate([clip() for _ in range(BATCH_SIZE)])
        return batch

    def compare(mine: Tensor, theirs: Tensor) -> Mapping[str, float]:
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        floats = (mine[:, 0].float() / 255 - mean) / std
        return {"largest_difference": float((floats - theirs.transpose(1, 2)).abs().max())}

    return Case(ours, peer, compare)


# -- threads and processes

NUM_VIDEOS, NUM_WORKERS, NUM_READ = 8, 2, 128


def write_video(path: Path, *, num_frames: int, height: int, width: int, seed: int = 0) -> None:
    """Write an H.264 video of a texture that moves."""
    import av

    generator = np.random.default_rng(seed)
    texture = generator.integers(0, 256, (height // 8 + 1, width // 8 + num_frames, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(num_frames):
            picture = np.ascontiguousarray(texture[:height, number : number + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _threads(peers: Peers) -> Case:
    folder = Path(tempfile.mkdtemp())
    for number in range(NUM_VIDEOS):
        write_video(folder / f"{number}.mp4", num_frames=120, height=256, width=340, seed=number)
    corpus = scan(folder, cache=folder / "cache", num_workers=1, progress=False)
    clips = partial(random_clips, num_frames=CLIP_FRAMES, stride_frames=4)
    dataset = VideoDataset(corpus, clips=clips, size_px=SIZE_PX)
    figures = {}

    def read(workers: Any) -> Tensor:
        started, before = time.perf_counter(), _all_cpu_seconds()
        loader = Loader(dataset, batch_size=BATCH_SIZE, num_workers=NUM_WORKERS, workers=workers)
        *_, last = loader.batches(0, NUM_READ // BATCH_SIZE)
        figures[f"{workers}_wall_ms_per_clip"] = (time.perf_counter() - started) * 1000 / NUM_READ
        figures[f"{workers}_cpu_ms_per_clip"] = (_all_cpu_seconds() - before) * 1000 / NUM_READ
        assert last.video is not None
        return last.video

    return Case(
        partial(read, "thread"),
        partial(read, "process"),
        lambda mine, theirs: {"unequal_bytes": int((mine != theirs).sum()), **figures},
    )


def _all_cpu_seconds() -> float:
    """Of this process and of those it started that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# -- memory

NUM_CLIPS, NUM_WARM, NUM_OPENED, NUM_OPEN = 20_000, 500, 1000, 8


def make_media(folder: Path) -> None:
    """Write videos, images and folders of frames to read: a 256p video, and small ones of several sizes."""
    from PIL import Image

    write_video(folder / "256p.mp4", num_frames=300, height=256, width=340)
    for number, (height, width) in enumerate(((64, 64), (72, 128), (96, 80), (64, 96))):
        for part in ("video", "image", "folder"):
            (folder / part).mkdir(exist_ok=True)
        video = folder / "video" / f"{number}.mp4"
        write_video(video, num_frames=48, height=height, width=width, seed=number)
        with open_video(video) as reader:
            frames = (
                reader.frames(reader.info.pts_seconds[:CLIP_FRAMES].tolist()).video.permute(0, 2, 3, 1).numpy()
            )
        (folder / "folder" / str(number)).mkdir()
        for place, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / "folder" / str(number) / f"{place}.jpg")
        Image.fromarray(frames[0]).save(folder / "image" / f"{number}.jpg")


def held(processes: Sequence[int | None] = (None,)) -> tuple[float, int]:
    """Resident memory, MB, and number of open descriptors of some processes; None is this one."""
    gc.collect()
    folders = [Path("/proc") / str(process or "self") for process in processes]
    pages = sum(int((folder / "statm").read_text().split()[1]) for folder in folders)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, sum(
        len(list((folder / "fd").iterdir())) for folder in folders
    )


def clips_growth(
    media: Path, reader: str, num_clips: int, num_warm: int, num_frames: int = CLIP_FRAMES
) -> tuple[float, int]:
    """What this process holds more, MB and descriptors, after so many clips of files that are opened for each.

    Args:
        media: Folder of `make_media`.
        reader: "image", "folder", or the backend for videos.
        num_clips: Clips.
        num_warm: Clips before the first look: allocators and libraries settle.
        num_frames: Of a clip.
    """
    part = reader if reader in ("image", "folder") else "video"
    backend: Any = "pyav" if part != "video" else reader
    known = []
    for path in sorted((media / part).iterdir()):
        with open_video(path) as opened:
            known.append((path, opened.info.pts_seconds, opened.packed_index()))
    generator = np.random.default_rng(0)
    before = (0.0, 0)
    for number in range(num_warm + num_clips):
        if number == num_warm:
            before = held()
        path, times, index = known[number % len(known)]
        start = generator.integers(max(1, len(times) - num_frames))
        with open_video(path, backend=backend, index=index) as opened:
            if opened.backend != (backend if part == "video" else "pillow"):
                raise RuntimeError(f"{path} is read with {opened.backend}, not {backend}")
            opened.frames(times[start : start + num_frames].tolist(), short_side=56)
    after = held()
    return after[0] - before[0], after[1] - before[1]


def loader_growth(media: Path, workers: Literal["process", "thread"], num_clips: int) -> tuple[float, int]:
    """The same of this process and those that decode for it, together, over clips of a `Loader`."""
    corpus = scan(media / "video", cache=media / "cache", num_workers=1, progress=False)
    dataset = VideoDataset(corpus, clips=partial(random_clips, num_frames=CLIP_FRAMES), size_px=56)
    num_steps = num_clips // BATCH_SIZE
    num_warm = num_steps // 10
    loader = Loader(dataset, batch_size=BATCH_SIZE, num_workers=NUM_WORKERS, workers=workers)
    processes: list[int | None] = [None]
    before = after = (0.0, 0)
    for step, _ in enumerate(loader.batches(0, num_warm + num_steps)):
        if step == num_warm:
            processes += [child.pid for child in multiprocessing.active_children()]
            before = held(processes)
        elif step == num_warm + num_steps - 1:
            after = held(processes)
    return after[0] - before[0], after[1] - before[1]


def reader_mb(media: Path, num_open: int = NUM_OPEN) -> float:
    """Memory of an open reader of a 256p video from which a frame was read, MB."""

    def opened() -> Reader:
        reader = open_video(media / "256p.mp4")
        reader.frames([5.0])
        return reader

    opened().close()
    before, _ = _held_for_good()
    readers = [opened() for _ in range(num_open)]
    after, _ = held()
    for reader in readers:
        reader.close()
    return (after - before) / num_open


def opening_growth(media: Path, num_opened: int, num_warm: int) -> tuple[float, int]:
    """What this process holds more, MB and descriptors, after a video was opened and closed so many times."""
    before = (0.0, 0)
    for number in range(num_warm + num_opened):
        if number == num_warm:
            before = _held_for_good()
        with open_video(media / "video" / "0.mp4") as reader:
            reader.frames([0.0])
    after = _held_for_good()
    return after[0] - before[0], after[1] - before[1]


def _held_for_good() -> tuple[float, int]:
    """As `held`, without memory that is free but kept for later: a few MB that come and go."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # of glibc
    return held()


def _alone(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own that holds nothing yet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _memory(peers: Peers) -> Case:
    import decord

    if not Path("/proc/self/statm").exists():
        raise MissingPeer("resident memory is read from /proc, which this system does not have")
    media = Path(tempfile.mkdtemp())
    make_media(media)
    videos = sorted((media / "video").iterdir())

    def ours() -> None:
        for path in islice(cycle(videos), 100):
            with open_video(path) as reader:
                reader.frames(reader.info.pts_seconds[:CLIP_FRAMES].tolist())

    def peer() -> None:
        for path in islice(cycle(videos), 100):
            decord.VideoReader(str(path), num_threads=1).get_batch(range(CLIP_FRAMES)).asnumpy()

    def compare(mine: None, theirs: None) -> Mapping[str, float]:
        figures = {"mb_per_open_reader": _alone(reader_mb, media)}
        runs: dict[str, tuple[Any, ...]] = {
            "1000_openings": (opening_growth, media, NUM_OPENED, 100),
            **{reader: (clips_growth, media, reader, NUM_CLIPS, NUM_WARM) for reader in _READERS},
            **{f"loader_{kind}": (loader_growth, media, kind, NUM_CLIPS) for kind in ("process", "thread")},
        }
        for name, (function, *args) in runs.items():
            figures[f"mb_more_{name}"], figures[f"descriptors_more_{name}"] = _alone(function, *args)
        return figures

    return Case(ours, peer, compare)


_READERS = ("pyav", "decord", "image", "folder")
_LONG_RUNS = (*_READERS, "loader_process", "loader_thread")

ROWS = (
    Row(
        name="loader",
        what=f"Batches of {BATCH_SIZE} clips of {CLIP_FRAMES} frames of {SIZE_PX} x {SIZE_PX}, cut from frames that "
        f"are decoded already, {NUM_BATCHES} of them: bytes written into the batch, against numbers made of each clip "
        "and stacked.",
        ours="data.Loader, uint8",
        peer="VideoMAE's transforms and default collate, float32",
        needs=(),
        prepare=_loader,
        goals=(at_most("ratio", 0.05), at_most("largest_difference", 1e-6)),
    ),
    Row(
        name="loader_threads",
        what=f"{NUM_READ} clips of {CLIP_FRAMES} frames, every 4th, of 256p videos, read by {NUM_WORKERS} threads or "
        "processes. The times are those of this process alone; of all of them together they are below.",
        ours="data.Loader, workers='thread'",
        peer="data.Loader, workers='process'",
        needs=(),
        prepare=_threads,
        goals=(at_most("unequal_bytes", 0),),
        rounds=3,
    ),
    Row(
        name="loading_memory",
        what=f"What is held: by an open reader of a 256p video; more after a video was opened {NUM_OPENED} times; more "
        f"after {NUM_CLIPS} clips of small files by each reader, opened for every clip, and by loaders. Timed are 100 "
        "such clips.",
        ours="data.open_video",
        peer="decord, opened for every clip, 1 thread",
        needs=("decord",),
        prepare=_memory,
        goals=(
            at_most("mb_per_open_reader", 5),
            at_most("mb_more_1000_openings", 0.2),
            *(at_most(f"mb_more_{name}", 50) for name in _LONG_RUNS),
            *(at_most(f"descriptors_more_{name}", 0) for name in ("1000_openings", *_LONG_RUNS)),
        ),
        rounds=3,
    ),
)

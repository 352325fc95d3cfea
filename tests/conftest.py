"""Fixtures for all tests: the shared data, random state that is put back, small real videos."""

import contextlib
import gc
import importlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import made_once
from odd_media import write_odd

# Test processes share the cores out: more threads than cores wait for each other most of the time.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    num_threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ["OMP_NUM_THREADS"] = str(num_threads)  # of the processes that tests start
    torch.set_num_threads(num_threads)

# Before decord2, whose FFmpeg it would take for its own (vidssl/data/media/others.py).
with contextlib.suppress(ImportError, OSError, RuntimeError):
    import torchcodec.decoders  # noqa: F401

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

# Odd media: made by the suite, and real files where they are. One test alone is skipped where they are absent, and
# says so (tests/data/media/test_odd_files.py).
ORIGINS = ["made", "real"] if SHARED.is_dir() else ["made"]


def files_of_both(made: Iterable[str], real: Iterable[str]) -> list[tuple[str, str]]:
    """Parameters (origin, name): each made file, and each real one where they are."""
    names = {"made": made, "real": real}
    return [(origin, name) for origin in ORIGINS for name in sorted(names[origin])]


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not walk through a million objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    """Seed every generator before a test and put it back after."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real media and reference runs, beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: it holds the real media and reference runs this test reads")
    return SHARED


@pytest.fixture
def looked_at_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at in this process and not in children, which cost half a second each before they begin.

    For tests of something else whose files hurt no decoder. What children are for - crashes, hangs, processors at a
    time - is tested with them in tests/data (corpus/test_corpus.py, corpus/test_prepare.py, media/).
    """

    def here(
        target: str, items: Sequence[str], *, num_workers: int, timeout_seconds: float | Sequence[float]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        return ((number, json.loads(json.dumps(function(item)))) for number, item in enumerate(items))

    for module in ("scan", "tars", "audit", "timing", "prepare"):
        monkeypatch.setattr(f"vidssl.data.corpus.{module}.call_each", here)


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of odd media by origin."""
    return {"made": made_once(tmp_path_factory, "odd", write_odd), "real": SHARED / "data/media/odd"}


def write_video(
    path: Path, frames: np.ndarray, *, fps: int = 24, tone_hz: float | None = None, **options: str
) -> Path:
    """Encode uint8 frames (T, H, W, 3) as h264 mp4 at high quality, with a sine tone if one is given.

    Options are the encoder's.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        encoder = {"crf": "10", "g": "12", "threads": "1", **options}
        stream = container.add_stream("libx264", rate=fps, options=encoder)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono") if tone_hz else None
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if sound is not None:
            seconds = np.arange(len(frames) * 16_000 // fps) / 16_000
            wave = (0.5 * np.sin(2 * np.pi * tone_hz * seconds)).astype(np.float32)
            audio = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            audio.sample_rate, audio.pts = 16_000, 0
            container.mux(sound.encode(audio))
            container.mux(sound.encode())
    return path


def moving_square(num_frames: int = 24, *, size_px: int = 64, seed: int = 0) -> np.ndarray:
    """A coloured square that moves 1 px per frame over a noise texture: uint8 (T, H, W, 3)."""
    generator = np.random.default_rng(seed)
    background = generator.integers(60, 200, (size_px // 8, size_px // 8, 3), dtype=np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)
    frames = np.stack([background] * num_frames)
    color = generator.integers(0, 255, 3)
    for number, frame in enumerate(frames):
        left = (4 + number) % (size_px - 20)
        frame[20:36, left : left + 16] = color
    return frames


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 videos of 24 frames, 64x64."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(12):
        write_video(folder / f"group{number % 2}" / f"{number:02d}.mp4", moving_square(seed=number), tone_hz=440)
    return folder

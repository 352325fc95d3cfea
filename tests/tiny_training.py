"""A small training, its state and its log, for several tests."""

import json
import resource
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.methods import VideoColorization
from vidssl.models import ResNet


def colorization(root: Path, *, steps: int = 10) -> Run:
    """A run small enough for a test, with every part of a real one; dropout draws from torch's generator."""
    torch.manual_seed(3)
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=4)
    method = VideoColorization(
        encoder,
        head=nn.Dropout(0.1),
        view=RandomResizedCrop(32, scale=(0.3, 1)),
        clips=partial(frame_tuple, offsets_frames=(0, 2, 5)),
        num_colors=4,
    )
    dataset = VideoDataset(scan(root, cache=None, progress=False), clips=method.clips, size_px=48)
    return Run(
        method=method,
        dataset=dataset,
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=steps,
        batch_size=4,
    )


def state(out: Path, step: int) -> dict:
    return torch.load(out / "checkpoints" / f"step_{step:08d}" / "state.pt", weights_only=True)


def log(out: Path) -> list[dict]:
    """Lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("samples_per_second", "data_wait")} for line in lines]


def logged_in_tensorboard(out: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a scalar, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def assert_equal(first, second) -> None:
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    else:
        assert first == second


@contextmanager
def file_size_limit(num_bytes: int):
    """No file of this process grows larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

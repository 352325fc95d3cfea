"""A run that takes milliseconds, its checkpoints a few kilobytes: noise in, a linear map with dropout learned."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, fit, optim
from vidssl.data import ArrayDataset
from vidssl.method import Method
from vidssl.models import ConvNet

STEPS = 6
VIDEOS = torch.arange(8 * 2 * 3 * 4 * 4, dtype=torch.uint8).view(8, 2, 3, 4, 4)


class Tiny(Method):
    """Predict the brightness of a frame from its features, with dropout; before every pass it looks at the data."""

    def __init__(self, *, extracts: bool = False):
        super().__init__()
        self.encoder = ConvNet(widths=(2,), strides=(2,))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 1))
        self.clips = lambda duration_seconds, fps, generator: torch.zeros(1, 1, dtype=torch.float64)
        self.extracts = extracts
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, batch, progress):
        frames = batch.video[:, 0].float() / 255
        predicted = self.head(self.encoder(frames))[:, 0]
        return {"loss": (predicted - frames.mean((1, 2, 3, 4)) - self.mean).square().mean()}

    def before_epoch(self, epoch):
        if self.extracts:
            self.mean.copy_(
                epoch.extract(lambda batch: batch.video.float().mean(dim=(1, 2, 3, 4, 5))).mean() / 255
            )


def tiny_run(*, steps: int = STEPS, extracts: bool = False, dataset: type = ArrayDataset) -> Run:
    torch.manual_seed(4)
    method = Tiny(extracts=extracts)
    return Run(
        method=method,
        dataset=dataset(VIDEOS, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.constant(1e-2),
        steps=steps,
        batch_size=2,
    )


def train(out: Path, *, steps: int = STEPS, extracts: bool = False, **options) -> Tiny:
    options = {"log_every": 1, "save_every": 2, "picture_every": 100} | options
    return fit(tiny_run(steps=steps, extracts=extracts), out=out, **options)

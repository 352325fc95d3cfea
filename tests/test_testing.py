"""check_method finds what breaks the contract: every check is seen to fail."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Method
from vidssl.data.clips import random_clips
from vidssl.evidence import worlds
from vidssl.models import ConvNet
from vidssl.ops import draws
from vidssl.ops.gather import gather, rank
from vidssl.testing import check_method

CLIPS = worlds.sprites(8, seed=0, num_frames=4, size_px=16, sprite_px=(6, 8), speed_px=(1, 2)).video
COUNTER = itertools.count()


class Good(Method):
    """Tells apart the samples of a batch, by their seeds' parity."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvNet(widths=(8, 16), strides=(2, 2))
        self.classifier = nn.Linear(16, 2)
        self.clips = partial(random_clips, num_frames=1)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch, progress):
        logits = self.classifier(self.encoder(batch.video[:, 0].float() / 255))
        return {"loss": F.cross_entropy(logits, draws.integers(batch.seed, 2))}


class OtherFirst(Good):
    def networks(self):
        return {"classifier": self.classifier, "encoder": self.encoder}


class NotFinite(Good):
    def forward(self, batch, progress):
        return {"loss": super().forward(batch, progress)["loss"] / 0}


class LogsAVector(Good):
    def forward(self, batch, progress):
        return {**super().forward(batch, progress), "seen": batch.index.float()}


class Unused(Good):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(2, 2)


class TwiceInGroups(Good):
    def param_groups(self):
        return [*super().param_groups(), {"params": [self.classifier.bias]}]


class LeftOut(Good):
    def param_groups(self):
        return [{"params": list(self.encoder.parameters())}]


class Unsteady(Good):
    def forward(self, batch, progress):
        return {"loss": super().forward(batch, progress)["loss"] * (1 + 0.01 * next(COUNTER))}


class HiddenState(Good):
    steps = 0

    def forward(self, batch, progress):
        return {"loss": super().forward(batch, progress)["loss"] * (1 + 0.01 * self.steps)}

    def after_step(self, progress):
        self.steps += 1


class NeverLearns(Good):
    def forward(self, batch, progress):
        logits = self.classifier(self.encoder(batch.video[:, 0].float() / 255))
        return {"loss": F.cross_entropy(logits, torch.randint(2, (len(batch),)))}


class Overflows(Good):
    def forward(self, batch, progress):
        features = self.encoder(batch.video[:, 0].float() / 255)
        size = torch.tensor(
            3e38, dtype=features.dtype
        )  # of float32 the largest; bfloat16 rounds it up, products more
        wide = torch.is_autocast_enabled("cpu")
        return {"loss": super().forward(batch, progress)["loss"] * (size * 4 if wide else 1)}


class DrawsByPosition(Good):
    """Learns from draws of the global generator: two processes draw alike, one process draws on."""

    def forward(self, batch, progress):
        logits = self.classifier(self.encoder(batch.video[:, 0].float() / 255))
        weight = torch.rand(len(batch), generator=torch.Generator().manual_seed(0))
        return {"loss": (weight * F.cross_entropy(logits, draws.integers(batch.seed, 2), reduction="none")).mean()}


def contrast(features):
    logits = F.normalize(features, dim=1) @ F.normalize(gather(features), dim=1).T / 0.5
    return F.cross_entropy(logits, torch.arange(len(features)) + rank() * len(features))


class Gathers(Good):
    def forward(self, batch, progress):
        features = self.classifier(self.encoder(batch.video[:, 0].float() / 255))
        return {"loss": contrast(features)}


class DoesNotGather(Good):
    def forward(self, batch, progress):
        features = self.classifier(self.encoder(batch.video[:, 0].float() / 255))
        unit = F.normalize(features, dim=1)
        return {"loss": F.cross_entropy(unit @ unit.T / 0.5, torch.arange(len(unit)))}


class OwnBuffer(Good):
    def forward(self, batch, progress):
        self.seen = self.seen + batch.index.float().mean()
        return super().forward(batch, progress)


class MovesInForward(Good):
    """Moves a teacher where it must not."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, batch, progress):
        with torch.no_grad():
            self.teacher.add_(1)
        return super().forward(batch, progress)


def test_good_methods_pass():
    check_method(Good, clips=CLIPS)
    check_method(Gathers, clips=CLIPS, overfit_share=0.99)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NotFinite, "loss is inf"),
        (OtherFirst, r"the first of networks\(\) is not the encoder"),
        (LogsAVector, r"seen of shape \(8,\)"),
        (Unused, r"forgotten.weight gets no gradient"),
        (TwiceInGroups, "in two groups"),
        (LeftOut, "leaves out .*classifier"),
        (Unsteady, "two runs under one seed give the losses"),
        (HiddenState, "state is missing"),
        (NeverLearns, "steps on one batch bring the loss"),
        (Overflows, "under bfloat16"),
        (DrawsByPosition, "draw from batch.seed alone"),
        (DoesNotGather, "gather what the loss compares"),
        (OwnBuffer, "seen differs between the processes"),
        (MovesInForward, r"\['teacher'\] changed on process 0"),
    ],
)
def test_broken_methods_are_found(broken, message):
    replicas = broken in (DrawsByPosition, DoesNotGather, OwnBuffer, MovesInForward)
    share = 0.99 if broken in (DoesNotGather, DrawsByPosition) else 0.8
    with pytest.raises(AssertionError, match=message):
        check_method(broken, clips=CLIPS, replicas=replicas, overfit_share=share)

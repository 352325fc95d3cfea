"""How networks are compared: what both are given, and how far apart their results are."""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from ...batch import Batch
from ...models import Encoder

TOLERANCE = 1e-6
HEADER = f"{'peer':12} {'quantity':28} {'result':>9} {'gradient':>9}  verdict"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        quantity: What was compared.
        result: Largest difference of the loss, or of another result; None where the difference is no number.
        gradient: Largest difference of gradients over the largest gradient, if there are any.
        declared: What stands under "Differences from the paper" about it; empty where equality is claimed.
    """

    quantity: str
    result: float | None = None
    gradient: float | None = None
    declared: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance, or declared."""
        numbers = [number for number in (self.result, self.gradient) if number is not None]
        return bool(self.declared) or (bool(numbers) and all(number <= TOLERANCE for number in numbers))

    def line(self, peer: str) -> str:
        """A line of the table below `HEADER`."""
        result, gradient = ("" if number is None else f"{number:.1e}" for number in (self.result, self.gradient))
        verdict = f"declared: {self.declared}" if self.declared else "equal" if self.holds else "DIFFERS"
        return f"{peer:12} {self.quantity:28} {result:>9} {gradient:>9}  {verdict}"


@contextlib.contextmanager
def in_double_precision() -> Iterator[None]:
    """Networks are built with 64 bits, and what asks for 32 bits has 64."""
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def places(module: ModuleType) -> list[str]:
    """Where a module lies: its file, and its folders, which may be all that it has."""
    return [str(getattr(module, "__file__", "")), *map(str, getattr(module, "__path__", []))]


@contextlib.contextmanager
def imported(root: Path, *names: str, stand_ins: Mapping[str, Any] | None = None) -> Iterator[list[ModuleType]]:
    """Import modules of a clone; when the `with` block ends they are forgotten, so that the next clone has its own.

    Args:
        root: Folder that the modules are found in.
        names: Of modules.
        stand_ins: Name -> attributes of what the clone imports and these comparisons need no more of.
    """
    before = dict(sys.modules)
    for name, attributes in (stand_ins or {}).items():
        module = ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    sys.path.insert(0, str(root))
    here = lambda value, *args, **options: value  # noqa: E731  # everything stays on the CPU
    try:
        with (
            patch.object(torch.Tensor, "cuda", here),
            patch.object(nn.Module, "cuda", here),
            patch.object(torch.cuda, "synchronize", lambda: None),
            patch.object(torch.backends.cuda, "sdp_kernel", contextlib.nullcontext, create=True),
            patch.object(np, "float", float, create=True),
            contextlib.redirect_stdout(None),
        ):
            yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(root))
        forgotten = [
            name
            for name in set(sys.modules) - set(before)
            if name in (stand_ins or {}) or any(place.startswith(str(root)) for place in places(sys.modules[name]))
        ]
        for name in forgotten:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in stand_ins or {} if name in before})


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number where that is above 1."""
    scale = max(1.0, float(expected.detach().abs().max()))
    return float((found.detach() - expected.detach()).abs().max()) / scale


def largest(*differences: float) -> float:
    """Largest of them; of any that is no number, that, which Python's own would pass over."""
    return float(np.max(differences))


def relative(found: Tensor, expected: Tensor, *, to: float | None = None) -> float:
    """Largest difference over the largest number, or over `to`: gradients may all be small."""
    scale = float(expected.detach().abs().max()) if to is None else to
    return float((found.detach() - expected.detach()).abs().max()) / scale


def gradient_difference(network: nn.Module, expected: Mapping[str, Tensor]) -> float:
    """Largest difference of the gradients of the parameters named, over the largest gradient."""
    found = gradients(network)
    largest_one = largest(*(float(value.abs().max()) for value in expected.values()))
    return largest(*(relative(found[name], value, to=largest_one) for name, value in expected.items()))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Gradients by name of parameter."""
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def randomize(network: nn.Module) -> None:
    """Draw every trainable parameter anew: zeros and ones would hide what they multiply."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)


def video_batch(num_clips: int, num_frames: int, size_px: int) -> Batch:
    """Noise."""
    video = torch.randint(256, (num_clips, 1, num_frames, 3, size_px, size_px), dtype=torch.uint8)
    number = torch.arange(num_clips)
    return Batch(index=number, video=video, seed=number, source_id=number)


class ToUnit(nn.Module):
    """A view that changes nothing: uint8 clips to [0, 1]."""

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Scale."""
        return video.float() / 255


class Fixed(nn.Module):
    """A view that gives the same clips always."""

    def __init__(self, clips: Tensor) -> None:
        super().__init__()
        self.clips = clips

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Return them."""
        return self.clips


class FrameNet(Encoder):
    """A convolution on every frame: (B, T, 3, H, W) -> features (B, T, D, h, w), or pooled (B, D)."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__(dim=dim, stride=stride, architecture={})
        self.conv = nn.Conv2d(3, dim, stride, stride)

    def features(self, clip: Tensor) -> Tensor:
        """Map frame by frame."""
        return self.conv(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])

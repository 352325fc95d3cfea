import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.evidence import worlds
from vidssl.methods import Rotation
from vidssl.models import ConvNet, Encoder


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class Recorder(Encoder):
    """Keeps what it was shown; its features are the pixels."""

    def __init__(self, size: int):
        super().__init__(dim=3 * size * size, stride=size, architecture={})
        self.shown = torch.empty(0)

    def features(self, clip):
        self.shown = clip
        return clip.flatten(2)[..., None, None]


def batch(video: torch.Tensor) -> Batch:
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)))


def noise(num_clips: int, *, num_frames: int = 1, size: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, num_frames, 3, size, size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def turned_by_hand(picture: torch.Tensor, turns: int) -> torch.Tensor:
    """Quarter turns against the clock, pixel by pixel: (3, S, S)."""
    size = picture.shape[-1]
    for _ in range(turns):
        moved = torch.empty_like(picture)
        for row in range(size):
            for column in range(size):
                moved[:, size - 1 - column, row] = picture[:, row, column]
        picture = moved
    return picture


def test_loss_equals_the_mean_over_clips_and_turns_written_out():
    method = Rotation(ConvNet(widths=(4, 6), strides=(2, 1)), view=Whole()).eval()
    video = noise(3, num_frames=2)
    with torch.no_grad():
        losses = method(batch(video), 0.0)
        terms, hits = [], []
        for clip in video:
            for turns in range(4):
                frames = torch.stack([turned_by_hand(frame.float() / 255, turns) for frame in clip])
                logits = method.classifier(method.encoder(frames[None]))[0].tolist()
                terms.append(math.log(sum(map(math.exp, logits))) - logits[turns])
                hits.append(max(range(4), key=logits.__getitem__) == turns)
    assert float(losses["loss"]) == pytest.approx(sum(terms) / 12, abs=1e-5)
    assert float(losses["accuracy"]) == pytest.approx(sum(hits) / 12)


def test_turning_back_gives_the_picture_bit_for_bit():
    method = Rotation(Recorder(8), view=Whole())
    video = noise(3, num_frames=2)
    method(batch(video), 0.0)
    shown = method.encoder.shown.view(4, 3, 2, 3, 8, 8)  # turns outermost
    for turns in range(4):
        back = shown[turns].rot90(-turns, dims=(3, 4))
        assert torch.equal(back, video.float() / 255)
    assert len({tuple(one.flatten().tolist()) for one in shown[:, 0]}) == 4, "two turns look alike"


# What an uncareful rotation leaves behind. Noise looks the same in all four turns, so whoever can name the turn of
# noise reads the traces of turning.


def exact(pictures: torch.Tensor, turns: int) -> torch.Tensor:
    return pictures.rot90(turns, dims=(3, 4))


def _sampled(pictures: torch.Tensor, turns: int, *, shift: float, padding_mode: str) -> torch.Tensor:
    """Turn by sampling about a point that lies `shift` pixels beside the centre."""
    angle, size = turns * math.pi / 2, pictures.shape[-1]
    cos, sin = math.cos(angle), math.sin(angle)
    offset = torch.tensor([2 * shift / size] * 2)
    rotation = torch.tensor([[cos, -sin], [sin, cos]])
    affine = torch.cat([rotation, (offset - rotation @ offset)[:, None]], dim=1)
    grid = F.affine_grid(affine.expand(len(pictures), 2, 3), [len(pictures), 3, size, size], align_corners=False)
    return F.grid_sample(pictures[:, 0], grid, align_corners=False, padding_mode=padding_mode)[:, None]


def interpolated(pictures: torch.Tensor, turns: int) -> torch.Tensor:
    return _sampled(pictures, turns, shift=0.25, padding_mode="border")


def padded(pictures: torch.Tensor, turns: int) -> torch.Tensor:
    """About the corner of the pixels in the middle, as for an odd size: a black row or column comes in."""
    return _sampled(pictures, turns, shift=0.5, padding_mode="zeros")


def accuracy_on_noise(turn, *, steps: int = 60) -> float:
    """Train the classifier to name turns of noise, and test it on other noise."""
    encoder = ConvNet(widths=(8, 16), strides=(2, 2), color="gray")
    method = Rotation(encoder, view=Whole())
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)

    def logits_and_turns(seed: int, num: int) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = noise(num, size=12, seed=seed).float() / 255
        shown = torch.cat([turn(pictures, turns) for turns in range(4)])
        return method.classifier(encoder(shown)), torch.arange(4).repeat_interleave(num)

    for step in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(*logits_and_turns(step, 16)).backward()
        optimizer.step()
    method.eval()
    with torch.no_grad():
        logits, turns = logits_and_turns(10_000, 500)
    return (logits.argmax(1) == turns).float().mean().item()


def test_interpolation_betrays_the_turn_of_noise():
    assert accuracy_on_noise(interpolated) > 0.45


def test_padding_betrays_the_turn_of_noise():
    assert accuracy_on_noise(padded) > 0.45


def test_exact_turns_of_noise_tell_nothing():
    # 2000 pictures: the deviation of a guesser's accuracy is 0.01.
    assert accuracy_on_noise(exact) == pytest.approx(0.25, abs=0.03)


def test_the_method_cannot_name_the_turn_of_noise_but_that_of_letters():
    """The method itself, zero padding in its encoder and all: noise stays at chance, letters do not."""

    def trained_accuracy(pictures) -> float:
        torch.manual_seed(0)
        method = Rotation(
            ConvNet(widths=(8, 16, 32), strides=(2, 2, 2), color="gray", standardize=True), view=Whole()
        )
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
        for step in range(60):
            optimizer.zero_grad()
            method(batch(pictures(16, step)), 0.0)["loss"].backward()
            optimizer.step()
        method.eval()
        with torch.no_grad():
            return method(batch(pictures(400, 10_000)), 1.0)["accuracy"].item()

    assert trained_accuracy(lambda num, seed: noise(num, size=16, seed=seed)) == pytest.approx(0.25, abs=0.03)
    assert trained_accuracy(lambda num, seed: worlds.letters(num, seed=seed, size_px=16)[0]) > 0.45

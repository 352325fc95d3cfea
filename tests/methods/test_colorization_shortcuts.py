"""What looks like tracking and is not: copying in place."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidssl import Batch
from vidssl.evidence import worlds
from vidssl.method import Epoch
from vidssl.methods import VideoColorization
from vidssl.models import ConvNet


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video, seed):
        return video.float() / 255


class Given(nn.Module):
    """A head that sees nothing: embeddings given in advance, (T, E, h, w)."""

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, features):
        return self.embeddings.expand(len(features), -1, -1, -1, -1)


def batch(video: torch.Tensor) -> Batch:
    return Batch(index=torch.arange(len(video)), video=video[:, None], seed=torch.arange(len(video)))


def colorizer(video: torch.Tensor, *, num_colors: int, **options) -> VideoColorization:
    """A colorizer whose colour centres are fitted to the videos."""
    torch.manual_seed(0)
    encoder = ConvNet(
        widths=(16,) * 5,
        strides=(2, 2, 1, 1, 1),
        color="gray",
        padding_mode=options.pop("padding_mode", "reflect"),
    )
    made = VideoColorization(encoder, view=Whole(), num_colors=num_colors, **options)
    clips = batch(video)
    made.before_epoch(
        Epoch(number=0, extract=lambda function, count: function(clips), forget=lambda parameters: None)
    )
    return made


def test_copying_in_place_is_right_for_most_cells_and_for_none_that_changed():
    world = worlds.sprites(16, seed=0, num_frames=2, num_sprites=2, speed_px=(4, 7))
    in_place = torch.eye(256).view(256, 16, 16).expand(2, -1, -1, -1) * 30  # a code for each of 16 x 16 cells
    logged = colorizer(world.video, num_colors=16, head=Given(in_place))(batch(world.video), 0.0)
    assert logged["accuracy"] > 0.8
    assert logged["accuracy_where_color_changed"] == 0
    assert float(logged["accuracy"] + logged["share_where_color_changed"]) == pytest.approx(1, abs=1e-6)


def test_following_the_sprites_is_right_where_the_color_changed():
    world = worlds.sprites(1, seed=2, num_frames=2, num_sprites=2, speed_px=(4, 7))
    # What each cell shows most: the ground or one of the sprites.
    shares = F.avg_pool2d(F.one_hot(world.ids[0].long(), 3).permute(0, 3, 1, 2).float(), 4)
    follow = F.one_hot(shares.argmax(1), 3).permute(0, 3, 1, 2).float() * 30
    logged = colorizer(world.video, num_colors=3, head=Given(follow))(batch(world.video), 0.0)
    assert logged["share_where_color_changed"] > 0.05
    assert logged["accuracy_where_color_changed"] > 0.8


def unmoved_colors(num_videos: int, *, seed: int) -> torch.Tensor:
    """Two frames: a colour for each cell of 4 x 4 pixels that stays, under luminance drawn anew for every frame."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(num_videos, 1, 6, 6, generator=generator)
    u, v = (0.2 * wave.repeat_interleave(4, 2).repeat_interleave(4, 3) for wave in (angle.cos(), angle.sin()))
    y = 0.4 + 0.2 * torch.rand(num_videos, 2, 24, 24, generator=generator)
    rgb = torch.stack([y + 1.13983 * v, y - 0.39465 * u - 0.5806 * v, y + 2.03211 * u], dim=2)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def accuracy_without_correspondence(padding_mode: str) -> tuple[float, float]:
    """Train where grey frames have nothing in common, so that only the place tells where a colour comes from.

    Accuracy on unseen videos, and that of naming the most frequent colour of the reference.
    """
    method = colorizer(unmoved_colors(32, seed=0), num_colors=4, padding_mode=padding_mode)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for step in range(150):
        optimizer.zero_grad()
        method(batch(unmoved_colors(8, seed=step + 1)), 0.0)["loss"].backward()
        optimizer.step()
    unseen = unmoved_colors(64, seed=1000)
    reference, target = method.quantize(method.colors(unseen.float() / 255)).flatten(2).unbind(1)
    guess = reference.mode(dim=1).values  # the colour that the reference shows most
    with torch.no_grad():
        accuracy = method(batch(unseen), 0.0)["accuracy"]
    return float(accuracy), float((target == guess[:, None]).float().mean())


def test_zero_padding_copies_in_place_and_reflection_cannot():
    accuracy, _ = accuracy_without_correspondence("zeros")
    assert accuracy > 0.9
    accuracy, guessing = accuracy_without_correspondence("reflect")
    assert accuracy < guessing + 0.05 < 0.5

"""Synthetic worlds whose answers are known, drawn in memory in seconds: what the proofs learn from.

Files of the same kind, with sound and exact ground truth, are written by datasets/prepare_moving_shapes.py.
Everything is a function of the arguments and the seed. Videos are uint8 RGB, (N, F, 3, S, S): N videos of F frames.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LETTERS = "AEFGJKLPRT"
SHAPES = ("disc", "square", "triangle", "cross")
PITCH_HZ = (220.0, 440.0, 880.0)  # of disc, square and triangle; the cross hisses
World = Literal["moving", "fall", "gravity", "static"]


@dataclass(frozen=True)
class Sprites:
    """Videos of textured shapes over a textured ground.

    Args:
        video: uint8 (N, F, 3, S, S).
        ids: What each pixel shows, uint8 (N, F, S, S): 0 is the ground, 1.. the sprites, later ones in front.
        classes: Shape of each sprite, int64 (N, sprites): numbers into SHAPES.
        centers_px: Their places, float32 (N, F, sprites, 2), x and y.
    """

    video: Tensor
    ids: Tensor
    classes: Tensor
    centers_px: Tensor


def _texture(generator: torch.Generator, *shape: int, size_px: int, low: float, high: float) -> Tensor:
    """Smooth luminance: 10 x 10 noise enlarged by bicubic interpolation, (*shape, size, size) in [low, high]."""
    noise = torch.rand(math.prod(shape), 1, 10, 10, generator=generator)
    smooth = F.interpolate(noise, (size_px, size_px), mode="bicubic", align_corners=False).clamp(0, 1)
    return (low + (high - low) * smooth).view(*shape, size_px, size_px)


def _chroma(generator: torch.Generator, *shape: int) -> Tensor:
    """U and V at a radius of 0.15 to 0.25, independent of luminance: (*shape, 2)."""
    angle = 2 * math.pi * torch.rand(*shape, generator=generator)
    radius = 0.15 + 0.1 * torch.rand(*shape, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def _inside(shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Whether points, in units of half the sprite's size, lie in each shape: (n,) and (n, S, S) -> bool."""
    disc = x.square() + y.square() < 1
    square = (x.abs() < 0.88) & (y.abs() < 0.88)
    triangle = (y < 0.9) & (y > 2 * x.abs() - 0.95)
    cross = ((x.abs() < 0.36) | (y.abs() < 0.36)) & (x.abs() < 1) & (y.abs() < 1)
    return torch.stack([disc, square, triangle, cross]).gather(0, shape.view(1, -1, 1, 1).expand(1, *x.shape))[0]


def _fold(place: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Reflect places at two walls."""
    span = high - low
    return low + span - ((place - low) % (2 * span) - span).abs()


def sprites(
    num_videos: int,
    *,
    seed: int,
    num_frames: int,
    size_px: int = 64,
    num_sprites: int = 1,
    sprite_px: tuple[float, float] = (18, 18),
    speed_px: tuple[float, float] = (1, 7),
    world: World = "moving",
    acceleration_px: float = 0.3,
    classes: Tensor | None = None,
) -> Sprites:
    """Draw shapes that move.

    In "moving" they keep a random direction and bounce off the walls; in "fall" they go down, with a small drift,
    and never bounce vertically; "gravity" is "moving" with a constant acceleration downwards; in "static" nothing
    moves, so every task about time must fail. Grey tells nothing of colour: chroma is drawn on its own.

    Args:
        num_videos: N.
        seed: Of everything.
        num_frames: F.
        size_px: S.
        num_sprites: Shapes in each video; later ones are in front.
        sprite_px: Smallest and largest size.
        speed_px: Smallest and largest speed, pixels per frame.
        world: How they move.
        acceleration_px: Of "gravity", pixels per frame squared.
        classes: Shape of each sprite, int64 (N, num_sprites); None draws them.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    shape = (num_videos, num_sprites)
    drawn = torch.randint(len(SHAPES), shape, generator=generator)
    classes = drawn if classes is None else classes
    half = draw(*sprite_px, *shape) / 2
    speed = draw(*speed_px, *shape)
    angle = draw(0, 2 * math.pi, *shape)
    velocity = torch.stack([speed * angle.cos(), speed * angle.sin()], dim=-1)
    low, high = half, size_px - half
    start = torch.stack([low + draw(0, 1, *shape) * (high - low), low + draw(0, 1, *shape) * (high - low)], dim=-1)
    time = torch.arange(num_frames, dtype=torch.float32)[:, None]
    if world == "static":
        velocity = torch.zeros_like(velocity)
    if world == "fall":
        drift = draw(-0.2, 0.2, *shape) * speed
        velocity = torch.stack([drift, speed], dim=-1)
        room = (high - low - speed * (num_frames - 1)).clamp(min=0)
        start = torch.stack([start[..., 0], low + draw(0, 1, *shape) * room], dim=-1)
    place = start[:, None] + velocity[:, None] * time[:, :, None]  # (N, F, n, 2)
    if world == "gravity":
        place = place + torch.tensor([0, acceleration_px / 2]) * time.square()[:, :, None]
    x = _fold(place[..., 0], low[:, None], high[:, None])
    y = place[..., 1] if world == "fall" else _fold(place[..., 1], low[:, None], high[:, None])
    centers = torch.stack([x, y], dim=-1)

    ground = _texture(generator, num_videos, size_px=size_px, low=0.35, high=0.65)
    ground_chroma = _chroma(generator, num_videos)
    texture = _texture(generator, *shape, size_px=32, low=0.2, high=0.8)
    chroma = _chroma(generator, *shape)

    rows, columns = torch.meshgrid(torch.arange(size_px), torch.arange(size_px), indexing="ij")
    yuv = torch.cat([ground[:, None], ground_chroma[:, :, None, None].expand(-1, -1, size_px, size_px)], dim=1)
    yuv = yuv[:, None].expand(-1, num_frames, -1, -1, -1)
    ids = torch.zeros(num_videos, num_frames, size_px, size_px, dtype=torch.uint8)
    for number in range(num_sprites):
        # Pixel centres relative to the sprite's, in units of half its size: (N F, S, S).
        scale = half[:, None, number, None, None].expand(-1, num_frames, -1, -1).flatten(0, 1)
        u = (columns + 0.5 - centers[:, :, number, 0].flatten()[:, None, None]) / scale
        v = (rows + 0.5 - centers[:, :, number, 1].flatten()[:, None, None]) / scale
        inside = _inside(classes[:, None, number].expand(-1, num_frames).flatten(), u, v)
        inside = inside.view(num_videos, num_frames, size_px, size_px)
        grid = torch.stack([u, v], dim=-1).view(num_videos, -1, size_px, 2)  # frames one below the other
        luminance = F.grid_sample(texture[:, number, None], grid, align_corners=False, padding_mode="border")
        luminance = luminance.view(num_videos, num_frames, 1, size_px, size_px)
        color = chroma[:, None, number, :, None, None].expand(-1, num_frames, -1, size_px, size_px)
        yuv = torch.where(inside[:, :, None], torch.cat([luminance, color], dim=2), yuv)
        ids = torch.where(inside, torch.tensor(number + 1, dtype=torch.uint8), ids)
    return Sprites(video=_to_rgb(yuv), ids=ids, classes=classes, centers_px=centers)


def _to_rgb(yuv: Tensor) -> Tensor:
    """YUV (ITU-R BT.601) to RGB bytes: (..., 3, S, S)."""
    y, u, v = yuv.unbind(-3)
    rgb = torch.stack([y + 1.13983 * v, y - 0.39465 * u - 0.5806 * v, y + 2.03211 * u], dim=-3)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def letters(num_images: int, *, seed: int, size_px: int = 32, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Draw capital letters at random size, place, slant and colours.

    Args:
        num_images: N.
        seed: Of everything.
        size_px: S.
        noise: Standard deviation on the scale [0, 1].

    Returns:
        Images, uint8 (N, 1, 3, S, S), and their letters, int64 (N,), numbers into LETTERS.
    """
    from PIL import Image, ImageDraw, ImageFont

    generator = torch.Generator().manual_seed(seed)
    font = ImageFont.load_default(size=72)
    glyphs = []
    for letter in LETTERS:
        picture = Image.new("L", (96, 96))
        ImageDraw.Draw(picture).text((48, 48), letter, fill=255, font=font, anchor="mm")
        glyphs.append(torch.from_numpy(np.array(picture)).float() / 255)
    label = torch.randint(len(LETTERS), (num_images,), generator=generator)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    scale, slant, shear = draw(1.0, 1.6), draw(-0.25, 0.25), draw(-0.3, 0.3)  # the glyph fills 60 to 100 %
    x, y = draw(-0.15, 0.15), draw(-0.15, 0.15)
    cos, sin = slant.cos() * scale, slant.sin() * scale
    affine = torch.stack([cos, shear * scale - sin, x, sin, cos, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, [num_images, 1, size_px, size_px], align_corners=False)
    ink = F.grid_sample(torch.stack(glyphs)[label][:, None], grid, align_corners=False)
    colors = torch.rand(num_images, 2, 3, 1, 1, generator=generator)
    # Ink and paper must be told apart: luminances are pushed 0.25 apart; clipping takes up to 0.1 of that again.
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    gap = (colors[:, 0] * weights).sum(1) - (colors[:, 1] * weights).sum(1)
    push = torch.where(gap >= 0, 1.0, -1.0) * (0.25 - gap.abs()).clamp(min=0) / 2
    front, back = colors[:, 0] + push[:, None], colors[:, 1] - push[:, None]
    image = ink * front + (1 - ink) * back
    image = image + noise * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)[:, None], label


def tones(classes: Tensor, *, seed: int, seconds: float = 1.0, sample_rate_hz: int = 8000) -> Tensor:
    """Sound of sprites: three harmonics whose pitch belongs to the shape, the cross hisses; loudness wobbles.

    Args:
        classes: Numbers into SHAPES, int64 (N,).
        seed: Of pitch (+-6 %), phases, wobble (1 to 6 Hz) and gain.
        seconds: Length.
        sample_rate_hz: Of the waveform.

    Returns:
        float32 in [-1, 1], (N, seconds * sample_rate_hz).
    """
    generator = torch.Generator().manual_seed(seed)
    num_sounds, num_samples = len(classes), round(seconds * sample_rate_hz)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(num_sounds, *shape, 1, generator=generator)

    time = torch.arange(num_samples) / sample_rate_hz
    pitch = torch.tensor([*PITCH_HZ, 0.0])[classes][:, None] * draw(0.94, 1.06)
    harmonics = [(2 * math.pi * n * pitch * time + draw(0, 2 * math.pi)).sin() / n for n in (1, 2, 3)]
    noise = torch.randn(num_sounds, num_samples, generator=generator) * 0.7
    sound = torch.where((classes == 3)[:, None], noise, sum(harmonics[1:], harmonics[0]))
    wobble = 1 + 0.5 * (2 * math.pi * draw(1, 6) * time + draw(0, 2 * math.pi)).sin()
    return (sound * wobble * draw(0.1, 0.3)).clamp(-1, 1)


NUM_DIRECTIONS = 8


def waves(
    num_videos: int,
    *,
    seed: int,
    num_frames: int = 1,
    size_px: int = 32,
    num_waves: int = 3,
    cycles: tuple[float, float] = (0.3, 0.8),
    speed_px: float = 0.0,
    color: bool = True,
) -> tuple[Tensor, Tensor]:
    """Draw smooth random gradients that drift: every place varies, and what is near or far tells what is there.

    A picture is a sum of plane waves of random direction, length, phase and colour; all drift together. Colour,
    brightness and contrast at any one place are equally spread over the videos, so that a place alone tells nothing.

    Args:
        num_videos: N.
        seed: Of everything.
        num_frames: F.
        size_px: S.
        num_waves: In each video.
        cycles: Fewest and most periods of a wave in the width of the picture.
        speed_px: Of the drift, pixels per frame.
        color: A strength of its own for each channel and wave; else grey, and all waves are equally strong.

    Returns:
        Videos, uint8 (N, F, 3, S, S), and the direction of the drift, int64 (N,): one of NUM_DIRECTIONS, each the
        next counter-clockwise from right.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(num_videos, *shape, generator=generator)

    direction = torch.randint(NUM_DIRECTIONS, (num_videos,), generator=generator)
    heading = 2 * math.pi * direction / NUM_DIRECTIONS
    drift = speed_px * torch.stack([heading.cos(), -heading.sin()], dim=1) / size_px  # rows count downwards
    turn = draw(0, 2 * math.pi, num_waves)
    wave = draw(*cycles, num_waves)[..., None] * torch.stack([turn.cos(), turn.sin()], dim=-1)  # (N, waves, 2)
    phase, strength = draw(0, 1, num_waves), draw(-1, 1, num_waves, 3)
    if not color:
        strength = torch.full_like(strength, 3**-0.5)  # the same mean square
    pixel = (torch.arange(size_px) + 0.5) / size_px
    along = wave[..., 0, None, None] * pixel + wave[..., 1, None, None] * pixel[:, None]  # (N, waves, S, S)
    moved = torch.einsum("nwd, nd -> nw", wave, drift)
    frames = []
    for number in range(num_frames):
        angle = 2 * math.pi * (along + (phase - number * moved)[..., None, None])
        frames.append(torch.einsum("nwyx, nwc -> ncyx", angle.cos(), strength))
    video = torch.stack(frames, dim=1)
    # A sum of waves of mean square 1/6 each; two deviations fill the range.
    video = 0.5 + video / (4 * math.sqrt(num_waves / 6))
    return (video.clamp(0, 1) * 255).round().to(torch.uint8), direction

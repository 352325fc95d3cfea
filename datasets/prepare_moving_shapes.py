"""Write the demo corpus "moving shapes": real video files with sound, drawn from a seed, with exact ground truth.

    python datasets/prepare_moving_shapes.py --out data/moving_shapes

Textured shapes move, turn, bend, pulse and occlude each other over a textured background, under a drifting camera
and a drifting light. Chroma is drawn independently of luminance, and all surfaces have one luminance histogram: a
grey picture tells nothing of colour, or of what is object and what is background, unless the same surface is found
again in another frame. Every shape sounds: its pitch belongs to its form, its loudness follows its speed and its
pulse, its place between the loudspeakers follows its place in the picture.

Coordinates are (x, y) in pixels of the frame; pixel centres are at whole numbers, the top left one at (0, 0).
Every video has its own random generator, made of (seed, split, number): its content depends on nothing else.

    OUT/corpus.json                            seed, options, versions, SHA-256 of every other file
    OUT/train/moving-000.mp4                   h264 and aac; no labels
    OUT/val/JPEGImages/480p/SEQ/00000.jpg      the DAVIS layout
    OUT/val/Annotations/480p/SEQ/00000.png     object ids 1..L, all present in frame 0; indexed, DAVIS palette
    OUT/val/ImageSets/2017/val.txt
    OUT/val/Parts/480p/SEQ/00000.png           part ids; four to an object, named in Truth/SEQ.json
    OUT/val/Truth/SEQ.json                     shapes, motions, pitches, boxes, keypoints, point tracks
    OUT/val/Videos/SEQ.mp4                     the same frames, with sound
"""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from rich.progress import track

from vidssl.data.published.benchmarks import davis_palette

World = Literal["moving", "fall", "gravity", "static"]
Array = np.ndarray
Response = Callable[[Array, Array], Array]

SAMPLE_RATE_HZ = 16_000
# None is a harmonic of another; the cross hisses. Each object is out of tune by up to 6 %.
PITCH_HZ = {"disc": 220.0, "square": 350.0, "triangle": 560.0, "cross": None}
SHAPES = tuple(PITCH_HZ)
MOTIONS = ("line", "circle", "swing", "zigzag")
TEXTURES = ("clouds", "blobs", "stripes", "patches")
PARTS = ("top-left", "top-right", "bottom-left", "bottom-right")
ANGLES = np.linspace(-np.pi, np.pi, 721)  # where outlines are tabulated
NUM_TRACKS = 32

# What makes the corpus easy or hard. Lengths are in units: pixels, if the frame is 192 pixels high.
RADIUS = (32, 52)  # of the disc with the object's area
SPEED = (2.5, 4.5)  # units per frame
SPIN = (0.5, 1.5)  # degrees per frame, either way
BEND = 0.05  # of the radius
PULSE = 0.08  # of the scale
BLOTS, GRAIN = (
    3.0,
    0.3,
)  # weights of coarse and fine luminance beside the middle scale; blots survive a stride of 8
NOISE = 0.012  # standard deviation of the sensor on the scale [0, 1]

# Of the surfaces. The light takes off at most 28 %, and with chroma on this ellipse (U, V) no colour leaves the
# RGB cube: clipping would let grey see hue.
LUMINANCE_RANGE = (0.28, 0.76)
CHROMA_RADIUS = (0.097, 0.17)


@dataclass(frozen=True)
class Options:
    """What decides the content of one video."""

    world: World
    width_px: int
    height_px: int
    fps: int
    num_frames: int

    @property
    def unit_px(self) -> float:
        """Length all sizes and speeds are given in: 1 px for the default height of 192 px."""
        return self.height_px / 192


@dataclass(frozen=True)
class Layer:
    """One surface and how it lies in every frame: an object, or the background.

    A surface point q, in pixels from the middle of the texture, is bent to p, where q = p + bend(p), and lies in
    the frame at centre + scale * rotation * p.
    """

    shape: str  # one of SHAPES, or "background"
    motion: str  # one of MOTIONS, "camera", or the name of the world
    pitch_hz: float | None  # None is noise
    texture: Array  # (3, S, S') luminance and chroma as YUV, float32
    outline_px: Array  # (721,) distance from the middle, per angle of ANGLES
    centre_px: Array  # (T, 2)
    angle: Array  # (T,) radians
    scale: Array  # (T,)
    bend_phase: Array  # (T, 2) radians
    bend_px: float  # largest displacement
    bend_wave: float  # radians per pixel

    def rotation(self, frame: int) -> Array:
        """Rotation matrix (2, 2) of a frame."""
        cos, sin = np.cos(self.angle[frame]), np.sin(self.angle[frame])
        return np.array([[cos, -sin], [sin, cos]])

    def bend(self, p: Array, frame: int) -> Array:
        """Displacement (..., 2) in pixels at p (..., 2); each axis waves along the other."""
        if not self.bend_px:  # the background: most of the pixels
            return np.zeros_like(p)
        return self.bend_px * np.sin(self.bend_wave * p[..., ::-1] + self.bend_phase[frame].astype(p.dtype))

    def to_surface(self, xy: Array, frame: int) -> Array:
        """Frame positions (..., 2) to surface points (..., 2)."""
        turn = self.rotation(frame) / self.scale[frame]
        p = (xy - self.centre_px[frame].astype(xy.dtype)) @ turn.astype(xy.dtype)
        return p + self.bend(p, frame)

    def to_frame(self, q: Array, frame: int) -> Array:
        """Surface points (..., 2) to frame positions (..., 2)."""
        p = q
        for _ in range(40):  # a fixed point: bend_px * bend_wave < .5, so 40 rounds leave less than 1e-10 px
            p = q - self.bend(p, frame)
        return self.centre_px[frame] + self.scale[frame] * p @ self.rotation(frame).T

    def depth_inside(self, q: Array) -> Array:
        """Distance (...) of surface points (..., 2) from the outline, along the ray; negative outside."""
        outline = np.interp(np.arctan2(q[..., 1], q[..., 0]), ANGLES, self.outline_px)
        return outline - np.hypot(q[..., 0], q[..., 1])


@dataclass(frozen=True)
class Scene:
    """Everything that is seen: layers back to front (0 is the background) and the light of every frame."""

    options: Options
    layers: list[Layer]
    brightness: Array  # (T,) in [.86, 1]
    gamma: Array  # (T,) of luminance
    shade_phase: Array  # (T,) of the shadow that sweeps the picture
    shade_wave: Array  # (2,) radians per pixel


# Textures.


def smooth_noise(rng: np.random.Generator, height: int, width: int, response: Response) -> Array:
    """Draw noise (height, width) of unit variance with the spectrum response(fy, fx), in cycles per pixel."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * response(fy, fx), s=(height, width))
    return (field - field.mean()) / field.std()


def band(wavelength_px: float) -> Response:
    """Response around one wavelength, an octave wide."""
    return lambda fy, fx: np.exp(-2 * np.log2(np.hypot(fy, fx) * wavelength_px + 1e-9) ** 2)


def grating(wavelength_px: float, turn: float) -> Response:
    """Response around one wavelength and one direction."""
    cos, sin = np.cos(turn) * wavelength_px, np.sin(turn) * wavelength_px
    return lambda fy, fx: np.exp(-4 * ((np.abs(fx * cos + fy * sin) - 1) ** 2 + (fy * cos - fx * sin) ** 2))


def luminance(rng: np.random.Generator, kind: str, height: int, width: int, unit: float) -> Array:
    """Draw a texture (height, width) in `LUMINANCE_RANGE`: large blots, structure of one of `TEXTURES`, and grain.

    Ranks make the histogram flat, so that neither mean nor contrast tells one surface from another.
    """
    wavelength, turn = rng.uniform(14, 26) * unit, rng.uniform(0, np.pi)
    if kind == "clouds":
        middle = smooth_noise(rng, height, width, lambda fy, fx: (np.hypot(fy, fx) + 1 / (40 * unit)) ** -1.7)
    elif kind == "stripes":
        middle = smooth_noise(rng, height, width, grating(wavelength, turn))
    else:
        middle = smooth_noise(rng, height, width, band(wavelength))
    if kind == "patches":
        middle = np.tanh(3 * middle)
    blots = smooth_noise(rng, height, width, band(rng.uniform(40, 70) * unit))
    grain = smooth_noise(rng, height, width, band(rng.uniform(5, 8) * unit))
    field = (BLOTS * blots + middle + GRAIN * grain).ravel()
    rank = np.empty(field.size)
    rank[np.argsort(field, kind="stable")] = np.linspace(*LUMINANCE_RANGE, field.size)
    return rank.reshape(height, width)


def draw_colours(rng: np.random.Generator, num_colours: int) -> Array:
    """Draw different chroma values (num_colours, 2) as U, V, from twelve hues."""
    hue = 2 * np.pi / 12 * rng.permutation(12)[:num_colours]
    return np.stack([np.cos(hue), np.sin(hue)], -1) * CHROMA_RADIUS


def chroma(rng: np.random.Generator, colours: Array, height: int, width: int, region_px: float) -> Array:
    """Draw a map (2, height, width) of regions with soft borders, one for each of the colours (N, 2)."""
    fields = [smooth_noise(rng, height, width, lambda fy, fx: np.exp(-(np.hypot(fy, fx) * region_px) ** 2))
              for _ in colours]  # fmt: skip
    weights = np.exp(12 * (np.stack(fields) - np.max(fields, axis=0)))  # (N, height, width)
    return np.einsum("nhw,nc->chw", weights / weights.sum(0), colours)


def surface(
    rng: np.random.Generator, colours: Array, height: int, width: int, region_px: float, unit: float
) -> Array:
    """Draw a texture (3, height, width) in YUV, float32; luminance and chroma share no random number."""
    grey = luminance(rng, str(rng.choice(TEXTURES)), height, width, unit)
    return np.concatenate([grey[None], chroma(rng, colours, height, width, region_px)]).astype(np.float32)


# Shapes, paths and scenes.


def outline(shape: str) -> Array:
    """Distance (721,) of an outline from its middle, per angle of `ANGLES`; the area is that of the unit disc."""
    cos, sin = np.abs(np.cos(ANGLES)) + 1e-9, np.abs(np.sin(ANGLES)) + 1e-9
    if shape == "disc":
        distance = np.ones_like(ANGLES)
    elif shape == "square":
        distance = np.minimum(1 / cos, 1 / sin)
    elif shape == "triangle":
        distance = 1 / np.cos((ANGLES + np.pi / 2) % (2 * np.pi / 3) - np.pi / 3)
    else:
        arm = 0.42
        distance = np.maximum(np.minimum(1 / cos, arm / sin), np.minimum(arm / cos, 1 / sin))
    return distance / np.sqrt(np.mean(distance[:-1] ** 2))


def fold(x: Array, low: Array, high: Array) -> Array:
    """Reflect positions at two walls."""
    return low + (high - low) - np.abs((x - low) % (2 * (high - low)) - (high - low))


def path(rng: np.random.Generator, motion: str, options: Options) -> Array:
    """Draw the centres (T, 2) in pixels of an object in one of the `MOTIONS` or one of the worlds' own."""
    t, unit = np.arange(options.num_frames)[:, None], options.unit_px
    low, high = np.array([45.0, 45.0]) * unit, np.array([options.width_px, options.height_px]) - 45.0 * unit
    start, speed, turn = rng.uniform(low, high), rng.uniform(*SPEED) * unit, rng.uniform(0, 2 * np.pi)
    heading = np.array([np.cos(turn), np.sin(turn)])
    if motion == "static":
        return start + 0.0 * t
    if motion in (
        "fall",
        "gravity",
    ):  # down by a part of the height within the video: constant speed, or from rest
        drop = rng.uniform(0.45, 0.65) * options.height_px
        done = t / options.num_frames
        down = drop * (done if motion == "fall" else done**2)
        start[1] = rng.uniform(0.15, 0.3) * options.height_px
        return start * [1, 0] + np.concatenate([heading[0] * 0.25 * t * unit, start[1] + down], 1)
    if motion == "line":
        move = speed * heading * t
    elif motion == "circle":
        radius = rng.uniform(30, 50) * unit
        move = radius * np.concatenate([np.cos(speed / radius * t + turn), np.sin(speed / radius * t + turn)], 1)
    elif motion == "swing":
        reach = rng.uniform(40, 80) * unit
        move = reach * heading * np.sin(1.4 * speed / reach * t + rng.uniform(0, 2 * np.pi))
    else:
        across = rng.uniform(18, 30) * unit * np.arcsin(np.sin(2 * np.pi * t / rng.uniform(14, 22)))
        move = 0.8 * speed * heading * t + across * heading[::-1] * [-1, 1]
    return fold(start + move, low, high)


def wave(rng: np.random.Generator, t: Array, low_period: float, high_period: float) -> Array:
    """Draw a sine over the times t with a period between the two, in the unit of t, and any phase."""
    return np.sin(2 * np.pi * t / rng.uniform(low_period, high_period) + rng.uniform(0, 2 * np.pi))


def draw_background(rng: np.random.Generator, colours: Array, options: Options) -> Layer:
    """Draw the background; in the moving world the camera pans, zooms and rolls over it."""
    t, unit, moves = np.arange(options.num_frames), options.unit_px, options.world == "moving"
    margin = round(96 * unit)  # what the camera may see beyond the frame
    size = options.height_px + 2 * margin, options.width_px + 2 * margin
    pan = 45 * unit * np.stack([wave(rng, t, 140, 280), wave(rng, t, 140, 280)], -1)
    return Layer(
        shape="background",
        motion="camera" if moves else "static",
        texture=surface(rng, colours, *size, 110 * unit, unit),
        outline_px=np.full_like(ANGLES, 1e6),
        centre_px=np.array([options.width_px - 1, options.height_px - 1]) / 2 + moves * pan,
        angle=moves * 0.12 * wave(rng, t, 100, 200),
        scale=1 + moves * 0.08 * wave(rng, t, 70, 140),
        bend_phase=np.zeros((len(t), 2)),
        bend_px=0.0,
        bend_wave=0.0,
        pitch_hz=None,
    )


def draw_object(rng: np.random.Generator, colours: Array, motion: str, options: Options) -> Layer:
    """Draw an object; only in the moving world does it turn, bend and pulse."""
    t, unit, moves = np.arange(options.num_frames), options.unit_px, options.world == "moving"
    shape = str(rng.choice(SHAPES))
    radius = rng.uniform(*RADIUS) * unit
    outline_px = radius * outline(shape)
    side = 2 * int(np.ceil(outline_px.max() + 2)) + 1
    spin = rng.choice([-1, 1]) * np.radians(rng.uniform(*SPIN))
    pitch = PITCH_HZ[shape]
    return Layer(
        shape=shape,
        motion=motion,
        texture=surface(rng, colours, side, side, 1.1 * radius, unit),
        outline_px=outline_px,
        centre_px=path(rng, motion, options),
        angle=moves * spin * t + rng.uniform(0, 2 * np.pi),
        scale=1 + moves * PULSE * wave(rng, t / options.fps, 0.4, 1.0),
        bend_phase=2 * np.pi * (t[:, None] / options.fps * rng.uniform(0.5, 1.2, 2) + rng.uniform(0, 1, 2)),
        bend_px=moves * BEND * radius,
        bend_wave=2 * np.pi / (2.2 * radius),
        pitch_hz=None if pitch is None else pitch * rng.uniform(0.94, 1.06),
    )


def draw_scene(rng: np.random.Generator, options: Options) -> Scene:
    """Draw a background and one object (fall) or two to three, well apart in frame 0, and the light on them."""
    moves = options.world == "moving"
    # One motion to a video, so that videos have classes, too.
    motion = str(rng.choice(MOTIONS)) if moves else options.world
    palettes = [draw_colours(rng, 4)]
    for _ in range(1 if options.world == "fall" else rng.integers(2, 4)):
        if rng.uniform() < 0.25:  # some objects wear the colours of another surface
            palettes.append(palettes[rng.integers(len(palettes))])
        else:
            palettes.append(draw_colours(rng, int(rng.integers(2, 5))))
    background = draw_background(rng, palettes[0], options)
    objects = [draw_object(rng, colours, motion, options) for colours in palettes[1:]]
    while crowded(objects):
        objects = [draw_object(rng, colours, motion, options) for colours in palettes[1:]]
    t, turn = np.arange(options.num_frames), rng.uniform(0, 2 * np.pi)
    return Scene(
        options=options,
        layers=[background, *objects],
        brightness=0.93 + moves * 0.07 * wave(rng, t, 40, 100),
        gamma=np.exp(moves * 0.3 * wave(rng, t, 40, 100)),
        shade_phase=2 * np.pi * t * moves / rng.uniform(50, 120) + rng.uniform(0, 2 * np.pi),
        shade_wave=2 * np.pi / (260 * options.unit_px) * np.array([np.cos(turn), np.sin(turn)]),
    )


def crowded(objects: list[Layer]) -> bool:
    """Tell whether two objects of frame 0 lie so close that one might hide the other."""
    return any(
        np.hypot(*(a.centre_px[0] - b.centre_px[0])) < 0.7 * (a.outline_px.mean() + b.outline_px.mean())
        for a, b in combinations(objects, 2)
    )


# Picture and sound.


def look_up(texture: Array, q: Array) -> Array:
    """Read a texture (3, S, S') bilinearly at surface points q (h, w, 2): (3, h, w)."""
    half = (np.array(texture.shape[:0:-1], np.float32) - 1) / 2
    grid = torch.from_numpy(q / half)[None]
    read = F.grid_sample(torch.from_numpy(texture)[None], grid, padding_mode="border", align_corners=True)
    return read[0].numpy()


def pixels(left: int, top: int, right: int, bottom: int) -> Array:
    """Positions (bottom - top, right - left, 2) of the pixels of a window, float32."""
    columns, rows = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)
    return np.stack(np.meshgrid(columns, rows), -1)


def render(scene: Scene, frame: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw one frame.

    Returns:
        Picture (H, W, 3) uint8; object ids (H, W) uint8, 0 is background; part ids (H, W) uint8, 0 is background,
        4 * (object - 1) + 1 + index in `PARTS` elsewhere. A pixel belongs to the frontmost object that holds its
        centre.
    """
    width, height = scene.options.width_px, scene.options.height_px
    background, *objects = scene.layers
    yuv = look_up(background.texture, background.to_surface(pixels(0, 0, width, height), frame))  # (3, H, W)
    ids, parts = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for number, layer in enumerate(objects, 1):
        reach = layer.scale[frame] * (layer.outline_px.max() + 2 * layer.bend_px) + 2
        left, top = np.clip(layer.centre_px[frame] - reach, 0, [width, height]).astype(int)
        right, bottom = np.clip(layer.centre_px[frame] + reach + 2, 0, [width, height]).astype(int)
        rows, columns = slice(top, bottom), slice(left, right)
        q = layer.to_surface(pixels(left, top, right, bottom), frame)
        depth = layer.depth_inside(q)
        cover = np.clip(depth * layer.scale[frame] + 0.5, 0, 1).astype(np.float32)  # an edge one pixel soft
        yuv[:, rows, columns] += cover * (look_up(layer.texture, q) - yuv[:, rows, columns])
        inside = depth >= 0
        ids[rows, columns][inside] = number
        parts[rows, columns][inside] = (4 * number - 3 + 2 * (q[..., 1] > 0) + (q[..., 0] > 0))[inside]
    return photograph(scene, frame, yuv, rng), ids, parts


def photograph(scene: Scene, frame: int, yuv: Array, rng: np.random.Generator) -> Array:
    """Light a picture (3, H, W) in YUV, add sensor noise, return RGB (H, W, 3) uint8.

    Light, contrast and noise change luminance alone: a surface keeps its colour (nearly so in Lab, too).
    """
    (low, high), (y, u, v) = LUMINANCE_RANGE, yuv
    height, width = y.shape
    y = low + (high - low) * ((y - low) / (high - low)).clip(0, 1) ** np.float32(scene.gamma[frame])
    across, down = np.arange(width) * scene.shade_wave[0], np.arange(height) * scene.shade_wave[1]
    phase = (across + down[:, None] + scene.shade_phase[frame]).astype(np.float32)
    y *= np.float32(scene.brightness[frame]) * (0.92 + 0.08 * np.sin(phase))
    y += np.float32(NOISE) * rng.standard_normal(y.shape, np.float32)
    # ITU-R BT.601
    rgb = np.stack([y + 1.13983 * v, y - 0.39465 * u - 0.58060 * v, y + 2.03211 * u], -1)
    return (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def sound(scene: Scene, rng: np.random.Generator) -> Array:
    """Draw the sound (2, S) float32 in [-1, 1] of all objects at `SAMPLE_RATE_HZ`, as long as the video."""
    options = scene.options
    t = np.arange(options.num_frames * SAMPLE_RATE_HZ // options.fps) / SAMPLE_RATE_HZ
    frames = np.arange(options.num_frames) / options.fps
    mix = np.zeros((2, len(t)))
    for layer in scene.layers[1:]:
        if layer.pitch_hz is None:
            tone = 0.5 * rng.standard_normal(len(t))
        else:
            phase = 2 * np.pi * layer.pitch_hz * t
            tone = np.sum([np.sin(k * phase + rng.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3)], axis=0)
        speed = np.hypot(*np.gradient(layer.centre_px, axis=0).T) / options.unit_px  # (T,)
        loudness = (0.2 + 0.8 * np.minimum(1, speed / 6)) * (1 + 6 * (layer.scale - 1))
        right = np.interp(t, frames, layer.centre_px[:, 0] / options.width_px).clip(0, 1)
        voice = 0.2 * rng.uniform(0.6, 1) * np.interp(t, frames, loudness) * tone
        mix += voice * np.sqrt(np.stack([1 - right, right]))
    return mix.clip(-1, 1).astype(np.float32)


# Ground truth.


def follow(layer: Layer, number: int, q: Array, masks: Array) -> tuple[Array, Array]:
    """Follow surface points q (P, 2) of a layer through the video.

    Args:
        layer: The layer.
        number: Its object id.
        q: Surface points.
        masks: Object ids (T, H, W).

    Returns:
        Positions (T, P, 2) in pixels, and whether they are visible (T, P): the pixel that holds the point shows
        its object.
    """
    num_frames, height, width = masks.shape
    xy = np.stack([layer.to_frame(q, frame) for frame in range(num_frames)])
    column, row = np.round(xy).astype(int).transpose(2, 0, 1)
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    shown = masks[np.arange(num_frames)[:, None], row.clip(0, height - 1), column.clip(0, width - 1)]
    return xy, within & (shown == number)


def box(mask: Array) -> list[int] | None:
    """Box x, y, width, height of the pixels of a mask (H, W) bool; None where it is empty."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)]


def ground_truth(scene: Scene, masks: Array, rng: np.random.Generator) -> dict[str, Any]:
    """Gather what is known of a video with object ids (T, H, W), as JSON values."""
    compass = {"centre": (0, 0), "right": (1, 0), "bottom": (0, 1), "left": (-1, 0), "top": (0, -1)}
    objects: list[dict[str, Any]] = []
    for number, layer in enumerate(scene.layers[1:], 1):
        distance = [0.65 * np.interp(np.arctan2(y, x), ANGLES, layer.outline_px) for x, y in compass.values()]
        xy, visible = follow(layer, number, np.array([*compass.values()]) * np.array(distance)[:, None], masks)
        objects.append(
            {
                "id": number,
                "shape": layer.shape,
                "motion": layer.motion,
                "pitch_hz": layer.pitch_hz,
                "boxes": [box(mask == number) for mask in masks],
                "keypoints": {
                    name: {"xy": xy[:, i].round(3).tolist(), "visible": visible[:, i].tolist()}
                    for i, name in enumerate(compass)
                },
            }
        )
    # Tracks start at pixels of frame 0; background and objects have about as many each.
    owner = np.sort(rng.integers(0, len(scene.layers), NUM_TRACKS))
    tracks = []
    for number, layer in enumerate(scene.layers):
        rows, columns = np.nonzero(masks[0] == number)
        chosen = rng.integers(0, len(rows), int((owner == number).sum()))
        pixels = np.stack([columns[chosen], rows[chosen]], -1).astype(float)
        tracks.append(follow(layer, number, layer.to_surface(pixels, 0), masks))
    options = scene.options
    return {
        "world": options.world,
        "motion": scene.layers[1].motion,
        "fps": options.fps,
        "num_frames": options.num_frames,
        "width_px": options.width_px,
        "height_px": options.height_px,
        "objects": objects,
        "parts": {
            str(4 * item["id"] - 3 + i): {"object": item["id"], "name": name}
            for item in objects
            for i, name in enumerate(PARTS)
        },
        "tracks": {
            "object": owner.tolist(),
            "xy": np.concatenate([xy for xy, _ in tracks], 1).round(3).tolist(),
            "visible": np.concatenate([visible for _, visible in tracks], 1).tolist(),
        },
    }


# Files.


def write_video(path: Path, pictures: list[Array], samples: Array, fps: int) -> None:
    """Encode pictures (H, W, 3) uint8 as h264 (key frame every 12) and samples (2, S) as aac."""
    with av.open(str(path), "w") as container:
        # One thread, because bytes depend on the number of threads; no mbtree, because with it the same pictures
        # gave different bytes from run to run (x264 core 165 on a busy AVX-512 machine, 1 file in 2 to 100).
        options = {"preset": "veryfast", "crf": "22", "threads": "1", "mbtree": "0"}
        video = container.add_stream("libx264", rate=Fraction(fps), options=options)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.gop_size = "yuv420p", 12
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="stereo", bit_rate=64_000)
        audio.options = {"aac_coder": "fast"}
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(samples, "fltp", layout="stereo")
        block.sample_rate = SAMPLE_RATE_HZ
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def write_indexed(path: Path, ids: Array) -> None:
    """Write ids (H, W) uint8 as an indexed PNG with the DAVIS palette."""
    image = Image.fromarray(ids, "P")
    image.putpalette(davis_palette().tobytes())
    image.save(path)


def write_train(out: Path, number: int, options: Options, seed: int) -> None:
    """Write one training video."""
    rng = np.random.default_rng([seed, 0, number])
    scene = draw_scene(rng, options)
    pictures = [render(scene, frame, rng)[0] for frame in range(options.num_frames)]
    write_video(out / f"train/{options.world}-{number:03d}.mp4", pictures, sound(scene, rng), options.fps)


def write_val(out: Path, number: int, options: Options, seed: int) -> None:
    """Write one validation sequence with its ground truth."""
    rng = np.random.default_rng([seed, 1, number])
    scene, name = draw_scene(rng, options), f"{options.world}-{number:03d}"
    frames = [render(scene, frame, rng) for frame in range(options.num_frames)]
    for kind in ("JPEGImages", "Annotations", "Parts"):
        (out / "val" / kind / "480p" / name).mkdir(parents=True)
    for i, (picture, ids, parts) in enumerate(frames):
        Image.fromarray(picture).save(out / f"val/JPEGImages/480p/{name}/{i:05d}.jpg", quality=95)
        write_indexed(out / f"val/Annotations/480p/{name}/{i:05d}.png", ids)
        write_indexed(out / f"val/Parts/480p/{name}/{i:05d}.png", parts)
    truth = ground_truth(scene, np.stack([ids for _, ids, _ in frames]), rng)
    (out / f"val/Truth/{name}.json").write_text(json.dumps(truth))
    pictures = [picture for picture, _, _ in frames]
    write_video(out / f"val/Videos/{name}.mp4", pictures, sound(scene, rng), options.fps)


def write_corpus(
    out: Path,
    *,
    seed: int = 0,
    world: World = "moving",
    num_train_videos: int = 96,
    num_val_videos: int = 8,
    num_train_frames: int = 72,
    num_val_frames: int = 32,
    width_px: int = 320,
    height_px: int = 192,
    fps: int = 24,
    num_workers: int = 2,
) -> None:
    """Write the corpus into an empty or new folder.

    Args:
        out: Folder to write.
        seed: Same seed, same bytes, on one machine with the same versions.
        world: moving: everything moves. fall: one object moves down. gravity: objects fall from rest. static:
            nothing moves, the control in which no order can be seen. All but moving have a still camera, a steady
            light, and objects that neither turn nor bend nor pulse.
        num_train_videos: Number of training videos.
        num_val_videos: Number of validation sequences.
        num_train_frames: Frames of a training video, at least 2.
        num_val_frames: Frames of a validation sequence, at least 2.
        width_px: Width of the frames, even and not below the height.
        height_px: Height of the frames, even; objects grow with it.
        fps: Frames per second.
        num_workers: Threads that draw and encode.

    Raises:
        ValueError: The folder holds files, or the frames have a size that cannot be drawn or encoded.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} already holds files; the corpus needs a new or an empty folder")
    if width_px % 2 or height_px % 2 or width_px < height_px:
        raise ValueError(
            f"frames of {width_px}x{height_px} pixels; width and height must be even, and width >= height"
        )
    if min(num_train_frames, num_val_frames) < 2:
        raise ValueError(f"videos of {num_train_frames} and {num_val_frames} frames; motion needs at least 2")
    for folder in ("train", "val/ImageSets/2017", "val/Truth", "val/Videos"):
        (out / folder).mkdir(parents=True)
    train = Options(world, width_px, height_px, fps, num_train_frames)
    val = Options(world, width_px, height_px, fps, num_val_frames)
    names = [f"{world}-{number:03d}" for number in range(num_val_videos)]
    (out / "val/ImageSets/2017/val.txt").write_text("".join(f"{name}\n" for name in names))
    # Threads, not processes: nearly all of the time is spent in NumPy, PyTorch and x264, which release the GIL.
    with ThreadPoolExecutor(num_workers) as pool:
        jobs = [pool.submit(write_val, out, number, val, seed) for number in range(num_val_videos)]
        jobs += [pool.submit(write_train, out, number, train, seed) for number in range(num_train_videos)]
        for job in track(as_completed(jobs), "moving shapes", total=len(jobs)):
            job.result()
    files = sorted(file for file in out.rglob("*") if file.is_file())
    record = {
        "name": "moving shapes",
        "seed": seed,
        "world": world,
        "train": {"num_videos": num_train_videos, "num_frames": num_train_frames},
        "val": {"num_videos": num_val_videos, "num_frames": num_val_frames},
        "width_px": width_px,
        "height_px": height_px,
        "fps": fps,
        "versions": {package: version(package) for package in ("av", "numpy", "pillow", "torch")},
        "sha256": {
            file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        },
    }
    (out / "corpus.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    tyro.cli(write_corpus)

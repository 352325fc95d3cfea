"""Masks drawn over their frames: pictures, contact sheets and videos for people to look at."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from ....files import replacing
from ..masks import davis_palette

_GAP_PX = 4


def overlay(frame: Tensor, mask: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Colour the objects of a frame and draw their contours.

    Args:
        frame: uint8 (3, H, W).
        mask: Object ids, uint8 (H, W).
        alpha: Weight of the object's colour inside the contour, in [0, 1].

    Returns:
        uint8 (3, H, W). Colours are those of DAVIS, a third brighter.
    """
    ids, picture = mask.numpy(), rearrange(frame.numpy(), "c h w -> h w c").copy()
    drawn = ids > 0  # the rest stays as it is
    palette = np.minimum(davis_palette() * np.float32(4 / 3), 255)
    weight = np.where(_contour(ids)[drawn], np.float32(1), np.float32(alpha))[:, None]
    mixed = picture[drawn] * (1 - weight) + palette[ids[drawn]] * weight
    picture[drawn] = np.rint(mixed).astype(np.uint8)
    return rearrange(torch.from_numpy(picture), "h w c -> c h w")


def _contour(ids: np.ndarray) -> np.ndarray:
    """Pixels of an object beside, above or below a pixel of something else, bool (H, W)."""
    framed = np.pad(ids, 1, mode="edge")
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    return np.any([ids != neighbour for neighbour in neighbours], axis=0) & (ids > 0)


def write_video(path: str | Path, frames: Iterable[Tensor], *, fps: float) -> None:
    """Write frames, uint8 (3, H, W), as an H.264 mp4 that browsers play.

    That means 4:2:0 colour, an even height and width (an odd one is widened by repeating the last row or column),
    and the index at the start of the file. The colour matrix is written down, because players guess it from the
    size otherwise. A crash leaves the old file or the new one.

    Raises:
        ValueError: There is no frame, or a frame has another size than the first.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    with replacing(Path(path)) as temporary:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
            stream.options = {"crf": "20", "preset": "veryfast"}
            stream.width = stream.height = 0
            for picture in _even(frames):
                if not stream.width:
                    stream.height, stream.width = picture.shape[:2]
                if picture.shape[:2] != (stream.height, stream.width):
                    raise ValueError(
                        f"{path}: a frame is {picture.shape[1]}x{picture.shape[0]} pixels, the first "
                        f"{stream.width}x{stream.height}"
                    )
                rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
                yuv = rgb.reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                container.mux(stream.encode(yuv))
            if not stream.width:
                raise ValueError(f"{path}: there is no frame to write")
            container.mux(stream.encode(None))


def _even(frames: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Frames as arrays (H, W, 3) of even height and width."""
    for frame in frames:
        picture = rearrange(frame.cpu().numpy(), "c h w -> h w c")
        yield np.pad(picture, [(0, size % 2) for size in picture.shape[:2]] + [(0, 0)], mode="edge")


def contact_sheet(
    frames: Sequence[Tensor],
    *,
    truths: Sequence[Tensor | None],
    predictions: Sequence[Tensor],
    column_width_px: int = 240,
) -> Image.Image:
    """Lay out frames side by side, with the true masks in the upper row and the predicted ones in the lower.

    Args:
        frames: A few frames of a video, uint8 (3, H, W) each.
        truths: Their annotation, uint8 (H, W); None leaves the frame bare.
        predictions: The masks to look at, uint8 (H, W).
        column_width_px: Width of a picture.
    """
    height, width = frames[0].shape[1:]
    size = (column_width_px, round(column_width_px * height / width))
    step = (size[0] + _GAP_PX, size[1] + _GAP_PX)
    sheet = Image.new("RGB", (step[0] * len(frames) - _GAP_PX, step[1] * 2 - _GAP_PX), "white")
    for row, masks in enumerate((truths, predictions)):
        for column, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            drawn = frame if mask is None else overlay(frame, mask)
            picture = Image.fromarray(np.ascontiguousarray(rearrange(drawn.numpy(), "c h w -> h w c")))
            sheet.paste(picture.resize(size, Image.Resampling.BILINEAR), (column * step[0], row * step[1]))
    draw = ImageDraw.Draw(sheet)
    for row, title in enumerate(("ground truth", "prediction")):
        draw.text((4, row * step[1] + 4), title, fill="white", stroke_width=1, stroke_fill="black")
    return sheet


def evenly_spaced(num_frames: int, *, count: int) -> list[int]:
    """At most `count` frame numbers from the first to the last, spread evenly."""
    return sorted({round(number) for number in np.linspace(0, num_frames - 1, count).tolist()})

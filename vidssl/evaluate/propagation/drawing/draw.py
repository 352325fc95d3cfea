"""Points drawn on frames, and pictures laid out in titled rows: what contact sheets and videos are made of."""

import colorsys
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP_PX = 4
_TITLE_PX = 13  # height of the letters
_SCALE = 2  # points are drawn this much larger, then reduced: smooth edges, places between pixels


def point_colors(count: int) -> Tensor:
    """Colours that tell `count` points apart on any background: uint8 (count, 3) RGB.

    Hues are spread evenly; neighbours differ in lightness as well.
    """
    colors = [colorsys.hls_to_rgb(i / max(1, count), (0.6, 0.4, 0.75)[i % 3], 1) for i in range(count)]
    return torch.tensor(colors).view(-1, 3).mul(255).round().to(torch.uint8)


def draw_points(
    frame: Tensor,
    xy: Tensor,
    visible: Tensor | None = None,
    *,
    colors: Tensor | None = None,
    edges: Sequence[tuple[int, int]] = (),
    radius_px: float | None = None,
) -> Tensor:
    """Draw points on a frame: discs where they are visible, crosses where they are not.

    Args:
        frame: uint8 (3, H, W).
        xy: Coordinates (N, 2) in pixels, (0, 0) is the centre of the first pixel; points that are NaN or outside
            the frame are not seen.
        visible: bool (N,); None is all of them. A point that is not visible (lost, occluded) is drawn as a cross.
        colors: uint8 (N, 3) RGB; None takes `point_colors`.
        edges: Pairs of points to join by a line, in the colour of the second; lines to points that are not visible
            are left out.
        radius_px: Of the discs; None fits the frame.

    Returns:
        uint8 (3, H, W).

    Raises:
        ValueError: `xy` is not (N, 2).
    """
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points are (N, 2) coordinates x, y in pixels, got {tuple(xy.shape)}")
    height, width = frame.shape[1:]
    seen = torch.ones(len(xy), dtype=torch.bool) if visible is None else visible.cpu()
    palette = point_colors(len(xy)) if colors is None else colors
    radius = _SCALE * (max(2.0, (height + width) / 140) if radius_px is None else radius_px)
    # Pillow counts from the centre of the first of the smaller pixels.
    places = (((xy.cpu().double() + 0.5) * _SCALE) - 0.5).tolist()
    known = xy.isfinite().all(dim=1).tolist()
    fills = [tuple(color) for color in palette.tolist()]
    # Clear where nothing is drawn: the frame itself is not resized.
    layer = Image.new("RGBA", (width * _SCALE, height * _SCALE))
    draw = ImageDraw.Draw(layer)
    for first, second in edges:
        if known[first] and known[second] and seen[first] and seen[second]:
            line = [*places[first], *places[second]]
            draw.line(line, fill=(*fills[second], 255), width=max(2, round(radius * 0.6)))
    for (x, y), color, is_known, is_seen in zip(places, fills, known, seen.tolist(), strict=True):
        if not is_known:
            continue
        if is_seen:
            disc = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(disc, fill=(*color, 255), outline=(0, 0, 0, 255), width=max(1, round(radius / 4)))
            continue
        arm = 1.4 * radius
        for stroke, fill in ((radius, (0, 0, 0)), (0.6 * radius, color)):
            for dx, dy in ((arm, arm), (arm, -arm)):
                draw.line((x - dx, y - dy, x + dx, y + dy), fill=(*fill, 255), width=max(1, round(stroke)))
    return _blend(frame, layer.reduce(_SCALE))


def _blend(frame: Tensor, layer: Image.Image) -> Tensor:
    """Lay an RGBA picture over a frame, uint8 (3, H, W)."""
    picture = Image.fromarray(np.ascontiguousarray(rearrange(frame.cpu().numpy(), "c h w -> h w c")))
    picture.paste(layer, mask=layer)
    return rearrange(torch.from_numpy(np.array(picture)), "h w c -> c h w")


def contact_sheet_of(
    rows: Sequence[tuple[str, Sequence[Tensor]]],
    *,
    column_titles: Sequence[str] = (),
    column_width_px: int = 240,
) -> Image.Image:
    """Lay out rows of pictures, each row with a title above it.

    Args:
        rows: Title and pictures, uint8 (3, H, W) each, of every row; all rows have as many.
        column_titles: What stands above the columns, such as the numbers of the frames; none leaves it out.
        column_width_px: Width of a picture. Its height follows the first picture's aspect ratio.

    Raises:
        ValueError: There is no picture, or rows or column titles differ in length.
    """
    lengths = {len(pictures) for _, pictures in rows} | ({len(column_titles)} if column_titles else set())
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a contact sheet has rows of equal length, got lengths {sorted(lengths)}; give each "
                         "row as many pictures as there are columns")  # fmt: skip
    num_columns, (height, width) = len(rows[0][1]), rows[0][1][0].shape[1:]
    size = (column_width_px, max(1, round(column_width_px * height / width)))
    font, line_px = ImageFont.load_default(_TITLE_PX), _TITLE_PX + 6
    top_px = line_px if column_titles else 0
    step_px = line_px + size[1] + _GAP_PX
    sheet = Image.new(
        "RGB", (num_columns * (size[0] + _GAP_PX) - _GAP_PX, top_px + step_px * len(rows) - _GAP_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(column_titles):
        draw.text((column * (size[0] + _GAP_PX) + 2, 2), title, fill="black", font=font)
    for row, (title, pictures) in enumerate(rows):
        draw.text((2, top_px + row * step_px + 2), title, fill="black", font=font)
        for column, picture in enumerate(pictures):
            image = Image.fromarray(np.ascontiguousarray(rearrange(picture.cpu().numpy(), "c h w -> h w c")))
            place = (column * (size[0] + _GAP_PX), top_px + row * step_px + line_px)
            sheet.paste(image.resize(size, Image.Resampling.BICUBIC), place)
    return sheet


def with_legend(sheet: Image.Image, colors: Mapping[str, Tensor]) -> Image.Image:
    """Append lines with a patch of colour and a name for each entry, broken to the width of the sheet.

    Args:
        sheet: RGB.
        colors: Name -> uint8 (3,) RGB, in order.
    """
    font, line_px, patch_px = ImageFont.load_default(_TITLE_PX), _TITLE_PX + 8, _TITLE_PX
    places, left, line = [], _GAP_PX, 0
    for name in colors:
        width = patch_px + 4 + math.ceil(font.getlength(name)) + 14
        if left > _GAP_PX and left + width > sheet.width:
            left, line = _GAP_PX, line + 1
        places.append((left, sheet.height + line * line_px + 4))
        left += width
    taller = Image.new("RGB", (sheet.width, sheet.height + (line_px * (line + 1) if colors else 0)), "white")
    taller.paste(sheet)
    draw = ImageDraw.Draw(taller)
    for (x, y), (name, color) in zip(places, colors.items(), strict=True):
        draw.rectangle((x, y, x + patch_px - 1, y + patch_px - 1), fill=tuple(color.tolist()), outline="black")
        draw.text((x + patch_px + 4, y - 1), name, fill="black", font=font)
    return taller


def draw_boxes(frame: Tensor, boxes: Tensor, *, colors: Tensor | None = None) -> Tensor:
    """Draw the outlines of boxes on a frame, with a dark line on either side.

    Args:
        frame: uint8 (3, H, W).
        boxes: x, y, width, height in pixels (N, 4); a box covers x <= column < x + width. Those that are not
            finite or have no area are not drawn.
        colors: uint8 (N, 3) RGB; None takes `point_colors`.

    Returns:
        uint8 (3, H, W).
    """
    palette = point_colors(len(boxes)) if colors is None else colors
    stroke = max(1, round(sum(frame.shape[1:]) / 200)) * _SCALE
    layer = Image.new("RGBA", (frame.shape[2] * _SCALE, frame.shape[1] * _SCALE))
    draw = ImageDraw.Draw(layer)
    for box, color in zip(boxes.tolist(), palette.tolist(), strict=True):
        if not np.isfinite(box).all() or min(box[2:]) <= 0:
            continue
        left, top, width, height = (value * _SCALE for value in box)
        for grow, fill, line in ((1, (0, 0, 0), stroke + 2), (0, color, stroke)):
            corners = (left - grow, top - grow, left + width - 1 + grow, top + height - 1 + grow)
            draw.rectangle((*corners[:2], max(corners[::2]), max(corners[1::2])), outline=(*fill, 255), width=line)
    return _blend(frame, layer.reduce(_SCALE))


def draw_tracks(frame: Tensor, tails: Tensor, visible: Tensor, *, colors: Tensor | None = None) -> Tensor:
    """Draw points at the end of the line they came along: discs where they are visible, crosses where not.

    Args:
        frame: uint8 (3, H, W).
        tails: Places in the last frames, (N, T, 2) in pixels as in `draw_points`; the last is now.
        visible: bool (N,), of now.
        colors: uint8 (N, 3) RGB; None takes `point_colors`.

    Returns:
        uint8 (3, H, W).
    """
    palette = point_colors(len(tails)) if colors is None else colors
    layer = Image.new("RGBA", (frame.shape[2] * _SCALE, frame.shape[1] * _SCALE))
    draw = ImageDraw.Draw(layer)
    width = max(_SCALE, round(_SCALE * sum(frame.shape[1:]) / 400))
    for tail, color in zip(((tails.cpu().double() + 0.5) * _SCALE - 0.5).tolist(), palette.tolist(), strict=True):
        places = [tuple(place) for place in tail if np.isfinite(place).all()]
        if len(places) > 1:
            draw.line(places, fill=(*color, 200), width=width)
    return draw_points(_blend(frame, layer.reduce(_SCALE)), tails[:, -1], visible, colors=palette)

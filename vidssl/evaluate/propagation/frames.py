"""Frames to what a protocol encodes, masks to labels of feature cells, and labels back to pixels."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .protocols import Protocol

_PIL_FILTERS = {"pil_bicubic": Image.Resampling.BICUBIC, "pil_lanczos": Image.Resampling.LANCZOS}


def color_statistics(encoder: Encoder, protocol: Protocol) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that `protocol` normalises the pixels of `encoder` with.

    The protocol's own replace ImageNet's (they were written for encoders trained with these). An encoder that
    carries others, such as a grey one, keeps them: the protocol's would not be what it was trained with.
    """
    imagenet = (torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    own = (encoder.mean.flatten().cpu(), encoder.std.flatten().cpu())
    used = own
    if all(torch.equal(mine, theirs) for mine, theirs in zip(own, imagenet, strict=True)):
        used = (
            own[0] if protocol.color_mean is None else torch.tensor(protocol.color_mean),
            own[1] if protocol.color_std is None else torch.tensor(protocol.color_std),
        )
    return tuple(used[0].tolist()), tuple(used[1].tolist())


def resized_size(height: int, width: int, *, protocol: Protocol, multiple: int = 1) -> tuple[int, int]:
    """Height and width in pixels at which `protocol` encodes a frame, multiples of the encoder's `multiple`."""

    def round_to(side: float, unit: int) -> int:
        rounding = {"floor": math.floor, "ceil": math.ceil, "nearest": lambda ratio: math.floor(ratio + 0.5)}
        return max(1, rounding[protocol.side_rounding](side / unit)) * unit

    if protocol.frame_size is not None:
        return round_to(protocol.frame_size[0], multiple), round_to(protocol.frame_size[1], multiple)
    short, long = min(height, width), max(height, width)
    short_side = round_to(short if protocol.short_side is None else protocol.short_side, multiple)
    long_side = float(long)
    if protocol.short_side is not None:
        long_side = round_to(short_side * long / short, protocol.long_side_multiple)
    long_side = round_to(long_side, multiple)
    return (long_side, short_side) if height > width else (short_side, long_side)


def prepare_frame(frame: Tensor, *, protocol: Protocol, multiple: int = 1) -> Tensor:
    """Resize a frame as the protocol does: uint8 (3, H, W) -> float (3, H', W') in [0, 1]."""
    size = resized_size(frame.shape[1], frame.shape[2], protocol=protocol, multiple=multiple)
    if size != tuple(frame.shape[1:]):
        if protocol.frame_resize == "opencv_bilinear":
            frame = opencv_bilinear(frame, size)
        else:
            frame = _pil_resized(frame, size, _PIL_FILTERS[protocol.frame_resize])
    return frame.float() / 255


def opencv_bilinear(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as OpenCV's `resize` with INTER_LINEAR does for uint8, bit by bit: no antialias, 11-bit weights.

    Args:
        frame: uint8 (C, H, W).
        size: Height and width in pixels.

    Returns:
        uint8 (C, *size).
    """

    def taps(length: int, new_length: int, *, zero_border: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices of the two pixels on each side, and their weights in units of 1 / 2048.

        At the border both indices are the same pixel; OpenCV weighs it once along rows and twice along columns,
        where the two parts are rounded down apart.
        """
        scale = 1 / (new_length / length)
        position = ((np.arange(new_length) + 0.5) * scale - 0.5).astype(np.float32)
        low = np.floor(position)
        fraction = position - low
        if zero_border:
            fraction = np.where((low < 0) | (low >= length - 1), np.float32(0), fraction)
        indices = [index.clip(0, length - 1).astype(np.int64) for index in (low, low + 1)]
        weights = [np.rint(part * 2048).astype(np.int32) for part in (np.float32(1) - fraction, fraction)]
        low_index, high_index, low_weight, high_weight = (
            torch.from_numpy(array).to(frame.device) for array in (*indices, *weights)
        )
        return low_index, high_index, low_weight, high_weight

    left, right, left_weight, right_weight = taps(frame.shape[2], size[1], zero_border=True)
    top, bottom, top_weight, bottom_weight = taps(frame.shape[1], size[0], zero_border=False)
    pixels = frame.to(torch.int32)
    mixed = pixels[:, :, left].mul_(left_weight).add_(pixels[:, :, right].mul_(right_weight))
    mixed = mixed.bitwise_right_shift_(4)
    above = mixed[:, top].mul_(rearrange(top_weight, "h -> h 1")).bitwise_right_shift_(16)
    if size[0] != frame.shape[1]:  # what lies below has no weight where the height stays
        above.add_(mixed[:, bottom].mul_(rearrange(bottom_weight, "h -> h 1")).bitwise_right_shift_(16))
    return above.add_(2).bitwise_right_shift_(2).to(torch.uint8)


def _pil_resized(frame: Tensor, size: tuple[int, int], resampling: Image.Resampling) -> Tensor:
    """Resize uint8 (3, H, W) by a filter of Pillow, which has antialias."""
    image = Image.fromarray(rearrange(frame.cpu().numpy(), "c h w -> h w c"))
    resized = np.asarray(image.resize((size[1], size[0]), resampling))
    return torch.from_numpy(rearrange(resized, "h w c -> c h w").copy()).to(frame.device)


def pil_nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 (H, W) by Pillow's nearest neighbour."""
    resized = Image.fromarray(mask.cpu().numpy()).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(resized).copy())


def opencv_nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (H, W) as OpenCV's `resize` with INTER_NEAREST does: upper left corners of pixels, not their centres."""

    def taken(length: int, new_length: int) -> Tensor:
        places = np.floor(np.arange(new_length) * (1 / (new_length / length)))
        return torch.from_numpy(places.clip(max=length - 1).astype(np.int64))

    rows, columns = (taken(length, new_length) for length, new_length in zip(mask.shape, size, strict=True))
    return mask[rows][:, columns]


def labels_from_mask(
    mask: Tensor, ids: Tensor, grid: tuple[int, int], *, frame_size: tuple[int, int], protocol: Protocol
) -> Tensor:
    """Bring object ids (H, W) to one label channel per id on the feature grid: float (L, h, w)."""
    if protocol.first_label_resize in ("bilinear", "bilinear_through_frame"):
        if protocol.first_label_resize == "bilinear_through_frame":
            mask = opencv_nearest(mask, frame_size)
        return F.interpolate((mask == ids[:, None, None]).float()[None], size=grid, mode="bilinear")[0]
    if protocol.first_label_resize == "nearest_exact":
        small = F.interpolate(mask[None, None].float(), size=grid, mode="nearest-exact")[0, 0].to(mask.dtype)
    elif protocol.first_label_resize == "nearest_through_frame":
        small = pil_nearest(pil_nearest(mask, frame_size), grid)
    else:
        small = pil_nearest(mask, grid)
    return (small == ids[:, None, None]).float()


def upsampled(labels: Tensor, size: tuple[int, int], *, protocol: Protocol) -> Tensor:
    """Bring soft labels (L, h, w) to pixels (L, *size), stretched per channel where the protocol says so."""
    pixels = F.interpolate(labels[None], size=size, mode=protocol.upsample)[0]
    if protocol.class_min_max == "off":
        return pixels
    low, high = pixels.amin(dim=(1, 2), keepdim=True), pixels.amax(dim=(1, 2), keepdim=True)
    constant = pixels if protocol.class_min_max == "constant_stays" else torch.zeros_like(pixels)
    return torch.where(high > low, (pixels - low) / (high - low), constant)

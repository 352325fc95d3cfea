"""Label propagation with frozen features: masks, keypoints, parts, boxes or points, as channels of a label map.

A cell of a new frame takes the labels of the cells it resembles most, in the first frame and in the last few.
What differs between published figures is the protocol around this: four are given here as data (`DINO`, `CRW`,
`VFS`, `DINOV3`), each after the code its authors released, and one code path runs them all.
`dataclasses.replace` makes variants; a result must say which knobs it used, `dataclasses.asdict` lists them.
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from ..models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder

Window = Literal["square", "disc"]

_TILE_CELLS = 12  # measured on CPU at 30x54 and 60x107 cells: the best, or nearly so


@dataclass(frozen=True)
class Protocol:
    """Every knob of a propagation protocol. Cells are feature cells.

    Args:
        name: As on the command line.
        version: Counts changes of ours that move figures.
        frame_size: Height and width in pixels that frames are resized to, whatever their aspect ratio; None goes by
            `short_side`.
        short_side: Pixels the shorter side of a frame is resized to; None keeps the native size.
        long_side_multiple: The longer side follows the aspect ratio, then goes to a multiple of this.
        side_rounding: How sides are rounded, to `long_side_multiple` and to what the encoder needs (the patch).
        frame_resize: "opencv_bilinear" on uint8 without antialias, as cv2.resize; or "pil_bicubic".
        color_mean: Replaces the encoder's mean; see `color_statistics`. None keeps it.
        color_std: Replaces the encoder's standard deviation; see `color_statistics`. None keeps it.
        resnet_layer: Last layer of a ResNet.
        resnet_stride: Pixels per cell of a ResNet.
        resnet_padding: Padding mode of a ResNet's convolutions.
        vit_pos_embed: How a ViT's position embeddings are resized.
        num_recent_frames: Context frames besides the first.
        first_frame_repeats: How often the first frame stands in the context besides its own place: "never";
            "while_recent" (a second time while it is one of the recent frames); "padding" (copies of it fill the
            recent frames that do not exist yet).
        first_frame_windowed: Whether the window applies to the first frame's own place in the context. The
            repeats are always windowed.
        window: Shape of the neighbourhood that a cell may copy from.
        radius_cells: Its half-width or radius; None is no window.
        radius_inclusive: Whether a cell exactly at the radius belongs to the window.
        topk: Cells copied from, jointly over the context.
        keep_ties: Whether cells as good as the last of the top-k join in.
        temperature: Weights are softmax(cosine similarity / temperature) over the chosen cells.
        first_label_resize: First mask to feature cells. "nearest" is Pillow's, on the index mask;
            "nearest_through_frame" goes to the frame's size first; "nearest_exact" is PyTorch's; "bilinear" works
            on the one-hot masks without antialias, so borders are soft.
        upsample: Of the soft labels before the argmax.
        upsample_to: "native" size; or the resized "frame", whose argmax is then brought to native size by Pillow's
            nearest neighbour.
        class_min_max: Stretch each channel to [0, 1] over the pixels of a frame before the argmax. A channel that
            is constant: stays, or becomes zero. "off" leaves the soft labels.
        first_output: What is put out for the first frame: the mask "given", or its label map "upsampled".
    """

    name: str
    version: int
    frame_size: tuple[int, int] | None
    short_side: int | None
    long_side_multiple: int
    side_rounding: Literal["floor", "nearest", "ceil"]
    frame_resize: Literal["opencv_bilinear", "pil_bicubic"]
    color_mean: tuple[float, ...] | None
    color_std: tuple[float, ...] | None
    resnet_layer: Literal["layer1", "layer2", "layer3", "layer4"]
    resnet_stride: int
    resnet_padding: Literal["zeros", "reflect"]
    vit_pos_embed: Literal["timm", "dino"]
    num_recent_frames: int
    first_frame_repeats: Literal["never", "while_recent", "padding"]
    first_frame_windowed: bool
    window: Window
    radius_cells: float | None
    radius_inclusive: bool
    topk: int
    keep_ties: bool
    temperature: float
    first_label_resize: Literal["nearest", "nearest_through_frame", "nearest_exact", "bilinear"]
    upsample: Literal["bilinear", "nearest"]
    upsample_to: Literal["native", "frame"]
    class_min_max: Literal["off", "constant_stays", "constant_to_zero"]
    first_output: Literal["given", "upsampled"]

    def encoder_options(self, family: str) -> dict[str, Any]:
        """Give the options of `load_encoder` that the protocol fixes for a family of `encoder_family(spec)`.

        An exported encoder keeps the options it was trained with; other convolutional networks have none.
        """
        if family == "resnet":
            return {"layer": self.resnet_layer, "stride": self.resnet_stride, "padding_mode": self.resnet_padding}
        if family in ("vit", "torchvision_vit"):
            return {"pos_embed": self.vit_pos_embed}
        return {}


DINO = Protocol(  # facebookresearch/dino, eval_video_segmentation.py
    name="dino",
    version=1,
    frame_size=None,
    short_side=480,
    long_side_multiple=64,  # 854 x 480 becomes 832 x 480: the aspect ratio is broken
    side_rounding="floor",
    frame_resize="opencv_bilinear",
    color_mean=(0.485, 0.456, 0.406),
    color_std=(0.228, 0.224, 0.225),  # 0.228, not ImageNet's 0.229
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="dino",
    num_recent_frames=7,
    first_frame_repeats="never",
    first_frame_windowed=True,
    window="square",
    radius_cells=12,
    radius_inclusive=True,
    topk=5,
    keep_ties=True,
    temperature=0.1,
    first_label_resize="nearest",
    upsample="bilinear",
    upsample_to="frame",
    class_min_max="constant_stays",
    first_output="given",
)

CRW = (
    Protocol(  # ajabri/videowalk, code/test.py, code/utils/test_utils.py, code/data/vos.py; options of its README
        name="crw",
        version=1,
        frame_size=None,
        short_side=None,
        long_side_multiple=1,
        side_rounding="nearest",
        frame_resize="opencv_bilinear",
        color_mean=None,
        color_std=None,
        resnet_layer="layer3",
        resnet_stride=8,
        resnet_padding="reflect",
        vit_pos_embed="timm",
        num_recent_frames=20,
        first_frame_repeats="padding",
        first_frame_windowed=False,
        window="disc",
        radius_cells=12,
        radius_inclusive=False,
        topk=10,
        keep_ties=False,
        temperature=0.05,
        first_label_resize="bilinear",
        upsample="bilinear",
        upsample_to="native",
        class_min_max="off",
        first_output="upsampled",
    )
)

VFS = Protocol(  # xvjiarui/VFS, mmaction/models/trackers/vanilla_tracker.py, configs/r18_sgd_cos_*_k400.py
    name="vfs",
    version=1,
    frame_size=None,
    short_side=480,
    long_side_multiple=1,
    side_rounding="nearest",
    frame_resize="opencv_bilinear",
    color_mean=None,
    color_std=None,
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="timm",
    num_recent_frames=20,
    first_frame_repeats="while_recent",
    first_frame_windowed=True,
    window="disc",
    radius_cells=12,
    radius_inclusive=False,
    topk=10,
    keep_ties=False,
    temperature=0.07,
    first_label_resize="nearest_through_frame",
    upsample="bilinear",
    upsample_to="native",
    class_min_max="constant_to_zero",
    first_output="given",
)

DINOV3 = Protocol(  # facebookresearch/dinov3, notebooks/segmentation_tracking.ipynb
    name="dinov3",
    version=1,
    frame_size=None,
    short_side=960,
    long_side_multiple=1,  # both sides go up to multiples of the patch
    side_rounding="ceil",
    frame_resize="pil_bicubic",
    color_mean=None,
    color_std=None,
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="timm",
    num_recent_frames=7,
    first_frame_repeats="never",
    first_frame_windowed=True,
    window="disc",
    radius_cells=12,
    radius_inclusive=True,
    topk=5,
    keep_ties=True,
    temperature=0.2,
    first_label_resize="nearest_exact",
    upsample="nearest",
    upsample_to="native",
    class_min_max="constant_to_zero",
    first_output="given",
)

PROTOCOLS = (DINO, CRW, VFS, DINOV3)


def propagate(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    topk: int,
    radius_cells: float | None = None,
    window: Window = "disc",
    radius_inclusive: bool = True,
    keep_ties: bool = False,
    copies: Sequence[int] | None = None,
    first_key_free: bool = False,
    tile_cells: int = _TILE_CELLS,
) -> Tensor:
    """Label the cells of a frame by those they resemble most in the context: softmax over the top-k dot products.

    The dense N x nN affinity is never made: the frame is cut into tiles, and a tile is compared with the cells
    inside its window alone, by one matrix product for all context frames. The result is that of the dense
    computation.

    Args:
        query: Features of the frame (D, h, w), L2-normalised for cosine similarity.
        keys: Features of the n context frames (n, D, h, w), normalised alike; fastest with the D numbers of a cell side
            by side in memory.
        labels: Their soft labels (n, L, h, w).
        temperature: Of the softmax.
        topk: Cells copied from, jointly over all context frames.
        radius_cells: Half-width or radius of the window around a cell; None is no window.
        window: "square" or "disc".
        radius_inclusive: Whether a cell exactly at the radius is inside.
        keep_ties: Whether cells as good as the last of the top-k join in. Without it, which of them is taken is
            arbitrary.
        copies: How often each frame stands in the context, n numbers; each copy takes a place in the top-k.
        first_key_free: Whether the first frame stands in the context once more, without the window; its `copies`
            may then be 0.
        tile_cells: Side of a tile.

    Returns:
        Soft labels of the frame (L, h, w).

    Raises:
        ValueError: The window holds no cell.
    """
    height, width = query.shape[1:]
    if radius_cells is not None and not (radius_cells > 0 or (radius_cells == 0 and radius_inclusive)):
        raise ValueError(f"a window of radius {radius_cells} cells holds no cell; give a larger one, or None")
    # The largest whole offset inside the window, in cells.
    reach = max(height, width)
    if radius_cells is not None:
        reach = math.floor(radius_cells) if radius_inclusive else math.ceil(radius_cells) - 1
    counts = list(copies) if copies is not None else [1] * len(keys)
    cells = torch.arange(len(keys) * height * width, device=query.device).view(len(keys), height, width)
    values = rearrange(labels, "n l h w -> (n h w) l")
    first = 1 if first_key_free else 0
    first_key = rearrange(keys[0], "d h w -> (h w) d").contiguous() if first_key_free else None
    frame_copies = rearrange(torch.tensor(counts[first:], device=query.device), "n -> n 1 1 1")

    def in_window(rows: slice, columns: slice, key_rows: slice, key_columns: slice) -> Tensor:
        """Tell which cells may be copied from: bool (keys, queries)."""
        dy, dx = _offsets(rows, key_rows, query.device), _offsets(columns, key_columns, query.device)
        if radius_cells is None or window == "square":
            inside = rearrange(dy <= reach, "y v -> v 1 y 1") & rearrange(dx <= reach, "x u -> 1 u 1 x")
        else:
            squared = rearrange(dy**2, "y v -> v 1 y 1") + rearrange(dx**2, "x u -> 1 u 1 x")
            inside = squared <= radius_cells**2 if radius_inclusive else squared < radius_cells**2
        return rearrange(inside, "v u y x -> (v u) (y x)")

    @functools.lru_cache(maxsize=8)  # away from the borders it is the same for all tiles
    def penalty(rows: tuple[int, int, int], columns: tuple[int, int, int]) -> Tensor:
        """Give 0 inside the window and -inf outside: (keys, queries), by the `_place` of a tile along both axes."""
        (top, bottom, num_rows), (left, right, num_columns) = rows, columns
        outside = ~in_window(slice(top, bottom), slice(left, right), slice(0, num_rows), slice(0, num_columns))
        return query.new_zeros(outside.shape).masked_fill_(outside, -torch.inf)

    def near(cells: slice, length: int) -> slice:
        return slice(max(0, cells.start - reach), min(length, cells.stop + reach))

    strips = []
    for columns in _tiles(width, tile_cells):
        near_columns = near(columns, width)
        # Row after row: what is near a tile is then one matrix of each frame, without another copy.
        near_keys = rearrange(keys[first:, :, :, near_columns], "n d h u -> n h u d").contiguous()
        strip = []
        for rows in _tiles(height, tile_cells):
            tile = rearrange(query[:, rows, columns], "d y x -> d (y x)")
            near_rows = near(rows, height)
            tile_keys = rearrange(near_keys[:, near_rows], "n v u d -> n (v u) d")
            scores = torch.baddbmm(
                penalty(_place(rows, near_rows), _place(columns, near_columns)),
                tile_keys,
                tile.expand(len(tile_keys), -1, -1),
            )
            sources = [
                _Source(
                    scores=rearrange(scores, "n (v u) q -> n v u q", u=near_keys.shape[2]),
                    cells=cells[first:, near_rows, near_columns],
                    copies=frame_copies,
                )
            ]
            if first_key is not None:
                free_copies = torch.ones(1, 1, 1, 1, dtype=torch.int64, device=query.device)
                if counts[0]:
                    repeated = in_window(rows, columns, slice(0, height), slice(0, width))
                    repeated = rearrange(repeated, "(h w) q -> 1 h w q", h=height)
                    # A large tensor of small numbers.
                    free_copies = repeated.to(torch.int16).mul_(counts[0]).add_(1)
                free_scores = rearrange(first_key @ tile, "(h w) q -> 1 h w q", h=height)
                sources.append(_Source(scores=free_scores, cells=cells[:1], copies=free_copies))
            mixed = _weigh(sources, values, temperature=temperature, topk=topk, keep_ties=keep_ties)
            strip.append(rearrange(mixed, "(y x) l -> l y x", y=rows.stop - rows.start))
        strips.append(torch.cat(strip, dim=1))
    return torch.cat(strips, dim=2)


@dataclass(frozen=True)
class _Source:
    """Scores of the v x u cells of each of m context frames for the q queries of a tile.

    Args:
        scores: Dot products (m, v, u, q), -inf outside the window.
        cells: Number of each cell in the context (m, v, u).
        copies: How often a cell stands in the context, broadcastable to (m, v, u, q).
    """

    scores: Tensor
    cells: Tensor
    copies: Tensor

    def best(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, cells and copies of the `count` best cells of each query, or of all if there are fewer: (q, count).

        Only columns of cells are looked into whose best cell is among the `count` best of all columns: a cell of
        another column is no better than each of these.
        """
        num_rows, num_columns, num_queries = self.scores.shape[1:]
        peaks = rearrange(self.scores.amax(dim=1), "m u q -> q (m u)")
        columns = rearrange(peaks.topk(min(count, peaks.shape[1]), dim=1).indices, "q c -> c q")
        start = columns // num_columns * (num_rows * num_columns) + columns % num_columns
        rows = num_columns * torch.arange(num_rows, device=start.device)
        places = rearrange(rearrange(rows, "v -> v 1 1") + start, "v c q -> (v c) q")
        scores = rearrange(self.scores, "m v u q -> (m v u) q").gather(0, places)
        best = rearrange(scores, "k q -> q k").topk(min(count, len(scores)), dim=1)
        chosen = rearrange(places, "k q -> q k").gather(1, best.indices)
        frame, row, column = (
            chosen // (num_rows * num_columns),
            chosen // num_columns % num_rows,
            chosen % num_columns,
        )
        query = rearrange(torch.arange(num_queries, device=chosen.device), "q -> q 1")
        copies = self.copies.expand_as(self.scores)[frame, row, column, query]
        return best.values, self.cells[frame, row, column], copies


def _tiles(length: int, tile_cells: int) -> list[slice]:
    """Cut an axis into pieces of `tile_cells`; the last may be shorter."""
    return [slice(start, min(start + tile_cells, length)) for start in range(0, length, tile_cells)]


def _place(queries: slice, keys: slice) -> tuple[int, int, int]:
    """First and last + 1 of the queries along an axis, and the number of keys, all counted from the first key."""
    return queries.start - keys.start, queries.stop - keys.start, keys.stop - keys.start


def _offsets(queries: slice, keys: slice, device: torch.device) -> Tensor:
    """Distances along one axis, in cells: int32 (queries, keys)."""
    from_cell = torch.arange(queries.start, queries.stop, device=device, dtype=torch.int32)
    to_cell = torch.arange(keys.start, keys.stop, device=device, dtype=torch.int32)
    return (from_cell[:, None] - to_cell[None, :]).abs()


def _weigh(sources: list[_Source], values: Tensor, *, temperature: float, topk: int, keep_ties: bool) -> Tensor:
    """Softmax over the joint top-k of the sources, and the labels it mixes: (q, L)."""
    # One more than asked for shows whether the last place is tied.
    num_candidates = topk + 1 if keep_ties else topk
    candidates = [source.best(num_candidates) for source in sources]
    scores, cells, copies = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
    scores, order = scores.topk(min(num_candidates, scores.shape[1]), dim=1)
    cells, copies = cells.gather(1, order), copies.gather(1, order)

    # Copies of a cell share its score: they fill the top-k from the best score on until it is full.
    places_left = topk - (copies.cumsum(1) - copies)
    used = torch.minimum(copies, places_left.clamp(min=0))
    peak, last = scores[:, :1], scores.masked_fill(used == 0, torch.inf).amin(dim=1, keepdim=True)
    weights = torch.exp((scores - peak) / temperature) * used
    mixed = torch.einsum("qk, qkl -> ql", weights / weights.sum(dim=1, keepdim=True), values[cells])
    if not keep_ties:
        return mixed

    tied = ((scores == last) & (used < copies) & last.isfinite()).any(dim=1)
    if tied.any():
        total = torch.zeros_like(mixed[tied])
        norm = torch.zeros_like(total[:, :1])
        for source in sources:
            their_scores = source.scores[..., tied]
            kept = torch.exp((their_scores - peak[tied, 0]) / temperature) * (their_scores >= last[tied, 0])
            kept = kept * source.copies.expand_as(source.scores)[..., tied]
            total += torch.einsum("mvuq, mvul -> ql", kept, values[source.cells])
            norm += rearrange(kept.sum(dim=(0, 1, 2)), "q -> q 1")
        mixed[tied] = total / norm
    return mixed


def encode_frames(
    encoder: Encoder,
    frames: Iterable[Tensor],
    *,
    protocol: Protocol,
    device: torch.device | str | None = None,
) -> Iterator[Tensor]:
    """Encode the frames of a video as the protocol wants them, one by one.

    Args:
        encoder: In eval mode. It is moved to `device`.
        frames: RGB, uint8 (3, H, W) each, all of one size.
        protocol: How.
        device: Where to compute; None is where the encoder is.

    Yields:
        Features (D, h, w) of every frame, of length 1 in every cell, on `device`.

    Raises:
        ValueError: Features are NaN or infinite.
    """
    device = encoder.mean.device if device is None else torch.device(device)
    encoder = encoder.to(device)
    mean, std = color_statistics(encoder, protocol)
    for number, frame in enumerate(frames):
        with torch.no_grad():
            pixels = prepare_frame(frame.to(device), protocol=protocol, multiple=encoder.multiple)
            features = _encode(encoder, pixels, mean=mean, std=std)
            if not features.isfinite().all():
                raise ValueError(
                    f"features of frame {number} are NaN or infinite, so nothing can be carried by them: the weights "
                    "are too large, or broken"
                )
            features = F.normalize(features, dim=0)
        yield features


def propagate_features(
    features: Iterable[Tensor],
    labels_of: Callable[[int, int], Tensor] | Mapping[int, Callable[[int, int], Tensor]],
    *,
    protocol: Protocol,
) -> Iterator[Tensor]:
    """Carry label channels through the features of a video, frame by frame.

    The context is bounded, so memory does not grow with the video.

    Args:
        features: Of every frame, (D, h, w), of length 1 in every cell (`encode_frames`).
        labels_of: Gives the labels of the first frame, (L, h, w), for a grid of h rows and w columns. Where more is
            labelled later, a mapping from the number of the frame (0 among them) to such a function: its channels
            come after those there are, take away from them where they are 1, and their frame stays in the context
            as one more first frame, always with the window.
        protocol: How.

    Yields:
        Soft labels of every frame, (L, h, w); for the first frame what was given.
    """
    given = labels_of if isinstance(labels_of, Mapping) else {0: labels_of}
    # Features (h, w, D) and labels of the first frame, and of those with labels of their own; of the last frames.
    kept: list[tuple[Tensor, Tensor]] = []
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=protocol.num_recent_frames)
    for number, frame in enumerate(features):
        cells = rearrange(frame, "d h w -> h w d").contiguous()  # as `propagate` wants them in memory
        if number == 0:
            labels = given[0](*frame.shape[1:]).to(frame.device, torch.float32)
            kept.append((cells, labels))
            yield labels
            continue
        repeats = _first_frame_repeats(number, protocol)
        context = [*kept, *recent]
        with torch.no_grad():
            labels = propagate(
                frame,
                rearrange(torch.stack([their_cells for their_cells, _ in context]), "n h w d -> n d h w"),
                torch.stack([_with_channels(their_labels, len(labels)) for _, their_labels in context]),
                temperature=protocol.temperature,
                topk=protocol.topk,
                radius_cells=protocol.radius_cells,
                window=protocol.window,
                radius_inclusive=protocol.radius_inclusive,
                keep_ties=protocol.keep_ties,
                copies=[repeats + protocol.first_frame_windowed] + [1] * (len(context) - 1),
                first_key_free=not protocol.first_frame_windowed,
            )
        if number in given:
            more = given[number](*frame.shape[1:]).to(frame.device, torch.float32)
            labels = torch.cat((labels * (1 - more.sum(0).clamp(max=1)), more))
        (kept if number in given else recent).append((cells, labels))
        yield labels


def _with_channels(labels: Tensor, num_channels: int) -> Tensor:
    """Append channels of zeros to (L, h, w) where there are fewer."""
    return torch.cat((labels, labels.new_zeros(num_channels - len(labels), *labels.shape[1:])))


def propagate_labels(
    encoder: Encoder,
    frames: Iterable[Tensor],
    first_labels: Callable[[int, int], Tensor],
    *,
    protocol: Protocol,
    device: torch.device | str | None = None,
) -> Iterator[Tensor]:
    """Carry label channels from the first frame through a video: `propagate_features` of `encode_frames`.

    Args:
        encoder: In eval mode. It is moved to `device`.
        frames: RGB, uint8 (3, H, W) each, all of one size.
        first_labels: Gives the labels of the first frame, (L, h, w), for a feature grid of h rows and w columns.
        protocol: How.
        device: Where to compute; None is where the encoder is.

    Yields:
        Soft labels (L, h, w) of every frame, on `device`; for the first frame what `first_labels` gave.
    """
    features = encode_frames(encoder, frames, protocol=protocol, device=device)
    return propagate_features(features, first_labels, protocol=protocol)


def propagate_masks(
    encoder: Encoder,
    frames: Iterable[Tensor],
    first_mask: Tensor,
    *,
    protocol: Protocol,
    later_masks: Mapping[int, Tensor] | None = None,
    device: torch.device | str | None = None,
) -> Iterator[Tensor]:
    """Carry the object masks of the first frame through a video, frame by frame.

    Args:
        encoder: In eval mode. It is moved to `device`.
        frames: RGB, uint8 (3, H, W) each, at native size.
        first_mask: Object ids of the first frame, uint8 (H, W), 0 background; ids may have gaps.
        protocol: How.
        later_masks: Objects that come in later: number of the frame -> their ids, uint8 (H, W), 0 elsewhere.
        device: Where to compute; None is where the encoder is.

    Yields:
        Object ids of every frame, uint8 (H, W), on the CPU.

    Raises:
        ValueError: A mask is not uint8 (H, W), a mask and the frames differ in size, or an object comes in twice.
    """
    masks = {0: first_mask.cpu(), **{number: mask.cpu() for number, mask in (later_masks or {}).items()}}
    for number, mask in masks.items():
        if mask.dtype != torch.uint8 or mask.shape != first_mask.shape or mask.ndim != 2:
            raise ValueError(
                f"the mask of frame {number} is {mask.dtype} of shape {tuple(mask.shape)}, expected object ids as "
                f"uint8 (H, W), of one size in all frames"
            )
    native_size = (first_mask.shape[0], first_mask.shape[1])
    frame_size = resized_size(*native_size, protocol=protocol, multiple=encoder.multiple)
    background = masks[0].new_zeros(1)
    new_ids = {number: torch.unique(mask[mask > 0]) for number, mask in masks.items()}
    new_ids[0] = torch.cat((background, new_ids[0]))
    numbers = sorted(masks)
    ids = torch.cat([new_ids[number] for number in numbers])  # in the order of the channels
    if len(ids.unique()) < len(ids):
        by_frame = {number: new_ids[number].tolist() for number in numbers}
        raise ValueError(f"an object comes in twice: the ids of the masks by frame are {by_frame}")

    def checked_frames() -> Iterator[Tensor]:
        for number, frame in enumerate(frames):
            if frame.shape[1:] != first_mask.shape:
                raise ValueError(
                    f"frame {number} has {frame.shape[1]} x {frame.shape[2]} pixels (height x width), the mask "
                    f"{native_size[0]} x {native_size[1]}; they must be of one size"
                )
            yield frame

    def labels_of(number: int) -> Callable[[int, int], Tensor]:
        def labels(rows: int, columns: int) -> Tensor:
            return _labels_from_mask(
                masks[number], new_ids[number], (rows, columns), frame_size=frame_size, protocol=protocol
            )

        return labels

    features = encode_frames(encoder, checked_frames(), protocol=protocol, device=device)
    given = {number: labels_of(number) for number in numbers}
    for number, labels in enumerate(propagate_features(features, given, protocol=protocol)):
        if number == 0 and protocol.first_output == "given":
            yield masks[0]
            continue
        size = frame_size if protocol.upsample_to == "frame" else native_size
        # max gives the first of equal channels, as argmax does, and is 20 times as fast over the first dimension.
        winners = _upsample(labels, size, protocol=protocol).max(dim=0).indices
        mask = ids[winners.cpu()].to(torch.uint8)
        mask = mask if size == native_size else _pil_nearest(mask, native_size)
        # What is given is put out as given, over what was carried there.
        yield torch.where(masks[number] > 0, masks[number], mask) if number in masks and number else mask


def identity_masks(
    frames: Iterable[Tensor], first_mask: Tensor, *, later_masks: Mapping[int, Tensor] | None = None
) -> Iterator[Tensor]:
    """The baseline that leaves every mask where it was given: uint8 (H, W) for each frame."""
    mask = first_mask
    for number, _ in enumerate(frames):
        if later_masks and number in later_masks:
            mask = torch.where(later_masks[number] > 0, later_masks[number], mask)
        yield mask


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
        resize = opencv_bilinear if protocol.frame_resize == "opencv_bilinear" else _pil_bicubic
        frame = resize(frame, size)
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


def _pil_bicubic(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 (3, H, W) by Pillow's bicubic filter, which has antialias."""
    image = Image.fromarray(rearrange(frame.cpu().numpy(), "c h w -> h w c"))
    resized = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return torch.from_numpy(rearrange(resized, "h w c -> c h w").copy()).to(frame.device)


def _pil_nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 (H, W) by Pillow's nearest neighbour."""
    resized = Image.fromarray(mask.cpu().numpy()).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(resized).copy())


class _FeaturesOf(nn.Module):
    """Gives `features` of an encoder to `functional_call`, which calls `forward`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, clip: Tensor) -> Tensor:
        return self.encoder.features(clip)


def _encode(encoder: Encoder, pixels: Tensor, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Features (D, h, w) of a frame (3, H, W), normalised by the given mean and std; the encoder keeps its own."""
    statistics = {
        "encoder.mean": pixels.new_tensor(mean).view(-1, 1, 1),
        "encoder.std": pixels.new_tensor(std).view(-1, 1, 1),
    }
    features = functional_call(_FeaturesOf(encoder), statistics, (rearrange(pixels, "c h w -> 1 1 c h w"),))
    return rearrange(features, "1 1 d h w -> d h w")


def _first_frame_repeats(number: int, protocol: Protocol) -> int:
    """Count the copies of the first frame among the recent frames of frame `number` (1, 2, ...)."""
    if protocol.first_frame_repeats == "never":
        return 0
    if protocol.first_frame_repeats == "while_recent":
        return int(number <= protocol.num_recent_frames)
    return max(0, protocol.num_recent_frames - (number - 1))


def _labels_from_mask(
    mask: Tensor, ids: Tensor, grid: tuple[int, int], *, frame_size: tuple[int, int], protocol: Protocol
) -> Tensor:
    """Bring object ids (H, W) to one label channel per id on the feature grid: float (L, h, w)."""
    if protocol.first_label_resize == "bilinear":
        return F.interpolate((mask == ids[:, None, None]).float()[None], size=grid, mode="bilinear")[0]
    if protocol.first_label_resize == "nearest_exact":
        small = F.interpolate(mask[None, None].float(), size=grid, mode="nearest-exact")[0, 0].to(mask.dtype)
    elif protocol.first_label_resize == "nearest_through_frame":
        small = _pil_nearest(_pil_nearest(mask, frame_size), grid)
    else:
        small = _pil_nearest(mask, grid)
    return (small == ids[:, None, None]).float()


def _upsample(labels: Tensor, size: tuple[int, int], *, protocol: Protocol) -> Tensor:
    """Bring soft labels (L, h, w) to pixels (L, *size), stretched per channel where the protocol says so."""
    pixels = F.interpolate(labels[None], size=size, mode=protocol.upsample)[0]
    if protocol.class_min_max == "off":
        return pixels
    low, high = pixels.amin(dim=(1, 2), keepdim=True), pixels.amax(dim=(1, 2), keepdim=True)
    constant = pixels if protocol.class_min_max == "constant_stays" else torch.zeros_like(pixels)
    return torch.where(high > low, (pixels - low) / (high - low), constant)

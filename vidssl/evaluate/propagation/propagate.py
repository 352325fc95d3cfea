"""Label propagation with frozen features: masks, keypoints, parts, boxes or points, as channels of a label map.

A cell of a new frame takes the labels of the cells it resembles most, in the first frame and in the last few.
What differs between published figures is the protocol around this: five are given here as data (`DINO`, `CRW`,
`VFS`, `DINOV3`, `SIAMMAE`), each after the code its authors released, and one code path runs them all.
`dataclasses.replace` makes variants; a result must say which knobs it used, `dataclasses.asdict` lists them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from ...models.encoder import Encoder
from .affinity import propagate
from .frames import color_statistics, labels_from_mask, pil_nearest, prepare_frame, resized_size, upsampled
from .protocols import Protocol


class NotFiniteError(ValueError):
    """Features are NaN or infinite: there is nothing to carry labels by."""


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
        NotFiniteError: Features are NaN or infinite.
    """
    device = encoder.mean.device if device is None else torch.device(device)
    encoder = encoder.to(device)
    mean, std = color_statistics(encoder, protocol)
    for number, frame in enumerate(frames):
        with torch.no_grad():
            pixels = prepare_frame(frame.to(device), protocol=protocol, multiple=encoder.multiple)
            features = _encode(encoder, pixels, mean=mean, std=std)
            if not features.isfinite().all():
                raise NotFiniteError(
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
        Soft labels of every frame, (L, h, w); for the first frame what was given, or predicted where the protocol says
        so.
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
            if protocol.first_output != "predicted":
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
        joins = number > 0 and number in given
        if joins:
            more = given[number](*frame.shape[1:]).to(frame.device, torch.float32)
            labels = torch.cat((labels * (1 - more.sum(0).clamp(max=1)), more))
        (kept if joins else recent).append((cells, labels))
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
        Soft labels (L, h, w) of every frame, on `device`; for the first frame what `first_labels` gave, or predicted
        where the protocol says so.
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
            return labels_from_mask(
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
        winners = upsampled(labels, size, protocol=protocol).max(dim=0).indices
        mask = ids[winners.cpu()].to(torch.uint8)
        mask = mask if size == native_size else pil_nearest(mask, native_size)
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
    """Count the copies of the first frame, with its given labels, among the recent frames of frame `number`."""
    is_predicted = protocol.first_output == "predicted"  # it is one of the recent frames then, from frame 1 on
    if protocol.first_frame_repeats == "never":
        return 0
    if protocol.first_frame_repeats == "while_recent":
        return int(number <= protocol.num_recent_frames and not is_predicted)
    return max(0, protocol.num_recent_frames - (number if is_predicted else number - 1))

"""Boxes: carry the first box of a video through it with frozen features, and score as OTB and GOT-10k do.

Two trackers, neither of them trained. "masks" makes a mask of the first box and carries it by label propagation, as
masks are (`read_box` says how a box is read off). "correlation" looks for the features of the first box around the
last place, as SiamFC does with trained features (Bertinetto et al. 2016, "Fully-convolutional Siamese networks for
object tracking", arXiv:1606.09549). A lost object keeps its last box.

    OUT/predictions/SEQUENCE.txt                       x,y,width,height a line, as got-10k/toolkit reads results
    OUT/predictions/SEQUENCE/SEQUENCE_001.txt          the same for GOT-10k
    OUT/sequences/, OUT/overlays/, OUT/result.json     see evaluate/propagation/runner.py; truth green, predictions red
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ...data.published.benchmarks import read_frame
from ...data.published.tracks import BoxSequence
from ...files import replacing
from ...models.encoder import Encoder
from ..metrics.boxes import centre_errors, got10k_figures, otb_figures, overlaps, precision_curve, success_curve
from .drawing.draw import contact_sheet_of, draw_boxes
from .drawing.overlay import evenly_spaced, write_video
from .propagate import encode_frames, propagate_labels
from .protocols import Protocol
from .runner import Benchmark, Carrier
from .sequence_intervals import weighted_means

Task = Literal["otb", "got10k"]
Tracker = Literal["masks", "correlation"]

_LOST = 0.01  # a label that is weaker than this everywhere, of the 1 it started with, is gone
_UPSAMPLING = 8  # places looked at per feature cell: one per pixel of the search window at stride 8
_COLORS = torch.tensor([[40, 255, 40], [255, 40, 40]], dtype=torch.uint8)  # truth, prediction


@dataclass(frozen=True)
class Correlation:
    """Knobs of the correlation tracker.

    Step, rate and weight are those of SiamFC's release. Its penalty on other sizes is left out: it is for raw dot
    products, and of cosines, which differ little between sizes, it leaves none but the last.

    Args:
        window_px: Side of the search window after resizing. It shows the box with its context, of area
            (w + (w + h) / 2) * (h + (w + h) / 2) pixels, twice as wide and as high.
        num_scales: Sizes tried in every frame: 1 keeps the size, 3 is a pyramid. Measured with a ResNet-18, random and
            trained by colorization: 3 is better where the size changes much (car-shadow), worse where it does not
            (Crossing), and takes three times as long.
        scale_step: Ratio of neighbouring sizes.
        scale_rate: How fast the size follows.
        cosine_weight: Of the cosine window that prefers places near the last.
    """

    window_px: int = 256
    num_scales: int = 1
    scale_step: float = 1.0375
    scale_rate: float = 0.59
    cosine_weight: float = 0.176


def box_benchmark(
    sequences: Sequence[BoxSequence],
    *,
    task: Task,
    tracker: Tracker,
    correlation: Correlation | None = None,
    **settings: Any,
) -> Benchmark:
    """Sequences with boxes, tracked and scored.

    Args:
        sequences: Of `otb_sequences` or `got10k_sequences`.
        task: Whose figures: "otb" gives success_score, precision_score and success_rate, means over sequences;
            "got10k" AO, SR0.5 and SR0.75, over all frames that count.
        tracker: See the top of this file.
        correlation: Knobs of that tracker; None is its defaults.
        settings: What the result records of the data: subset, split.
    """
    knobs = correlation or Correlation()
    chosen: dict[str, Any] = {"tracker": tracker}
    if tracker == "correlation":
        chosen |= dataclasses.asdict(knobs)

    def track(carrier: Carrier, frames: Iterable[Tensor], box: np.ndarray) -> Iterator[np.ndarray]:
        if carrier.encoder is None or carrier.protocol is None:
            return (box for _ in frames)
        if tracker == "masks":
            return track_masks(carrier.encoder, frames, box, protocol=carrier.protocol, device=carrier.device)
        return track_correlation(
            carrier.encoder, frames, box, protocol=carrier.protocol, knobs=knobs, device=carrier.device
        )

    def predict(
        sequence: BoxSequence, carrier: Carrier, out: Path, advance: Callable[[str], None]
    ) -> dict[str, Any]:
        boxes = []
        for box in track(carrier, sequence.frames(), sequence.boxes[0]):
            boxes.append(box)
            advance(sequence.name)
        path = predictions_path(sequence, out, task=task)
        write_boxes(path, np.array(boxes), first_pixel=sequence.first_pixel)
        return score_boxes(sequence, read_boxes(path, first_pixel=sequence.first_pixel), task=task)

    return Benchmark(
        task=task,
        sequences=sequences,
        settings=chosen | settings,
        predict=predict,
        outputs=lambda sequence, out: [predictions_path(sequence, out, task=task)],
        draw=lambda sequence, out: _draw(sequence, out, task=task),
        summarise=lambda records: summarise_boxes(records, task=task),
        sums=lambda records: weighted_means(
            records,
            functools.partial(summarise_boxes, task=task),
            weight=lambda more: more.get("num_scored_frames", 1),
        ),
    )


def track_masks(
    encoder: Encoder, frames: Iterable[Tensor], box: np.ndarray, *, protocol: Protocol, device: torch.device
) -> Iterator[np.ndarray]:
    """Carry a box through a video as a mask: box of every frame, float64 (4,).

    Args:
        encoder: In eval mode.
        frames: uint8 (3, H, W).
        box: x, y, width, height in the first frame.
        protocol: How labels travel. What it says of first labels is replaced: a cell has the label to the share of
            it that the box covers, so that small boxes do not fall between the cells.
        device: Where to compute.
    """
    frames = iter(frames)
    first = next(frames)
    size = (first.shape[1], first.shape[2])

    def labels(rows: int, columns: int) -> Tensor:
        return box_labels(box, grid=(rows, columns), frame_size=size)

    soft = propagate_labels(encoder, itertools.chain([first], frames), labels, protocol=protocol, device=device)
    for number, channels in enumerate(soft):
        if number:
            pixels = F.interpolate(channels[None], size=size, mode="bilinear")[0, 0]
            found = read_box(pixels.cpu().numpy())
            box = box if found is None else found
        yield box


def box_labels(box: np.ndarray, *, grid: tuple[int, int], frame_size: tuple[int, int]) -> Tensor:
    """Share of every cell that a box covers: float (1, h, w).

    Args:
        box: x, y, width, height in pixels.
        grid: Rows and columns of cells.
        frame_size: Height and width of the frame in pixels.
    """
    shares = []
    for start, length, cells, pixels in zip(box[1::-1], box[:1:-1], grid, frame_size, strict=True):
        edges = torch.linspace(0, pixels, cells + 1, dtype=torch.float64)
        covered = edges[1:].clamp(max=start + length) - edges[:-1].clamp(min=start)
        shares.append(covered.clamp(min=0) * cells / pixels)
    return (shares[0][:, None] * shares[1])[None].float()


def read_box(label: np.ndarray) -> np.ndarray | None:
    """Read a box off a label map (H, W): around the pixels that have half of the maximum and hang together with it.

    Returns:
        x, y, width, height; None where the label is gone.
    """
    peak = int(label.argmax())
    if label.flat[peak] < _LOST:
        return None
    regions, _ = ndimage.label(label >= label.flat[peak] / 2)
    rows, columns = ndimage.find_objects(regions)[regions.flat[peak] - 1]
    return np.array(
        [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start], dtype=np.float64
    )


def track_correlation(
    encoder: Encoder,
    frames: Iterable[Tensor],
    box: np.ndarray,
    *,
    protocol: Protocol,
    knobs: Correlation,
    device: torch.device,
) -> Iterator[np.ndarray]:
    """Follow a box by the features it had in the first frame: box of every frame, float64 (4,).

    The score of a place is the mean cosine similarity of its cells with those of the template.

    Args:
        encoder: In eval mode.
        frames: uint8 (3, H, W).
        box: x, y, width, height in the first frame.
        protocol: Gives the encoder its layer and colours; labels do not travel.
        knobs: Of the tracker.
        device: Where to compute.
    """
    square = dataclasses.replace(protocol, frame_size=(knobs.window_px, knobs.window_px))
    scales = knobs.scale_step ** (np.arange(knobs.num_scales) - knobs.num_scales // 2)
    centre, size = box[:2] + box[2:] / 2, box[2:]
    side = 2 * math.sqrt((size[0] + size.sum() / 2) * (size[1] + size.sum() / 2))
    template: Tensor | None = None
    for frame in frames:
        image = Image.fromarray(np.ascontiguousarray(rearrange(frame.cpu().numpy(), "c h w -> h w c")))
        if template is None:
            windows = [_window(image, centre, side, window_px=knobs.window_px)]
            (features,) = encode_frames(encoder, windows, protocol=square, device=device)
            template = _middle(features, size / side)
            yield box
            continue
        windows = [_window(image, centre, side * scale, window_px=knobs.window_px) for scale in scales]
        features = torch.stack(list(encode_frames(encoder, windows, protocol=square, device=device)))
        scores = F.conv2d(features, template[None])[:, 0] / template[0].numel()  # (scales, h, w)
        best, shift_cells = _best_place(scores, cosine_weight=knobs.cosine_weight)
        cells = np.array([features.shape[3], features.shape[2]])
        centre = centre + shift_cells / cells * side * scales[best]
        # A window whose middle has left the frame shows nothing: stay at its edge.
        centre = np.clip(centre, 0, image.size)
        growth = 1 + knobs.scale_rate * (scales[best] - 1)
        size, side = size * growth, side * growth
        yield np.concatenate([centre - size / 2, size])


def _window(image: Image.Image, centre: np.ndarray, side: float, *, window_px: int) -> Tensor:
    """Cut a square out of an image and resize it, uint8 (3, P, P); outside the frame is its mean colour."""
    left, top = centre - side / 2
    right, bottom = centre + side / 2
    margin = math.ceil(max(0, -left, -top, right - image.width, bottom - image.height))
    if margin:
        mean = tuple(round(value) for value in np.asarray(image).mean(axis=(0, 1)))
        wider = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin), mean)
        wider.paste(image, (margin, margin))
        image = wider
    corners = (left + margin, top + margin, right + margin, bottom + margin)
    window = image.resize((window_px, window_px), Image.Resampling.BILINEAR, box=corners)
    return rearrange(torch.from_numpy(np.array(window)), "h w c -> c h w")


def _middle(features: Tensor, share: np.ndarray) -> Tensor:
    """Cells (D, h', w') in the middle of (D, h, w) that hold `share` of its width and height.

    As many cells are cut off on either side, so that the box is in the middle of a window if the template is.
    """
    cut = []
    for length, part in zip(features.shape[1:], share[::-1], strict=True):
        border = min(round(length * (1 - part) / 2), (length - 1) // 2)
        cut.append(slice(border, length - border))
    return features[:, cut[0], cut[1]]


def _best_place(scores: Tensor, *, cosine_weight: float) -> tuple[int, np.ndarray]:
    """Find the best scale and the shift (x, y) in cells from the middle of the score maps (scales, h, w).

    As in SiamFC, the map of the best scale is stretched to sum to 1 before the cosine window, which does too, is
    mixed in.
    """
    rows, columns = ((length - 1) * _UPSAMPLING + 1 for length in scores.shape[1:])
    fine = F.interpolate(scores[:, None], size=(rows, columns), mode="bicubic", align_corners=True)[:, 0]
    best = int(fine.amax(dim=(1, 2)).argmax())
    response = fine[best] - fine[best].min()
    response = response / response.sum().clamp(min=1e-12)
    hann_y, hann_x = (
        torch.hann_window(length + 2, periodic=False, device=scores.device)[1:-1] for length in (rows, columns)
    )
    hann = hann_y[:, None] * hann_x
    mixed = (1 - cosine_weight) * response + cosine_weight * hann / hann.sum()
    row, column = divmod(int(mixed.argmax()), columns)
    return best, np.array([column - (columns - 1) / 2, row - (rows - 1) / 2]) / _UPSAMPLING


def score_boxes(sequence: BoxSequence, boxes: np.ndarray, *, task: Task) -> dict[str, Any]:
    """Score the boxes (T, 4) of a sequence.

    Returns:
        For OTB the curves, for GOT-10k the overlaps of the frames that count; JSON values.
    """
    record: dict[str, Any] = {"name": sequence.name, "num_frames": len(sequence)}
    if task == "got10k":
        frame = read_frame(sequence.frame_paths[0])
        overlap = overlaps(boxes, sequence.boxes, frame_size=(frame.shape[1], frame.shape[2]))
        return record | {"overlaps": overlap[sequence.scored].tolist()}
    boxes = np.concatenate([sequence.boxes[:1], boxes[1:]])  # as the toolkit does
    return record | {
        "success_curve": success_curve(overlaps(boxes, sequence.boxes)).tolist(),
        "precision_curve": precision_curve(centre_errors(boxes, sequence.boxes)).tolist(),
    }


def summarise_boxes(
    records: list[dict[str, Any]], *, task: Task
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Put the figures of all sequences together: OTB takes the mean of curves, GOT-10k all frames alike."""
    if task == "got10k":
        parts = {record["name"]: got10k_figures(np.array(record["overlaps"])) for record in records}
        together = np.concatenate([np.array(record["overlaps"], dtype=np.float64) for record in records])
        return got10k_figures(together), parts, {"num_scored_frames": len(together)}
    curves = [(np.array(record["success_curve"]), np.array(record["precision_curve"])) for record in records]
    parts = {record["name"]: otb_figures(*curve) for record, curve in zip(records, curves, strict=True)}
    success, precision = (np.mean(curve, axis=0) for curve in zip(*curves, strict=True))
    more = {"success_curve": success.tolist(), "precision_curve": precision.tolist()}
    return otb_figures(success, precision), parts, more


def predictions_path(sequence: BoxSequence, out: Path, *, task: Task) -> Path:
    """Where the boxes of a sequence are written: where got-10k/toolkit looks for results."""
    folder = out / "predictions"
    if task == "got10k":
        return folder / sequence.name / f"{sequence.name}_001.txt"
    return folder / f"{sequence.name}.txt"


def write_boxes(path: Path, boxes: np.ndarray, *, first_pixel: int) -> None:
    """Write boxes (T, 4) with three decimals, as the toolkit does; the first pixel has the number `first_pixel`."""
    with replacing(path) as temporary:
        np.savetxt(temporary, boxes + np.array([first_pixel, first_pixel, 0, 0]), fmt="%.3f", delimiter=",")


def read_boxes(path: Path, *, first_pixel: int) -> np.ndarray:
    """Read what `write_boxes` wrote."""
    return np.loadtxt(path, delimiter=",", ndmin=2) - np.array([first_pixel, first_pixel, 0, 0])


def _draw(sequence: BoxSequence, out: Path, *, task: Task) -> None:
    """Draw the boxes of a sequence: a few frames with both, a video with both."""
    boxes = read_boxes(predictions_path(sequence, out, task=task), first_pixel=sequence.first_pixel)
    pairs = torch.from_numpy(np.stack([sequence.boxes, boxes], axis=1))  # (T, 2, 4)

    def drawn(number: int, frame: Tensor, which: slice = slice(None)) -> Tensor:
        return draw_boxes(frame, pairs[number, which], colors=_COLORS[which])

    numbers = evenly_spaced(len(sequence), count=6)
    frames = [read_frame(sequence.frame_paths[number]) for number in numbers]
    rows = [
        (title, [drawn(number, frame, which) for number, frame in zip(numbers, frames, strict=True)])
        for title, which in (("ground truth", slice(0, 1)), ("prediction", slice(1, 2)))
    ]
    titles = [f"frame {sequence.frame_paths[number].stem}" for number in numbers]
    stem = out / "overlays" / sequence.name
    with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
        contact_sheet_of(rows, column_titles=titles).save(temporary, format="PNG")
    pictures = (drawn(number, frame) for number, frame in enumerate(sequence.frames()))
    write_video(stem.with_name(f"{stem.name}.mp4"), pictures, fps=24)

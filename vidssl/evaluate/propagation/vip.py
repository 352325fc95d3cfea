"""VIP: carry the parts of the first frame through every video with frozen features, and score the classes of pixels.

The figures are those of the eval_vip.py that published figures are made with: metrics/miou.py.

    OUT/masks/VIDEO/000000000001.png ...   class of every pixel, indexed PNG with the colours of DAVIS
    OUT/sequences/VIDEO.json               what was done and measured
    OUT/overlays/VIDEO.{png,mp4}           a few frames beside the ground truth, and the parts over the video
    OUT/result.json                        all figures, every knob, versions
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...data.published.benchmarks import MaskSequence, read_frame
from ...data.published.masks import VOID, check_object_ids
from ...data.published.parts import VIP_CLASSES
from ...files import replacing
from ..metrics.miou import confusion_matrix, figures, iou_per_class
from .drawing.draw import contact_sheet_of, with_legend
from .drawing.overlay import evenly_spaced, overlay, write_video
from .masks import read_mask, write_mask
from .protocols import CRW, SIAMMAE, VFS, Protocol
from .runner import Benchmark, Carrier
from .sequence_intervals import confusion_sums

logger = logging.getLogger(__name__)

_FPS = 5  # of the drawn videos: VIP annotates a frame a second

# Protocols of VIP by name. Frames are squashed; classes are chosen there or at native size.
PROTOCOLS: dict[str, Protocol] = {
    # ajabri/videowalk (047f3f4), test.py with the options of its issue 10. Its labels are not followed to the letter:
    # it resizes the ids themselves by bilinear interpolation, which makes classes of the borders between others.
    "crw": dataclasses.replace(CRW, frame_size=(560, 560), num_recent_frames=4, upsample_to="frame"),
    # xvjiarui/VFS (7233826), datasets/vip_dataset.py. The configuration for VIP was not published: the propagation is
    # that of DAVIS, the frames are those of the others.
    "vfs": dataclasses.replace(VFS, frame_size=(560, 560)),
    # google-deepmind/representations4d (75aca30), colabs/rvm_evaluation_demo.ipynb, cells 16 and 25.
    "siammae": dataclasses.replace(SIAMMAE, frame_size=(448, 880), topk=10),
}


def vip_benchmark(
    sequences: Sequence[MaskSequence], *, num_classes: int = len(VIP_CLASSES), **settings: Any
) -> Benchmark:
    """Videos with parts, measured as VIP is.

    Args:
        sequences: Of `vip_sequences`.
        num_classes: With the background, class 0.
        settings: What the result records of the data besides.
    """

    def predict(
        sequence: MaskSequence, carrier: Carrier, out: Path, advance: Callable[[str], None]
    ) -> dict[str, Any]:
        look_at_classes(sequence, num_classes=num_classes)  # before any work is done
        masks = carrier.masks(sequence.frames(), sequence.mask(0))
        for path, mask in zip(mask_paths(sequence, out), masks, strict=True):
            write_mask(path, mask.cpu())
            advance(sequence.name)
        confusion = score(sequence, mask_paths(sequence, out), num_classes=num_classes)
        return {"name": sequence.name, "num_frames": len(sequence), "confusion": confusion.tolist()}

    def draw(sequence: MaskSequence, out: Path) -> None:
        write_overlays(sequence, out, class_names=class_names(num_classes))

    return Benchmark(
        task="vip",
        sequences=sequences,
        settings={**settings, "num_classes": num_classes},
        predict=predict,
        outputs=mask_paths,
        draw=draw,
        summarise=summary,
        sums=confusion_sums,
    )


def class_names(num_classes: int) -> tuple[str, ...]:
    """Names of the classes: those of VIP, or numbers where there is another number of them."""
    return VIP_CLASSES if num_classes == len(VIP_CLASSES) else tuple(f"class {i}" for i in range(num_classes))


def mask_paths(sequence: MaskSequence, out: Path) -> list[Path]:
    """Where the predictions of a video lie."""
    return [out / "masks" / sequence.name / f"{frame.stem}.png" for frame in sequence.frame_paths]


def read_classes(sequence: MaskSequence, number: int, *, num_classes: int) -> np.ndarray:
    """Read the true class of every pixel of frame `number`, uint8 (H, W); 255 is void.

    Raises:
        ValueError: There is no annotation, or it holds a class that there is not.
    """
    path = sequence.annotation_paths[number]
    if path is None:
        raise ValueError(f"{sequence.name}: frame {sequence.frame_paths[number].name} has no annotation")
    truth = read_mask(path).numpy()
    unknown = truth[(truth >= num_classes) & (truth != VOID)]
    if unknown.size:
        raise ValueError(
            f"{path} has the class {int(unknown.max())}; there are {num_classes}, from 0, and {VOID} for void. "
            f"Say how many classes the data has: --num-classes {int(unknown.max()) + 1}"
        )
    return truth


def look_at_classes(sequence: MaskSequence, *, num_classes: int) -> None:
    """Refuse classes that there are not; say where edges are soft, and where nothing is carried.

    Raises:
        ValueError: An annotation holds a class that there is not.
    """
    first = read_classes(sequence, 0, num_classes=num_classes)
    if not np.isin(first, (0, VOID), invert=True).any():
        logger.warning(
            "%s: the first frame has no class but the background%s: nothing is carried, and a figure of 100 %% says so",
            sequence.name,
            f" and {VOID}, which is void" if (first == VOID).any() else "",
        )
    for number in sequence.annotated:
        path = sequence.annotation_paths[number]
        mask = torch.from_numpy(read_classes(sequence, number, num_classes=num_classes))
        try:
            check_object_ids(mask, path=str(path))
        except ValueError as error:  # small bodies are all edge: no reason to refuse them
            logger.warning("%s", error)
            return


def score(sequence: MaskSequence, predictions: Sequence[Path], *, num_classes: int) -> np.ndarray:
    """Count true and predicted classes over the frames of a video that have annotation: int64 (C, C).

    The first frame counts as well. A prediction of another size than its annotation is brought to it by Pillow's
    nearest neighbour.

    Args:
        sequence: The truth.
        predictions: A mask per frame.
        num_classes: With the background.
    """
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for number in sequence.annotated:
        truth = read_classes(sequence, number, num_classes=num_classes)
        mask = read_mask(predictions[number]).numpy()
        if mask.shape != truth.shape:
            resized = Image.fromarray(mask).resize(truth.shape[::-1], Image.Resampling.NEAREST)
            mask = np.asarray(resized)
        try:
            confusion += confusion_matrix(truth, mask, num_classes=num_classes)
        except ValueError as error:
            raise ValueError(f"{predictions[number]}: {error}") from error
    return confusion


def summary(
    records: list[dict[str, Any]],
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Any]]:
    """Figures over all pixels of all videos, by video, and the IoU of every class ("class hat")."""
    confusions = [np.array(record["confusion"], dtype=np.int64) for record in records]
    total = np.sum(confusions, axis=0)
    parts = {record["name"]: figures(own) for record, own in zip(records, confusions, strict=True)}
    ious = zip(class_names(len(total)), iou_per_class(total).tolist(), strict=True)
    parts |= {f"class {name.removeprefix('class ')}": {"IoU": iou} for name, iou in ious}
    return figures(total), parts, {"confusion": total.tolist()}


def write_overlays(sequence: MaskSequence, out: Path, *, class_names: Sequence[str]) -> None:
    """Draw the masks of a video that is complete: a contact sheet and a video."""
    paths = mask_paths(sequence, out)
    numbers = [sequence.annotated[i] for i in evenly_spaced(len(sequence.annotated), count=6)]
    frames = [read_frame(sequence.frame_paths[number]) for number in numbers]
    truths, found = [sequence.mask(n) for n in numbers], [read_mask(paths[n]) for n in numbers]
    sheet = contact_sheet_of(
        [
            ("ground truth", _overlays(frames, truths)),
            ("prediction", _overlays(frames, found)),
        ],
        column_titles=[f"frame {sequence.frame_paths[number].stem}" for number in numbers],
    )
    present = np.unique(np.concatenate([mask.unique().numpy() for mask in (*truths, *found)]))
    classes = [int(i) for i in present if 0 < i < len(class_names)]
    # The colours are what `overlay` makes of black pixels that are all contour.
    colors = overlay(
        torch.zeros(3, 1, len(class_names), dtype=torch.uint8),
        torch.tensor([list(range(len(class_names)))], dtype=torch.uint8),
    )[:, 0].T
    sheet = with_legend(sheet, {class_names[i]: colors[i] for i in classes})
    stem = out / "overlays" / sequence.name
    with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
        sheet.save(temporary, format="PNG")
    pictures = (overlay(frame, read_mask(path)) for frame, path in zip(sequence.frames(), paths, strict=True))
    write_video(stem.with_name(f"{stem.name}.mp4"), pictures, fps=_FPS)


def _overlays(frames: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    return [overlay(frame, mask) for frame, mask in zip(frames, masks, strict=True)]

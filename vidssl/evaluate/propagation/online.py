"""Measure an encoder while it learns: DAVIS on a few sequences, every so many steps of `fit`.

    fit(run, out=out, evaluate=online_davis("DAVIS", sequences=["blackswan", "dog"], protocol=CRW), evaluate_every=1000)

The figures stand in metrics.jsonl and TensorBoard, the overlays in TensorBoard and OUT/pictures. Nothing else is
written; `vidssl evaluate davis` measures properly at the end.
"""

import logging
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ... import stop
from ...data.published.benchmarks import davis_sequences
from ...models.encoder import Encoder
from ..metrics.jf import score_frame
from .drawing.overlay import contact_sheet, evenly_spaced
from .propagate import NotFiniteError, propagate_masks
from .protocols import Protocol

_FIGURES = ("J&F-Mean", "J-Mean", "F-Mean")

logger = logging.getLogger(__name__)


def online_davis(
    root: str | Path,
    *,
    protocol: Protocol,
    sequences: Sequence[str] | None = None,
    max_frames: int | None = None,
    subset: str = "val",
    resolution: str = "480p",
) -> Callable[[Encoder], tuple[dict[str, float], dict[str, Tensor]]]:
    """Prepare an evaluation for `fit`.

    Args:
        root: Data in the layout of DAVIS.
        protocol: How labels travel. The encoder is taken as it is trained: options that a protocol fixes for a
            network built for it (its stride, say) are not applied.
        sequences: Names of a few sequences; None is the first three of `subset`.
        max_frames: Frames of each sequence that are looked at; None is all. The figures of the first frames are
            higher than those of whole sequences.
        subset: List of sequences.
        resolution: Folder inside JPEGImages and Annotations.

    Returns:
        Encoder -> figures "online_davis/J&F-Mean", J-Mean and F-Mean (means over objects, in [0, 1]), and a contact
        sheet of each sequence, float (3, H, W) in [0, 1]. Of an encoder whose features are not finite all figures are
        NaN: whether the training ends is for its guard to say.

    Raises:
        ValueError: The data is not there, or no frame of a sequence would be scored.
    """
    wanted = davis_sequences(root, names=sequences, subset=subset, resolution=resolution)
    wanted = wanted[:3] if sequences is None else wanted
    lengths = {one.name: min(len(one), max_frames or len(one)) for one in wanted}
    scored = {one.name: [n for n in one.scored(1) if n < lengths[one.name]] for one in wanted}
    for name, numbers in scored.items():
        if not numbers:
            raise ValueError(f"{name}: none of its first {lengths[name]} frames is scored; raise max_frames")

    def evaluate(encoder: Encoder) -> tuple[dict[str, float], dict[str, Tensor]]:
        try:
            return measured(encoder)
        except NotFiniteError as error:
            logger.warning("the evaluation in between has no figures: %s", error)
            return {f"online_davis/{name}": math.nan for name in _FIGURES}, {}

    def measured(encoder: Encoder) -> tuple[dict[str, float], dict[str, Tensor]]:
        objects: list[np.ndarray] = []
        pictures = {}
        for one in wanted:
            frames = list(islice(one.frames(), lengths[one.name]))
            masks = []
            for mask in propagate_masks(encoder, frames, one.first_mask(), protocol=protocol):
                masks.append(mask)
                stop.check()
            scores = [
                score_frame(one.mask(n).numpy(), masks[n].numpy(), ids=list(one.first_frames))
                for n in scored[one.name]
            ]
            objects.extend(np.mean(scores, axis=0))  # (objects, 2)
            shown = evenly_spaced(len(frames), count=6)
            sheet = contact_sheet(
                [frames[n] for n in shown],
                truths=[None if one.annotation_paths[n] is None else one.mask(n) for n in shown],
                predictions=[masks[n] for n in shown],
            )
            pixels = torch.from_numpy(np.array(sheet))
            pictures[f"online_davis_{one.name}"] = rearrange(pixels, "h w c -> c h w").float() / 255
        region, contour = np.mean(objects, axis=0).tolist()
        figures = dict(zip(_FIGURES, ((region + contour) / 2, region, contour), strict=True))
        return {f"online_davis/{name}": value for name, value in figures.items()}, pictures

    return evaluate

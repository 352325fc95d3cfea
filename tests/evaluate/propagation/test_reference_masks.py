"""Masks that the official code of CRW and DINO wrote, against ours with the same weights.

A mask depends on earlier frames alone, so the first frames of a sequence are a valid check of the whole; one
sequence of each case is followed until frames leave the context.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.evaluate.propagation.propagate import propagate_masks
from vidssl.evaluate.propagation.protocols import PROTOCOLS
from vidssl.models import encoder_family, load_encoder

# Share of differing pixels at most, and IoU at least. Measured on all 160 frames: at most 0.0004 % of the pixels
# in a sequence, IoU of an object 0.9999 at least; the rest is room for another processor's rounding.
LIMITS = {"crw_resnet18_davis240": (1e-4, 0.998), "dino_vit_tiny16_davis": (2e-4, 0.99)}


def read_masks(paths):
    return [np.asarray(Image.open(path)) for path in paths]


@pytest.mark.parametrize(
    ("case", "num_frames"),
    [
        ("crw_resnet18_davis240", {"blackswan": 2, "car-shadow": 23, "motocross-jump": 2, "synth2-swan-car": 2}),
        ("dino_vit_tiny16_davis", {"blackswan": 2, "car-shadow": 10, "motocross-jump": 2, "synth2-swan-car": 2}),
    ],
)
def test_masks_equal_the_official_ones(case, num_frames, shared):
    reference = shared / "data" / "reference"
    rows = (line.split() for line in (reference / "cases.txt").read_text().splitlines())
    _, protocol_name, spec, weights, data, *_ = next(row for row in rows if row[0] == case)
    protocol = next(protocol for protocol in PROTOCOLS if protocol.name == protocol_name)
    encoder = load_encoder(spec, weights=shared / weights, **protocol.encoder_options(encoder_family(spec)))
    most_differing, least_iou = LIMITS[case]
    for sequence, count in num_frames.items():
        folder = shared / "data" / data
        pictures = sorted((folder / "JPEGImages" / "480p" / sequence).glob("*.jpg"))[:count]
        frames = [
            torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)
            for path in pictures
        ]
        first_mask = torch.from_numpy(
            np.array(Image.open(folder / "Annotations" / "480p" / sequence / "00000.png"))
        )
        ours = np.stack([mask.numpy() for mask in propagate_masks(encoder, frames, first_mask, protocol=protocol)])
        theirs = np.stack(read_masks(reference / case / "masks" / sequence / f"{p.stem}.png" for p in pictures))
        assert ours.shape == theirs.shape
        assert (ours != theirs).mean() <= most_differing, sequence
        for object_id in np.unique(theirs)[1:]:
            mine, official = ours == object_id, theirs == object_id
            assert (mine & official).sum() / (mine | official).sum() >= least_iou, (sequence, object_id)

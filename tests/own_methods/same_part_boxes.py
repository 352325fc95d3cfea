"""Points of boxes."""

from functools import partial

import torch
from same_part import Boxes, PointNet, SamePart

from vidssl import Run, optim


def run(*, steps: int = 6, batch_size: int = 4, dim: int = 8, num_boxes: int = 10) -> Run:
    """Train on boxes.

    Args:
        steps: Number of optimizer steps.
        batch_size: Boxes per step.
        dim: Width of a point.
        num_boxes: Boxes there are.
    """
    return Run(
        method=SamePart(PointNet(dim)),
        dataset=Boxes(num_boxes, num_points=24),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=steps,
        batch_size=batch_size,
    )

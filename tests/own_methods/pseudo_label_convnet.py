"""A few labelled sprites among many without a label."""

from functools import partial

import torch
from pseudo_label import PseudoLabel

from vidssl import Run, optim
from vidssl.data import ArrayDataset, Mixed
from vidssl.models import ConvNet


def run(*, steps: int = 6, batch_size: int = 8) -> Run:
    """Train on 16 labelled and 48 unlabelled pictures of two classes: dark and bright.

    Args:
        steps: Number of optimizer steps.
        batch_size: Pictures per step, a quarter of them labelled.
    """
    label = torch.arange(64) % 2
    noise = torch.randint(128, (64, 1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    video = (noise + 128 * label[:, None, None, None, None]).to(torch.uint8)
    return Run(
        method=PseudoLabel(ConvNet(widths=(8, 16), strides=(2, 2)), num_classes=2),
        dataset=Mixed(ArrayDataset(video[:16], label=label[:16]), ArrayDataset(video[16:]), ratio=(1, 3)),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=steps,
        batch_size=batch_size,
    )

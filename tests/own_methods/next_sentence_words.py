"""Sentences of a subtitle file in order or not."""

from functools import partial
from pathlib import Path

import torch
from next_sentence import NextSentence, Subtitles, Words

from vidssl import Run, optim


def run(root: str, *, steps: int = 6, batch_size: int = 4, dim: int = 8) -> Run:
    """Train on a subtitle file.

    Args:
        root: The file.
        steps: Number of optimizer steps.
        batch_size: Pairs of sentences per step.
        dim: Width of a word.
    """
    dataset = Subtitles(Path(root))
    return Run(
        method=NextSentence(Words(len(dataset.number), dim), dim=dim),
        dataset=dataset,
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        learning_rate=optim.cosine(1e-2),
        steps=steps,
        batch_size=batch_size,
    )

"""What image/split_brain_resnet18 learns.

Letters whose hue is that of the letter: linear probe of grey letters before and after, errors of what each half tells;
and where hues are drawn, so that colour cannot be told from lightness.
"""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Batch, Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.evidence.standardized import colored_letters
from vidssl.methods import SplitBrain
from vidssl.models.pictures.split import SplitResNet
from vidssl.ops.pixels.bins import color_bins, lightness_bins


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters with hues: linear probe before and after, errors of both halves."""
    initial = SplitBrain(
        SplitResNet(18, stride=4, layer="layer2", width=16),
        view=RandomResizedCrop(32, scale=(0.8, 1.0), flip=0.0),
        bins=(lightness_bins(), color_bins()),
    )
    figures = {"random": letters_probe(initial.encoder)}
    for name, by_letter in (("pretrained", True), ("hues_drawn", False)):
        method = copy.deepcopy(initial)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(colored_letters(6000, seed=seed, by_letter=by_letter), clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=200,
            batch_size=48,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        images = colored_letters(500, seed=1_000_003, by_letter=by_letter)
        batch = Batch(index=torch.arange(500), video=images[:, None], seed=torch.arange(500))
        with torch.no_grad():
            told = method.eval()(batch, 1.0)
        for part, channel in enumerate(("lightness", "color")):
            figures[f"error_of_{channel}_of_{name}"] = float(told[f"error_of_part_{part}"])
            figures[f"deviation_of_{channel}_of_{name}"] = float(told[f"deviation_of_part_{part}"])
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("error_of_color_of_pretrained", "below", "deviation_of_color_of_pretrained", 1),
        Claim("error_of_lightness_of_pretrained", "below", "deviation_of_lightness_of_pretrained", 2),
        Claim("deviation_of_color_of_hues_drawn", "below", "error_of_color_of_hues_drawn", 0),
    ),
    measure=measure,
)

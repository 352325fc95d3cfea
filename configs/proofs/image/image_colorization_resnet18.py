"""What image/image_colorization_resnet18 learns.

Grey letters whose hue is that of the letter: linear probe before and after, error of unseen colours; and where hues
are drawn, so that there is nothing to learn. The recipe as shipped, but smaller.
"""

import copy
import dataclasses
from functools import partial
from pathlib import Path

import torch

from vidssl import Batch
from vidssl.data import ArrayDataset
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.evidence.standardized import colored_letters
from vidssl.methods import ImageColorization


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters with hues: linear probe before and after, error of unseen colours."""
    draw = partial(colored_letters, 6000, seed=seed)
    run = shipped(
        "image/image_colorization_resnet18",
        draw(by_letter=True),
        folder=out,
        highest_lr=2e-3,
        steps=250,
        batch_size=64,
        size_px=32,
        crop_px=32,
        width=16,
    )
    assert isinstance(run.method, ImageColorization)
    initial = run.method
    figures = {"random": letters_probe(initial.encoder)}
    for name, by_letter in (("pretrained", True), ("hues_drawn", False)):
        method = copy.deepcopy(initial)
        dataset = ArrayDataset(draw(by_letter=by_letter), clips=method.clips)
        pretrain(dataclasses.replace(run, method=method, dataset=dataset), out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        error, of_grey = errors(method, by_letter=by_letter)
        figures |= {f"error_of_{name}": error, f"error_of_grey_of_{name}": of_grey}
    return {**figures, "chance": 10.0}


@torch.no_grad()
def errors(method: ImageColorization, *, by_letter: bool) -> tuple[float, float]:
    """Distance of unseen colours in a and b from those told, and from grey: the root of the mean square."""
    images = colored_letters(500, seed=1_000_003, by_letter=by_letter)
    batch = Batch(index=torch.arange(500), video=images[:, None], seed=torch.arange(500))
    losses = method.eval()(batch, 1.0)
    return float(losses["color_error"]), float(losses["color_error_of_grey"])


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 15),
        Claim("pretrained", "above", "hues_drawn", 10),
        Claim("error_of_pretrained", "below", "error_of_grey_of_pretrained", 1),
        Claim("error_of_grey_of_hues_drawn", "below", "error_of_hues_drawn", 0),
    ),
    measure=measure,
)

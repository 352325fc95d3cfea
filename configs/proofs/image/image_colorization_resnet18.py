"""What image/image_colorization_resnet18 learns.

Grey letters whose hue is that of the letter: linear probe before and after, error of unseen colours; and where hues
are drawn, so that there is nothing to learn.
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
from vidssl.methods import ImageColorization
from vidssl.models import ConvNet
from vidssl.models.pictures.decoder import Upsampler


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters with hues: linear probe before and after, error of unseen colours."""
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    initial = ImageColorization(
        encoder,
        enlarge=Upsampler(encoder.dim, widths=(40,)),
        view=RandomResizedCrop(32, scale=(0.8, 1.0), flip=0.0),
    )
    figures = {"random": letters_probe(encoder)}
    for name, by_letter in (("pretrained", True), ("hues_drawn", False)):
        method = copy.deepcopy(initial)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(colored_letters(6000, seed=seed, by_letter=by_letter), clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=200,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
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

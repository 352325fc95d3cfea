"""What image/simclr_resnet18 learns.

Grey letters: linear probe before and after, the recipe as shipped but smaller; and in colour, with and without colour
distortion.
"""

import copy
import dataclasses
from pathlib import Path

import torch
from torch import nn

from vidssl.augment import ColorJitter, Pipeline, RandomGray, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import SimCLR
from vidssl.models import Encoder

NUM_IMAGES = 4000


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and in colour, with and without colour distortion.

    Views are not mirrored as the recipe's are: a mirrored letter is no letter. Every picture keeps its colours under
    crops alone, and colours say nothing of the letter.
    """
    grey, colored = (worlds.letters(NUM_IMAGES, seed=seed, grey=grey)[0] for grey in (True, False))
    run = shipped(
        "image/simclr_resnet18",
        grey,
        folder=out,
        highest_lr=3.0,
        steps=250,
        batch_size=128,
        crop_px=32,
        width=16,
        temperature=0.2,
    )
    assert isinstance(run.method, SimCLR)
    initial = run.method

    def train(name: str, images: torch.Tensor, *, view: nn.Module, steps: int) -> Encoder:
        method = copy.deepcopy(initial)
        method.view = view
        dataset = ArrayDataset(images, clips=method.clips)
        pretrain(dataclasses.replace(run, method=method, dataset=dataset, steps=steps), out=out / name, seed=seed)
        return method.encoder

    crop = RandomResizedCrop(32, scale=(0.3, 1.0), flip=0.0)
    distortion = ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5)
    distorted = Pipeline(crop, distortion, RandomGray(probability=0.2), RandomInvert())
    random = with_open_blocks(initial.encoder)
    return {
        "random": letters_probe(random, grey=True),
        "random_at_zero": letters_probe(initial.encoder, grey=True),
        "pretrained": letters_probe(
            train("grey", grey, view=Pipeline(crop, RandomInvert()), steps=250), grey=True
        ),
        "random_in_color": letters_probe(random),
        "in_color_crops_alone": letters_probe(train("crops", colored, view=crop, steps=150)),
        "in_color_distorted": letters_probe(train("distorted", colored, view=distorted, steps=150)),
        "chance": 10.0,
    }


def with_open_blocks(encoder: Encoder) -> Encoder:
    """Copy a ResNet whose blocks start as identities, with blocks that work: features of it tell more of a picture."""
    opened = copy.deepcopy(encoder)
    for name, parameter in opened.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.ones_(parameter)
    return opened


PROOF = Proof(
    metric="linear probe on grey letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("in_color_distorted", "above", "in_color_crops_alone", 5),
    ),
    measure=measure,
)

"""What image/bigan_resnet18 learns.

Letters in grey: linear probe before and after, and with codes of other pictures before the critic; pictures drawn from
their own codes against those drawn from another's.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.evidence.standardized import grey_letters, share_of_variance
from vidssl.methods import BiGAN
from vidssl.models import ConvNet
from vidssl.models.pictures.bigan import CodeGenerator, JointCritic

CODE_DIM = 20


class WrongCodes(BiGAN):
    """The control: every picture comes with the code of another one, which says nothing of it."""

    def encode(self, video: Tensor) -> Tensor:
        """Codes of frames, of the picture before."""
        return super().encode(video).roll(1, dims=0)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters in grey: linear probe before and after, and with wrong codes."""
    images = grey_letters(6000, seed=seed)
    initial = BiGAN(
        ConvNet(color="gray", standardize=True, padding_mode="reflect"),
        generator=CodeGenerator(CODE_DIM, cells=(4, 4), dim=64, widths=(48, 24)),
        critic=JointCritic(CODE_DIM, cells=(4, 4), widths=(16, 32, 64), hidden_dim=128),
        view=RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
        code_dim=CODE_DIM,
    )
    figures = {"random": letters_probe(initial.encoder)}
    for kind, name in ((BiGAN, "pretrained"), (WrongCodes, "wrong_codes")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999)),
            learning_rate=optim.warmup(optim.cosine(1e-3), share=0.1),
            steps=250,
            batch_size=48,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        if name == "pretrained":
            figures |= regained(method)
    return {**figures, "chance": 10.0}


@torch.no_grad()
def regained(method: BiGAN) -> dict[str, float]:
    """Error of unseen pictures drawn from their own codes, and from those of others, over their variance."""
    test = grey_letters(500, seed=1_000_003).float() / 255
    drawn = (method.eval().generator(method.encode(test)) + 1) / 2
    return {
        "error_of_regained": share_of_variance(drawn, test),
        "error_of_another": share_of_variance(drawn.roll(1, dims=0), test),
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("pretrained", "above", "wrong_codes", 10),
        Claim("error_of_regained", "below", "error_of_another", 0.1),
    ),
    measure=measure,
)

"""What image/yadim_resnet34 learns. Letters: linear probe before and after; and with views of other pictures."""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import YADIM
from vidssl.models import ConvNet


class WrongViews(nn.Module):
    """Embeddings of cells, those of second views being the neighbour's."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Embed, and move the second half by one."""
        first, second = self.head(cells).chunk(2)
        return torch.cat([first, second.roll(1, dims=0)])


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with views of other pictures."""
    images, _ = worlds.letters(4000, seed=seed)
    # 32 pixels become 15, 13, 11, 5 and 3 cells.
    encoder = ConvNet(
        widths=(16, 16, 32, 32, 64),
        strides=(2, 1, 1, 2, 1),
        color="gray",
        standardize=True,
        padding_mode="none",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.4, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))

    def train(*, wrong: bool, name: str) -> float:
        method = YADIM(copy.deepcopy(encoder), view=view, dim=64)
        if wrong:
            method.head = WrongViews(method.head)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=200,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        return letters_probe(method.encoder)

    return {
        "random": letters_probe(encoder),
        "pretrained": train(wrong=False, name="yadim"),
        "wrong_views": train(wrong=True, name="wrong"),
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(Claim("pretrained", "above", "random", 20), Claim("pretrained", "above", "wrong_views", 20)),
    measure=measure,
)

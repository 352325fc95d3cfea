"""What image/cpc_resnet18 learns. Letters: linear probe before and after; and with patches in disorder."""

import copy
from functools import partial
from pathlib import Path

import torch

from vidssl import Batch, Run, optim
from vidssl.augment import GaussianNoise, Pipeline, RandomInvert, RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import CPC
from vidssl.models import ConvNet


class Disorder(CPC):
    """Patches change their places, in each picture by a draw of its own: rows above tell nothing of rows below."""

    def encode(self, batch: Batch) -> torch.Tensor:
        """Shuffle the features."""
        cells = super().encode(batch)
        order = torch.rand(len(cells), cells[0, 0].numel()).argsort(1)
        return cells.flatten(2).gather(2, order[:, None].expand(-1, cells.shape[1], -1)).view_as(cells)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with patches in disorder."""
    images, _ = worlds.letters(4000, seed=seed)
    encoder = ConvNet(
        widths=(16, 32, 32, 64),
        strides=(2, 1, 2, 1),
        color="gray",
        norm="group",
        padding_mode="reflect",
    )
    view = Pipeline(RandomResizedCrop(32, scale=(0.6, 1.0), flip=0.0), RandomInvert(), GaussianNoise(std=0.05))
    figures = {"random": letters_probe(encoder)}

    def train(kind: type[CPC], *, name: str) -> None:
        learner = copy.deepcopy(encoder)
        sizes = {"patch_px": 12, "stride_px": 5, "rows_ahead": (2, 3), "context_dim": 64, "hidden_dim": 64}
        method = kind(learner, view=view, num_directions=4, target_dim=32, scale=0.3, **sizes)
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=180,
            batch_size=32,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[f"{name}_accuracy"] = accuracy(method, seed=seed)
        figures["pretrained" if name == "cpc" else name] = letters_probe(learner)

    train(CPC, name="cpc")
    train(Disorder, name="disorder")
    return {**figures, "chance_accuracy": 100 / (32 * 25), "chance": 10.0}


@torch.no_grad()
def accuracy(method: CPC, *, seed: int) -> float:
    """Per cent of the patches of unseen pictures that are told from all patches of 32 pictures."""
    images, _ = worlds.letters(320, seed=1_000_003)
    method.eval()
    found = []
    for number, part in enumerate(images.split(32)):
        index = 32 * number + torch.arange(32)
        found.append(method(Batch(index=index, video=part[:, None], seed=index + seed), 1.0)["accuracy"])
    return 100 * float(torch.stack(found).mean())


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("pretrained", "above", "disorder", 10),
        Claim("cpc_accuracy", "above", "disorder_accuracy", 5),
    ),
    measure=measure,
)

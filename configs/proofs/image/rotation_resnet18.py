"""What image/rotation_resnet18 learns.

Letters: linear probe before and after; and with wrong names for the turns.
"""

import copy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl import Batch, Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import Rotation
from vidssl.models import ConvNet
from vidssl.ops import draws


class WrongTurns(Rotation):
    """The control: the four turns of a picture are named by a permutation of its own."""

    def names(self, batch: Batch) -> Tensor:
        """Names of the four turns of each picture, int64 (B, 4): the same in every epoch."""
        return draws.permutation(batch.index, 4, stream=1)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the wrong names."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed)
        turned = torch.cat([torch.rot90(video, turns, dims=(3, 4)) for turns in range(4)])
        return {"loss": F.cross_entropy(self.classifier(self.encoder(turned)), self.names(batch).T.flatten())}


class DrawnTurns(WrongTurns):
    """The control: the names are drawn at random in every step."""

    def names(self, batch: Batch) -> Tensor:
        """Each of the four on its own, int64 (B, 4)."""
        assert batch.seed is not None
        return draws.integers(batch.seed, 4, 4, stream=1)


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: linear probe before and after; and with wrong names for the turns."""
    images, _ = worlds.letters(6000, seed=seed)
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    initial = Rotation(encoder, view=RandomResizedCrop(32, scale=(0.5, 1.0), flip=0.0))
    figures = {"random": letters_probe(encoder)}
    for kind, name in ((Rotation, "pretrained"), (WrongTurns, "permuted_turns"), (DrawnTurns, "drawn_turns")):
        method = copy.deepcopy(initial)
        method.__class__ = kind
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=150,
            batch_size=24,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "permuted_turns", 10),
        Claim("pretrained", "above", "drawn_turns", 10),
    ),
    measure=measure,
)

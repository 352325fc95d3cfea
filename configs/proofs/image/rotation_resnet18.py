"""What image/rotation_resnet18 learns.

Grey letters: linear probe before and after, the recipe as shipped but smaller; and with wrong names for the turns.
"""

import copy
import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl import Batch
from vidssl.augment import RandomResizedCrop
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.methods import Rotation
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
    """Grey letters: linear probe before and after, the recipe as shipped; and with wrong names for the turns.

    Views are not mirrored as the recipe's are: a mirrored letter may be another one, or itself upside down.
    """
    run = shipped(
        "image/rotation_resnet18",
        worlds.letters(4000, seed=seed, grey=True)[0],
        folder=out,
        highest_lr=0.1,
        steps=400,
        batch_size=24,
        crop_px=32,
        width=16,
    )
    run.method.view = RandomResizedCrop(32, scale=(0.5, 1.0), flip=0.0)
    figures = {"random": letters_probe(run.method.encoder, grey=True)}
    for kind, name in ((Rotation, "pretrained"), (WrongTurns, "permuted_turns"), (DrawnTurns, "drawn_turns")):
        method = copy.deepcopy(run.method)
        method.__class__ = kind
        pretrain(dataclasses.replace(run, method=method), out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder, grey=True)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on grey letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "permuted_turns", 10),
        Claim("pretrained", "above", "drawn_turns", 10),
    ),
    measure=measure,
)

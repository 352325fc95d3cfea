"""What video/colorization_resnet18 learns.

Grey sprites: propagated masks, after training on videos that move and on videos that stand still; the recipe as shipped
but smaller.
"""

import copy
import dataclasses
from functools import partial
from pathlib import Path

from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.probes import sprite_jaccard
from vidssl.evidence.proof import Proof, pretrain, shipped
from vidssl.evidence.refutation import Claim
from vidssl.models import Encoder, ResNet


def measure(seed: int, out: Path) -> dict[str, float]:
    """Grey sprites: propagated masks, after training on videos that move and on videos that stand still."""
    jaccard = partial(sprite_jaccard, num_sprites=2, speed_px=(3, 7))
    draw = partial(worlds.sprites, 500, seed=seed, num_frames=4, num_sprites=2, speed_px=(3, 7))
    run = shipped(
        "video/colorization_resnet18",
        draw(world="moving").video,
        folder=out,
        highest_lr=6e-3,
        steps=450,
        batch_size=8,
        crop_px=64,
        crop_scale=(1.0, 1.0),
        offsets_frames=(0, 1, 2, 3),
        width=16,
    )
    figures = {"random": jaccard(finer(run.method.encoder)), "pretrained": 0.0, "identity": jaccard(None)}
    worlds_of: dict[str, worlds.World] = {"pretrained": "moving", "trained without motion": "static"}
    for name, world in worlds_of.items():
        method = copy.deepcopy(run.method)
        dataset = ArrayDataset(draw(world=world).video, clips=run.method.clips)
        pretrain(dataclasses.replace(run, method=method, dataset=dataset), out=out / world, seed=seed)
        figures[name] = jaccard(finer(method.encoder))
    return figures


def finer(encoder: Encoder) -> ResNet:
    """Copy the recipe's network, at a stride of 4 instead of 8: a sprite is two of those cells wide."""
    copied = ResNet(18, stride=4, layer="layer3", color="gray", width=16, padding_mode="reflect")
    copied.load_state_dict(encoder.state_dict())
    return copied


PROOF = Proof(
    metric="J of sprites, frame 0 to 3, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("pretrained", "above", "identity", 10),
        Claim("pretrained", "above", "trained without motion", 5),
    ),
    measure=measure,
)

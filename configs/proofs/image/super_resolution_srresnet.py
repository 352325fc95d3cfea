"""What image/super_resolution_srresnet learns.

Letters from 8 to 32 px: likeness of unseen ones before and after, against bicubic interpolation and another letter.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import SuperResolution
from vidssl.models.pictures.super_resolution import PixelShuffler, SRResNet, bicubic_down
from vidssl.ops.pixels.quality import psnr, ssim


@torch.no_grad()
def likeness(method: SuperResolution, images: Tensor) -> dict[str, float]:
    """PSNR in decibels and SSIM of unseen pictures: as drawn, by two interpolations, and drawn for another."""
    truth = images.float() / 255
    small = bicubic_down(truth, scale=4)
    drawn = (method.eval().draw(small) + 1) / 2
    enlarged = {
        "drawn": drawn,
        "bicubic": F.interpolate(small[:, 0], truth.shape[3:], mode="bicubic").clamp(0, 1)[:, None],
        "nearest": F.interpolate(small[:, 0], truth.shape[3:])[:, None],
        "another": drawn.roll(1, dims=0),
    }
    figures = {}
    for name, one in enlarged.items():
        figures[name] = float(psnr(one[:, 0], truth[:, 0], border_px=4).mean())
        figures[f"ssim_of_{name}"] = float(ssim(one[:, 0], truth[:, 0], border_px=4).mean())
    return figures


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters from 8 to 32 px: likeness of unseen ones before and after."""
    images, _ = worlds.letters(6000, seed=seed, noise=0.0)
    test, _ = worlds.letters(500, seed=1_000_003, noise=0.0)
    method = SuperResolution(
        SRResNet(width=24, num_blocks=3),
        enlarge=PixelShuffler(24, scale=4),
        view=RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
    )
    random = likeness(method, test)["drawn"]
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.Adam, lr=2e-3),
        learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
        steps=350,
        batch_size=32,
    )
    pretrain(recipe, out=out, seed=seed)
    figures = likeness(method, test)
    return {"random": random, "pretrained": figures.pop("drawn"), **figures}


PROOF = Proof(
    metric="PSNR of letters four times enlarged, decibels",
    claims=(
        Claim("pretrained", "above", "random", 5),
        Claim("pretrained", "above", "bicubic", 1),
        Claim("ssim_of_drawn", "above", "ssim_of_bicubic", 0.02),
        Claim("pretrained", "above", "another", 5),
    ),
    measure=measure,
)

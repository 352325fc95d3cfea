"""What image/autoencoder_resnet18 learns.

Letters in grey: linear probe before and after; error of unseen pictures. In so few steps it draws worse than the best
linear code of the same size (`error_of_linear_code`), which has no claim.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.evidence.standardized import drawn_by_components, grey_letters, share_of_variance
from vidssl.methods import Autoencoder
from vidssl.models import ConvNet
from vidssl.models.pictures.decoder import Bottleneck, PictureDecoder

CODE_DIM = 16


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters in grey: linear probe before and after; error of unseen pictures."""
    images = grey_letters(6000, seed=seed)
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    method = Autoencoder(
        encoder,
        decoder=nn.Sequential(
            Bottleneck(encoder.dim, cells=(4, 4), code_dim=CODE_DIM), PictureDecoder(encoder.dim, widths=(48, 24))
        ),
        view=RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
    )
    figures = {"random": letters_probe(encoder)}
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
        learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
        steps=400,
        batch_size=64,
    )
    pretrain(recipe, out=out, seed=seed)
    method.eval()
    test = grey_letters(500, seed=1_000_003).float() / 255
    with torch.no_grad():
        drawn = method.draw(test, torch.arange(len(test)))
    linear = drawn_by_components(images[:3000].float() / 255, test, num_components=CODE_DIM)
    return {
        **figures,
        "pretrained": letters_probe(encoder),
        "error": share_of_variance(drawn, test),
        "error_of_mean": share_of_variance(test.mean((3, 4), keepdim=True), test),
        "error_of_linear_code": share_of_variance(linear, test),
        "error_of_another": share_of_variance(drawn.roll(1, dims=0), test),
        "chance": 10.0,
    }


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("error", "below", "error_of_mean", 0.08),
        Claim("error", "below", "error_of_another", 0.15),
    ),
    measure=measure,
)

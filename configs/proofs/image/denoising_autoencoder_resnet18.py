"""What image/denoising_autoencoder_resnet18 learns.

Letters in grey, three quarters of the pixels lost: linear probe before and after, and without noise; error of unseen
pictures. In so few steps the best blur of the known pixels draws better (`error_of_best_blur`), and the probe is as
good without noise (`without_noise`): neither has a claim.
"""

import copy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.evidence.standardized import grey_letters, share_of_variance
from vidssl.methods import DenoisingAutoencoder
from vidssl.methods.image.denoising_autoencoder import masking_noise
from vidssl.models import ConvNet
from vidssl.models.pictures.decoder import PictureDecoder

LOST_SHARE = 0.75  # half leaves every lost pixel a known neighbour


def without_noise(video: Tensor, seed: Tensor) -> Tensor:
    """The control: nothing is lost, and the decoder has no bottleneck."""
    return video


def blurred(shown: Tensor, known: Tensor, *, sigma_px: float) -> Tensor:
    """Fill with the mean of the known pixels, weighted by a Gaussian: (N, 1, 3, S, S), bool (N, 1, 1, S, S)."""
    place = torch.arange(-6, 7).float()
    line = (-place.square() / (2 * sigma_px**2)).exp()
    kernel = (line[:, None] * line)[None, None]

    def smooth(values: Tensor) -> Tensor:
        return F.conv2d(F.pad(values.flatten(0, 2)[:, None], (6, 6, 6, 6)), kernel).view_as(values)

    return smooth(shown * known) / smooth(known.float().expand_as(shown)).clamp(min=1e-6)


@torch.no_grad()
def errors(method: DenoisingAutoencoder) -> dict[str, float]:
    """Errors of unseen pictures: as drawn, of mean, of the best Gaussian fill, of what is drawn for another."""
    test, seed = grey_letters(500, seed=1_000_003).float() / 255, torch.arange(500)
    drawn = method.eval().draw(test, seed)
    known = masking_noise(torch.ones_like(test), seed, share=LOST_SHARE, value=0.0)[:, :, :1] > 0
    fills = [share_of_variance(blurred(test, known, sigma_px=sigma), test) for sigma in (0.5, 0.7, 1.0, 1.4, 2.0)]
    return {
        "error": share_of_variance(drawn, test),
        "error_of_mean": share_of_variance(test.mean((3, 4), keepdim=True), test),
        "error_of_best_blur": min(fills),
        "error_of_another": share_of_variance(drawn.roll(1, dims=0), test),
    }


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters in grey: linear probe before and after; error of unseen pictures."""
    images = grey_letters(6000, seed=seed)
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    initial = DenoisingAutoencoder(
        encoder,
        decoder=PictureDecoder(encoder.dim, widths=(48, 24)),
        view=RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
    )
    figures = {"random": letters_probe(encoder)}
    for name, corrupt in (
        ("pretrained", partial(masking_noise, share=LOST_SHARE)),
        ("without_noise", without_noise),
    ):
        method = copy.deepcopy(initial)
        method.corrupt = corrupt
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=250,
            batch_size=64,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        if name == "pretrained":
            figures |= errors(method)
    return {**figures, "chance": 10.0}


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 10),
        Claim("error", "below", "error_of_mean", 0.08),
        Claim("error", "below", "error_of_another", 0.15),
    ),
    measure=measure,
)

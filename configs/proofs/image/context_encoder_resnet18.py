"""What image/context_encoder_resnet18 learns.

Letters in grey: linear probe before and after, with and without the critic; error in unseen blocks against what needs
no learning.
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
from vidssl.evidence import worlds
from vidssl.evidence.probes import letters_probe
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import ContextEncoder
from vidssl.models import ConvNet
from vidssl.models.inpainting import InpaintingDecoder, PictureCritic
from vidssl.ops.holes import random_blocks


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters in grey: linear probe before and after; error in unseen blocks against what needs no learning."""
    images = standardized(worlds.letters(6000, seed=seed)[0])
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    initial = ContextEncoder(
        encoder,
        decoder=InpaintingDecoder(encoder.dim, num_cells=16, widths=(64, 32)),
        critic=PictureCritic(widths=(16, 32, 64)),
        view=RandomResizedCrop(32, scale=(0.7, 1.0), flip=0.0),
        holes=random_blocks,
        overlap_px=1,
    )
    figures = {"random": letters_probe(encoder)}
    for name in ("pretrained", "without_critic"):
        method = copy.deepcopy(initial)
        if name == "without_critic":
            method.adversarial_weight = 0.0
        recipe = Run(
            method=method,
            dataset=ArrayDataset(images, clips=method.clips),
            optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=250,
            batch_size=48,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = letters_probe(method.encoder)
        if name == "pretrained":
            figures |= errors(method)
        else:
            figures["error_without_critic"] = errors(method)["error"]
    return {**figures, "chance": 10.0}


def standardized(images: Tensor) -> Tensor:
    """Grey, mean 128 and deviation 48 in every picture: contrast tells nothing. uint8 to uint8, the same shape."""
    grey = (images.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(-3, keepdim=True)
    deviation, mean = torch.std_mean(grey, dim=(-3, -2, -1), keepdim=True)
    grey = (128 + 48 * (grey - mean) / deviation).clamp(0, 255)
    return grey.round().to(torch.uint8).expand_as(images)


@torch.no_grad()
def errors(method: ContextEncoder, *, num_images: int = 300) -> dict[str, float]:
    """Mean squared error in holes of unseen pictures, in units of the variance of the picture.

    Of what is drawn; of the picture's mean; of the nearest known pixel; of the harmonic filling, the smoothest that
    meets the known pixels; of what is drawn for another picture.
    """
    video = standardized(worlds.letters(num_images, seed=1_000_003)[0]).float() / 255
    hole = random_blocks(torch.arange(num_images), 32, 32)
    method.eval()
    drawn = (method.predict(video, hole) + 1) / 2
    known = video.where(~hole[:, None, None], torch.nan)
    mean = known.nanmean(dim=(1, 3, 4), keepdim=True).expand_as(video)

    def error(filled: Tensor) -> float:
        squared = (filled - video).square().mean(dim=(1, 2))  # (B, H, W)
        return ((squared * hole).sum() / hole.sum() / (48 / 255) ** 2).item()

    return {
        "error": error(drawn),
        "error_of_mean": error(mean),
        "error_of_nearest": error(nearest_known(video, hole)),
        "error_of_harmonic": error(harmonic(mean, video, hole)),
        "error_of_another": error(drawn.roll(1, dims=0)),
    }


def nearest_known(video: Tensor, hole: Tensor) -> Tensor:
    """Copy into every pixel of a hole the known pixel that lies nearest: (B, T, 3, H, W), bool (B, H, W)."""
    height, width = hole.shape[1:]
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    distance = torch.cdist(place, place)
    nearest = torch.stack([distance.masked_fill(one.flatten(), torch.inf).argmin(1) for one in hole])
    index = nearest[:, None, None].expand(-1, *video.shape[1:3], -1)
    return video.flatten(3).gather(3, index).view_as(video)


def harmonic(start: Tensor, video: Tensor, hole: Tensor, *, num_iterations: int = 500) -> Tensor:
    """Solve Laplace's equation in the holes (Jacobi's iteration): every pixel there is the mean of its neighbours.

    Args:
        start: First guess, (B, T, 3, H, W).
        video: Pictures, of which the pixels outside of the holes count.
        hole: bool (B, H, W), narrow: the error falls by a fixed share per iteration.
        num_iterations: A hole 16 px wide is solved to 1e-4 of the first guess's error.
    """
    filled = torch.where(hole[:, None, None], start, video)
    for _ in range(num_iterations):
        ring = F.pad(filled.flatten(1, 2), (1, 1, 1, 1), mode="replicate")
        mean = (ring[..., 1:-1, :-2] + ring[..., 1:-1, 2:] + ring[..., :-2, 1:-1] + ring[..., 2:, 1:-1]) / 4
        filled = torch.where(hole[:, None, None], mean.view_as(filled), video)
    return filled


PROOF = Proof(
    metric="linear probe on letters, per cent",
    claims=(
        Claim("pretrained", "above", "random", 15),
        Claim("error", "below", "error_of_mean", 0.05),
        Claim("error", "below", "error_of_nearest", 0.2),
        Claim("error", "below", "error_of_harmonic", 0.02),
        Claim("error", "below", "error_of_another", 0.1),
    ),
    measure=measure,
)

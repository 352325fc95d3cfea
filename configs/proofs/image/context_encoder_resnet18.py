"""What image/context_encoder_resnet18 learns.

Letters in grey: linear probe before and after; error in unseen blocks against what needs no learning.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, letters_probe, pretrain
from vidssl.methods import ContextEncoder
from vidssl.models import ConvNet
from vidssl.models.inpainting import InpaintingDecoder, PictureCritic
from vidssl.ops.holes import random_blocks


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters in grey: linear probe before and after; error in unseen blocks against what needs no learning."""
    images = standardized(worlds.letters(6000, seed=seed)[0])
    encoder = ConvNet(color="gray", standardize=True, padding_mode="reflect")
    random = letters_probe(copy.deepcopy(encoder))
    method = ContextEncoder(
        encoder,
        decoder=InpaintingDecoder(encoder.dim, num_cells=16, widths=(64, 32)),
        critic=PictureCritic(widths=(16, 32, 64)),
        view=RandomResizedCrop(32, scale=(0.7, 1.0), flip=0.0),
        holes=random_blocks,
        overlap_px=1,
    )
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
        learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
        steps=300,
        batch_size=64,
    )
    pretrain(recipe, out=out, seed=seed)
    return {"random": random, "pretrained": letters_probe(encoder), **errors(method), "chance": 10.0}


def standardized(images: Tensor) -> Tensor:
    """Grey, mean 128 and deviation 48 in every picture: contrast tells nothing. uint8 to uint8, the same shape."""
    grey = (images.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(-3, keepdim=True)
    deviation, mean = torch.std_mean(grey, dim=(-3, -2, -1), keepdim=True)
    grey = (128 + 48 * (grey - mean) / deviation).clamp(0, 255)
    return grey.round().to(torch.uint8).expand_as(images)


@torch.no_grad()
def errors(method: ContextEncoder, *, num_images: int = 500) -> dict[str, float]:
    """Mean squared error in holes of unseen pictures, in units of the variance of the picture.

    Of what is drawn; of the picture's mean; of the nearest known pixel; of what is drawn for another picture.
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


PROOF = Proof(
    metric="linear probe on letters, per cent",
    line="above random initialisation; the error in holes is below that of the mean and of the nearest known pixel",
    holds=lambda figures: (
        figures["pretrained"] > figures["random"]
        and figures["error"] < min(figures["error_of_mean"], figures["error_of_nearest"])
    ),
    measure=measure,
)

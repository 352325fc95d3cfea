"""What image/mae_vit_base learns. Letters: error on hidden patches, and the probe of the letter before and after."""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from vidssl import Run, optim
from vidssl.data import ArrayDataset
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, pooled_features, pretrain
from vidssl.methods import MAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.masks import take


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Scale to [0, 1]."""
        return video.float() / 255


def bright_letters(num_images: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Letters of worlds.letters in grey of equal contrast, bright on dark, uint8 (N, 1, 3, 32, 32), and their classes.

    Colour, brightness, contrast and their sign are drawn at random and would be noise to paint.
    """
    images, label = worlds.letters(num_images, seed=seed)
    grey = torch.einsum("ntchw, c -> nthw", images.float(), torch.tensor([0.299, 0.587, 0.114]))
    deviation, mean = torch.std_mean(grey, dim=(1, 2, 3), keepdim=True)
    grey = (grey - mean) / deviation
    # Ink covers less than paper: its side of the mean is the longer tail.
    grey = grey * torch.where(grey.pow(3).mean((1, 2, 3), keepdim=True) < 0, -1.0, 1.0)
    return (128 + 50 * grey).clamp(0, 255).to(torch.uint8)[:, :, None].expand(-1, -1, 3, -1, -1), label


def letter_probe(encoder: VideoViT) -> float:
    """Linear probe of the letter, per cent of the test images that are right."""
    train, train_label = bright_letters(3000, seed=1_000_001)
    test, test_label = bright_letters(1500, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


@torch.no_grad()
def hidden_errors(method: MAE) -> dict[str, float]:
    """Mean squared error of hidden patches on held-out images; fills: mean of the visible patches, nearest of them."""
    images = bright_letters(1000, seed=1_000_003)[0].float() / 255
    grid = method.encoder.grid(images)
    visible, hidden = method.split(torch.arange(len(images)), grid)
    patches = method.targets(images)
    truth, shown = take(patches, hidden), take(patches, visible)
    places = torch.cartesian_prod(torch.arange(grid[1]), torch.arange(grid[2])).float()
    fills = {
        "error_hidden": method.predict(images, visible, hidden),
        "error_mean_fill": shown.mean((1, 2), keepdim=True).expand_as(truth),
        "error_nearest_visible": take(shown, torch.cdist(places[hidden], places[visible]).argmin(2)),
    }
    return {name: (fill - truth).square().mean().item() for name, fill in fills.items()}


def measure(seed: int, out: Path) -> dict[str, float]:
    """Letters: error on hidden patches, and the probe of the letter before and after."""
    images, _ = bright_letters(6000, seed=seed)
    encoder = VideoViT(dim=96, depth=3, num_heads=4, patch_px=4, tubelet_frames=1, mean=(0.5,) * 3, std=(0.2,) * 3)
    random = letter_probe(copy.deepcopy(encoder))
    decoder = TokenPredictor(encoder.dim, encoder.patch_values, width=48, depth=2, num_heads=4)
    method = MAE(encoder, decoder=decoder, view=Whole(), normalize=False)
    recipe = Run(
        method=method,
        dataset=ArrayDataset(images, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(1.5e-3), share=0.1),
        steps=800,
        batch_size=32,
        max_grad_norm=1.0,
    )
    pretrain(recipe, out=out, seed=seed)
    return {"random": random, "pretrained": letter_probe(encoder), **hidden_errors(method), "chance": 10.0}


PROOF = Proof(
    metric="linear probe on grey letters, bright on dark, per cent",
    line="error on hidden patches below mean fill and nearest visible patch (the probe is reported, not required)",
    holds=lambda figures: (
        figures["error_hidden"] < min(figures["error_mean_fill"], figures["error_nearest_visible"])
    ),
    measure=measure,
)

"""What video/videomae_vit_base learns.

Silhouettes of moving shapes: error on moving patches, and the probe of the shape before and after.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from vidssl import Run, optim
from vidssl.data import ArrayDataset
from vidssl.data.clips import random_clips
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, pooled_features, pretrain
from vidssl.methods import VideoMAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.masks import take


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Scale to [0, 1]."""
        return video.float() / 255


def silhouettes(num_videos: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """White shapes moving on black, uint8 (N, 4, 3, 32, 32), and their classes. Textures would be noise to paint."""
    world = worlds.sprites(
        num_videos, seed=seed, num_frames=4, size_px=32, sprite_px=(12, 16), speed_px=(1.5, 3.5)
    )
    video = (world.ids > 0).to(torch.uint8) * 255
    return video[:, :, None].expand(-1, -1, 3, -1, -1), world.classes[:, 0]


def shape_probe(encoder: VideoViT) -> float:
    """Linear probe of the shape, per cent of the test clips that are right."""
    (train, train_label), (test, test_label) = silhouettes(1000, seed=1_000_001), silhouettes(1000, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


@torch.no_grad()
def moving_errors(method: VideoMAE) -> dict[str, float]:
    """Mean squared error of the hidden patches that change between time steps, on held-out clips.

    Controls: the mean of the visible pixels; the visible patch of the same time step that is nearest; and the true
    patch at the same place one step earlier, which tubes hide from the method.
    """
    video = silhouettes(500, seed=1_000_003)[0].float() / 255
    grid = steps, rows, columns = method.encoder.grid(video)
    visible, hidden = method.split(torch.arange(500), grid)
    patches = method.targets(video)  # (B, N, values)
    truth, shown = take(patches, hidden), take(patches, visible)
    earlier = patches.roll(rows * columns, dims=1)
    moving = take((patches != earlier).any(2), hidden) & (
        hidden >= rows * columns
    )  # the first step has no earlier
    # Steps lie so far apart that the nearest patch is one of the same step.
    places = torch.cartesian_prod(1000 * torch.arange(steps), torch.arange(rows), torch.arange(columns)).float()
    nearest = torch.cdist(places[hidden], places[visible]).argmin(2)
    fills = {
        "error_moving": method.predict(video, visible, hidden),
        "error_mean_fill": shown.mean((1, 2), keepdim=True).expand_as(truth),
        "error_nearest_visible": take(shown, nearest),
        "error_frame_copy": take(earlier, hidden),
    }
    return {name: (fill - truth)[moving].square().mean().item() for name, fill in fills.items()}


def measure(seed: int, out: Path) -> dict[str, float]:
    """Silhouettes of moving shapes: error on moving patches, and the probe of the shape before and after."""
    video, _ = silhouettes(3000, seed=seed)
    encoder = VideoViT(dim=96, depth=3, num_heads=4, patch_px=4, mean=(0.5,) * 3, std=(0.2,) * 3)
    random = shape_probe(copy.deepcopy(encoder))
    # Plain pixels: most patches of this world are flat, and normalised they would all be zero.
    method = VideoMAE(
        encoder,
        decoder=TokenPredictor(encoder.dim, encoder.patch_values, width=48, depth=2, num_heads=4),
        view=Whole(),
        mask_ratio=0.75,
        normalize=False,
        clips=partial(random_clips, num_frames=4),
    )
    recipe = Run(
        method=method,
        dataset=ArrayDataset(video, clips=method.clips),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(1e-3), share=0.1),
        steps=500,
        batch_size=32,
        max_grad_norm=1.0,
    )
    pretrain(recipe, out=out, seed=seed)
    return {"random": random, "pretrained": shape_probe(encoder), **moving_errors(method), "chance": 25.0}


PROOF = Proof(
    metric="linear probe of the shape on silhouettes of moving shapes, per cent",
    line="error on moving hidden patches below mean fill, nearest visible patch and frame copy (the true patch one "
    "step earlier, hidden from the method); probe above random initialisation",
    holds=lambda figures: (
        figures["pretrained"] > figures["random"]
        and figures["error_moving"]
        < min(figures[f"error_{name}"] for name in ("mean_fill", "nearest_visible", "frame_copy"))
    ),
    measure=measure,
)

"""VideoMAE, ViT-B/16 with tubelets of two frames (Tong et al. 2022, arXiv:2203.12602).

The paper's pretraining on Kinetics-400: 16 frames 4 apart, AdamW with betas 0.9 and 0.95, weight decay 0.05, batch
2048, learning rate 1.5e-4 per 256 clips, 40 of 800 epochs of warm-up, then half a cosine down to 1e-5. The decoder has
4 blocks of width 384.

Differences from the paper: windows are drawn as random resized crops, and half of them are mirrored.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from vidssl import Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.clips import random_clips
from vidssl.evaluate.probe import linear_accuracy
from vidssl.methods import VideoMAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.masks import take
from vidssl.proof import Proof, pooled_features, pretrain

METHOD = "VideoMAE"
PAPER = "Tong et al. 2022, arXiv:2203.12602"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 94_000,
    batch_size: int = 32,
    lr: float = 1.2e-3,
    size_px: int = 256,
    crop_px: int = 224,
    num_frames: int = 16,
    stride_frames: int = 4,
    dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    decoder_dim: int = 384,
    decoder_depth: int = 4,
    mask_ratio: float = 0.9,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps; 800 epochs of Kinetics-400 at batch 2048.
        batch_size: Clips per step and process; 64 processes make the paper's 2048.
        lr: Highest learning rate: 1.5e-4 times clips per step over all processes, over 256.
        size_px: Short side to which videos are scaled when they are decoded.
        crop_px: Height and width of the training clips.
        num_frames: Frames of a clip, an even number.
        stride_frames: Frames of the video from one to the next; the paper takes 2 for Something-Something.
        dim: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Of the encoder's attention.
        decoder_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        mask_ratio: Share of the patches of a frame that are hidden.
    """
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, patch_px=16, tubelet_frames=2)
    decoder = TokenPredictor(dim, encoder.patch_values, width=decoder_dim, depth=decoder_depth, num_heads=6)
    method = VideoMAE(
        encoder,
        decoder=decoder,
        view=RandomResizedCrop(crop_px, scale=(0.5, 1.0)),
        mask_ratio=mask_ratio,
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.AdamW, lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(lr, 1e-5), share=0.05),
        steps=steps,
        batch_size=batch_size,
    )


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

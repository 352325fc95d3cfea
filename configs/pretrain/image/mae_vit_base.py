"""MAE, ViT-B/16 (He et al. 2021, arXiv:2111.06377), on images or on frames of videos.

The paper's pretraining on ImageNet (Table 8): AdamW with betas 0.9 and 0.95, weight decay 0.05, batch 4096, learning
rate 1.5e-4 per 256 samples, 40 of 800 epochs of warm-up, then half a cosine; random resized crops and mirroring. The
decoder has 8 blocks of width 512.

Differences from the paper: pictures are scaled bilinearly (there bicubically).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import MAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor

METHOD = "MAE"
PAPER = "He et al. 2021, arXiv:2111.06377"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 250_000,
    batch_size: int = 64,
    lr: float = 1.5e-4,
    size_px: int = 256,
    crop_px: int = 224,
    dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    decoder_dim: int = 512,
    decoder_depth: int = 8,
    mask_ratio: float = 0.75,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps; 800 epochs of ImageNet at batch 4096.
        batch_size: Pictures per step and process; 64 processes make the paper's 4096.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        dim: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Of the encoder's attention.
        decoder_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        mask_ratio: Share of the patches that are hidden.
    """
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, patch_px=16, tubelet_frames=1, positions="space")
    decoder = TokenPredictor(
        dim,
        encoder.patch_values,
        width=decoder_dim,
        depth=decoder_depth,
        num_heads=16,
        positions="space",
        mask_token_std=0.02,
    )
    view = RandomResizedCrop(crop_px, scale=(0.2, 1.0))
    method = MAE(encoder, decoder=decoder, view=view, mask_ratio=mask_ratio)
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(peak), share=0.05),
        steps=steps,
        batch_size=batch_size,
    )

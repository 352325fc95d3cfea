"""V-JEPA, ViT-L/16 with tubelets of two frames (Bardes et al. 2024, arXiv:2404.08471).

The paper's pretraining: 16 frames 4 apart, AdamW, batch 3072, 90 k steps, learning rate from 2e-4 to 6.25e-4 in the
first 40 of 300 epochs, then half a cosine down to 1e-6, gradients clipped at norm 10, bfloat16 (`--precision
bfloat16`). The predictor has 12 blocks of width 384.

Differences from the paper: the learning rate rises from 0; weight decay stays at 0.04 (the paper's rises to 0.4 along a
cosine); gradients are clipped from the first step on; layers are drawn as MAE draws them.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import VJEPA
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor

METHOD = "VJEPA"
PAPER = "Bardes et al. 2024, arXiv:2404.08471"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 90_000,
    batch_size: int = 24,
    lr: float = 6.25e-4,
    size_px: int = 256,
    crop_px: int = 224,
    num_frames: int = 16,
    stride_frames: int = 4,
    dim: int = 1024,
    depth: int = 24,
    num_heads: int = 16,
    predictor_dim: int = 384,
    predictor_depth: int = 12,
    momentum: float = 0.998,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process; 128 processes make the paper's 3072.
        lr: Highest learning rate, for 3072 clips per step.
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training clips.
        num_frames: Frames of a clip, an even number.
        stride_frames: Frames of the video from one to the next.
        dim: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Of the attention of encoder and predictor.
        predictor_dim: Width of the predictor.
        predictor_depth: Blocks of the predictor.
        momentum: Of the teacher at the start.
    """
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, patch_px=16, tubelet_frames=2)
    predictor = TokenPredictor(dim, dim, width=predictor_dim, depth=predictor_depth, num_heads=num_heads)
    method = VJEPA(
        encoder,
        predictor=predictor,
        view=RandomResizedCrop(crop_px, scale=(0.3, 1.0), ratio=(0.75, 1.35)),
        momentum=momentum,
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.04),
        learning_rate=optim.warmup(optim.cosine(lr, 1e-6), share=0.133),
        steps=steps,
        batch_size=batch_size,
        max_grad_norm=10.0,
    )

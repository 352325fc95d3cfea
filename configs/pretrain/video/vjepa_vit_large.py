"""V-JEPA, ViT-L/16 with tubelets of two frames (Bardes et al. 2024, arXiv:2404.08471).

The paper's pretraining: 16 frames 4 apart, AdamW, 90 k steps of 3072 clips (128 processes), rate 2e-4 to 6.25e-4 in 40
of 300 epochs, then a cosine to 1e-6, weight decay 0.04 to 0.4, momentum 0.998 to 1, all three as if for 375 epochs;
student and predictor are clipped at norm 10 each; `--precision bfloat16`. The predictor has 12 blocks of width 384.

Differences from the paper: rates of other steps are scaled linearly; the warm-up is clipped, too; MAE's first weights.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import VJEPA
from vidssl.models.video_vit import TokenPredictor, VideoViT

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
        lr: Highest learning rate for 3072 clips per step, all processes together (optim.scaled_rate).
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
    stretched = partial(optim.stretched, by=1.25)
    start, peak, end = (optim.scaled_rate(r, batch_size=batch_size, per=3072) for r in (2e-4, lr, 1e-6))
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, positions="space_time_full")
    narrow = partial(TokenPredictor, width=predictor_dim, depth=predictor_depth, num_heads=num_heads)
    predictor = narrow(dim, dim, positions="space_time_full", num_mask_tokens=2)
    view = RandomResizedCrop(crop_px, scale=(0.3, 1.0), ratio=(0.75, 1.35))
    clips = partial(random_clips, num_frames=num_frames, stride_frames=stride_frames)
    rise = stretched(optim.linear(momentum, 1.0))
    method = VJEPA(encoder, predictor=predictor, view=view, momentum=rise, clips=clips)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak),
        learning_rate=stretched(optim.warmup(optim.cosine(peak, end), share=40 / 375, start=start)),
        weight_decay=stretched(optim.cosine(0.04, 0.4)),
        steps=steps,
        batch_size=batch_size,
        max_grad_norm=10.0,
        clip_parts=optim.each_module("student", "predictor"),
    )

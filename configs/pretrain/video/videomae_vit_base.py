"""VideoMAE, ViT-B/16 with tubelets of two frames (Tong et al. 2022, arXiv:2203.12602).

The paper's pretraining on Kinetics-400: 16 frames 4 apart, AdamW with betas 0.9 and 0.95, weight decay 0.05, batch
2048, learning rate 1.5e-4 per 256 clips, 40 of 800 epochs of warm-up, then half a cosine down to 1e-5. The decoder has
4 blocks of width 384.

Views are those of the released code (windows of few sizes and places), and half of them are mirrored, as the paper
says for Kinetics and the code does not.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import random_clips
from vidssl.methods import VideoMAE
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor

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
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
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
        view=recipes.videomae(crop_px),
        mask_ratio=mask_ratio,
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(lr, 1e-5), share=0.05),
        steps=steps,
        batch_size=batch_size,
    )

"""VideoMAE, ViT-B/16 with tubelets of two frames (Tong et al. 2022, arXiv:2203.12602).

The paper's pretraining on Kinetics-400: 16 frames 4 apart, AdamW with betas 0.9 and 0.95, weight decay 0.05, batch
2048, rate 1.5e-4 per 256 clips, 40 of 800 epochs of warm-up, then half a cosine to 1e-5 per 256 clips.

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
from vidssl.models.video_vit import TokenPredictor, VideoViT

METHOD = "VideoMAE"
PAPER = "Tong et al. 2022, arXiv:2203.12602"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 94_000,
    batch_size: int = 32,
    lr: float = 1.5e-4,
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
        lr: Highest learning rate for 256 clips per step, all processes together (optim.scaled_rate).
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
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, positions="order")
    narrow = partial(TokenPredictor, width=decoder_dim, depth=decoder_depth, num_heads=6)
    decoder = narrow(dim, encoder.patch_values, positions="order", mask_token_std=0.02)
    method = VideoMAE(
        encoder,
        decoder=decoder,
        view=recipes.videomae(crop_px),
        mask_ratio=mask_ratio,
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    peak, end = (optim.scaled_rate(rate, batch_size=batch_size, per=256) for rate in (lr, 1e-5))
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak, betas=(0.9, 0.95), weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(peak, end), share=0.05),
        steps=steps,
        batch_size=batch_size,
    )

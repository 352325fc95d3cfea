"""MoCo v3, ViT-S/16 (Chen, Xie and He 2021, arXiv:2104.02057), on images or on frames of videos.

The paper's recipe on ImageNet (Sec. 4.1) and the authors' code: AdamW, learning rate 1.5e-4 for every 256 pictures of a
step, 40 of 300 epochs of linear warm-up, then a cosine, weight decay 0.1, temperature 0.2, momentum 0.99 to 1, a
ViT-S of 12 heads whose patch projection stays as it was drawn. The paper's steps hold 4096 pictures, the other clips of
which are the negatives: with n processes add --sync-batch-norm.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import MoCoV3
from vidssl.models import ViT
from vidssl.models.initial import begin_as_moco_v3

METHOD = "MoCoV3"
PAPER = "Chen et al. 2021, arXiv:2104.02057"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_500_000,
    batch_size: int = 256,
    lr: float = 1.5e-4,
    momentum: float = 0.99,
    freeze_patches: bool = True,
    hidden_dim: int = 4096,
    size_px: int = 256,
    crop_px: int = 224,
    model: str = "vit_small_patch16_224",
    num_heads: int = 12,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; 16 processes make the paper's 4096.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        momentum: Of the key encoder, at the start.
        freeze_patches: Keep the patch projection as it was drawn, for stable training.
        hidden_dim: Of projector and predictor.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the training views, a multiple of the patch size.
        model: Name of a timm vision transformer; its weights are random.
        num_heads: Of its attention; the paper's ViT-S has 12, as its ViT-B.
    """
    encoder = ViT(model, img_size=crop_px, num_heads=num_heads)
    begin_as_moco_v3(encoder, freeze_patches=freeze_patches)
    views = recipes.moco_v3(crop_px, view=0), recipes.moco_v3(crop_px, view=1)
    method = MoCoV3(encoder, views=views, hidden_dim=hidden_dim, momentum=optim.cosine(momentum, 1.0))
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak, weight_decay=0.1),
        learning_rate=optim.warmup(optim.cosine(peak), share=40 / 300),
        steps=steps,
        batch_size=batch_size,
    )

"""DINO, ViT-S/16 (Caron et al. 2021, arXiv:2104.14294), on images or on frames of videos.

The released code's recipe for 100 epochs of ImageNet: AdamW, learning rate 5e-4 for every 256 pictures of a step, 10
epochs of linear warm-up, then a cosine to 1e-6, weight decay 0.04 to 0.4 and momentum of the teacher 0.996 to 1 along
a cosine, the gradient of each tensor cut at 3, drop path 0.1 in the student, two crops of 224 px and eight of 96 px,
65536 prototypes. The teacher's temperature rises from 0.04 to 0.07 in 30 epochs, as in the paper.

Differences from the paper: pictures are scaled bilinearly (there bicubically).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import DINO
from vidssl.models import ViT
from vidssl.models.layers import drop_paths

METHOD = "DINO"
PAPER = "Caron et al. 2021, arXiv:2104.14294"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 2_000_000,
    batch_size: int = 64,
    lr: float = 5e-4,
    momentum: float = 0.996,
    teacher_temperature: float = 0.07,
    drop_path: float = 0.1,
    num_local_views: int = 8,
    size_px: int = 256,
    crop_px: int = 224,
    local_crop_px: int = 96,
    model: str = "vit_small_patch16_224",
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process; 16 processes make the paper's 1024.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        momentum: Of the teacher, at the start; 0.9995 for small steps.
        teacher_temperature: Reached from 0.04; lower is sharper. 0.04 is stabler, and better for short trainings.
        drop_path: Share of the branches of the student's last block that are left out; of earlier blocks less.
        num_local_views: Small crops of each picture.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the large crops, a multiple of the patch size.
        local_crop_px: Height and width of the small crops, a multiple of the patch size.
        model: Name of a timm vision transformer; its weights are random.
    """
    method = DINO(
        ViT(model, pos_embed="dino"),
        global_views=(recipes.dino_global(crop_px, view=0), recipes.dino_global(crop_px, view=1)),
        local_view=recipes.dino_local(local_crop_px),
        num_local_views=num_local_views,
        teacher_temperature=optim.warmup(optim.constant(teacher_temperature), share=0.3, start=0.04),
        momentum=optim.cosine(momentum, 1.0),
        frozen_steps=steps // 100,  # theirs: one of 100 epochs
    )
    drop_paths(method.student, rate=drop_path)
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak),
        learning_rate=optim.warmup(optim.cosine(peak, 1e-6), share=0.1),
        steps=steps,
        batch_size=batch_size,
        max_grad_norm=3.0,
        clip_parts=optim.each_tensor,
        weight_decay=optim.cosine(0.04, 0.4),
    )

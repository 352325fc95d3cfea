"""Distillation into a ResNet-18 (Romero et al. 2015, arXiv:1412.6550; Park et al. 2019, arXiv:1904.05068).

    vidssl pretrain image/distillation_resnet18 --root my_videos --teacher hf:dinov3-vitl16

The teacher is any encoder: cosines of cells and distances of samples, on images or on frames of videos. No paper's
recipe: AdamW, 10 % of warm-up, then a cosine, views without changes of colour.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import Distillation
from vidssl.models import ResNet, load_encoder

METHOD = "Distillation"
PAPER = "Romero et al. 2015, arXiv:1412.6550"
NEEDS = "images or video"


def run(
    root: str,
    *,
    teacher: str,
    teacher_weights: Path | None = None,
    steps: int = 100_000,
    batch_size: int = 64,
    lr: float = 1e-3,
    difference: Literal["cosine", "l2"] = "cosine",
    relation_weight: float = 1.0,
    size_px: int = 256,
    crop_px: int = 224,
    stride: Literal[8, 16, 32] = 16,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        teacher: A run folder, an exported .safetensors file, timm:NAME, torchvision:NAME, hub:FOLDER:ENTRY or hf:FOLDER
            (vidssl.models.load_encoder).
        teacher_weights: File of weights for timm:, torchvision: and hub:.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Highest learning rate for 64 pictures per step, all processes together (optim.scaled_rate).
        difference: Of two cells: one minus the cosine, or half the squared distance over the width.
        relation_weight: Of the differences between distances of samples; 0 leaves them out.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the views; of a size that teacher and student take.
        stride: Pixels per cell of the student.
        width: Channels of the first layer of the student.
    """
    student = ResNet(18, stride=stride, layer="layer4", width=width)
    method = Distillation(
        student,
        teacher=load_encoder(teacher, weights=teacher_weights),
        view=RandomResizedCrop(crop_px),
        difference=difference,
        relation_weight=relation_weight,
    )
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=64)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.AdamW, lr=peak, weight_decay=0.05),
        learning_rate=optim.warmup(optim.cosine(peak), share=0.1),
        steps=steps,
        batch_size=batch_size,
    )

"""BoWNet, ResNet-18 (Gidaris et al. 2020, arXiv:2002.12247), on images or on frames of videos.

First `vidssl pretrain image/rotation_resnet18 --root ROOT --out runs/rotation`, then this with
`--teacher runs/rotation`; without a teacher the words of the first round are those of random weights. A reproduction's
values on small pictures (StoneY1/Reproducing-BowNet: SGD with learning rate 0.05, momentum 0.9, weight decay 5e-4, 0.3
of the rate after four fifths), 8192 words.

Differences from the paper: ResNet-18 instead of ResNet-50; rates are not the paper's, whose code was never published.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import MultiScaleCrop, recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import BoWNet
from vidssl.models import ResNet, load_encoder

METHOD = "BoWNet"
PAPER = "Gidaris et al. 2020, arXiv:2002.12247"
NEEDS = "images or video"


def run(
    root: str,
    *,
    teacher: str | None = None,
    steps: int = 500_000,
    batch_size: int = 128,
    lr: float = 0.05,
    num_words: int = 8192,
    epochs_per_round: int = 200,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        teacher: Run of the first teacher, of the same ResNet: image/rotation_resnet18's, or one of this recipe.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 128 pictures per step, all processes together (optim.scaled_rate).
        num_words: Size of the vocabulary, at most the number of files.
        epochs_per_round: Passes over the data until the student becomes the teacher.
        size_px: Height and width to which whole pictures are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    encoder = ResNet(18, stride=32, layer="layer4", width=width)
    method = BoWNet(
        encoder,
        teacher=ResNet(18, stride=32, layer="layer4", width=width) if teacher is None else load_encoder(teacher),
        view=recipes.moco_v2(crop_px),
        teacher_view=MultiScaleCrop(crop_px, scales=(1.0,)),
        num_words=num_words,
        epochs_per_round=epochs_per_round,
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=128)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(torch.optim.SGD, lr=start, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.steps(start, factor=0.3, at=(0.8,)),
        steps=steps,
        batch_size=batch_size,
    )

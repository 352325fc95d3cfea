"""VICReg, ResNet-18 (Bardes et al. 2021, arXiv:2105.04906), on images or on frames of videos.

The recipe of the paper (Sec. 4.2) and the authors' code: LARS, learning rate 0.2 for every 256 pictures of a step, 10
of 1000 epochs of linear warm-up, then a cosine to a thousandth, weight decay 1e-6, weights 25, 25 and 1, expander of
three layers of 8192, views of BYOL as in the code. The paper's steps hold 2048 pictures: with n processes add
--sync-batch-norm.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import VICReg
from vidssl.models import ResNet

METHOD = "VICReg"
PAPER = "Bardes et al. 2021, arXiv:2105.04906"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 5_000_000,
    batch_size: int = 256,
    lr: float = 0.2,
    expander_dim: int = 8192,
    size_px: int = 256,
    crop_px: int = 224,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        expander_dim: Width of the embeddings that the loss looks at, and of the layers before.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the training views.
        width: Channels of the first layer of the ResNet.
    """
    views = recipes.byol(crop_px, view=0), recipes.byol(crop_px, view=1)
    encoder = ResNet(18, stride=32, layer="layer4", width=width, zero_init_residual=True)
    method = VICReg(encoder, views=views, expander_dim=expander_dim)
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.LARS, lr=peak, weight_decay=1e-6, classic_momentum=False),
        learning_rate=optim.warmup(optim.cosine(peak, peak / 1000), share=0.01),
        steps=steps,
        batch_size=batch_size,
    )

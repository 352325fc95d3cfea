"""SwAV, ResNet-18 (Caron et al. 2020, arXiv:2006.09882), on images or on frames of videos.

The authors' recipe for small steps (swav_200ep_bs256_pretrain.sh): 256 pictures a step, two crops of 224 px and six of
96 px, 3000 prototypes that stay for the first of 200 epochs, a queue of 3840 pictures from epoch 15 on; LARC, learning
rate 0.6 by a cosine to a thousandth, weight decay 1e-6 on all parameters. With n processes add --sync-batch-norm; steps
of 4096 pictures have a rate of 4.8, so --lr 0.3, and need no queue: --num-queued 0.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import SwAV
from vidssl.models import ResNet

METHOD = "SwAV"
PAPER = "Caron et al. 2020, arXiv:2006.09882"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 1_000_000,
    batch_size: int = 256,
    lr: float = 0.6,
    num_prototypes: int = 3000,
    num_queued: int = 3840,
    num_local_views: int = 6,
    size_px: int = 256,
    crop_px: int = 224,
    local_crop_px: int = 96,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps.
        batch_size: Pictures per step and process.
        lr: First learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        num_prototypes: Ten times the number of kinds one expects, or a few times.
        num_queued: Pictures of earlier steps that codes are found together with; 0 for none.
        num_local_views: Small crops of each picture.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the large crops.
        local_crop_px: Height and width of the small crops.
        width: Channels of the first layer of the ResNet.
    """
    method = SwAV(
        ResNet(18, stride=32, layer="layer4", width=width),
        view=recipes.swav_global(crop_px),
        local_view=recipes.swav_local(local_crop_px),
        num_local_views=num_local_views,
        num_prototypes=num_prototypes,
        num_queued=num_queued,
        queue_after=15 / 200,
        frozen_steps=steps // 200,
    )
    start = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root, media="any"), clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.LARS, lr=start, weight_decay=1e-6, classic_momentum=False, vectors=True),
        learning_rate=optim.cosine(start, start / 1000),
        steps=steps,
        batch_size=batch_size,
    )

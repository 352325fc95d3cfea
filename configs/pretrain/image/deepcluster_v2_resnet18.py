"""DeepCluster v2, ResNet-18 (Caron et al. 2020, arXiv:2006.09882), on images or on frames of videos.

The authors' recipe (deepclusterv2_400ep_pretrain.sh): two crops of 160 px and four of 96 px, three heads of 3000
clusters; LARC, learning rate 0.3 for every 256 pictures of a step, 10 of 400 epochs of warm-up from a sixteenth of it,
then a cosine to a thousandth; weight decay 1e-6 on all parameters. Their steps hold 4096 pictures: with n processes add
--sync-batch-norm.
"""

from functools import partial

from vidssl import Run, optim
from vidssl.augment import recipes
from vidssl.data import VideoDataset, scan
from vidssl.methods import DeepClusterV2
from vidssl.models import ResNet

METHOD = "DeepClusterV2"
PAPER = "Caron et al. 2020, arXiv:2006.09882"
NEEDS = "images or video"


def run(
    root: str,
    *,
    steps: int = 2_000_000,
    batch_size: int = 256,
    lr: float = 0.3,
    num_clusters: int = 3000,
    num_local_views: int = 4,
    size_px: int = 256,
    crop_px: int = 160,
    local_crop_px: int = 96,
    width: int = 64,
) -> Run:
    """Train on a folder of images or of videos.

    Args:
        root: Folder, list file or CSV of images or videos.
        steps: Number of optimizer steps; 400 times the number of files over batch_size is the paper's.
        batch_size: Pictures per step and process.
        lr: Highest learning rate for 256 pictures per step, all processes together (optim.scaled_rate).
        num_clusters: Of each head; at most the number of files.
        num_local_views: Small crops of each picture.
        size_px: Short side to which pictures are scaled when they are decoded.
        crop_px: Height and width of the large crops.
        local_crop_px: Height and width of the small crops.
        width: Channels of the first layer of the ResNet.
    """
    corpus = scan(root, media="any")
    method = DeepClusterV2(
        ResNet(18, stride=32, layer="layer4", width=width),
        view=recipes.swav_global(crop_px, scale=(0.08, 1.0)),
        local_view=recipes.swav_local(local_crop_px),
        num_samples=len(corpus),
        num_local_views=num_local_views,
        num_clusters=num_clusters,
    )
    peak = optim.scaled_rate(lr, batch_size=batch_size, per=256)
    return Run(
        method=method,
        dataset=VideoDataset(corpus, clips=method.clips, size_px=size_px, whole_frames=True),
        optimizer=partial(optim.LARS, lr=peak, weight_decay=1e-6, classic_momentum=False, vectors=True),
        learning_rate=optim.warmup(optim.cosine(peak, peak / 1000), share=10 / 400, start=peak / 16),
        steps=steps,
        batch_size=batch_size,
    )

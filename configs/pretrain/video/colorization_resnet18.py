"""Video colorization, ResNet-18 at stride 8 (Vondrick et al. 2018, arXiv:1806.09594).

The paper's recipe: Adam, batch 32, 256 px, 16 colours, learning rate 1e-3 and then 1e-4 (the step at 15 % of the
training, as 60 k of 400 k iterations).

Differences from the paper: a tenth of its 400 k steps; windows of half to all of a square of the frame (there whole
frames, scaled to 256 px x 256 px), half of them mirrored. Convolutions pad by reflection: with zeros, features code
their place at the borders, and the pointers copy in place. The 3-D head is an option.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import frame_tuple
from vidssl.methods import VideoColorization
from vidssl.models import ResNet
from vidssl.models.heads import FrameHead, VolumeHead

METHOD = "VideoColorization"
PAPER = "Vondrick et al. 2018, arXiv:1806.09594"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 40_000,
    batch_size: int = 32,
    lr: float = 1e-3,
    size_px: int = 256,
    crop_px: int = 256,
    crop_scale: tuple[float, float] = (0.5, 1.0),
    offsets_frames: tuple[int, ...] = (0, 4, 8, 16),
    width: int = 64,
    head_3d: bool = False,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: Learning rate of the first 15 % of the training; a tenth of it after.
            For 32 clips per step, all processes together (optim.scaled_rate).
        size_px: Short side to which videos are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the training clips.
        crop_scale: Area of the training window, smallest and largest share of the frame.
        offsets_frames: Frames of a clip, counted from its first; the last one is coloured from the others.
        width: Channels of the first layer of the ResNet; the others have 1, 2 and 4 times as many.
        head_3d: Use the paper's head of 3-D convolutions instead of one 1x1 convolution.
    """
    encoder = ResNet(18, stride=8, layer="layer3", color="gray", width=width, padding_mode="reflect")
    head = VolumeHead(encoder.dim, 64) if head_3d else FrameHead(encoder.dim, 64)
    view = RandomResizedCrop(crop_px, scale=crop_scale)
    clips = partial(frame_tuple, offsets_frames=offsets_frames)
    method = VideoColorization(encoder, head=head, view=view, clips=clips)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=32)
    return Run(
        method=method,
        dataset=VideoDataset(scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.Adam, lr=rate),
        learning_rate=optim.steps(rate, factor=0.1, at=(0.15,)),
        steps=steps,
        batch_size=batch_size,
    )

"""XDC, ResNet-18 (Alwassel et al. 2020, arXiv:1911.12667), on eight frames with two seconds of sound.

From the paper: eight frames of 224 pixels, two seconds of sound as 40 mel bands 100 times a second, as many clusters
as one of those it compares (64 to 1024). Ours: a clustering before every pass, the optimizer (SGD, momentum 0.9, as
DeepCluster), a 2-D video network whose features are averaged over the frames, and the audio network of L3-Net instead
of a ResNet-18.
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.data.clips import clip_with_sound
from vidssl.methods import XDC
from vidssl.models import AudioEncoder, LogMel, ResNet

METHOD = "XDC"
PAPER = "Alwassel et al. 2020, arXiv:1911.12667"
NEEDS = "video with sound"


def run(
    root: str,
    *,
    steps: int = 200_000,
    batch_size: int = 32,
    lr: float = 0.01,
    size_px: int = 256,
    crop_px: int = 224,
    num_frames: int = 8,
    audio_seconds: float = 2.0,
    num_clusters: int = 256,
    width: int = 64,
) -> Run:
    """Train on a folder of videos with sound; those without, and those with a silent track, are left out.

    Args:
        root: Folder, list file or CSV of videos, at least as many as clusters.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process.
        lr: First learning rate for 32 clips per step, all processes together (optim.scaled_rate).
        size_px: Height and width to which whole frames are scaled when they are decoded; views look at all of it.
        crop_px: Height and width of the training views.
        num_frames: Frames of a clip.
        audio_seconds: Sound that starts with the clip.
        num_clusters: Of each modality.
        width: Channels of the first layer of both networks.
    """
    clips = partial(clip_with_sound, num_frames=num_frames, audio_seconds=audio_seconds)
    dataset = VideoDataset(
        scan(root),
        clips=clips,
        size_px=size_px,
        whole_frames=True,
        audio_seconds=audio_seconds,
        sample_rate_hz=16_000,
    )
    log_mel = LogMel(sample_rate_hz=16_000, n_fft=400, hop_samples=160, num_mels=40)
    audio_encoder = AudioEncoder(log_mel, widths=tuple(width * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)))
    method = XDC(
        ResNet(18, stride=32, layer="layer4", width=width),
        audio_encoder=audio_encoder,
        view=RandomResizedCrop(crop_px, scale=(0.5, 1.0)),
        num_samples=len(dataset),
        num_clusters=num_clusters,
        clips=clips,
    )
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=32)
    return Run(
        method=method,
        dataset=dataset,
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.cosine(rate),
        steps=steps,
        batch_size=batch_size,
    )

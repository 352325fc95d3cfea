"""L3-Net, ResNet-18 (Arandjelovic and Zisserman 2017, arXiv:1705.08168), on frames with a second of their sound.

The recipe: Adam, learning rate 1e-4, weight decay 1e-5, 60 million frame-and-sound pairs (Sec. 2); batches of 64
samples, each in two pairs. Log-mel of 128 bands instead of the linear spectrogram, a variant of OpenL3 (Cramer et
al. 2019): windows of 2048 samples, 242 apart, at 48 kHz. Frames are cut at random from 256 to 224 pixels (out of a
square at a random place), mirrored, and changed in brightness and saturation (the strength is ours).
"""

from functools import partial

import torch

from vidssl import Run, optim
from vidssl.augment import ColorJitter, Pipeline, RandomResizedCrop
from vidssl.data import VideoDataset, scan
from vidssl.methods import L3Net
from vidssl.models import AudioEncoder, LogMel, ResNet

METHOD = "L3Net"
PAPER = "Arandjelovic and Zisserman 2017, arXiv:1705.08168"
NEEDS = "video with sound"


def run(
    root: str,
    *,
    steps: int = 470_000,
    batch_size: int = 64,
    lr: float = 1e-4,
    size_px: int = 256,
    crop_px: int = 224,
    sample_rate_hz: int = 48_000,
    width: int = 64,
) -> Run:
    """Train on a folder of videos with sound; those without, and those with a silent track, are left out.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Samples per step and process; each makes a true and a false pair.
        lr: Learning rate for 64 samples per step, all processes together (optim.scaled_rate).
        size_px: Short side to which frames are scaled; what is seen is a square of it, at a random place.
        crop_px: Height and width of the training views.
        sample_rate_hz: Of the sound.
        width: Channels of the first layer of both networks.
    """
    log_mel = LogMel(sample_rate_hz=sample_rate_hz, n_fft=2048, hop_samples=242, num_mels=128)
    audio_encoder = AudioEncoder(log_mel, widths=tuple(width * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)))
    share = (224 / 256) ** 2
    view = Pipeline(
        RandomResizedCrop(crop_px, scale=(share, share), ratio=(1.0, 1.0)),
        ColorJitter(brightness=0.2, saturation=0.5),
    )
    method = L3Net(ResNet(18, stride=32, layer="layer4", width=width), audio_encoder=audio_encoder, view=view)
    rate = optim.scaled_rate(lr, batch_size=batch_size, per=64)
    return Run(
        method=method,
        dataset=VideoDataset(
            scan(root),
            clips=method.clips,
            size_px=size_px,
            audio_seconds=1.0,
            sample_rate_hz=sample_rate_hz,
        ),
        optimizer=partial(torch.optim.Adam, lr=rate, weight_decay=1e-5),
        learning_rate=optim.constant(rate),
        steps=steps,
        batch_size=batch_size,
    )

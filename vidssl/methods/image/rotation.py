"""Rotation prediction: tell by how many quarter turns a picture was turned.

Gidaris, Singh and Komodakis 2018, "Unsupervised representation learning by predicting image rotations",
arXiv:1803.07728.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class Rotation(Method):
    """Name the rotation of a clip: 0, 90, 180 or 270 degrees; all four turns of each clip are in the batch.

    All frames of a clip turn alike. Quarter turns only move pixels: nothing is interpolated, no border appears.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], square.
        clips: Which frames; by default one.

    Differences from the paper: the classifier sees pooled features through one linear layer; biases and norms have no
    weight decay.
    """

    view: nn.Module

    def __init__(self, encoder: Encoder, *, view: nn.Module, clips: ClipSampler = CLIPS) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.classifier = nn.Linear(encoder.dim, 4)
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the rotation, mean over clips and turns (Eq. 2 and 3)."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        turned = torch.cat([torch.rot90(video, turns, dims=(3, 4)) for turns in range(4)])  # (4B, T, 3, H, W)
        turns = torch.arange(4, device=video.device).repeat_interleave(len(video))
        logits = self.classifier(self.encoder(turned))
        accuracy = (logits.argmax(1) == turns).float().mean()
        return {"loss": F.cross_entropy(logits, turns), "accuracy": accuracy}

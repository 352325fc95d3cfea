"""What video/vjepa_vit_large learns.

Silhouettes of moving shapes: spread over clips and the probe of the place, with and without stop-gradient.
"""

import copy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidssl import Run, optim
from vidssl.data import ArrayDataset
from vidssl.data.clips import random_clips
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.proof import Proof, pooled_features, pretrain
from vidssl.methods import VJEPA
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.monitors import collapse_monitors


class Whole(nn.Module):
    """A view that changes nothing."""

    def forward(self, video: Tensor, seed: Tensor) -> Tensor:
        """Scale to [0, 1]."""
        return video.float() / 255


class WithoutStopGradient(VJEPA):
    """The control: targets are the student's own features, and the gradient flows into them."""

    def targets(self, video: Tensor) -> Tensor:
        """Features of the student, each token normalised."""
        return F.layer_norm(self.student.tokens(video).float(), (self.student.dim,))


def silhouettes(num_videos: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """White shapes moving on black, uint8 (N, 4, 3, 32, 32), and their place, one of 3 x 3 parts of the frame.

    Colours and textures are left out: they are the same throughout a clip, and predicting them would be enough.
    """
    world = worlds.sprites(
        num_videos, seed=seed, num_frames=4, size_px=32, sprite_px=(12, 16), speed_px=(1.5, 3.5)
    )
    video = (world.ids > 0).to(torch.uint8) * 255
    x, y = (world.centers_px[:, :, 0].mean(1) * 3 / 32).long().clamp(0, 2).unbind(1)
    return video[:, :, None].expand(-1, -1, 3, -1, -1), 3 * y + x


def place_probe(encoder: VideoViT) -> float:
    """Linear probe of the place, per cent of the test clips that are right."""
    (train, train_label), (test, test_label) = silhouettes(1000, seed=1_000_001), silhouettes(1000, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


def clip_std(encoder: VideoViT) -> float:
    """Spread of the pooled features over held-out clips (collapse_monitors)."""
    clips, _ = silhouettes(500, seed=1_000_003)
    return collapse_monitors(pooled_features(encoder, clips))["embedding_std"].item()


def measure(seed: int, out: Path) -> dict[str, float]:
    """Silhouettes of moving shapes: spread over clips and the probe of the place, with and without stop-gradient."""
    video, _ = silhouettes(3000, seed=seed)
    encoder = VideoViT(dim=96, depth=3, num_heads=4, patch_px=4, mean=(0.5,) * 3, std=(0.2,) * 3)
    predictor = TokenPredictor(encoder.dim, encoder.dim, width=48, depth=2, num_heads=4)
    figures = {"random": place_probe(copy.deepcopy(encoder))}
    spread = {"clip_std_random": clip_std(encoder)}
    for kind, name in ((VJEPA, "pretrained"), (WithoutStopGradient, "without_stop_gradient")):
        method = kind(
            copy.deepcopy(encoder),
            predictor=copy.deepcopy(predictor),
            view=Whole(),
            momentum=0.98,
            clips=partial(random_clips, num_frames=4),
        )
        recipe = Run(
            method=method,
            dataset=ArrayDataset(video, clips=method.clips),
            optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.04),
            learning_rate=optim.warmup(optim.cosine(1e-3), share=0.1),
            steps=250,
            batch_size=16,
            max_grad_norm=1.0,
        )
        pretrain(recipe, out=out / name, seed=seed)
        figures[name] = place_probe(method.encoder)
        spread[f"clip_std_{name}"] = clip_std(method.encoder)
    return {**figures, **spread, "chance": 100 / 9}


PROOF = Proof(
    metric="linear probe of the place (3 x 3) on silhouettes of moving shapes, per cent",
    line="spread of the features over clips at least half of that at random initialisation and 5 times that of the "
    "control without stop-gradient; probe above random initialisation",
    holds=lambda figures: (
        figures["clip_std_pretrained"]
        >= max(0.5 * figures["clip_std_random"], 5 * figures["clip_std_without_stop_gradient"])
        and figures["pretrained"] > figures["random"]
    ),
    measure=measure,
)

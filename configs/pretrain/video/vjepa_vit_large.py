"""V-JEPA, ViT-L/16 with tubelets of two frames (Bardes et al. 2024, arXiv:2404.08471).

The paper's pretraining: 16 frames 4 apart, AdamW, batch 3072, 90 k steps, learning rate from 2e-4 to 6.25e-4 in the
first 40 of 300 epochs, then half a cosine down to 1e-6, gradients clipped at norm 10, bfloat16 (`--precision
bfloat16`). The predictor has 12 blocks of width 384.

Differences from the paper: the learning rate rises from 0; weight decay stays at 0.04 (the paper's rises to 0.4 along a
cosine); gradients are clipped from the first step on; layers are drawn as MAE draws them.
"""

import copy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidssl import Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.clips import random_clips
from vidssl.evaluate.probe import linear_accuracy
from vidssl.methods import VJEPA
from vidssl.models import VideoViT
from vidssl.models.video_vit import TokenPredictor
from vidssl.ops.monitors import collapse_monitors
from vidssl.proof import Proof, pooled_features, pretrain

METHOD = "VJEPA"
PAPER = "Bardes et al. 2024, arXiv:2404.08471"
NEEDS = "video"


def run(
    root: str,
    *,
    steps: int = 90_000,
    batch_size: int = 24,
    lr: float = 6.25e-4,
    size_px: int = 256,
    crop_px: int = 224,
    num_frames: int = 16,
    stride_frames: int = 4,
    dim: int = 1024,
    depth: int = 24,
    num_heads: int = 16,
    predictor_dim: int = 384,
    predictor_depth: int = 12,
    momentum: float = 0.998,
) -> Run:
    """Train on a folder of videos.

    Args:
        root: Folder, list file or CSV of videos.
        steps: Number of optimizer steps.
        batch_size: Clips per step and process; 128 processes make the paper's 3072.
        lr: Highest learning rate, for 3072 clips per step.
        size_px: Short side to which videos are scaled when they are decoded.
        crop_px: Height and width of the training clips.
        num_frames: Frames of a clip, an even number.
        stride_frames: Frames of the video from one to the next.
        dim: Width of the encoder.
        depth: Blocks of the encoder.
        num_heads: Of the attention of encoder and predictor.
        predictor_dim: Width of the predictor.
        predictor_depth: Blocks of the predictor.
        momentum: Of the teacher at the start.
    """
    encoder = VideoViT(dim=dim, depth=depth, num_heads=num_heads, patch_px=16, tubelet_frames=2)
    predictor = TokenPredictor(dim, dim, width=predictor_dim, depth=predictor_depth, num_heads=num_heads)
    method = VJEPA(
        encoder,
        predictor=predictor,
        view=RandomResizedCrop(crop_px, scale=(0.3, 1.0), ratio=(0.75, 1.35)),
        momentum=momentum,
        clips=partial(random_clips, num_frames=num_frames, stride_frames=stride_frames),
    )
    return Run(
        method=method,
        dataset=VideoDataset(Corpus.scan(root), clips=method.clips, size_px=size_px),
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.04),
        learning_rate=optim.warmup(optim.cosine(lr, 1e-6), share=0.133),
        steps=steps,
        batch_size=batch_size,
        max_grad_norm=10.0,
    )


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

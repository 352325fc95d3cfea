"""XDC, ResNet-18 (Alwassel et al. 2020, arXiv:1911.12667), on eight frames with two seconds of sound.

From the paper: eight frames of 224 pixels, two seconds of sound as 40 mel bands 100 times a second, as many clusters
as one of those it compares (64 to 1024). Ours: a clustering before every pass, the optimizer (SGD, momentum 0.9, as
DeepCluster), a 2-D video network whose features are averaged over the frames, and the audio network of L3-Net instead
of a ResNet-18.
"""

from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim, worlds
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Corpus, VideoDataset
from vidssl.data.clips import clip_with_sound, still
from vidssl.evaluate.metrics.clustering import normalized_mutual_information
from vidssl.evaluate.probe import linear_accuracy
from vidssl.methods import XDC
from vidssl.methods.audiovisual.xdc import cluster
from vidssl.models import AudioEncoder, ConvNet, LogMel, ResNet
from vidssl.proof import Proof, pooled_features, pretrain

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
        lr: First learning rate.
        size_px: Short side to which videos are scaled when they are decoded.
        crop_px: Height and width of the training views.
        num_frames: Frames of a clip.
        audio_seconds: Sound that starts with the clip.
        num_clusters: Of each modality.
        width: Channels of the first layer of both networks.
    """
    clips = partial(clip_with_sound, num_frames=num_frames, audio_seconds=audio_seconds)
    dataset = VideoDataset(
        Corpus.scan(root), clips=clips, size_px=size_px, audio_seconds=audio_seconds, sample_rate_hz=16_000
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
    return Run(
        method=method,
        dataset=dataset,
        optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=5e-4),
        learning_rate=optim.cosine(lr),
        steps=steps,
        batch_size=batch_size,
    )


def measure(seed: int, out: Path) -> dict[str, float]:
    """Shapes that sound: agreement of clusters of sight with shape before and after, and with other videos' sound."""
    random, random_probe = _learn(seed, None, shuffled=False)
    pretrained, probe = _learn(seed, out / "pretrained", shuffled=False)
    shuffled, shuffled_probe = _learn(seed, out / "shuffled", shuffled=True)
    return {
        "random": random,
        "pretrained": pretrained,
        "sound_of_other_videos": shuffled,
        "probe_random": random_probe,
        "probe": probe,
        "probe_with_sound_of_other_videos": shuffled_probe,
    }


def _learn(seed: int, out: Path | None, *, shuffled: bool) -> tuple[float, float]:
    """Give the NMI of clusters of new frames with their shapes, and the linear probe; `out` None learns nothing."""
    torch.manual_seed(seed)
    encoder = ConvNet(color="gray", standardize=True)
    if out is not None:
        dataset = _world(2400, seed=seed, shuffled=shuffled)
        method = XDC(
            encoder,
            audio_encoder=AudioEncoder(LogMel(sample_rate_hz=8000), widths=(16, 32, 64), strides=(2, 2, 2)),
            view=RandomResizedCrop(32, scale=(0.6, 1.0)),
            num_samples=len(dataset),
            num_clusters=8,
            clips=still,
        )
        recipe = Run(
            method=method,
            dataset=dataset,
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=300,  # four clusterings
            batch_size=32,
        )
        pretrain(recipe, out=out, seed=seed)
    train, test = _world(2000, seed=1_000_001), _world(1000, seed=1_000_002)
    features, test_features = pooled_features(encoder, train.video), pooled_features(encoder, test.video)
    torch.manual_seed(seed)
    agreement = normalized_mutual_information(cluster(features, 8), train.label)
    return agreement, linear_accuracy(features, train.label, test_features, test.label)


def _world(num_videos: int, *, seed: int, shuffled: bool = False) -> ArrayDataset:
    """Frames of shapes with a second of their sound, or of another video's."""
    shapes = worlds.sprites(num_videos, seed=seed, num_frames=1, size_px=32, sprite_px=(14, 20))
    classes = shapes.classes[:, 0]
    audio = worlds.tones(classes, seed=seed)
    if shuffled:
        audio = audio[torch.randperm(num_videos, generator=torch.Generator().manual_seed(seed))]
    return ArrayDataset(shapes.video, clips=still, audio=audio, sample_rate_hz=8000, label=classes)


PROOF = Proof(
    metric="NMI of 8 clusters of frames with the shapes that sound",
    line="at least 0.2 above random initialisation; with the sound of other videos at most 0.1 above it",
    holds=lambda figures: (
        figures["pretrained"] >= figures["random"] + 0.2
        and figures["sound_of_other_videos"] <= figures["random"] + 0.1
    ),
    measure=measure,
)

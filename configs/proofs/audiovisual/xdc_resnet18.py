"""What audiovisual/xdc_resnet18 learns.

Shapes that sound: agreement of clusters of sight with shape before and after, and with other videos' sound.
"""

from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset
from vidssl.data.clips import still
from vidssl.evaluate.metrics.clustering import normalized_mutual_information
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import XDC
from vidssl.methods.audiovisual.xdc import cluster
from vidssl.models import AudioEncoder, ConvNet, LogMel


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
    claims=(
        Claim("pretrained", "above", "random", 0.2),
        Claim("pretrained", "above", "sound_of_other_videos", 0.2),
        Claim("probe", "above", "probe_random", 0.2),
        Claim("probe", "above", "probe_with_sound_of_other_videos", 0.2),
        Claim("sound_of_other_videos", "within", "random", 0.1),
    ),
    measure=measure,
)

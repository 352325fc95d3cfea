"""What audiovisual/l3net_resnet18 learns.

Shapes that sound: linear probe of shape before and after, and with the sound of other videos.
"""

from functools import partial
from pathlib import Path

import torch

from vidssl import Run, optim
from vidssl.augment import RandomResizedCrop
from vidssl.data import ArrayDataset, Loader
from vidssl.data.clips import still
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.probes import pooled_features
from vidssl.evidence.proof import Proof, pretrain
from vidssl.evidence.refutation import Claim
from vidssl.methods import L3Net
from vidssl.models import AudioEncoder, ConvNet, LogMel


def measure(seed: int, out: Path) -> dict[str, float]:
    """Shapes that sound: linear probe of shape before and after, and with the sound of other videos."""
    random, _ = _learn(seed, None, shuffled=False)
    pretrained, accuracy = _learn(seed, out / "pretrained", shuffled=False)
    shuffled, shuffled_accuracy = _learn(seed, out / "shuffled", shuffled=True)
    return {
        "random": random,
        "pretrained": pretrained,
        "sound_of_other_videos": shuffled,
        "correspondence": accuracy,
        "correspondence_with_sound_of_other_videos": shuffled_accuracy,
        "correspondence_chance": 50.0,
        "chance": 25.0,
    }


def _learn(seed: int, out: Path | None, *, shuffled: bool) -> tuple[float, float]:
    """Give the linear probe of shapes and the accuracy on new pairs, per cent; `out` None learns nothing."""
    torch.manual_seed(seed)
    encoder = ConvNet(color="gray", standardize=True)
    audio_encoder = AudioEncoder(LogMel(sample_rate_hz=8000), widths=(16, 32, 64), strides=(2, 2, 2))
    view = RandomResizedCrop(32, scale=(0.6, 1.0))
    method = L3Net(encoder, audio_encoder=audio_encoder, view=view, clips=still)
    if out is not None:
        recipe = Run(
            method=method,
            dataset=_world(3200, seed=seed, shuffled=shuffled),
            optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
            learning_rate=optim.warmup(optim.cosine(2e-3), share=0.1),
            steps=400,
            batch_size=32,
        )
        pretrain(recipe, out=out, seed=seed)
    train, test = _world(2000, seed=1_000_001), _world(1000, seed=1_000_002)
    probe = linear_accuracy(
        pooled_features(encoder, train.video), train.label, pooled_features(encoder, test.video), test.label
    )
    method.eval()
    with torch.no_grad():
        pairs = method(next(Loader(test, batch_size=len(test)).batches(0, 1)), 1.0)
    return 100 * probe, 100 * float(pairs["accuracy"])


def _world(num_videos: int, *, seed: int, shuffled: bool = False) -> ArrayDataset:
    """Frames of shapes with a second of their sound, or of another video's."""
    shapes = worlds.sprites(num_videos, seed=seed, num_frames=1, size_px=32, sprite_px=(14, 20))
    classes = shapes.classes[:, 0]
    audio = worlds.tones(classes, seed=seed)
    if shuffled:
        audio = audio[torch.randperm(num_videos, generator=torch.Generator().manual_seed(seed))]
    return ArrayDataset(shapes.video, clips=still, audio=audio, sample_rate_hz=8000, label=classes)


PROOF = Proof(
    metric="linear probe of shapes that sound, per cent",
    claims=(
        Claim("pretrained", "above", "random", 20),
        Claim("pretrained", "above", "sound_of_other_videos", 20),
        Claim("correspondence", "above", "correspondence_with_sound_of_other_videos", 15),
        Claim("correspondence_with_sound_of_other_videos", "within", "correspondence_chance", 5),
    ),
    measure=measure,
)

"""What the proofs ask frozen features of the synthetic worlds: letters, places, masks carried through time."""

import statistics

import torch
from torch import Tensor

from ..evaluate.metrics.jf import region_similarity
from ..evaluate.propagation.propagate import identity_masks, propagate_masks
from ..evaluate.propagation.protocols import CRW
from ..evaluate.recognition.probe import linear_accuracy
from ..models import Encoder
from . import worlds
from .worlds import Sprites


def pooled_features(encoder: Encoder, video: Tensor, *, batch_size: int = 256) -> Tensor:
    """Encode clips, un-augmented, in evaluation mode: uint8 (N, T, 3, H, W) -> (N, D)."""
    encoder.eval()
    with torch.no_grad():
        return torch.cat([encoder(clips.float() / 255) for clips in video.split(batch_size)])


def letters_probe(encoder: Encoder, *, num_train: int = 3000, num_test: int = 1500) -> float:
    """Linear probe of frozen features on the letters of worlds, per cent of the test images that are right."""
    train, train_label = worlds.letters(num_train, seed=1_000_001)
    test, test_label = worlds.letters(num_test, seed=1_000_002)
    return 100 * linear_accuracy(
        pooled_features(encoder, train), train_label, pooled_features(encoder, test), test_label
    )


HEIGHT_BANDS = 6


def height_probe(encoder: Encoder, train: Sprites, test: Sprites) -> float:
    """Linear probe of frozen features of frames: in which of six bands is the middle of the sprite? Per cent.

    The bands are equally likely in `train`; chance is 100 / HEIGHT_BANDS.

    Args:
        encoder: Sees each frame as a clip of its own.
        train: Videos of one frame with one sprite.
        test: Others.
    """
    train_height, test_height = (sprites.centers_px[:, 0, 0, 1].contiguous() for sprites in (train, test))
    edges = train_height.quantile(torch.linspace(0, 1, HEIGHT_BANDS + 1)[1:-1])
    return 100 * linear_accuracy(
        pooled_features(encoder, train.video),
        torch.bucketize(train_height, edges),
        pooled_features(encoder, test.video),
        torch.bucketize(test_height, edges),
    )


def sprite_jaccard(
    encoder: Encoder | None,
    *,
    num_sprites: int,
    speed_px: tuple[float, float],
    num_videos: int = 50,
    num_frames: int = 4,
) -> float:
    """Region similarity J of masks of sprites carried from the first to the last frame, per cent.

    Features are frozen, labels are propagated by the protocol `crw` (vidssl.evaluate.propagation.propagate) at
    the encoder's stride. Mean over all sprites that the first frame shows; only the last frame counts, and no ground.

    Args:
        encoder: Anything whose cells cover the frame, that is h = ceil(H / stride); None carries the first mask
            unchanged (identity).
        num_sprites: In each of the videos, unseen ones of 64 x 64 pixels (vidssl.evidence.worlds).
        speed_px: Smallest and largest speed, pixels per frame.
        num_videos: How many.
        num_frames: The first, those in between and the last.
    """
    world = worlds.sprites(
        num_videos, seed=1_000_003, num_frames=num_frames, num_sprites=num_sprites, speed_px=speed_px
    )
    if encoder is not None:
        encoder.eval()
    values = []
    for video, ids in zip(world.video, world.ids, strict=True):
        masks = (
            identity_masks(video, ids[0])
            if encoder is None
            else propagate_masks(encoder, video, ids[0], protocol=CRW)
        )
        last, truth = list(masks)[-1].numpy(), ids[-1].numpy()
        shown = [number for number in torch.unique(ids[0]).tolist() if number]
        values += [region_similarity(truth == number, last == number) for number in shown]
    return 100 * statistics.mean(values)

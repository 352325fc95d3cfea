"""Shuffle and Learn: tell whether three frames of a video are in temporal order.

Misra, Zitnick and Hebert 2016, "Shuffle and learn: unsupervised learning using temporal order verification",
arXiv:1603.08561.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, frame_tuple
from ...method import Method
from ...models import Encoder
from ...ops.draws import integers, uniform
from ...ops.motion import pick_by_motion, take_frames
from ...ops.precision import in_single_precision

# Frames a, b, c, d, e are numbered 0 to 4. Positives and negatives share their outer frames b and d, so that only
# the middle frame tells them apart (Sec. 3.1); each tuple comes with its mirror.
IN_ORDER = ((1, 2, 3), (3, 2, 1))
SHUFFLED = ((1, 0, 3), (3, 0, 1), (1, 4, 3), (3, 4, 1))


def candidate_windows(
    duration_seconds: float,
    fps: float,
    generator: torch.Generator,
    *,
    offsets_frames: Sequence[int],
    num_windows: int = 4,
) -> Tensor:
    """Windows of frames at fixed offsets from independent random starts: one of them is chosen by its motion.

    Args:
        duration_seconds: Of the video.
        fps: Mean frame rate of the video.
        generator: Source of the random starts.
        offsets_frames: Offset of each frame from the first of its window, increasing from 0.
        num_windows: K.

    Returns:
        Times, float64 (K, T), seconds.

    Raises:
        ValueError: The video is shorter than a window.
    """
    draw = partial(frame_tuple, duration_seconds, fps, generator, offsets_frames=offsets_frames)
    return torch.cat([draw() for _ in range(num_windows)])


# |b - d| = 60 and |a - b| = |d - e| = 15 frames (Sec. 3.1).
CLIPS = partial(candidate_windows, offsets_frames=(0, 15, 45, 75, 90))


class ShuffleAndLearn(Method):
    """Classify three frames as in order (forwards or backwards) or not.

    Of the candidate windows of a video one is drawn, the likelier the more moves in it; of its five frames a tuple is
    made, in order or shuffled.

    Args:
        encoder: RGB (B, 1, 3, H, W) in [0, 1] -> pooled features (B, D) of each frame by itself.
        view: (uint8 clips (B, 3, 3, H, W), seeds (B,)) -> float clips in [0, 1]; it must treat the frames of a clip
            alike, or the differences between its crops are the task.
        negative_share: Probability of a shuffled tuple (0.75, Sec. 4.1).
        clips: Candidate windows of five frames.

    Differences from the paper: motion is the mean difference of successive frames instead of optical flow; pooled
    features go into the classifier, without the layers fc6 and fc7; c lies in the middle between b and d.
    """

    view: nn.Module
    in_order: Tensor
    shuffled: Tensor

    def __init__(
        self, encoder: Encoder, *, view: nn.Module, negative_share: float = 0.75, clips: ClipSampler = CLIPS
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.negative_share = negative_share
        self.classifier = nn.Linear(3 * encoder.dim, 2)
        self.clips = clips
        self.register_buffer("in_order", torch.tensor(IN_ORDER), persistent=False)
        self.register_buffer("shuffled", torch.tensor(SHUFFLED), persistent=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of "in order" against "shuffled", mean over the tuples."""
        assert batch.video is not None and batch.seed is not None
        window = pick_by_motion(batch.video, batch.seed, stream=0)  # (B, 5, 3, H, W)
        index, label = self.draw_tuples(batch.seed)
        frames = self.view(take_frames(window, index), batch.host_seed, *batch.stretch)  # (B, 3, 3, H, W)
        features = self.encoder(rearrange(frames, "b t c h w -> (b t) 1 c h w"))
        logits = in_single_precision(self.classifier, rearrange(features, "(b t) d -> b (t d)", t=3))
        hit = logits.argmax(1) == label
        return {
            "loss": F.cross_entropy(logits, label),
            "accuracy": hit.float().mean(),
            # Calling everything shuffled has an accuracy of `negative_share`, and a balanced accuracy of 0.5.
            "balanced_accuracy": balanced_accuracy(hit, label, num_classes=2),
        }

    def draw_tuples(self, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Draw tuples: int64 (B,) -> frames of the window (B, 3), and labels (B,): 1 in order, 0 shuffled."""
        label = (uniform(seed, stream=1) >= self.negative_share).long()
        in_order = self.in_order[integers(seed, len(IN_ORDER), stream=2)]
        shuffled = self.shuffled[integers(seed, len(SHUFFLED), stream=3)]
        return torch.where(label[:, None] == 1, in_order, shuffled), label


def balanced_accuracy(hit: Tensor, label: Tensor, *, num_classes: int) -> Tensor:
    """Mean over the classes present of the share of their samples that are right: bool (N,), int64 (N,) -> scalar."""
    members = F.one_hot(label, num_classes).float()  # (N, classes)
    counts = members.sum(0)
    return ((members * hit[:, None]).sum(0) / counts.clamp(min=1)).sum() / (counts > 0).sum()

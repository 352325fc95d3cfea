"""Order Prediction Network: sort four shuffled frames of a video.

Lee, Huang, Singh and Yang 2017, "Unsupervised representation learning by sorting sequences", arXiv:1708.01246.
"""

from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops.draws import integers, mix, uniform
from ...ops.motion import motion_energy, pick_by_motion, take_frames
from ...ops.precision import in_single_precision

# An order and its reverse are one class: 4! / 2 = 12 (Sec. 3.2).
ORDERS = tuple(order for order in permutations(range(4)) if order[0] < order[-1])
PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))

# Candidate windows of a video; one is chosen by its motion.
CLIPS = partial(random_clips, num_frames=4, stride_frames=15, num_clips=4)


class OPN(Method):
    """Name the order in which four frames of a video were put, from features of their pairs.

    Of the candidate windows of a video one is drawn, the likelier the more moves in it; of several views of it the
    one with most motion is used. Views are the same for all frames of a tuple; then each frame is shifted by
    itself and loses all its colour channels but one, which block shortcuts through borders and colour drift.

    Args:
        encoder: RGB (B, 1, 3, H, W) in [0, 1] -> pooled features (B, D) of each frame by itself.
        view: (uint8 clips (B, 4, 3, H, W), seeds (B,)) -> float clips in [0, 1], the same crop and mirror for all
            frames of a clip, larger by twice `jitter_px` than what the encoder shall see.
        jitter_px: Largest shift of a frame, in both directions (5, Sec. 3.1).
        num_patches: Views of which the one with most motion is used.
        frame_dim: Width of fc6.
        pair_dim: Width of fc7.
        dropout: After fc6 and fc7.
        clips: Candidate windows of four frames.

    Differences from the paper: motion is the mean difference of successive frames instead of optical flow, and the
    patch with most motion is sought among random ones; fc6 sees pooled features.
    """

    view: nn.Module
    orders: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        jitter_px: int = 5,
        num_patches: int = 4,
        frame_dim: int = 1024,
        pair_dim: int = 512,
        dropout: float = 0.5,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.jitter_px = jitter_px
        self.num_patches = num_patches
        self.fc6 = _layer(encoder.dim, frame_dim, dropout)
        self.fc7 = _layer(2 * frame_dim, pair_dim, dropout)  # shared by all pairs
        self.fc8 = nn.Linear(len(PAIRS) * pair_dim, len(ORDERS))
        self.clips = clips
        self.register_buffer("orders", torch.tensor(ORDERS), persistent=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the twelve orders, mean over the tuples."""
        assert batch.video is not None and batch.seed is not None
        window = pick_by_motion(batch.video, batch.seed, stream=0)  # (B, 4, 3, H, W)
        order, label = self.draw_orders(batch.seed)
        patch = take_frames(self.moving_patch(window, batch.host_seed, *batch.stretch), order)
        frames = split_channels(jitter(patch, batch.seed, max_px=self.jitter_px), batch.seed)
        logits = self.classify(self.encoder(rearrange(frames, "b t c h w -> (b t) 1 c h w")))
        return {"loss": F.cross_entropy(logits, label), "accuracy": (logits.argmax(1) == label).float().mean()}

    def draw_orders(self, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Draw orders: int64 (B,) -> the frame shown in each place (B, 4), and its class (B,) in [0, 12)."""
        label = integers(seed, len(ORDERS), stream=1)
        # The coin comes after the class: both directions of every class are equally likely.
        backward = uniform(seed, 1, stream=2) < 0.5
        order = self.orders[label]
        return torch.where(backward, order.flip(1), order), label

    def moving_patch(self, window: Tensor, seed: Tensor, *stretch: Tensor) -> Tensor:
        """Of several views of each window the one with most motion: uint8 (B, 4, 3, H, W) -> float (B, 4, 3, S, S)."""
        seeds = [mix(seed, number) for number in range(self.num_patches)]
        patches = torch.stack([self.view(window, seed, *stretch) for seed in seeds], dim=1)
        best = motion_energy(patches).argmax(1)
        return patches[torch.arange(len(patches), device=best.device), best]

    def classify(self, features: Tensor) -> Tensor:
        """Compare all pairs of frames, and name the order: (4B, D) -> logits (B, 12) (Fig. 4)."""
        frames = rearrange(self.fc6(features), "(b t) d -> b t d", t=4)
        pairs = torch.stack(
            [torch.cat([frames[:, i], frames[:, j]], dim=1) for i, j in PAIRS], dim=1
        )  # (B, 6, 2D)
        relations = self.fc7(rearrange(pairs, "b p d -> (b p) d"))
        return in_single_precision(self.fc8, rearrange(relations, "(b p) d -> b (p d)", p=len(PAIRS)))


def _layer(dim: int, out_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, out_dim), nn.BatchNorm1d(out_dim), nn.ReLU(), nn.Dropout(dropout))


def jitter(clips: Tensor, seed: Tensor, *, max_px: int) -> Tensor:
    """Cut a window out of every frame at a place of its own: (B, T, C, S, S) -> (B, T, C, S - 2m, S - 2m).

    Windows lie at most `max_px` pixels off the middle, in whole pixels.
    """
    num_clips, num_frames = clips.shape[:2]
    top, left = integers(seed, 2 * max_px + 1, 2, num_frames, stream=3).unbind(1)  # (B, T)
    rows = top[..., None] + torch.arange(clips.shape[3] - 2 * max_px, device=seed.device)  # (B, T, S - 2m)
    columns = left[..., None] + torch.arange(clips.shape[4] - 2 * max_px, device=seed.device)
    clip = torch.arange(num_clips, device=seed.device)[:, None, None, None]
    frame = torch.arange(num_frames, device=seed.device)[:, None, None]
    cut = rearrange(clips, "b t c h w -> b t h w c")[clip, frame, rows[..., :, None], columns[..., None, :]]
    return rearrange(cut, "b t h w c -> b t c h w")


def split_channels(clips: Tensor, seed: Tensor) -> Tensor:
    """Show one random colour channel of every frame three times (Sec. 3.1): (B, T, 3, H, W) -> the same shape."""
    channel = integers(seed, 3, clips.shape[1], stream=4)
    index = channel[:, :, None, None, None].expand(-1, -1, 3, *clips.shape[3:])
    return clips.gather(2, index)

"""Context encoder: fill a hole in a picture from what surrounds it, judged by pixels and by a critic.

Pathak, Kraehenbuehl, Donahue, Darrell and Efros 2016, "Context encoders: feature learning by inpainting",
arXiv:1604.07379.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops.holes import random_region, shrink
from ...ops.pictures import side_by_side

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)

# (seeds int64 (B,), H, W) -> bool (B, H, W), True inside.
Holes = Callable[[Tensor, int, int], Tensor]


class ContextEncoder(Method):
    """Predict the pixels inside a hole; a critic, trained at the same time, tells completed pictures from true ones.

    All frames of a clip have the same hole. The encoder sees the hole filled with its mean colour.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> features (B, T, D, h, w).
        decoder: Features (B, T, D, h, w) -> pictures (B, T, 3, H, W) in [-1, 1]; models.inpainting.InpaintingDecoder.
        critic: Pictures (B, T, 3, H, W) in [-1, 1] -> logits of being true (B, T); models.inpainting.PictureCritic.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        holes: Where pixels are missing: central_hole, random_blocks or random_region of vidssl.ops.holes.
        overlap_px: The hole that the encoder sees is smaller by this much on all sides (4 for a central hole of 64 px
            in the authors' code; of regions of any form, which are narrow, it leaves too little) ...
        overlap_weight: ... and in this band, where the picture is known, errors weigh this much more.
        adversarial_weight: lambda_adv; lambda_rec is 1 - lambda_adv (Eq. 3).
        critic_lr_scale: Learning rate of the critic over that of encoder and decoder.
        clips: Which frames; by default one.

    Differences from the paper: critic and generator step together instead of in turn: one backward pass, in which
    the critic's parameters are constants of the generator's term and the completed picture is one of the critic's,
    which equals two optimizers that step at the same time. The decoder draws the whole picture for every kind of
    hole, and the critic sees it with the true surroundings. Every sample has a hole of its own, where the authors' code
    gives one random region to a batch; it also sets the biases of all convolutions to zero after every step. There is
    no bottleneck but the encoder's features.
    """

    view: nn.Module
    decoder: nn.Module
    critic: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        decoder: nn.Module,
        critic: nn.Module,
        view: nn.Module,
        holes: Holes = random_region,
        overlap_px: int = 0,
        overlap_weight: float = 10.0,
        adversarial_weight: float = 0.001,
        critic_lr_scale: float = 0.1,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.critic = critic
        self.view = view
        self.holes = holes
        self.overlap_px = overlap_px
        self.overlap_weight = overlap_weight
        self.adversarial_weight = adversarial_weight
        self.critic_lr_scale = critic_lr_scale
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Reconstruction, adversarial and critic's loss (Eq. 1 to 3), means over pixels of the hole, then clips."""
        video, hole, shown_hole = self.pictures_with_holes(batch)
        predicted = self.predict(video, shown_hole)
        true = 2 * video - 1
        completed = torch.where(_each_channel(hole), predicted, true.to(predicted.dtype))
        reconstruction = self.reconstruction(predicted, true, hole, shown_hole)
        adversarial = _is(1.0, frozen(self.critic, completed))
        on_true, on_completed = self.critic(true), self.critic(completed.detach())
        critic = _is(1.0, on_true) + _is(0.0, on_completed)
        generator = (1 - self.adversarial_weight) * reconstruction + self.adversarial_weight * adversarial
        return {
            "loss": generator + critic,
            "reconstruction": reconstruction,
            "adversarial": adversarial,
            "critic": critic,
            # A critic that is sure of itself (1 and 0) teaches nothing; one that is lost is at one half.
            "probability_of_true": on_true.sigmoid().mean(),
            "probability_of_completed": on_completed.sigmoid().mean(),
        }

    def pictures_with_holes(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Views in [0, 1], (B, T, 3, H, W), the holes to fill and those that are shown, bool (B, H, W)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        hole = self.holes(batch.seed, *video.shape[3:])
        return video, hole, shrink(hole, self.overlap_px)

    def predict(self, video: Tensor, hole: Tensor) -> Tensor:
        """Draw clips from what is outside the hole: (B, T, 3, H, W) in [0, 1], bool (B, H, W) -> in [-1, 1]."""
        shown = torch.where(_each_channel(hole), self.encoder.mean.to(video.dtype), video)
        return self.decoder(self.encoder.features(shown))

    def reconstruction(self, predicted: Tensor, true: Tensor, hole: Tensor, shown_hole: Tensor) -> Tensor:
        """Squared error in the hole, those in its known band with more weight (Eq. 1), mean over pixels and clips."""
        weight = torch.where(shown_hole, 1.0, self.overlap_weight) * hole  # (B, H, W)
        error = (predicted.float() - true).square().mean(dim=(1, 2))  # (B, H, W)
        return ((weight * error).sum(dim=(1, 2)) / hole.sum(dim=(1, 2))).mean()

    def param_groups(self) -> list[dict[str, Any]]:
        """Encoder and decoder; the critic."""
        return [
            {"params": [*self.encoder.parameters(), *self.decoder.parameters()]},
            {"params": list(self.critic.parameters()), "lr_scale": self.critic_lr_scale},
        ]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first picture with its hole, completed, and as it is."""
        video, hole, shown_hole = (part[:1] for part in self.pictures_with_holes(batch))
        drawn = (self.predict(video, shown_hole).float() + 1) / 2
        completed = torch.where(_each_channel(hole), drawn, video)
        shown = torch.where(_each_channel(shown_hole), 0.5, video)
        return {"inpainting": side_by_side([shown[0, 0], completed[0, 0], video[0, 0]])}


def frozen(network: nn.Module, *values: Tensor) -> Tensor:
    """Call a network whose parameters are constants: the gradient flows to `values` alone, no statistic moves."""
    constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
    copies = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return torch.func.functional_call(network, {**constants, **copies}, values)


def _each_channel(hole: Tensor) -> Tensor:
    return rearrange(hole, "b h w -> b 1 1 h w")


def _is(truth: float, logits: Tensor) -> Tensor:
    """Cross-entropy of calling pictures true (1) or completed (0)."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, truth, dtype=torch.float32))

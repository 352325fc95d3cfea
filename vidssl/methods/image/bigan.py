"""BiGAN: a generator from codes to pictures and an encoder back, which a critic of pairs makes each other's inverse.

Donahue, Kraehenbuehl and Darrell 2017, "Adversarial feature learning", arXiv:1605.09782.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...ops import draws
from ...ops.pictures import side_by_side
from .context_encoder import frozen

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class BiGAN(Method):
    """Train encoder, generator and critic jointly; neither of the first two ever sees what the other does.

    Codes are uniform in [-1, 1].

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> features (B, T, D, h, w), one code per frame.
        generator: Codes (B, T, code_dim) -> pictures (B, T, 3, H, W) in [-1, 1]; models.pictures.bigan.CodeGenerator.
        critic: Pictures (B, T, 3, H, W) in [-1, 1] and codes (B, T, code_dim) -> logits of being a picture and its
            code (B, T); JointCritic of the same file.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        code_dim: Numbers of a code (200 on ImageNet).
        clips: Which frames; by default one.

    Differences from the paper: critic, generator and encoder step together instead of in turn, by one backward pass in
    which the critic's parameters are constants of the others' term. The code is read off pooled features by one linear
    map. Encoder and critic see pictures of one size.
    """

    view: nn.Module
    generator: nn.Module
    critic: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        generator: nn.Module,
        critic: nn.Module,
        view: nn.Module,
        code_dim: int = 200,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.code_head = nn.Linear(encoder.dim, code_dim)
        self.generator = generator
        self.critic = critic
        self.view = view
        self.code_dim = code_dim
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses of the critic (Eq. 3, its sign turned) and of generator and encoder (labels turned, Sec. 3.4)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        true, found = 2 * video - 1, self.encode(video)
        codes = 2 * draws.uniform(batch.seed, video.shape[1], self.code_dim, stream=30) - 1
        drawn = self.generator(codes).float()
        # -log D of pictures with their codes and -log (1 - D) of codes with what is drawn from them.
        on_true, on_drawn = self.critic(true, found.detach()).float(), self.critic(drawn.detach(), codes).float()
        critic = F.softplus(-on_true).mean() + F.softplus(on_drawn).mean()
        fooled_by_true, fooled_by_drawn = frozen(self.critic, true, found), frozen(self.critic, drawn, codes)
        generator = F.softplus(fooled_by_true.float()).mean() + F.softplus(-fooled_by_drawn.float()).mean()
        return {
            "loss": critic + generator,
            "critic": critic,
            "generator": generator,
            # A critic that is sure of itself (1 and 0) teaches nothing; one that is lost is at one half.
            "probability_of_true": on_true.sigmoid().mean(),
            "probability_of_drawn": on_drawn.sigmoid().mean(),
        }

    def encode(self, video: Tensor) -> Tensor:
        """Codes of frames: (B, T, 3, H, W) in [0, 1] -> float32 (B, T, code_dim) in [-1, 1]."""
        logits = self.code_head(self.encoder.features(video).mean(dim=(3, 4))).float()
        return 2 * logits.sigmoid() - 1

    def param_groups(self) -> list[dict[str, Any]]:
        """Encoder and generator; the critic."""
        players = self.encoder, self.code_head, self.generator
        return [
            {"params": [parameter for player in players for parameter in player.parameters()]},
            {"params": list(self.critic.parameters())},
        ]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first picture, the one drawn from its code, and one drawn from a random code."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)[:1]
        codes = 2 * draws.uniform(batch.seed[:1], video.shape[1], self.code_dim, stream=30) - 1
        regained, drawn = ((self.generator(code).float()[0, 0] + 1) / 2 for code in (self.encode(video), codes))
        return {"regained": side_by_side([video[0, 0], regained, drawn])}

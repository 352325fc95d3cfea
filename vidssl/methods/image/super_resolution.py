"""Super-resolution: draw a picture in full size from a small one; by pixels (SRResNet), or judged by a critic (SRGAN).

Ledig et al. 2017, "Photo-realistic single image super-resolution using a generative adversarial network",
arXiv:1609.04802.
"""

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
from ...models.pictures.super_resolution import bicubic_down
from ...ops.pictures import side_by_side
from ...ops.pixels.quality import psnr, ssim
from .context_encoder import frozen

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class SuperResolution(Method):
    """Enlarge pictures that were made small; the encoder is the trunk of the generator.

    Without a critic this is SRResNet, with one SRGAN. What the error is measured in is up to `content`: pixels, or the
    features of another network, which is never trained here. The paper's, VGG of ImageNet, was trained with labels: a
    run with it is not self-supervised.

    Args:
        encoder: Small pictures, RGB (B, T, 3, h, w) in [0, 1] -> features (B, T, D, h, w) of stride 1;
            models.pictures.super_resolution.SRResNet.
        enlarge: Features -> pictures (B, T, 3, H, W) in [-1, 1]; PixelShuffler of the same file.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], H and W multiples of `scale`.
        scale: H / h.
        critic: Pictures (B, T, 3, H, W) in [-1, 1] -> logits of being true (B, T); SuperResolutionCritic. None is
            SRResNet.
        content: Encoder whose features are compared (Eq. 5); None compares pixels in [-1, 1] (Eq. 4).
        content_scale: What its features are multiplied by (1 / 12.75 of VGG's, Sec. 3.2).
        adversarial_weight: Of the critic's opinion (Eq. 3).
        clips: Which frames; by default one.

    Differences from the paper: critic and generator step together instead of in turn, by one backward pass in which
    the critic's parameters are constants of the generator's term. Means instead of sums over a batch. PSNR and SSIM
    are logged of training views.
    """

    enlarge: nn.Module
    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        enlarge: nn.Module,
        view: nn.Module,
        scale: int = 4,
        critic: nn.Module | None = None,
        content: Encoder | None = None,
        content_scale: float = 1 / 12.75,
        adversarial_weight: float = 1e-3,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.enlarge = enlarge
        self.view = view
        self.scale = scale
        self.critic = critic
        self.content = content.requires_grad_(False).eval() if content is not None else None
        self.content_scale = content_scale
        self.adversarial_weight = adversarial_weight
        self.clips = clips

    def train(self, mode: bool = True) -> "SuperResolution":
        """Set the mode of all networks but `content`, whose statistics stay."""
        super().train(mode)
        if self.content is not None:
            self.content.eval()
        return self

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Content loss, and with a critic both players' losses (Eq. 2 and 3), means over clips; PSNR and SSIM."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        drawn, true = self.draw(bicubic_down(video, scale=self.scale)).float(), 2 * video - 1
        losses = {"content": self.compare(drawn, true)}
        loss = losses["content"]
        if self.critic is not None:
            losses["adversarial"] = F.softplus(-frozen(self.critic, drawn).float()).mean()  # -log D(G(x))
            on_true, on_drawn = self.critic(true).float(), self.critic(drawn.detach()).float()
            losses["critic"] = F.softplus(-on_true).mean() + F.softplus(on_drawn).mean()
            # A critic that is sure of itself (1 and 0) teaches nothing; one that is lost is at one half.
            losses["probability_of_true"] = on_true.sigmoid().mean()
            losses["probability_of_drawn"] = on_drawn.sigmoid().mean()
            loss = loss + self.adversarial_weight * losses["adversarial"] + losses["critic"]
        with torch.no_grad():
            pair = ((drawn + 1) / 2).flatten(0, 1), video.flatten(0, 1)
            figures = {"psnr": psnr(*pair, border_px=self.scale).mean()}
            figures["ssim"] = ssim(*pair, border_px=self.scale).mean()
        return {"loss": loss, **losses, **figures}

    def draw(self, small: Tensor) -> Tensor:
        """Enlarge clips: (B, T, 3, h, w) in [0, 1] -> (B, T, 3, H, W) in [-1, 1]."""
        return self.enlarge(self.encoder.features(small))

    def compare(self, drawn: Tensor, true: Tensor) -> Tensor:
        """Mean squared error in pixels, or in the features of `content` (Eq. 4 and 5): (B, T, 3, H, W) in [-1, 1]."""
        if self.content is None:
            return F.mse_loss(drawn, true)
        found, wanted = (self.content.features((picture + 1) / 2).float() for picture in (drawn, true))
        return F.mse_loss(self.content_scale * found, self.content_scale * wanted)

    def embed(self, batch: Batch) -> Tensor:
        """Features of the first clips made small, which is what the trunk sees."""
        assert batch.video is not None
        return self.encoder(bicubic_down(batch.video[:, 0].float() / 255, scale=self.scale))

    def param_groups(self) -> list[dict[str, Any]]:
        """All that is trained: encoder and what enlarges, then the critic."""
        groups = [{"params": [*self.encoder.parameters(), *self.enlarge.parameters()]}]
        return groups if self.critic is None else [*groups, {"params": list(self.critic.parameters())}]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first picture enlarged by bicubic interpolation, as it is drawn, and as it is."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)[
            :1, :1
        ]
        small = bicubic_down(video, scale=self.scale)
        enlarged = F.interpolate(small[:, 0], video.shape[3:], mode="bicubic").clamp(0, 1)
        drawn = (self.draw(small).float()[0, 0] + 1) / 2
        return {"enlarged": side_by_side([enlarged[0], drawn, video[0, 0]])}

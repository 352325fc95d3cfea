"""Colorization of pictures: tell the colours of a grey picture.

Zhang, Isola and Efros 2016, "Colorful image colorization", arXiv:1603.08511.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Epoch, Method
from ...models import Encoder
from ...models.heads import FrameHead
from ...models.pictures.decoder import Upsampler
from ...ops.pictures import side_by_side
from ...ops.pixels.bins import annealed_mean, color_bins, prior_of, rebalancing, soft_cross_entropy, soft_encode
from ...ops.precision import in_single_precision

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)
# Clips whose colours the prior is measured on.
NUM_PRIOR_CLIPS = 1024
# Neither a nor b of any pixel is further from 0: the picture is grey and teaches nothing (the authors' code).
GREY = 5.0


class ImageColorization(Method):
    """Classify the colour of every cell among 313 bins of Lab, rare colours with more weight; or regress it.

    The encoder sees the lightness alone, as a grey picture; pictures without colour count nothing.

    Args:
        encoder: Grey pictures, RGB (B, T, 3, H, W) in [0, 1] of equal channels -> features (B, T, D, h, w).
        enlarge: Features -> (B, T, enlarge.dim, h', w'), the cells that are colored (models.pictures.decoder).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1].
        classify: Whether colours are classes (Eq. 2); else a and b are regressed by the squared error (Eq. 1), in
            units of `scale`.
        num_neighbors: Bins that a colour is spread over (5, Sec. 2.2; 10 in the authors' code).
        uniform_share: lambda of the rebalancing (Sec. 2.2); 1 weighs all colours alike.
        temperature: Of the annealed mean that colours are read off by (0.38, Sec. 2.3).
        scale: Unit of a and b where they are regressed.
        clips: Which frames; by default one.

    Differences from the paper: the prior is measured on the corpus trained on, by the soft encoding, and no bin of the
    uniform part is left out; rebalanced losses are averaged, where the authors' code scales gradients alone (which are
    the same); pictures are scaled back by bilinear interpolation of colours, not of probabilities.
    """

    bins: Tensor
    weights: Tensor
    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        enlarge: Upsampler,
        view: nn.Module,
        classify: bool = True,
        num_neighbors: int = 5,
        uniform_share: float = 0.5,
        temperature: float = 0.38,
        scale: float = 100.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        bins = color_bins()
        self.encoder = encoder
        self.enlarge = enlarge
        self.classifier = FrameHead(enlarge.dim, len(bins) if classify else 2)
        self.view = view
        self.classify = classify
        self.num_neighbors = num_neighbors
        self.uniform_share = uniform_share
        self.temperature = temperature
        self.scale = scale
        self.clips = clips
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("weights", torch.ones(len(bins)))

    def before_epoch(self, epoch: Epoch) -> None:
        """Measure how frequent colours are in the corpus, once, and weigh them by it (Eq. 4)."""
        if epoch.number == 0 and self.classify:
            prior = epoch.extract(self.prior, NUM_PRIOR_CLIPS).mean(0)
            self.weights.copy_(rebalancing(prior, uniform_share=self.uniform_share))

    def prior(self, batch: Batch) -> Tensor:
        """How often each bin occurs in every sample, as seen without augmentation: (B, Q)."""
        assert batch.video is not None
        color = lab_of(batch.video[:, 0].float() / 255)[:, :, 1:, ::4, ::4]  # (B, T, 2, h, w)
        options: dict[str, Any] = {"num_neighbors": self.num_neighbors}
        return torch.stack(
            [prior_of(rearrange(one, "t c h w -> (t h w) c"), self.bins, **options) for one in color]
        )

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Loss of the colours, mean over cells and clips; and how far off they are, beside guessing grey."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        lab = lab_of(video)
        output = self.predict(lab)
        stride = video.shape[3] // output.shape[2], video.shape[4] // output.shape[3]
        color = rearrange(lab[:, :, 1:], "b t c h w -> (b t) c h w")[:, :, :: stride[0], :: stride[1]]
        losses = self.losses(output, color)  # (B T, h, w)
        is_colored = (color.abs() > GREY).flatten(1).any(1)
        with torch.no_grad():
            error = (self.read(output) - color).square().sum(1).mean().sqrt()
        return {
            "loss": (losses * is_colored[:, None, None]).mean(),
            "color_error": error,
            "color_error_of_grey": color.square().sum(1).mean().sqrt(),
        }

    def predict(self, lab: Tensor) -> Tensor:
        """Logits of colours, or colours in units of `scale`: Lab (B, T, 3, H, W) -> (B T, Q or 2, h, w), float32."""
        features = self.enlarge(self.encoder.features(grey_of(lab)))
        return rearrange(in_single_precision(self.classifier, features), "b t q h w -> (b t) q h w")

    def losses(self, output: Tensor, color: Tensor) -> Tensor:
        """Loss of every cell: (N, Q or 2, h, w), a and b (N, 2, h, w) -> (N, h, w) (Eq. 1 and 2)."""
        if not self.classify:
            return (output - color / self.scale).square().sum(1) / 2
        index, weight = soft_encode(color.movedim(1, -1), self.bins, num_neighbors=self.num_neighbors)
        return self.weights[index[..., 0]] * soft_cross_entropy(output, index, weight)  # of the nearest bin

    def read(self, output: Tensor) -> Tensor:
        """Colours that an output stands for: (N, Q or 2, h, w) -> a and b (N, 2, h, w)."""
        return (
            annealed_mean(output, self.bins, temperature=self.temperature)
            if self.classify
            else output * self.scale
        )

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first picture in grey, as it is colored, and as it is."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        lab = lab_of(video[:1, :1])
        color = F.interpolate(self.read(self.predict(lab)), lab.shape[3:], mode="bilinear")
        colored = lab_to_rgb(torch.cat([lab[0, :, :1], color], dim=1))[0]
        return {"colored": side_by_side([grey_of(lab)[0, 0], colored, video[0, 0]])}


def lab_of(video: Tensor) -> Tensor:
    """CIE Lab of sRGB under D65: (B, T, 3, H, W) in [0, 1] -> L in [0, 100], a and b about +-110."""
    with torch.autocast(video.device.type, enabled=False):
        lab = rgb_to_lab(rearrange(video.float(), "b t c h w -> (b t) c h w"))
    return rearrange(lab, "(b t) c h w -> b t c h w", b=len(video))


def grey_of(lab: Tensor) -> Tensor:
    """Grey pictures of the lightness alone: Lab (B, T, 3, H, W) -> RGB (B, T, 3, H, W) in [0, 1], equal channels."""
    with torch.autocast(lab.device.type, enabled=False):
        # The inverse of L of a grey of sRGB: linear light, then its curve.
        light = ((lab[:, :, :1].float() + 16) / 116).pow(3)
        light = torch.where(lab[:, :, :1] > 8, light, lab[:, :, :1] / 903.2963)
        grey = torch.where(
            light > 0.0031308, 1.055 * light.clamp(min=0.0031308).pow(1 / 2.4) - 0.055, 12.92 * light
        )
    return grey.clamp(0, 1).expand(-1, -1, 3, -1, -1)

"""Split-brain autoencoder: two half networks, each of which predicts what the other one sees.

Zhang, Isola and Efros 2017, "Split-brain autoencoders: unsupervised learning by cross-channel prediction",
arXiv:1611.09842.
"""

from functools import partial

import torch
from einops import rearrange
from kornia.color import lab_to_rgb
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models.heads import FrameHead
from ...models.pictures.split import SplitResNet
from ...ops.pictures import side_by_side
from ...ops.pixels.bins import annealed_mean, soft_cross_entropy, soft_encode
from ...ops.precision import in_single_precision

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class SplitBrain(Method):
    """Predict each part of the channels from the other, by two networks that share nothing.

    Args:
        encoder: Two halves: clips (B, T, C, H, W) in [0, 1] -> features (B, T, D / 2, h, w) of each part.
        view: (uint8 clips (B, T, C, H, W), seeds (B,)) -> float clips in [0, 1]. Operators of colour know RGB alone.
        bins: For each part of the channels, the values (Q, channels) among which it is classified; None regresses it
            by the squared error (Sec. 3.1), in units of the encoder's deviation. Of Lab, (lightness_bins(),
            color_bins()) of ops.pixels.bins is the paper's best ("cl, cl").
        num_neighbors: Bins that a value of each part is spread over: 1 of lightness, 5 of colour.
        temperature: Of the annealed mean that values are read off by.
        clips: Which frames; by default one.

    Differences from the paper: the halves are ResNets; every cell of the last layer predicts, by one linear map; what
    is predicted is the pixel at the cell's first corner.
    """

    encoder: SplitResNet
    view: nn.Module

    def __init__(
        self,
        encoder: SplitResNet,
        *,
        view: nn.Module,
        bins: tuple[Tensor | None, Tensor | None],
        num_neighbors: tuple[int, int] = (1, 5),
        temperature: float = 0.38,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        sizes = [len(part) if one is None else len(one) for one, part in zip(bins, encoder.parts, strict=True)]
        # The first half predicts the second part, and the other way round.
        self.classifier = nn.ModuleList(FrameHead(encoder.dim // 2, size) for size in reversed(sizes))
        self.num_neighbors = num_neighbors
        self.temperature = temperature
        self.clips = clips
        for number, one in enumerate(bins):
            self.register_buffer(f"bins{number}", one, persistent=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Sum of the losses of both parts, each the mean over cells and clips; the errors beside those of the mean."""
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        channels = self.encoder.channels(video)
        outputs = self.predict(self.encoder.features(video))
        figures: dict[str, Tensor] = {}
        losses = []
        for part, output in enumerate(outputs):
            target = self.target(channels, part, output)
            losses.append(self.loss(part, output, target))
            with torch.no_grad():
                error = (self.read(part, output) - target).square().mean()
                figures[f"error_of_part_{part}"] = error.sqrt()
                figures[f"deviation_of_part_{part}"] = target.var(dim=(0, 2, 3), correction=0).mean().sqrt()
        return {"loss": losses[0] + losses[1], **figures}

    def predict(self, features: Tensor) -> list[Tensor]:
        """What is told of each part by the other half: (B, T, D, h, w) -> float32 (B T, Q or channels, h, w) twice."""
        of_second, of_first = (
            rearrange(in_single_precision(head, half), "b t q h w -> (b t) q h w")
            for head, half in zip(self.classifier, features.chunk(2, dim=2), strict=True)
        )
        return [of_first, of_second]

    def target(self, channels: Tensor, part: int, output: Tensor) -> Tensor:
        """Values of a part at the cells of an output: (B, T, C, H, W), (N, Q, h, w) -> (N, channels, h, w)."""
        values = rearrange(channels[:, :, list(self.encoder.parts[part])], "b t c h w -> (b t) c h w")
        rows, columns = (-(-size // cells) for size, cells in zip(values.shape[2:], output.shape[2:], strict=True))
        return values[:, :, ::rows, ::columns]

    def loss(self, part: int, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the classes, or half the squared distance (Sec. 3.1): scalar."""
        bins = getattr(self, f"bins{part}")
        if bins is None:
            mean, std = self.scale(part)
            return (output - (target - mean) / std).square().sum(1).mean() / 2
        index, weight = soft_encode(target.movedim(1, -1), bins, num_neighbors=self.num_neighbors[part])
        return soft_cross_entropy(output, index, weight).mean()

    def read(self, part: int, output: Tensor) -> Tensor:
        """Values that an output stands for: (N, Q or channels, h, w) -> (N, channels, h, w)."""
        bins = getattr(self, f"bins{part}")
        if bins is None:
            mean, std = self.scale(part)
            return output * std + mean
        return annealed_mean(output, bins, temperature=self.temperature)

    def scale(self, part: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels of a part, (channels, 1, 1) each."""
        which = list(self.encoder.parts[part])
        return self.encoder.mean[which], self.encoder.std[which]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Of Lab: the first picture with the colour told from its lightness, the lightness told from its colour."""
        if not self.encoder.is_lab:
            return {}
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        lab = self.encoder.channels(video[:1, :1])
        size = lab.shape[3:]
        light, color = (
            nn.functional.interpolate(self.read(part, output), size, mode="bilinear")
            for part, output in enumerate(self.predict(self.encoder.features(video[:1, :1])))
        )
        colored = lab_to_rgb(torch.cat([lab[0, :, :1], color], dim=1))[0]
        lit = lab_to_rgb(torch.cat([light, lab[0, :, 1:]], dim=1))[0]
        return {"predicted": side_by_side([colored, lit, video[0, 0]])}

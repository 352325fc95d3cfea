"""Video colorization: colour a grey frame by pointing at reference frames; the pointer becomes a tracker.

Vondrick, Shrivastava, Fathi, Guadarrama and Murphy 2018, "Tracking emerges by colorizing videos", arXiv:1806.09594.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from kornia.color import lab_to_rgb, rgb_to_lab
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, frame_tuple
from ...method import Epoch, Method
from ...models import Encoder
from ...models.heads import FrameHead
from ...ops.kmeans import kmeans, nearest
from ...ops.pictures import mark, side_by_side

# Clips whose colours the centres are fitted to; a few thousand colours per centre are plenty.
NUM_COLOR_CLIPS = 256

# Three references and the target, 8 frames after the last of them.
CLIPS = partial(frame_tuple, offsets_frames=(0, 4, 8, 16))


class VideoColorization(Method):
    """Copy the colours of reference frames to the cells of a grey target frame through attention.

    The last frame of a clip is the target, those before it are the references.

    Args:
        encoder: Sees grey frames: RGB (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w) from the luminance alone.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.RandomResizedCrop.
        head: Features (B, T, D, h, w) -> embeddings f of the same cells; by default a 1x1 convolution to 64.
        num_colors: Number of colour classes (16, Sec. 3.3).
        temperature: Of the attention (1 in training, Sec. 3.4).
        clips: References and target; by default 4, 4 and 8 frames apart.

    Differences from the paper: the default head is one 1x1 convolution (the paper's 3-D head is
    models.heads.VolumeHead); the colour centres are fitted to the corpus trained on.
    """

    centers: Tensor
    view: nn.Module
    head: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        head: nn.Module | None = None,
        num_colors: int = 16,
        temperature: float = 1.0,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head or FrameHead(encoder.dim, 64)
        self.view = view
        self.temperature = temperature
        self.clips = clips
        self.register_buffer("centers", torch.zeros(num_colors, 2))

    def before_epoch(self, epoch: Epoch) -> None:
        """Fit the colour centres to the corpus, once (Sec. 3.3)."""
        if epoch.number == 0:
            colors = epoch.extract(lambda batch: self.colors(to_unit(batch.video)), NUM_COLOR_CLIPS)
            self.centers.copy_(kmeans(rearrange(colors, "b t c h w -> (b t h w) c"), len(self.centers)))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the copied colours, averaged over the cells of the target (Eq. 3)."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)
        classes = self.quantize(self.colors(video))  # (B, T, h, w)
        copied, _ = self.copy(self.head(self.encoder.features(video)), classes)  # (B, K, h, w)
        target, last = classes[:, -1], classes[:, -2]
        # Copied colours are probabilities already: no softmax. Rounding can make one exactly zero.
        loss = -copied.gather(1, target[:, None]).clamp(min=1e-8).log().mean()
        hit, moved = copied.argmax(1) == target, target != last
        return {
            "loss": loss,
            "accuracy": hit.float().mean(),
            # Most cells keep their colour, and copying the last frame in place gets them all: watch the others.
            "accuracy_where_color_changed": (hit & moved).sum() / moved.sum().clamp(min=1),
            "share_where_color_changed": moved.float().mean(),
        }

    def copy(self, embeddings: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Copy the colours of the references to the target (Eq. 1 and 2).

        Args:
            embeddings: f, (B, T, E, h, w).
            classes: Colours, int64 (B, T, h, w).

        Returns:
            Colour probabilities of the target, (B, K, h, w), and the pointers, (B, hw, (T-1)hw), rows sum to 1; both
            float32 under autocast as well.
        """
        height = classes.shape[2]
        keys = rearrange(embeddings[:, :-1].float(), "b t e h w -> b e (t h w)")
        queries = rearrange(embeddings[:, -1].float(), "b e h w -> b (h w) e")
        one_hot = F.one_hot(rearrange(classes[:, :-1], "b t h w -> b (t h w)"), len(self.centers))
        with torch.autocast(keys.device.type, enabled=False):
            pointers = (queries @ keys / self.temperature).softmax(-1)
            copied = pointers @ one_hot.to(pointers.dtype)
        return rearrange(copied, "b (h w) k -> b k h w", h=height), pointers

    def colors(self, video: Tensor) -> Tensor:
        """Mean Lab colour (a, b) of each cell: RGB in [0, 1], (B, T, 3, H, W) -> (B, T, 2, h, w), about +-110."""
        with torch.autocast(video.device.type, enabled=False):  # kornia multiplies matrices
            lab = rgb_to_lab(rearrange(video, "b t c h w -> (b t) c h w"))
        cells = F.avg_pool2d(lab[:, 1:], self.encoder.stride, ceil_mode=True)
        return rearrange(cells, "(b t) c h w -> b t c h w", b=len(video))

    def quantize(self, colors: Tensor) -> Tensor:
        """Class of the nearest colour centre: (B, T, 2, h, w) -> int64 (B, T, h, w)."""
        classes = nearest(rearrange(colors, "b t c h w -> (b t h w) c"), self.centers)
        return classes.view(colors[:, :, 0].shape)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Last reference, grey target, copied colours, true colours; dots mark where five target cells look."""
        assert batch.seed is not None
        video = self.view(rearrange(batch.video, "b 1 t c h w -> b t c h w"), batch.host_seed, *batch.stretch)[:1]
        classes = self.quantize(self.colors(video))  # (1, T, h, w)
        probabilities, pointers = self.copy(self.head(self.encoder.features(video)), classes)
        reference, target = video[0, -2], video[0, -1]
        lightness = rgb_to_lab(target[None])[:, :1]
        expected = torch.einsum("bkhw,kc->bchw", probabilities, self.centers)
        expected = F.interpolate(expected, lightness.shape[2:], mode="nearest")
        copied = lab_to_rgb(torch.cat([lightness, expected], dim=1))[0]
        grey = (lightness[0] / 100).expand(3, -1, -1)
        num_cells, width, stride = classes[0, 0].numel(), classes.shape[-1], self.encoder.stride
        for number, cell in enumerate(torch.linspace(0.15, 0.85, 5).mul(num_cells).long().tolist()):
            found = int(pointers[0, cell, -num_cells:].argmax())  # in the last reference
            color = torch.eye(3)[number] if number < 3 else 1 - torch.eye(3)[number - 3]
            grey = mark(grey, row=cell // width * stride, column=cell % width * stride, color=color)
            reference = mark(reference, row=found // width * stride, column=found % width * stride, color=color)
        return {"colorization": side_by_side([reference, grey, copied, target])}


def to_unit(video: Tensor | None) -> Tensor:
    """Frames of single-clip batches as float: uint8 (B, 1, T, C, H, W) -> (B, T, C, H, W) in [0, 1]."""
    assert video is not None
    return rearrange(video, "b 1 t c h w -> b t c h w").float() / 255

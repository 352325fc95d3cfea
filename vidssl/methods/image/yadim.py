"""YADIM: parts of one view tell of the parts of another, on the last map alone.

Falcon and Cho 2020, "A framework for contrastive self-supervised learning and designing a new approach",
arXiv:2009.00104.
"""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ...batch import Batch
from ...data.clips import ClipSampler, random_clips
from ...method import Method
from ...models import Encoder
from ...models.heads import CellHead
from ...ops import draws
from ...ops.contrast import map_nce, same_source
from ...ops.gather import gather

# An image, or a random frame of a video.
CLIPS = partial(random_clips, num_frames=1)


class YADIM(Method):
    """By a cell of one view, drawn for each clip, tell the cells of its other view from those of other clips.

    AMDIM, with the views of CPC added to its own, and with anchors and positives from one map, the encoder's last.

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> (B, T, D, h, w).
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], for example
            augment.recipes.yadim(128).
        dim: Width of the embeddings.
        tanh_clip: Largest score.
        penalty: Weight of the mean square of the scores; as AMDIM's.
        clips: Which frames; by default one.

    Differences from the paper: CPC's colours are drawn for a view, not patch by patch; other clips of a source
    (batch.source_id) are no negatives.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        dim: int = 1536,
        tanh_clip: float = 20.0,
        penalty: float = 0.04,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        self.head = CellHead(encoder.dim, dim)
        self.tanh_clip = tanh_clip
        self.penalty = penalty
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean of both directions, and the penalty of large scores."""
        assert batch.seed is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        views = [self.view(video, draws.mix(batch.host_seed, number), *batch.stretch) for number in range(2)]
        maps = self.head(rearrange(self.encoder.features(torch.cat(views)), "b t d h w -> b d (t h w)"))
        first, second = maps.chunk(2)  # (B, dim, cells)
        cell = draws.integers(batch.seed, maps.shape[2], 2, stream=9)  # of each clip and view
        exclude = None if batch.source_id is None else same_source(batch.source_id, gather(batch.source_id))
        found = []
        for number, (one, other) in enumerate([(first, second), (second, first)]):
            source = one.gather(2, cell[:, number, None, None].expand(-1, one.shape[1], 1))[..., 0]
            found.append(map_nce(source, other, tanh_clip=self.tanh_clip, exclude=exclude))
        nce, size, accuracy = (torch.stack(values).mean() for values in zip(*found, strict=True))
        return {"loss": nce + self.penalty * size, "nce": nce, "accuracy": accuracy}

"""AMDIM: what the whole of one view tells of each part of another, on several scales.

Bachman, Hjelm and Buchwalter 2019, "Learning representations by maximizing mutual information across views",
arXiv:1906.00910.
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


class AMDIM(Method):
    """Tell the cells of a clip's other view from those of other clips, by the whole view and by one of its cells.

    Three tasks, each in both directions: from the pooled features to the fine map (1 -> 7), to the coarse map (1 -> 5),
    and from a cell of the coarse map, drawn for each clip, to the coarse map (5 -> 5).

    Args:
        encoder: RGB (B, T, 3, H, W) in [0, 1] -> pooled features (B, D). Best without padding, which tells places.
        view: (uint8 clips (B, T, 3, H, W), seeds (B,)) -> float clips in [0, 1], not mirrored: both views of a clip
            are, or none (augment.recipes.amdim).
        local_layers: The fine and the coarse map, of `encoder.layer_names`; 7 x 7 and 5 x 5 cells in the paper.
        dim: Width of the embeddings.
        tanh_clip: Largest score.
        penalty: Weight of the mean square of the scores; that of the authors' code.
        clips: Which frames; by default one.

    Differences from the paper: the pooled features go through a layer of their own; other clips of a source
    (batch.source_id) are no negatives.
    """

    view: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: nn.Module,
        local_layers: tuple[str, str],
        dim: int = 1536,
        tanh_clip: float = 20.0,
        penalty: float = 0.04,
        clips: ClipSampler = CLIPS,
    ) -> None:
        super().__init__()
        encoder.check_layers(local_layers)
        self.encoder = encoder
        self.view = view
        self.local_layers = local_layers
        self.whole_head = CellHead(encoder.dim, dim)
        self.fine_head, self.coarse_head = (CellHead(encoder.layer_size(name)[0], dim) for name in local_layers)
        self.tanh_clip = tanh_clip
        self.penalty = penalty
        self.clips = clips

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Sum over tasks of the mean of both directions, and the penalty of large scores."""
        assert batch.seed is not None and batch.video is not None
        whole, fine, coarse = (
            part.unflatten(0, (2, -1)) for part in self.embed_views(batch)
        )  # (2, B, dim, cells)
        cell = draws.integers(batch.seed, coarse.shape[3], 2, stream=9)  # of each clip and view
        exclude = None if batch.source_id is None else same_source(batch.source_id, gather(batch.source_id))
        found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {
            "whole_fine": [],
            "whole_coarse": [],
            "coarse": [],
        }
        for one, other in ((0, 1), (1, 0)):
            part = coarse[one].gather(2, cell[:, one, None, None].expand(-1, coarse.shape[2], 1))[..., 0]
            tasks = {"whole_fine": fine, "whole_coarse": coarse, "coarse": coarse}
            for name, targets in tasks.items():
                source = part if name == "coarse" else whole[one, :, :, 0]
                found[name].append(map_nce(source, targets[other], tanh_clip=self.tanh_clip, exclude=exclude))
        losses = {f"loss_{name}": (first[0] + second[0]) / 2 for name, (first, second) in found.items()}
        size = torch.stack([one[1] for pair in found.values() for one in pair]).sum() / 2
        accuracies = {f"accuracy_{name}": (a[2] + b[2]) / 2 for name, (a, b) in found.items()}
        return {"loss": sum(losses.values(), self.penalty * size), **losses, **accuracies}

    def embed_views(self, batch: Batch) -> list[Tensor]:
        """Embed the first, then the second view of clips: whole (2 B, dim, 1), fine and coarse (2 B, dim, cells)."""
        assert batch.seed is not None and batch.video is not None
        video = rearrange(batch.video, "b 1 t c h w -> b t c h w")
        mirrored = (draws.uniform(batch.seed, stream=8) < 0.5).view(-1, 1, 1, 1, 1)
        video = torch.where(mirrored, video.flip(-1), video)
        views = [self.view(video, draws.mix(batch.host_seed, number), *batch.stretch) for number in range(2)]
        maps = self.encoder.layers(torch.cat(views), [*self.local_layers, "last"])
        fine, coarse, last = (rearrange(one, "b t d h w -> b d (t h w)") for one in maps.values())
        return [self.whole_head(last.mean(2, keepdim=True)), self.fine_head(fine), self.coarse_head(coarse)]
